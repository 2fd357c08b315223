//! Start and end of the process: bootstraps in every form, flags, bad input, ports in use, signals.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redplane_testkit::{Client, Cluster, Proxy, Redis, Reply, free_port, http_get, http_post, until};
use serde_json::{Value, json};

use crate::stage::{
    PATIENCE, Stage, admin, ads_bootstrap, ask, client, envoy_filter, listens, local, redis_listener,
    redplane, service, static_cluster, static_resources, tcp_listener, until_answered,
};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_redplane"))
        .args(arguments)
        .output()
        .expect("redplane runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn start(bootstrap: &str, admin_port: u16, flags: &[&str]) -> Proxy {
    Proxy::start_without_waiting(&redplane(), bootstrap, admin_port, flags)
}

/// Waits for the end and says the exit code.
fn code(proxy: &mut Proxy) -> String {
    let mut end = None;
    until("the end of the process", PATIENCE, || {
        end = proxy.process_mut().ended();
        end.is_some()
    });
    end.expect("it has ended")
}

#[test]
fn a_static_bootstrap_serves_without_a_control_plane() {
    let redis = Redis::plain();
    let (admin_port, port, raw) = (free_port(), free_port(), free_port());
    let listeners = [redis_listener("redis", port, "r"), tcp_listener("tcp", raw, "r")];
    let bootstrap = admin(admin_port) + &static_resources(&listeners, &[static_cluster("r", redis.port())]);
    let proxy = start(&bootstrap, admin_port, &["--concurrency", "2"])
        .wait_until_ready()
        .with_quiet_log(&[]);
    assert_eq!(ask(&mut client(port), "SET k v"), "OK");
    assert_eq!(ask(&mut client(raw), "GET k"), "v");
    let ready = "/stats?usedonly&filter=^(server\\.state|listener_manager\\.workers_started)";
    assert_eq!(
        proxy.page(ready).body,
        "listener_manager.workers_started: 1\nserver.state: 0\n"
    );
    let info: Value = serde_json::from_str(&proxy.page("/server_info").body).expect("JSON");
    assert_eq!(
        (&info["state"], &info["command_line_options"]["concurrency"]),
        (&json!("LIVE"), &json!(2))
    );
    let listeners = proxy.page("/listeners").body;
    assert_eq!(
        listeners,
        format!("redis::127.0.0.1:{port}\ntcp::127.0.0.1:{raw}\n")
    );
    let clusters = proxy.page("/clusters").body;
    assert!(
        clusters.contains(&format!("r::127.0.0.1:{}::rq_success::1\n", redis.port())),
        "{clusters}"
    );
    let dump: Value = serde_json::from_str(&proxy.page("/config_dump").body).expect("JSON");
    assert_eq!(dump["configs"][1]["static_clusters"][0]["cluster"]["name"], "r");
    assert_eq!(
        dump["configs"][2]["static_listeners"][1]["listener"]["name"],
        "tcp"
    );
}

#[test]
fn a_bootstrap_may_be_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("envoy-rev.json");
    let bootstrap = json!({
        "node": {"id": "n"},
        "admin": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": 0}}},
    });
    std::fs::write(&path, bootstrap.to_string()).expect("it is written");
    let told = folder.path().join("admin");
    let mut child = Command::new(env!("CARGO_BIN_EXE_redplane"))
        .args([
            "-c",
            &path.display().to_string(),
            "--admin-address-path",
            &told.display().to_string(),
        ])
        .args([
            "--service-node",
            "other",
            "--log-path",
            &folder.path().join("log").display().to_string(),
        ])
        .spawn()
        .expect("redplane runs");
    let mut address = None;
    until("the admin address", PATIENCE, || {
        address = std::fs::read_to_string(&told)
            .ok()
            .and_then(|text| text.parse().ok());
        address.is_some()
    });
    let info = http_get(address.expect("it was told"), "/server_info")
        .expect("the page")
        .body;
    assert!(info.contains("\"id\": \"other\""), "{info}");
    http_post(address.expect("it was told"), "/quitquitquit").expect("the page");
    assert!(child.wait().expect("it ends").success());
}

/// Each row: what is wrong, and what the one line says. Every line names the field.
const BAD: &[(&str, &str)] = &[
    (
        "admin: {address: {socket_address: {address: 127.0.0.1}}}",
        "admin.address.socket_address.port_specifier: ",
    ),
    (
        "admin: {address: {socket_address: {address: here, port_value: 1}}}",
        "admin.address.socket_address.address: ",
    ),
    (
        "static_resources: {clusters: [{connect_timeout: 1s}]}",
        "static_resources.clusters[0].name: ",
    ),
    (
        "static_resources: {clusters: [{name: a, connect_timeout: 0s}]}",
        "static_resources.clusters[0].connect_timeout: ",
    ),
    (
        "static_resources: {clusters: [{name: a}, {name: a}]}",
        "static_resources.clusters[1].name: ",
    ),
    (
        "static_resources: {clusters: [{name: a, type: EDS}]}",
        "static_resources.clusters[0].eds_cluster_config: ",
    ),
    (
        "static_resources: {listeners: [{name: l}]}",
        "static_resources.listeners[0].address: ",
    ),
    (
        "static_resources: {clusters: [{name: a, lb_policy: SOME}]}",
        "lb_policy",
    ),
    ("stat_config: {}", "stat_config"),
    (
        "stats_config: {stats_tags: [{tag_name: t, regex: '('}]}",
        "stats_config.stats_tags[0].regex: ",
    ),
    (
        "dynamic_resources: {ads_config: {api_type: REST}}",
        "dynamic_resources.ads_config.api_type: ",
    ),
    (
        "dynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}}]}}",
        "dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name: ",
    ),
    (
        "dynamic_resources: {cds_config: {path: /nowhere/at/all.yaml}}",
        "dynamic_resources: CDS: ",
    ),
    ("static_resources: [", "bootstrap.yaml: "),
];

#[test]
fn a_bad_bootstrap_ends_with_one_line_that_names_the_field() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bootstrap.yaml");
    for (bootstrap, told) in BAD {
        std::fs::write(&path, bootstrap).expect("it is written");
        let output = run(&["-c", &path.display().to_string(), "-l", "off"]);
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{bootstrap}\n{line}");
        assert_eq!(line.lines().count(), 1, "{bootstrap}\n{line}");
        assert!(
            line.starts_with("redplane: ") && line.contains(told),
            "{bootstrap}\n{line}"
        );
    }
    for arguments in [
        &[][..],
        &["-c", "/no/such/file"],
        &["-c"],
        &["-l", "loud"],
        &["--concurrency", "x"],
    ] {
        let output = run(arguments);
        assert!(
            !output.status.success() && !output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn validate_checks_and_opens_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("b.yaml");
    let taken = TcpListener::bind(local(0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    std::fs::write(&path, admin(port)).expect("it is written");
    let file = path.display().to_string();
    let good = run(&["--mode", "validate", "-c", &file]);
    assert_eq!(
        (good.status.code(), text(&good.stdout)),
        (Some(0), format!("configuration '{file}' OK\n"))
    );
    std::fs::write(&path, "admin: 5").expect("it is written");
    assert_eq!(run(&["--mode=validate", "-c", &file]).status.code(), Some(1));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/static/redplane.yaml");
    assert!(
        run(&["--mode=validate", "-c", &example.display().to_string()])
            .status
            .success()
    );
    let version = text(&run(&["--version"]).stdout);
    assert!(
        version.contains("  version: ") && version.lines().count() == 1,
        "{version}"
    );
    assert_eq!(version.split('/').rev().take(3).count(), 3);
}

#[test]
fn a_port_in_use_ends_the_process() {
    let taken = TcpListener::bind(local(0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let mut proxy = start(&admin(port), port, &[]);
    let end = code(&mut proxy);
    assert!(
        end.contains("exit status: 1")
            && end.contains(&format!("admin.address: cannot bind '127.0.0.1:{port}'")),
        "{end}"
    );
    let admin_port = free_port();
    let listeners = [tcp_listener("busy", port, "c")];
    let bootstrap = admin(admin_port) + &static_resources(&listeners, &[static_cluster("c", 1)]);
    let mut proxy = start(&bootstrap, admin_port, &[]);
    let end = code(&mut proxy);
    assert!(
        end.contains("exit status: 1") && end.contains("static_resources.listeners: 'busy': "),
        "{end}"
    );
}

#[test]
fn sigterm_ends_at_once_with_0_even_under_an_open_client() {
    let redis = Redis::plain();
    let (admin_port, port) = (free_port(), free_port());
    let listeners = [redis_listener("redis", port, "r")];
    let bootstrap = admin(admin_port) + &static_resources(&listeners, &[static_cluster("r", redis.port())]);
    let mut proxy = start(
        &bootstrap,
        admin_port,
        &["--restart-epoch", "0", "--drain-time-s=45"],
    )
    .wait_until_ready();
    let mut held = client(port);
    assert_eq!(ask(&mut held, "PING"), "PONG");
    let told = Instant::now();
    proxy.process().signal("TERM");
    let end = code(&mut proxy);
    assert!(end.contains("exit status: 0"), "{end}");
    let took = Instant::now().duration_since(told);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(held.read_until_close().1);
}

#[test]
fn the_log_has_the_form_that_istio_asks_for_and_is_reopened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redplane.log");
    let admin_port = free_port();
    let format = "application_log_config: {log_format: {text_format: \"%Y-%m-%dT%T.%fZ\\t%l\\tenvoy %n \
                  %g:%#\\t%v\\tthread=%t\"}}\n";
    let log = path.display().to_string();
    let flags = [
        "--log-path",
        &log,
        "--component-log-level",
        "admin:off",
        "--from-the-future",
        "7",
    ];
    let proxy = start(&(admin(admin_port) + format), admin_port, &flags).wait_until_ready();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let lines = read(&path);
    let unknown = lines.lines().find(|line| line.contains("--from-the-future 7"));
    let parts: Vec<&str> = unknown.unwrap_or_else(|| panic!("{lines}")).split('\t').collect();
    assert_eq!((parts.len(), parts[1]), (5, "warning"), "{lines}");
    assert!(
        parts[0].ends_with('Z') && parts[2].starts_with("envoy main src/main.rs:"),
        "{lines}"
    );
    assert!(!lines.contains("envoy admin"), "{lines}");
    let moved = folder.path().join("redplane.log.1");
    std::fs::rename(&path, &moved).expect("it is moved");
    proxy.process().signal("USR1");
    until("a new log file", PATIENCE, || path.exists());
    http_post(local(admin_port), "/logging?level=off").expect("the page");
    http_post(local(admin_port), "/drain_listeners").expect("the page");
    assert!(!read(&path).contains("draining"));
    let levels = http_post(local(admin_port), "/logging?main=info")
        .expect("the page")
        .body;
    assert!(
        levels.contains("  main: info\n") && levels.contains("  redis: off\n"),
        "{levels}"
    );
    http_post(local(admin_port), "/drain_listeners").expect("the page");
    assert!(read(&path).contains("draining"));
}

#[test]
fn config_yaml_is_merged_over_the_file() {
    let (admin_port, port) = (free_port(), free_port());
    let redis = Redis::plain();
    let bootstrap = admin(free_port()) + &static_resources(&[], &[static_cluster("r", redis.port())]);
    let over = admin(admin_port) + &static_resources(&[redis_listener("redis", port, "r")], &[]);
    let proxy = start(&bootstrap, admin_port, &["--config-yaml", &over]).wait_until_ready();
    assert_eq!(ask(&mut client(port), "PING"), "PONG");
    assert_eq!(proxy.stat("cluster_manager.active_clusters"), Some(1));
}

#[test]
fn a_dead_redis_and_a_silent_name_hold_nobody_up() {
    let (admin_port, port, other) = (free_port(), free_port(), free_port());
    let redis = Redis::plain();
    let dead = "{name: dead, lb_policy: CLUSTER_PROVIDED, cluster_type: {name: envoy.clusters.redis}, load_assignment: \
                {cluster_name: dead, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: \
                127.0.0.1, port_value: 1}}}}]}]}}";
    let silent = "{name: silent, type: STRICT_DNS, load_assignment: {cluster_name: silent, endpoints: \
                  [{lb_endpoints: [{endpoint: {address: {socket_address: {address: nowhere.invalid, port_value: \
                  1}}}}]}]}}";
    let clusters = [
        dead.to_owned(),
        silent.to_owned(),
        static_cluster("r", redis.port()),
    ];
    let listeners = [redis_listener("a", port, "dead"), redis_listener("b", other, "r")];
    let bootstrap = admin(admin_port) + &static_resources(&listeners, &clusters);
    let proxy = start(&bootstrap, admin_port, &[]).wait_until_ready();
    assert_eq!(ask(&mut client(other), "SET a 1"), "OK");
    assert_eq!(ask(&mut client(port), "GET a"), "no upstream host");
    assert_eq!(proxy.stat("server.state"), Some(0));
}

#[test]
fn a_bad_or_missing_first_assignment_holds_up_only_what_needs_it() {
    let redis = Redis::plain();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("eds.yaml");
    let write = |host: &str, port: u32| {
        let draft = folder.path().join("draft");
        let assignment = format!(
            "version_info: '{host}{port}'\nresources:\n- {{\"@type\": \
             type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: e, endpoints: \
             [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {host}, port_value: \
             {port}}}}}}}}}]}}]}}\n"
        );
        std::fs::write(&draft, assignment).expect("it is written");
        std::fs::rename(&draft, &path).expect("it replaces the old one");
    };
    for bad in [Some(("127.0.0.1", 70000)), Some(("nowhere", 1)), None] {
        match bad {
            Some((host, port)) => write(host, port),
            None => drop(std::fs::remove_file(&path)),
        }
        let (admin_port, served, empty) = (free_port(), free_port(), free_port());
        let eds = format!(
            "{{name: e, type: EDS, eds_cluster_config: {{eds_config: {{path_config_source: {{path: {}}}, \
             initial_fetch_timeout: 0s}}}}}}",
            path.display()
        );
        let listeners = [redis_listener("l", served, "r"), redis_listener("e", empty, "e")];
        let clusters = [static_cluster("r", redis.port()), eds];
        let bootstrap = admin(admin_port) + &static_resources(&listeners, &clusters);
        let proxy = start(&bootstrap, admin_port, &[]).wait_until_ready();
        assert_eq!(ask(&mut client(served), "PING"), "PONG", "{bad:?}");
        assert_eq!(ask(&mut client(empty), "GET a"), "no upstream host", "{bad:?}");
        write("127.0.0.1", u32::from(redis.port()));
        until_answered(empty, "PING", "PONG");
        assert_eq!(proxy.stat("server.state"), Some(0));
    }
}

/// A control plane that has nothing to say about the endpoints of a cluster.
#[test]
fn endpoints_that_never_come_hold_up_only_what_needs_them() {
    let redis = Redis::plain();
    let port = free_port();
    let cluster = "{applyTo: CLUSTER, patch: {operation: INSERT_FIRST, value: {name: silent, type: EDS, \
                   eds_cluster_config: {eds_config: {ads: {}, initial_fetch_timeout: 0s}}}}}";
    let texts = [
        service("one", port, redis.port()),
        envoy_filter("silent", cluster),
    ];
    // In this form nothing is said about a name that has none.
    let address = redplane_control::Address::Tcp(local(0));
    let stage = Stage::over(&address, crate::stage::Api::Sotw, &texts, &[]);
    assert_eq!(ask(&mut client(port), "PING"), "PONG");
    assert_eq!(stage.stat("cluster_manager.warming_clusters"), 1);
    assert_eq!(stage.stat("server.state"), 0);
}

#[test]
fn static_listeners_open_when_their_clusters_are_warm() {
    let cluster = Cluster::three_and_three();
    let seeds: Vec<u16> = cluster.nodes().iter().map(Redis::port).collect();
    for _ in 0..5 {
        let (admin_port, port, plain) = (free_port(), free_port(), free_port());
        let clusters = [
            crate::front::discovered("c", &seeds[..1], "", ""),
            static_cluster("r", seeds[0]),
        ];
        let listeners = [redis_listener("c", port, "c"), tcp_listener("r", plain, "r")];
        let bootstrap = admin(admin_port) + &static_resources(&listeners, &clusters);
        let _proxy = start(&bootstrap, admin_port, &["--concurrency", "1"]);
        // The first connection that is taken is served.
        let words = ["GET", "nothing"];
        let mut answer = None;
        until("the first connection", PATIENCE, || {
            answer = Client::connect(local(port))
                .ok()
                .and_then(|mut client| client.command(&words).ok());
            answer.is_some()
        });
        let answer = answer.expect("there was one");
        assert_eq!(answer, Reply::Bulk(None), "{answer}");
    }
}

#[test]
fn unknown_fields_that_are_allowed_are_counted_and_logged() {
    let (admin_port, port) = (free_port(), free_port());
    let cluster = static_cluster("r", 1).replacen("connect_timeout", "conect_timeout", 1);
    let filter = redis_listener("l", port, "r").replace(
        "stat_prefix: l",
        "stat_prefix: l, downstream_auth_passwordz: [{inline_string: x}]",
    );
    let bootstrap = admin(admin_port) + &static_resources(&[filter], &[cluster]);
    let flags = ["--allow-unknown-static-fields"];
    let proxy = start(&bootstrap, admin_port, &flags).wait_until_ready();
    assert_eq!(proxy.stat("server.static_unknown_fields"), Some(2));
    let log = proxy.process().output();
    for field in [
        "static_resources.clusters[0].conect_timeout",
        "typed_config.downstream_auth_passwordz",
    ] {
        let named = |line: &str| line.contains("warning") && line.contains(field);
        assert!(log.lines().any(named), "{field}\n{log}");
    }
}

/// Each row: what is wrong with a bootstrap that can be read, and what both validation and the start say.
#[test]
fn validate_refuses_what_the_start_refuses() {
    let url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
    let tls = |fields: &str| {
        let socket = format!(
            "{{transport_socket: {{name: tls, typed_config: {{\"@type\": {url}.UpstreamTlsContext, {fields}}}}}, "
        );
        static_resources(&[], &[static_cluster("c", 1).replacen('{', &socket, 1)])
    };
    let port = free_port();
    let shared = static_resources(
        &[tcp_listener("a", port, "c"), tcp_listener("b", port, "c")],
        &[static_cluster("c", 1)],
    );
    let sds = "common_tls_context: {validation_context_sds_secret_config: {name: vc, sds_config: {api_config_source: \
               {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}}";
    let rows = [
        (
            tls("sni: 'not a name'"),
            "static_resources.clusters: 'c': transport_socket: sni: not a name",
        ),
        (
            tls("sni: s, auto_sni_san_validation: true"),
            "auto_sni_san_validation: 'auto_sni_san_validation' was configured without a validation context",
        ),
        (
            tls("common_tls_context: {validation_context_sds_secret_config: {name: vc}}"),
            "static_resources.clusters: 'c': Unknown static certificate validation context: vc",
        ),
        (
            tls(sds),
            "static_resources.clusters: 'c': secret `vc`: sds_config: unknown cluster 'sds-grpc'",
        ),
        (
            shared,
            "static_resources.listeners: 'b': error adding listener: 'b' has duplicate address",
        ),
        (
            "dynamic_resources: {cds_config: {path: /nowhere/at/all.yaml}}".to_owned(),
            "dynamic_resources: CDS: ",
        ),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("b.yaml");
    for (bootstrap, told) in rows {
        let node = "node: {id: n, cluster: c}\n";
        std::fs::write(&path, format!("{node}{bootstrap}")).expect("it is written");
        for mode in ["validate", "serve"] {
            let output = run(&["--mode", mode, "-c", &path.display().to_string(), "-l", "off"]);
            let line = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{mode} {bootstrap}\n{line}");
            assert!(line.contains(told), "{mode} {bootstrap}\n{line}");
        }
    }
}

/// What stands between redplane and its control plane: it can stop to pass anything on, without a word.
fn relay(target: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind(local(0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = Arc::clone(&silent);
    std::thread::spawn(move || {
        for from in listener.incoming().flatten() {
            let Ok(to) = TcpStream::connect(local(target)) else {
                continue;
            };
            for (mut from, mut to) in [
                (
                    from.try_clone().expect("a socket"),
                    to.try_clone().expect("a socket"),
                ),
                (to, from),
            ] {
                let silent = Arc::clone(&is_silent);
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = from.read(&mut bytes) {
                        if !silent.load(Ordering::Relaxed) && to.write_all(&bytes[..read]).is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (port, silent)
}

#[test]
fn a_control_plane_that_falls_silent_is_noticed_as_configured() {
    let redis = Redis::plain();
    let port = free_port();
    let mut relayed = None;
    let stage = Stage::with(
        &redplane_control::Address::Tcp(local(0)),
        &[service("one", port, redis.port())],
        &[],
        |control, admin_port| {
            let redplane_control::Address::Tcp(address) = control else {
                unreachable!("it was asked for TCP")
            };
            let (port, silent) = relay(address.port());
            relayed = Some((port, silent));
            let through = redplane_control::Address::Tcp(local(port));
            ads_bootstrap(&through, crate::stage::Api::Delta, admin_port)
                .replace(
                    "http2_protocol_options: {}",
                    "http2_protocol_options: {connection_keepalive: {interval: 0.5s, timeout: 0.5s}}, \
                     upstream_connection_options: {tcp_keepalive: {keepalive_time: 300, keepalive_interval: 7}}",
                )
        },
    );
    let (relay_port, silent) = relayed.expect("it was started");
    assert_eq!(stage.stat("control_plane.connected_state"), 1);
    // `02` in the column of timers is the kernel's keepalive.
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("it can be read");
    let remote = format!("0100007F:{relay_port:04X}");
    let timers: Vec<&str> = sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(2) == Some(&remote.as_str()))
        .filter_map(|columns| columns.get(5).and_then(|timer| timer.split(':').next()))
        .map(|timer| if timer == "02" { "keepalive" } else { "none" })
        .collect();
    assert_eq!(timers, ["keepalive"], "{sockets}");
    silent.store(true, Ordering::Relaxed);
    until("the silence to be noticed", PATIENCE, || {
        stage.stat("control_plane.connected_state") == 0
    });
    assert_eq!(ask(&mut client(port), "PING"), "PONG");
    silent.store(false, Ordering::Relaxed);
    until("another stream", PATIENCE, || {
        stage.stat("control_plane.connected_state") == 1
    });
}

#[test]
fn without_its_control_plane_it_is_not_ready_until_the_timeout() {
    let nobody = redplane_control::Address::Tcp(local(free_port()));
    let admin_port = free_port();
    let bootstrap = ads_bootstrap(&nobody, crate::stage::Api::Delta, admin_port);
    let proxy = start(&bootstrap, admin_port, &[]);
    let page = |path: &str| http_get(local(admin_port), path).ok();
    until("the admin page", PATIENCE, || page("/ready").is_some());
    let ready = proxy.page("/ready");
    assert_eq!((ready.status, ready.body.as_str()), (503, "PRE_INITIALIZING\n"));
    let state = proxy.page("/stats?usedonly&filter=^server\\.state");
    assert_eq!(state.body, "");
    until("a failed attempt", PATIENCE, || {
        proxy
            .stat("cluster_manager.cds.update_failure")
            .is_some_and(|failures| failures > 0)
    });
    assert!(proxy.page("/init_dump").body.contains("target CDS"));
    assert_eq!(proxy.stat("control_plane.connected_state"), Some(0));
    drop(proxy);
    let patient = bootstrap.replace("initial_fetch_timeout: 0s", "initial_fetch_timeout: 0.05s");
    let proxy = start(&patient, admin_port, &[]).wait_until_ready();
    assert_eq!(proxy.stat("cluster_manager.cds.init_fetch_timeout"), Some(1));
    assert_eq!(proxy.stat("listener_manager.lds.init_fetch_timeout"), Some(1));
}

#[test]
fn drain_listeners_takes_inbound_ones_only_when_asked() {
    let redis = Redis::plain();
    let (admin_port, inward, plain) = (free_port(), free_port(), free_port());
    let inbound = redis_listener("in", inward, "r").replacen('{', "{traffic_direction: INBOUND, ", 1);
    let listeners = [inbound, redis_listener("plain", plain, "r")];
    let bootstrap = admin(admin_port) + &static_resources(&listeners, &[static_cluster("r", redis.port())]);
    let proxy = start(&bootstrap, admin_port, &["--drain-time-s", "0"]).wait_until_ready();
    assert_eq!(ask(&mut client(inward), "PING"), "PONG");
    let drained = http_post(local(admin_port), "/drain_listeners?inboundonly&graceful").expect("the page");
    assert_eq!((drained.status, drained.body.as_str()), (200, "OK\n"));
    until("the inbound port to close", PATIENCE, || !listens(inward));
    assert_eq!(ask(&mut client(plain), "PING"), "PONG");
    assert_eq!(proxy.page("/ready").body, "LIVE\n");
    http_post(local(admin_port), "/healthcheck/fail").expect("the page");
    assert_eq!(
        (proxy.page("/ready").status, proxy.stat("server.state")),
        (503, Some(1))
    );
}
