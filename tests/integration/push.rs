//! From a push to what clients see: what is pushed, refused, taken away or gone, and how it is served meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use redplane_control::Address;
use redplane_testkit::{Authority, Cluster, Proxy, Redis, Reply, free_port, until};
use serde_json::Value;

use crate::stage::{
    Api, PATIENCE, Stage, admin, ads_bootstrap, ask, at, client, cluster_of, listens, local, merge_cluster,
    redis_cluster, redis_proxy, redplane, service, static_cluster, static_resources, tcp_listener,
    until_answered,
};

fn dump(proxy: &Proxy) -> Value {
    serde_json::from_str(&proxy.page("/config_dump?include_eds").body).expect("a dump is JSON")
}

fn section<'a>(dump: &'a Value, word: &str) -> &'a Value {
    let sections = dump["configs"].as_array().expect("a list");
    let found = sections
        .iter()
        .find(|section| section["@type"].as_str().is_some_and(|url| url.contains(word)));
    found.unwrap_or_else(|| panic!("no {word} in {dump}"))
}

#[test]
fn all_forms_of_ads_bring_services_up_and_take_them_down() {
    let (one, two) = (Redis::plain(), Redis::plain());
    let folder = tempfile::tempdir().expect("a folder");
    let socket = |name: &str| Address::Unix(folder.path().join(name));
    let forms = [
        (Api::Delta, Address::Tcp(local(0))),
        (Api::Sotw, Address::Tcp(local(0))),
        (Api::Delta, socket("XDS")),
        (Api::Sotw, socket("XDS2")),
    ];
    for (api, address) in forms {
        let (first, second) = (free_port(), free_port());
        let base = vec![service("one", first, one.port())];
        let mut stage = Stage::over(&address, api, &base, &["--concurrency", "1"]);
        assert_eq!(ask(&mut client(first), "SET form 1"), "OK", "{api:?} {address}");
        let ready = "/stats?usedonly&filter=^(cluster_manager\\.cds|listener_manager\\.lds)\\.(update_success|\
                     update_rejected)$";
        let ready = stage.proxy.page(ready).body;
        assert_eq!(
            ready, "cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 1\n",
            "{api:?}"
        );
        let more = vec![base[0].clone(), service("two", second, two.port())];
        assert_eq!(stage.push_listeners(&more), Ok(()), "{api:?}");
        until_answered(second, "PING", "PONG");
        let dump = dump(&stage.proxy);
        let clusters = section(&dump, "ClustersConfigDump");
        let active = clusters["dynamic_active_clusters"].as_array().expect("a list");
        let names = active
            .iter()
            .filter_map(|active| active["cluster"]["name"].as_str());
        assert_eq!(
            names.filter(|name| name.starts_with("outbound|")).count(),
            2,
            "{clusters}"
        );
        let endpoints = section(&dump, "EndpointsConfigDump");
        assert_eq!(
            endpoints["dynamic_endpoint_configs"].as_array().map(Vec::len),
            Some(2),
            "{endpoints}"
        );
        assert_eq!(stage.push_listeners(&base), Ok(()), "{api:?}");
        until("the port of the service to close", PATIENCE, || !listens(second));
        assert_eq!(ask(&mut client(first), "GET form"), "1");
        assert_eq!(stage.stat("control_plane.connected_state"), 1);
    }
}

/// The control plane speaks no TLS itself: another redplane ends it in front of it.
#[test]
fn ads_may_go_over_tls() {
    let authority = Authority::new();
    let identity = authority.issue("control", &["control.test"]);
    let (redis, port) = (Redis::plain(), free_port());
    let (relay_port, relay_admin) = (free_port(), free_port());
    let mut relay = None;
    let stage = Stage::with(
        &Address::Tcp(local(0)),
        &[service("one", port, redis.port())],
        &[],
        |control, admin_port| {
            let Address::Tcp(plain) = control else {
                unreachable!("it was asked for TCP")
            };
            let tls = format!(
                "transport_socket: {{name: tls, typed_config: {{\"@type\": \
                 type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
                 {{alpn_protocols: [h2], tls_certificates: [{{certificate_chain: {{filename: {}}}, private_key: \
                 {{filename: {}}}}}]}}}}}}",
                identity.cert.display(),
                identity.key.display()
            );
            let listener = tcp_listener("tls", relay_port, "control");
            let listener = listener.replace("filter_chains: [{", &format!("filter_chains: [{{{tls}, "));
            let clusters = [static_cluster("control", plain.port())];
            let bootstrap = admin(relay_admin) + &static_resources(&[listener], &clusters);
            let started = Proxy::start_without_waiting(&redplane(), &bootstrap, relay_admin, &[]);
            relay = Some(started.wait_until_ready());
            let through = Address::Tcp(local(relay_port));
            let context = format!(
                "type: STATIC, transport_socket: {{name: tls, typed_config: {{\"@type\": \
                 type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: control.test, \
                 auto_sni_san_validation: true, common_tls_context: {{validation_context: {{trusted_ca: {{filename: \
                 {}}}}}}}}}}},",
                identity.ca.display()
            );
            ads_bootstrap(&through, Api::Delta, admin_port).replace("type: STATIC,", &context)
        },
    );
    assert_eq!(ask(&mut client(port), "PING"), "PONG");
    assert_eq!(stage.stat("control_plane.connected_state"), 1);
    let relay = relay.expect("it was started");
    assert_eq!(relay.stat("server.total_connections"), Some(1));
}

#[test]
fn a_bad_resource_is_named_while_the_good_ones_live() {
    let redis = Redis::plain();
    let (first, second) = (free_port(), free_port());
    let base = vec![service("one", first, redis.port())];
    let mut stage = Stage::new(&base);
    let accepted = stage.stat("cluster_manager.cds.update_success");
    let good = vec![base[0].clone(), service("two", second, redis.port())];
    let mut bad = good.clone();
    bad.push(redis_cluster("sprayed", "RANDOM", &[redis.port()], "1s"));
    let reason = stage.push_clusters(&bad).expect_err("RANDOM is refused");
    assert!(
        reason.contains("sprayed") && reason.contains("lb_policy"),
        "{reason}"
    );
    until_answered(second, "PING", "PONG");
    assert_eq!(stage.stat("cluster_manager.cds.update_rejected"), 1);
    assert_eq!(stage.stat("cluster_manager.cds.update_success"), accepted);
    let page = dump(&stage.proxy);
    let clusters = section(&page, "ClustersConfigDump").to_string();
    assert!(
        clusters.contains("error_state") && clusters.contains("must be CLUSTER_PROVIDED"),
        "{clusters}"
    );
    assert_eq!(stage.push_clusters(&good), Ok(()));
    assert_eq!(stage.stat("cluster_manager.cds.update_success"), accepted + 1);
    let page = dump(&stage.proxy);
    let clusters = section(&page, "ClustersConfigDump").to_string();
    assert!(!clusters.contains("sprayed"), "{clusters}");
}

#[test]
fn a_port_in_use_refuses_that_listener_alone() {
    let redis = Redis::plain();
    let (first, second) = (free_port(), free_port());
    let base = vec![service("one", first, redis.port())];
    let mut stage = Stage::new(&base);
    // The Redis server itself holds the port that this service wants.
    let more = vec![
        base[0].clone(),
        service("taken", redis.port(), redis.port()),
        service("two", second, redis.port()),
    ];
    let reason = stage.push_listeners(&more).expect_err("the port is taken");
    assert!(
        reason.contains(&format!("127.0.0.1_{}", redis.port())),
        "{reason}"
    );
    until_answered(second, "PING", "PONG");
    assert_eq!(ask(&mut client(first), "PING"), "PONG");
    let good = vec![base[0].clone(), more[2].clone()];
    assert_eq!(stage.push_listeners(&good), Ok(()));
}

#[test]
fn commands_go_on_without_the_control_plane_and_it_catches_up() {
    let redis = Redis::plain();
    let (first, second, third) = (free_port(), free_port(), free_port());
    let one = service("one", first, redis.port());
    let proxy = redis_proxy(first, &cluster_of("one", first), "enable_command_stats: true");
    let base = vec![one.clone(), proxy.clone(), service("two", second, redis.port())];
    let mut stage = Stage::new(&base);
    let mut held = client(first);
    assert_eq!(ask(&mut held, "SET a 1"), "OK");
    stage.stop_control();
    until("the loss to be seen", PATIENCE, || {
        stage.stat("control_plane.connected_state") == 0
    });
    assert_eq!(ask(&mut held, "GET a"), "1");
    assert_eq!(ask(&mut client(second), "GET a"), "1");
    // While it was away one service went and another came.
    stage.start_control(&[one, proxy, service("three", third, redis.port())]);
    until_answered(third, "GET a", "1");
    until("the removed service to close", PATIENCE, || !listens(second));
    assert_eq!(ask(&mut held, "GET a"), "1");
    assert_eq!(stage.stat("control_plane.connected_state"), 1);
}

#[test]
fn a_removed_listener_drains() {
    let redis = Redis::plain();
    let (first, second) = (free_port(), free_port());
    let base = vec![service("one", first, redis.port())];
    let more = vec![
        base[0].clone(),
        service("two", second, redis.port()),
        redis_proxy(second, &cluster_of("one", first), ""),
    ];
    let flags = ["--drain-time-s", "60", "--concurrency", "1"];
    let mut stage = Stage::over(&Address::Tcp(local(0)), Api::Delta, &more, &flags);
    let (mut idle, mut other) = (client(second), client(first));
    assert_eq!(ask(&mut idle, "PING"), "PONG");
    assert_eq!(ask(&mut other, "PING"), "PONG");
    assert_eq!(stage.push_listeners(&base), Ok(()));
    until("the port to close", PATIENCE, || !listens(second));
    // It waits for nothing, so its end needs no drain time.
    assert!(
        idle.read_until_close().1,
        "an idle client of a removed listener is let go"
    );
    assert_eq!(ask(&mut other, "PING"), "PONG");
    until("the end of the drain", PATIENCE, || {
        stage.stat("listener_manager.total_listeners_draining") == 0
    });
}

/// A client that writes and reads back without a pause, and counts what it should not see.
struct Load {
    ending: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

impl Load {
    fn start(port: u16) -> Self {
        let (ending, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, count) = (Arc::clone(&ending), Arc::clone(&done));
        let mut client = client(port);
        let thread = std::thread::spawn(move || {
            let mut surprises = Vec::new();
            while !end.load(Ordering::Relaxed) && surprises.len() < 10 {
                let number = count.fetch_add(1, Ordering::Relaxed).to_string();
                let key = format!("load-{}", number.len() + number.as_bytes()[0] as usize);
                let set = client.command(&["SET", &key, &number]);
                let get = client.command(&["GET", &key]);
                match (set, get) {
                    (Ok(Reply::Simple(_)), Ok(Reply::Bulk(Some(value)))) if value == number.as_bytes() => {}
                    other => surprises.push(format!("{number}: {other:?}")),
                }
            }
            surprises
        });
        Self { ending, done, thread }
    }

    /// Waits until so many more rounds are done.
    fn go_on(&self, rounds: u64) {
        let goal = self.done.load(Ordering::Relaxed) + rounds;
        until("the load to go on", PATIENCE, || {
            self.done.load(Ordering::Relaxed) >= goal || self.thread.is_finished()
        });
    }

    fn end(self) -> Vec<String> {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load thread ends")
    }
}

#[test]
fn pushes_under_load_lose_no_command() {
    let redis = Redis::plain();
    let port = free_port();
    let base = vec![
        service("one", port, redis.port()),
        redis_proxy(port, &cluster_of("one", port), ""),
    ];
    let mut stage = Stage::new(&base);
    let load = Load::start(port);
    load.go_on(100);
    // Others come and go, then the cluster in use changes, with its endpoints and back, then the listener.
    let mut others = base.clone();
    others.extend((0..20).map(|i| service(&format!("other{i}"), free_port(), redis.port())));
    for texts in [&others, &base] {
        assert_eq!(stage.push_clusters(texts), Ok(()));
        load.go_on(50);
    }
    for timeout in ["3s", "4s", "5s"] {
        let mut changed = base.clone();
        changed.push(merge_cluster("one", port, &format!("connect_timeout: {timeout}")));
        assert_eq!(stage.push_clusters(&changed), Ok(()));
        load.go_on(100);
    }
    for timeout in ["6s", "7s"] {
        let changed = [
            base[0].clone(),
            redis_proxy(port, &cluster_of("one", port), &format!("op_timeout: {timeout}")),
        ];
        let changed = changed.map(|text| text.replace("op_timeout: 5s, ", ""));
        assert_eq!(stage.push_listeners(&changed), Ok(()));
        load.go_on(100);
    }
    let surprises = load.end();
    assert!(surprises.is_empty(), "{surprises:#?}");
    assert!(stage.stat("cluster_manager.cluster_modified") >= 3);
}

#[test]
fn endpoints_move_under_an_open_client() {
    let (one, two) = (Redis::plain(), Redis::plain());
    let port = free_port();
    let texts = |target: u16| {
        vec![
            service("one", port, target),
            redis_proxy(port, &cluster_of("one", port), ""),
        ]
    };
    let stage = Stage::new(&texts(one.port()));
    let mut held = client(port);
    assert_eq!(ask(&mut held, "SET where one"), "OK");
    two.run("SET where two");
    stage.push(&texts(two.port()));
    until("the new endpoint", PATIENCE, || {
        ask(&mut held, "GET where") == "two"
    });
}

#[test]
fn a_read_policy_reaches_open_clients_and_redis_clusters_change_under_load() {
    let cluster = Cluster::three_and_three();
    let seeds: Vec<u16> = cluster.nodes().iter().map(Redis::port).collect();
    let (port, unused) = (free_port(), free_port());
    let base = vec![service("one", port, seeds[0])];
    let texts = |policy: &str, connect_timeout: &str| {
        let mut texts = base.clone();
        texts.push(redis_cluster(
            "shards",
            "CLUSTER_PROVIDED",
            &seeds[..2],
            connect_timeout,
        ));
        texts.push(redis_proxy(
            port,
            "shards",
            &format!("enable_redirection: true, read_policy: {policy}"),
        ));
        texts
    };
    let mut stage = Stage::new(&texts("REPLICA", "1s"));
    let mut held = client(port);
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    keys.iter()
        .for_each(|key| assert_eq!(ask(&mut held, &format!("SET {key} v-{key}")), "OK"));
    cluster.wait_until_replicated();
    let reads = |held: &mut redplane_testkit::Client| {
        cluster.reset_stats();
        keys.iter()
            .for_each(|key| assert_eq!(ask(held, &format!("GET {key}")), format!("v-{key}")));
        let calls = cluster.calls("get");
        let of = |role| {
            calls
                .iter()
                .filter(|(_, r, _)| *r == role)
                .map(|(_, _, n)| n)
                .sum::<u64>()
        };
        (
            of(redplane_testkit::Role::Master),
            of(redplane_testkit::Role::Replica),
        )
    };
    assert_eq!(reads(&mut held), (0, 8));
    assert_eq!(stage.push_listeners(&texts("MASTER", "1s")), Ok(()));
    assert_eq!(
        reads(&mut held),
        (8, 0),
        "the same connection, under the new policy"
    );
    let clusters = stage.proxy.page("/clusters?format=json").body;
    assert!(clusters.contains("shards"), "{clusters}");
    // The cluster itself changes under load, and others come and go beside it.
    let load = Load::start(port);
    load.go_on(100);
    for connect_timeout in ["2s", "3s"] {
        assert_eq!(stage.push_clusters(&texts("MASTER", connect_timeout)), Ok(()));
        load.go_on(200);
        let mut more = texts("MASTER", connect_timeout);
        more.push(redis_cluster("second", "CLUSTER_PROVIDED", &seeds[2..], "1s"));
        more.push(redis_cluster("dead", "CLUSTER_PROVIDED", &[unused], "1s"));
        assert_eq!(stage.push_clusters(&more), Ok(()));
        load.go_on(100);
    }
    assert_eq!(stage.push_clusters(&texts("MASTER", "3s")), Ok(()));
    load.go_on(100);
    // One push moves the route to a new cluster and takes the old one away, there and back.
    let moved = [
        base[0].clone(),
        redis_cluster("moved", "CLUSTER_PROVIDED", &seeds[..2], "1s"),
        redis_proxy(port, "moved", "enable_redirection: true"),
    ];
    for texts in [&moved[..], &texts("MASTER", "1s")] {
        assert_eq!(stage.push_listeners(texts), Ok(()));
        load.go_on(200);
        until("the old cluster to go", PATIENCE, || {
            stage.stat("cluster_manager.active_clusters") == 5
        });
    }
    let surprises = load.end();
    assert!(surprises.is_empty(), "{surprises:#?}");
    assert_eq!(ask(&mut held, "GET a"), "v-a");
}

#[test]
fn files_are_followed_when_they_are_replaced() {
    let (one, two) = (Redis::plain(), Redis::plain());
    let folder = tempfile::tempdir().expect("a folder");
    let (admin_port, first, second) = (free_port(), free_port(), free_port());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, text: &str| {
        let draft = path("draft");
        std::fs::write(&draft, text).expect("it is written");
        std::fs::rename(&draft, path(name)).expect("it replaces the old one");
    };
    let resource = |kind: &str, body: &str| {
        let body = body.replacen(
            '{',
            &format!("{{\"@type\": type.googleapis.com/envoy.config.{kind}, "),
            1,
        );
        format!("version_info: '1'\nresources:\n- {body}\n")
    };
    let eds_cluster = format!(
        "{{name: r, type: EDS, eds_cluster_config: {{eds_config: {{path_config_source: {{path: {}}}}}}}}}",
        path("eds.yaml")
    );
    let endpoints = |port: u16| {
        let body = format!(
            "{{cluster_name: r, endpoints: [{{lb_endpoints: [{{endpoint: {{{}}}}}]}}]}}",
            at(port)
        );
        resource("endpoint.v3.ClusterLoadAssignment", &body)
    };
    write("cds.yaml", &resource("cluster.v3.Cluster", &eds_cluster));
    write("eds.yaml", &endpoints(one.port()));
    write(
        "lds.yaml",
        &resource("listener.v3.Listener", &tcp_listener("l", first, "r")),
    );
    let bootstrap = format!(
        "{}dynamic_resources: {{cds_config: {{path_config_source: {{path: {}}}}}, lds_config: {{path_config_source: \
         {{path: {}}}}}}}\n",
        admin(admin_port),
        path("cds.yaml"),
        path("lds.yaml")
    );
    let proxy = Proxy::start_without_waiting(&redplane(), &bootstrap, admin_port, &[]).wait_until_ready();
    one.run("SET where one");
    two.run("SET where two");
    assert_eq!(ask(&mut client(first), "GET where"), "one");
    write("eds.yaml", &endpoints(two.port()));
    until("the other endpoint", PATIENCE, || {
        ask(&mut client(first), "GET where") == "two"
    });
    write(
        "cds.yaml",
        &resource("cluster.v3.Cluster", &static_cluster("r", one.port())),
    );
    until("the other cluster", PATIENCE, || {
        ask(&mut client(first), "GET where") == "one"
    });
    write(
        "lds.yaml",
        &resource("listener.v3.Listener", &tcp_listener("l", second, "r")),
    );
    until("the other port", PATIENCE, || listens(second) && !listens(first));
    write("lds.yaml", "resources: [");
    until("the fault to be counted", PATIENCE, || {
        proxy.stat("listener_manager.lds.update_failure") == Some(1)
    });
    assert_eq!(ask(&mut client(second), "GET where"), "one");
}
