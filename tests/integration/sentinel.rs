//! `redplane.clusters.sentinel` in front of real Sentinels: finding, reading, failing over, staying quiet about secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use redplane_testkit::redis::MASTER_NAME;
use redplane_testkit::{
    Authority, Client, Proxy, Redis, Reply, Role, SentinelConfig, Sentinels, free_port, until,
};

use crate::front::{Front, all_to, endpoints, listener, redis_filter, serve, since};
use crate::secure::{assert_not_told, credentials, upstream_tls};
use crate::stage::{PATIENCE, Stage, ask, client, envoy_filter, redis_proxy, service, until_answered};

/// The way that Istiod can carry: a TypedStruct of a type that it does not know.
fn cluster_type(fields: &str) -> String {
    format!(
        "{{name: redplane.clusters.sentinel, typed_config: {{\"@type\": type.googleapis.com/xds.type.v3.TypedStruct, \
         type_url: type.googleapis.com/redplane.clusters.sentinel.v3.SentinelClusterConfig, value: {{master_name: \
         {MASTER_NAME}{fields}}}}}}}"
    )
}

fn guarded(name: &str, sentinels: &[u16], config: &str, fields: &str) -> String {
    format!(
        "{{name: {name}, connect_timeout: 1s, lb_policy: CLUSTER_PROVIDED, load_assignment: {{cluster_name: {name}, \
         endpoints: [{{lb_endpoints: [{}]}}]}}, cluster_type: {}{fields}}}",
        endpoints(sentinels),
        cluster_type(config)
    )
}

/// Where `/clusters` says the master and the replicas are.
fn shown(proxy: &Proxy, cluster: &str) -> BTreeMap<String, Vec<u16>> {
    let mut roles: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    for line in proxy.page("/clusters").body.lines() {
        let mut parts = line.split("::");
        if let (Some(name), Some(address), Some(key), Some(value)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && (name, key) == (cluster, "redis_role")
            && let Some(port) = address.rsplit(':').next().and_then(|port| port.parse().ok())
        {
            roles.entry(value.to_owned()).or_default().push(port);
        }
    }
    roles.values_mut().for_each(|ports| ports.sort_unstable());
    roles
}

fn wait_until_shown(proxy: &Proxy, cluster: &str, primary: u16, replicas: &[u16]) {
    let mut replicas = replicas.to_vec();
    replicas.sort_unstable();
    let expected = BTreeMap::from([
        ("primary".to_owned(), vec![primary]),
        ("replica".to_owned(), replicas),
    ]);
    let begun = Instant::now();
    while shown(proxy, cluster) != expected {
        let waited = since(begun);
        assert!(
            waited < PATIENCE,
            "{:?} and not {expected:?}\n{}",
            shown(proxy, cluster),
            proxy.process().output()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn others(all: &Sentinels, but: usize) -> Vec<u16> {
    let server = |(at, server): (usize, &Redis)| (at != but).then(|| all.client_port(server));
    all.servers().iter().enumerate().filter_map(server).collect()
}

/// Clients that write keys of their own, one at a time, and remember which writes were acknowledged and when.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Diary>>,
}

#[derive(Default)]
struct Diary {
    /// Keys, and when their acknowledged writes were begun.
    written: Vec<(String, Instant)>,
    errors: BTreeMap<String, u64>,
    slowest: Duration,
    broken: bool,
}

impl Writers {
    fn start(port: u16, count: usize) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let one = |at: usize| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let mut connection = client(port);
            thread::spawn(move || {
                let mut diary = Diary::default();
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) && !diary.broken {
                    number += 1;
                    diary.write(&mut connection, format!("w{at}:{number}"), &acknowledged);
                }
                diary
            })
        };
        Self {
            threads: (0..count).map(one).collect(),
            stop,
            acknowledged,
        }
    }

    /// Waits for so many more acknowledged writes.
    fn go_on(&self, writes: u64) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        until("writes to be acknowledged", PATIENCE, || {
            self.acknowledged.load(Ordering::Relaxed) >= before + writes
                || self.threads.iter().any(JoinHandle::is_finished)
        });
    }

    fn finish(self) -> Vec<Diary> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<Diary>| thread.join().expect("a writer does not panic");
        self.threads.into_iter().map(join).collect()
    }
}

impl Diary {
    fn write(&mut self, connection: &mut Client, key: String, acknowledged: &AtomicU64) {
        let start = Instant::now();
        match connection.command(&["SET", &key, &key]) {
            Ok(reply) if reply.is_error() => *self.errors.entry(reply.to_string()).or_default() += 1,
            Ok(_) => {
                self.written.push((key, start));
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => self.broken = true,
        }
        self.slowest = self.slowest.max(since(start));
    }
}

/// No connection broke, nobody waited long, errors were those of a failover, and what was acknowledged since the switch
/// is there.
fn assert_kept(diaries: &[Diary], master: &Redis, switched: Instant) {
    let mut held = master.client();
    for diary in diaries {
        assert!(!diary.broken, "a client's connection broke");
        assert!(
            diary.slowest < Duration::from_secs(6),
            "a write took {:?}",
            diary.slowest
        );
        let known = [
            "upstream failure",
            "READONLY",
            "no upstream host",
            "MASTERDOWN",
            "UNBLOCKED",
        ];
        for error in diary.errors.keys() {
            assert!(known.iter().any(|known| error.contains(known)), "{error}");
        }
        let since: Vec<&String> = diary
            .written
            .iter()
            .filter(|(_, at)| *at > switched)
            .map(|(key, _)| key)
            .collect();
        assert!(since.len() > 10, "only {} writes after the switch", since.len());
        for key in since {
            assert_eq!(
                ask(&mut held, &format!("GET {key}")),
                *key,
                "an acknowledged write is lost"
            );
        }
    }
}

#[test]
fn reads_go_where_the_policy_says() {
    let all = Sentinels::three(&SentinelConfig::default());
    let policies = [
        ("MASTER", true, false),
        ("REPLICA", false, true),
        ("ANY", true, true),
    ];
    let ports: Vec<u16> = policies.iter().map(|_| free_port()).collect();
    let listeners: Vec<String> = policies
        .iter()
        .zip(&ports)
        .map(|((policy, ..), port)| {
            let settings = format!("op_timeout: 5s, read_policy: {policy}");
            listener(policy, *port, &redis_filter(policy, &settings, &all_to("s")))
        })
        .collect();
    let proxy = serve(&listeners, &[guarded("s", &all.ports(), "", "")]);
    wait_until_shown(&proxy, "s", all.servers()[0].port(), &others(&all, 0));
    for ((policy, master, replicas), port) in policies.iter().zip(ports) {
        until_answered(port, "SET a 1", "OK");
        let mut client = client(port);
        // Keys of different slots: this is no cluster.
        assert_eq!(ask(&mut client, "MSET k1 1 k2 2 k3 3"), "OK");
        assert_eq!(ask(&mut client, "DBSIZE"), "4");
        until("the replicas to have it", PATIENCE, || {
            let has = |server: &Redis| server.run("GET k3").text().as_deref() == Some("3");
            all.servers().iter().all(has)
        });
        all.servers().iter().for_each(Redis::reset_stats);
        for _ in 0..60 {
            assert_eq!(ask(&mut client, "GET k2"), "2");
        }
        let reads: Vec<u64> = all.servers().iter().map(|server| server.calls("get")).collect();
        assert_eq!(
            (reads[0] > 0, reads[1] > 0, reads[2] > 0),
            (*master, *replicas, *replicas),
            "{policy}: {reads:?}"
        );
        assert_eq!(reads.iter().sum::<u64>(), 60, "{policy}: {reads:?}");
    }
}

#[test]
fn a_failover_is_followed_under_load() {
    let all = Sentinels::three(&SentinelConfig::default());
    // Nothing but the news of the Sentinels leads to the new master in time.
    let seldom = ", refresh_rate: 600s";
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("s"));
    let front = Front::start(&filter, &[guarded("s", &all.ports(), seldom, "")]);
    until_answered(front.port, "SET a 1", "OK");
    let writers = Writers::start(front.port, 4);
    writers.go_on(100);
    let master = all.fail_over(0);
    wait_until_shown(
        &front.proxy,
        "s",
        all.servers()[master].port(),
        &others(&all, master),
    );
    let switched = Instant::now();
    writers.go_on(400);
    assert_kept(&writers.finish(), &all.servers()[master], switched);
    until("the former master to follow", PATIENCE, || {
        all.servers()[0].role() == Role::Replica
    });
    assert_eq!(ask(&mut front.client(), "SET a 2"), "OK");
    assert_eq!(all.servers()[master].run("GET a").text().as_deref(), Some("2"));
}

#[test]
fn a_scan_goes_on_at_the_new_master() {
    let all = Sentinels::three(&SentinelConfig::default());
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("s"));
    let front = Front::start(&filter, &[guarded("s", &all.ports(), ", refresh_rate: 600s", "")]);
    until_answered(front.port, "SET there 1", "OK");
    let mut client = front.client();
    for at in 0..1000 {
        assert_eq!(ask(&mut client, &format!("SET k{at} v")), "OK");
    }
    until("the replicas to have it all", PATIENCE, || {
        let has = |server: &Redis| server.run("DBSIZE").integer() == Some(1001);
        all.servers().iter().all(has)
    });
    let mut found = BTreeSet::new();
    let mut page = |client: &mut Client, cursor: &str| {
        let reply = client
            .command(&["SCAN", cursor, "COUNT", "20"])
            .expect("an answer");
        let [next, keys] = reply.elements() else {
            panic!("{reply}")
        };
        found.extend(keys.elements().iter().filter_map(Reply::text));
        (next.text().expect("a cursor"), found.len())
    };
    let (mut cursor, _) = page(&mut client, "0");
    while page(&mut client, &cursor).1 < 500 {
        cursor = page(&mut client, &cursor).0;
    }
    let master = all.fail_over(0);
    wait_until_shown(
        &front.proxy,
        "s",
        all.servers()[master].port(),
        &others(&all, master),
    );
    // Its buckets are others.
    let mut count = 0;
    while cursor != "0" {
        (cursor, count) = page(&mut client, &cursor);
    }
    assert_eq!(count, 1001);
}

#[test]
fn a_killed_master_fails_fast_and_is_replaced() {
    let mut all = Sentinels::three(&SentinelConfig::default());
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("s"));
    let front = Front::start(&filter, &[guarded("s", &all.ports(), ", refresh_rate: 1s", "")]);
    until_answered(front.port, "SET a 1", "OK");
    let writers = Writers::start(front.port, 4);
    writers.go_on(100);
    all.server_mut(0).kill();
    let mut client = front.client();
    let start = Instant::now();
    let reply = client.command(&["SET", "a", "2"]).expect("an answer");
    assert!(
        reply.is_error() && since(start) < Duration::from_secs(1),
        "{reply} after {:?}",
        since(start)
    );
    let master = all.wait_until_promoted(0, Some(0));
    until("a write to be taken", PATIENCE, || {
        client
            .command(&["SET", "a", "3"])
            .is_ok_and(|reply| !reply.is_error())
    });
    let switched = Instant::now();
    writers.go_on(400);
    assert_kept(&writers.finish(), &all.servers()[master], switched);
    // The former master comes back as a replica.
    all.server_mut(0).restart();
    let third = 3 - master;
    let ports = [all.servers()[0].port(), all.servers()[third].port()];
    wait_until_shown(&front.proxy, "s", all.servers()[master].port(), &ports);
    assert_eq!(ask(&mut client, "GET a"), "3");
}

#[test]
fn another_sentinel_is_heard_when_one_is_gone() {
    let mut all = Sentinels::three(&SentinelConfig::default());
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("s"));
    // One Sentinel is configured, and it is the one that goes: the others were learnt from it.
    let front = Front::start(
        &filter,
        &[guarded("s", &all.ports()[..1], ", refresh_rate: 600s", "")],
    );
    until_answered(front.port, "SET a 1", "OK");
    let heard = |all: &Sentinels| -> Vec<usize> {
        let subscribed = |at: &usize| all.sentinels()[*at].subscribers() > 0;
        (0..3).filter(subscribed).collect()
    };
    until("a subscription", PATIENCE, || heard(&all) == [0]);
    all.sentinel_mut(0).kill();
    until("a subscription elsewhere", PATIENCE, || {
        matches!(heard(&all).as_slice(), [1 | 2])
    });
    let master = all.fail_over(1);
    wait_until_shown(
        &front.proxy,
        "s",
        all.servers()[master].port(),
        &others(&all, master),
    );
    assert_eq!(ask(&mut front.client(), "SET a 2"), "OK");
}

#[test]
fn servers_and_sentinels_have_tls_and_passwords() {
    let authority = Authority::new();
    let identity = authority.issue("redis", &["localhost", "127.0.0.1"]);
    let all = Sentinels::three(&SentinelConfig {
        password: Some("server-secret".to_owned()),
        sentinel_password: Some("sentinel-secret".to_owned()),
        tls: Some(identity.clone()),
    });
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("s"));
    let fields = credentials("auth_password: {inline_string: server-secret}")
        + &upstream_tls(&identity, "localhost", "");
    let login = ", auth_password: {inline_string: sentinel-secret}";
    let front = Front::start(&filter, &[guarded("s", &all.ports(), login, &fields)]);
    until_answered(front.port, "SET a 1", "OK");
    let primary = all.client_port(&all.servers()[0]);
    wait_until_shown(&front.proxy, "s", primary, &others(&all, 0));
    let master = all.fail_over(0);
    let primary = all.client_port(&all.servers()[master]);
    wait_until_shown(&front.proxy, "s", primary, &others(&all, master));
    until_answered(front.port, "SET a 2", "OK");
    assert_eq!(all.servers()[master].run("GET a").text().as_deref(), Some("2"));
    assert_not_told(&front.proxy, &["server-secret", "sentinel-secret"]);
}

#[test]
fn istio_s_control_plane_carries_it() {
    let all = Sentinels::three(&SentinelConfig::default());
    let port = free_port();
    let patch = format!(
        "{{applyTo: CLUSTER, patch: {{operation: INSERT_FIRST, value: {}}}}}",
        guarded("behind-sentinels", &all.ports(), ", refresh_rate: 1s", "")
    );
    let mut stage = Stage::new(&[
        service("redis", port, all.servers()[0].port()),
        envoy_filter("sentinel", &patch),
        redis_proxy(port, "behind-sentinels", "read_policy: PREFER_REPLICA"),
    ]);
    until_answered(port, "SET a 1", "OK");
    wait_until_shown(
        &stage.proxy,
        "behind-sentinels",
        all.servers()[0].port(),
        &others(&all, 0),
    );
    let dump = stage.proxy.page("/config_dump").body;
    assert!(
        dump.contains("redplane.clusters.sentinel") && dump.contains(MASTER_NAME),
        "{dump}"
    );
    let bad = patch.replace("refresh_rate", "refresh_late");
    let nack = stage.push_clusters(&[service("redis", port, 1), envoy_filter("sentinel", &bad)]);
    let reason = nack.expect_err("the field is not known");
    assert!(
        reason.contains("cluster_type.typed_config.refresh_late: no such field"),
        "{reason}"
    );
    assert_eq!(ask(&mut client(port), "GET a"), "1");
}
