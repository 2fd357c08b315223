//! What discovery makes of answers that a real Redis gives rarely or never.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redplane_config::cluster::{Cluster as Config, Discovery, RedisCluster};
use redplane_config::redis_proxy::ReadPolicy;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Cluster, Pick, Role, Signal, Want};

use super::model::{ip, named, redis, start, until};
use super::scripted::Scripted;

const FAST: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3600);

/// `CLUSTER SLOTS` rows: first, last, nodes.
type Rows<'a> = &'a [(i64, i64, &'a [(&'a str, u16)])];

fn slots(rows: Rows<'_>) -> Vec<u8> {
    let mut text = format!("*{}\r\n", rows.len());
    for (first, last, nodes) in rows {
        text += &format!("*{}\r\n:{first}\r\n:{last}\r\n", 2 + nodes.len());
        for (host, port) in *nodes {
            text += &format!("*2\r\n${}\r\n{host}\r\n:{port}\r\n", host.len());
        }
    }
    text.into_bytes()
}

/// Answers CLUSTER SLOTS with what a function says, all else with an error.
fn only_slots(answer: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> impl Fn(&[String]) -> Vec<u8> {
    move |words| match words {
        [cluster, slots] if cluster == "CLUSTER" && slots == "SLOTS" => answer(),
        _ => b"-ERR unknown command\r\n".to_vec(),
    }
}

fn adjust(mut config: Config, change: impl FnOnce(&mut RedisCluster)) -> Config {
    if let Discovery::Redis(settings) = &mut config.discovery {
        change(settings);
    }
    config
}

fn primary(cluster: &Cluster, slot: u16) -> Option<SocketAddr> {
    let topology = cluster.topology();
    match topology.by_slot(slot, Want::Primary) {
        Pick::Host(at) => topology.hosts[at].address.ip(),
        Pick::Unserved | Pick::NoHost => None,
    }
}

#[tokio::test]
async fn a_cluster_without_an_answer_has_no_host_and_blocks_nobody() {
    let config = redis(vec![ip("127.0.0.1:1".parse().unwrap())], FAST);
    let cluster = start(config);
    assert!(cluster.is_warm());
    assert_eq!(cluster.topology().by_slot(0, Want::Primary), Pick::NoHost);
    until("failures are counted", || {
        cluster.stats().counter(names::UPDATE_FAILURE) > 2
    })
    .await;
    assert!(cluster.stats().counter(names::UPSTREAM_CX_CONNECT_FAIL) > 2);
    assert_eq!(cluster.stats().counter(names::UPDATE_SUCCESS), 0);
}

#[tokio::test]
async fn slots_that_nobody_claims_are_unserved_and_an_empty_host_is_the_one_asked() {
    let server = Scripted::start(only_slots(|| {
        slots(&[(0, 99, &[("", 7001)]), (200, 16383, &[("::1", 7002)])])
    }))
    .await;
    let cluster = start(redis(vec![ip(server.address)], FAST));
    until("a topology", || cluster.topology().version > 0).await;
    assert_eq!(primary(&cluster, 5), Some("127.0.0.1:7001".parse().unwrap()));
    assert_eq!(primary(&cluster, 200), Some("[::1]:7002".parse().unwrap()));
    assert_eq!(cluster.topology().by_slot(150, Want::Primary), Pick::Unserved);
    assert_eq!(cluster.topology().by_slot(20_000, Want::Primary), Pick::Unserved);
}

#[tokio::test]
async fn a_faulty_answer_leaves_the_topology_as_it_is() {
    let answers: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let port = Arc::new(AtomicUsize::new(0));
    let (script, own) = (Arc::clone(&answers), Arc::clone(&port));
    let server = Scripted::start(only_slots(move || {
        let good = slots(&[(0, 16383, &[("127.0.0.1", own.load(SeqCst) as u16)])]);
        script.lock().unwrap().first().cloned().unwrap_or(good)
    }))
    .await;
    port.store(usize::from(server.address.port()), SeqCst);
    let cluster = start(redis(vec![ip(server.address)], FAST));
    until("a topology", || primary(&cluster, 0) == Some(server.address)).await;
    let version = cluster.topology().version;
    let faulty = [
        slots(&[(-1, 5, &[("10.0.0.1", 1)])]),
        slots(&[(0, 16384, &[("10.0.0.1", 1)])]),
        slots(&[]),
        b"-CLUSTERDOWN no\r\n".to_vec(),
        b"*1\r\n*3\r\n:0\r\n:5\r\n$1\r\nx\r\n".to_vec(),
        slots(&[(0, 5, &[("no such host.invalid", 1)])]),
    ];
    for answer in faulty {
        let before = cluster.stats().counter(names::UPDATE_FAILURE);
        *answers.lock().unwrap() = vec![answer];
        until("the answer is refused", || {
            cluster.stats().counter(names::UPDATE_FAILURE) > before + 1
        })
        .await;
        assert_eq!(cluster.topology().version, version);
    }
    answers.lock().unwrap().clear();
    let before = cluster.stats().counter(names::UPDATE_NO_REBUILD);
    until("good answers again", || {
        cluster.stats().counter(names::UPDATE_NO_REBUILD) > before + 1
    })
    .await;
    assert_eq!(cluster.topology().version, version);
    assert_eq!(cluster.stats().counter(names::MEMBERSHIP_CHANGE), 1);
}

#[tokio::test]
async fn moved_changes_the_slot_at_once_and_a_refresh_follows() {
    let fresh = Arc::new(AtomicBool::new(false));
    let (script, asked) = (Arc::clone(&fresh), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let server = Scripted::start(only_slots(move || {
        count.fetch_add(1, SeqCst);
        let new: Rows<'_> = &[
            (0, 99, &[("127.0.0.1", 7001)]),
            (100, 16383, &[("127.0.0.1", 7009)]),
        ];
        let old: Rows<'_> = &[(0, 16383, &[("127.0.0.1", 7001)])];
        slots(if script.load(SeqCst) { new } else { old })
    }))
    .await;
    let seeds = vec![ip(server.address)];
    let cluster = start(adjust(redis(seeds, NEVER), |settings| {
        settings.redirect_refresh_threshold = 1000;
    }));
    until("a topology", || cluster.topology().version > 0).await;
    fresh.store(true, SeqCst);
    let to = "127.0.0.1:7009".parse().unwrap();
    let stranger = cluster.stranger(to, "");
    cluster.signal(Signal::Moved { slot: 16_383, to });
    until("the slot moves", || primary(&cluster, 16_383) == Some(to)).await;
    let topology = cluster.topology().clone();
    let at = topology.host_by_address(to).unwrap();
    assert_eq!(
        topology.hosts[at].id, stranger.id,
        "connections to the stranger stay in use"
    );
    assert_eq!(topology.role(at), Some(Role::Primary));
    until("the refresh that follows", || primary(&cluster, 100) == Some(to)).await;
    assert_eq!(asked.load(SeqCst), 2);
    assert_eq!(cluster.stranger(to, "").id, stranger.id);
}

#[tokio::test]
async fn a_burst_of_moves_is_a_few_topologies() {
    let server = Scripted::start(only_slots(|| slots(&[(0, 16383, &[("127.0.0.1", 7001)])]))).await;
    let cluster = start(adjust(redis(vec![ip(server.address)], NEVER), |settings| {
        settings.redirect_refresh_threshold = 0;
    }));
    until("a topology", || cluster.topology().version > 0).await;
    let to: SocketAddr = "127.0.0.1:7009".parse().unwrap();
    for slot in 0..3000 {
        cluster.signal(Signal::Moved { slot, to });
    }
    until("all slots move", || {
        (0..3000).all(|slot| primary(&cluster, slot) == Some(to))
    })
    .await;
    assert!(cluster.topology().version < 10, "{}", cluster.topology().version);
    assert_eq!(primary(&cluster, 3000), Some("127.0.0.1:7001".parse().unwrap()));
    // Floods from outside do nothing: no such slot, and more than the queue holds.
    for _ in 0..10_000 {
        cluster.signal(Signal::Moved { slot: u16::MAX, to });
    }
}

#[tokio::test]
async fn redirections_and_failures_ask_for_a_refresh() {
    let server = Scripted::start(only_slots(|| slots(&[(0, 16383, &[("127.0.0.1", 7001)])]))).await;
    let config = redis(vec![ip(server.address)], NEVER);
    let cluster = start(adjust(config, |settings| {
        settings.redirect_refresh_interval = Duration::ZERO;
        settings.failure_refresh_threshold = 3;
        settings.host_degraded_refresh_threshold = 1;
    }));
    let attempts = || cluster.stats().counter(names::UPDATE_ATTEMPT);
    until("the first refresh", || cluster.topology().version > 0).await;
    for (signal, times) in [
        (Signal::Redirected, 5),
        (Signal::Failed, 3),
        (Signal::Degraded, 1),
    ] {
        let before = attempts();
        for _ in 0..times {
            cluster.signal(signal);
        }
        until("a refresh", || attempts() == before + 1).await;
    }
}

#[tokio::test]
async fn seeds_are_asked_again_when_all_hosts_are_gone() {
    let moved = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&moved);
    let server = Scripted::start(only_slots(move || {
        let port = if script.load(SeqCst) { 7002 } else { 1 };
        slots(&[(0, 16383, &[("127.0.0.1", port)])])
    }))
    .await;
    let cluster = start(redis(vec![named("localhost", server.address.port())], FAST));
    until("a topology whose only host is dead", || {
        primary(&cluster, 0).is_some_and(|a| a.port() == 1)
    })
    .await;
    moved.store(true, SeqCst);
    until("the seed's new answer", || {
        primary(&cluster, 0).is_some_and(|a| a.port() == 7002)
    })
    .await;
}

#[tokio::test]
async fn host_names_are_resolved_and_kept() {
    let server = Scripted::start(only_slots(|| {
        slots(&[(
            0,
            16383,
            &[
                ("localhost", 7001),
                ("localhost", 7002),
                ("no such host.invalid", 7003),
            ],
        )])
    }))
    .await;
    let cluster = start(redis(vec![ip(server.address)], FAST));
    until("a topology", || cluster.topology().version > 0).await;
    let topology = cluster.topology();
    assert_eq!(
        topology.hosts.len(),
        2,
        "the replica that cannot be resolved is left out"
    );
    assert_eq!(topology.host_by_name("localhost", 7002), Some(1));
    assert_eq!(topology.hosts[0].hostname, "localhost");
}

#[tokio::test]
async fn zones_are_learned_from_info() {
    let address: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
    let own = Arc::clone(&address);
    let server = Scripted::start(move |words| match words.first().map(String::as_str) {
        Some("CLUSTER") if words[1] == "SLOTS" => {
            let port = own.lock().unwrap().map_or(1, |address| address.port());
            slots(&[(0, 16383, &[("127.0.0.1", 1), ("127.0.0.1", port)])])
        }
        Some("INFO") => b"$48\r\n# Server\r\nredis_version:8.1\r\navailability_zone:a\r\n\r\n".to_vec(),
        _ => b"-ERR\r\n".to_vec(),
    })
    .await;
    *address.lock().unwrap() = Some(server.address);
    let cluster = start(adjust(redis(vec![ip(server.address)], FAST), |settings| {
        settings.enable_zone_discovery = true;
    }));
    let replica = || {
        let topology = cluster.topology();
        topology
            .host_by_address(server.address)
            .map(|at| (at, topology.hosts[at].zone.clone()))
    };
    until("the zone", || replica().is_some_and(|(_, zone)| zone == "a")).await;
    let (at, _) = replica().unwrap();
    let read = Want::Read(ReadPolicy::LocalZoneAffinity, "a", 77);
    assert_eq!(cluster.topology().by_slot(9, read), Pick::Host(at));
}

#[tokio::test]
async fn the_higher_epoch_wins_among_nodes_that_disagree() {
    let ports: Arc<Mutex<Vec<u16>>> = Arc::default();
    let mut servers = Vec::new();
    for index in 0..3 {
        let ports = Arc::clone(&ports);
        servers.push(Scripted::start(move |words| node_of_three(index, words, &ports.lock().unwrap())).await);
    }
    *ports.lock().unwrap() = servers.iter().map(|server| server.address.port()).collect();
    let cluster = start(redis(
        servers.iter().map(|server| ip(server.address)).collect(),
        FAST,
    ));
    until("several refreshes", || {
        cluster.stats().counter(names::UPDATE_NO_REBUILD) > 5
    })
    .await;
    assert_eq!(primary(&cluster, 0), Some(servers[1].address));
    let changes = cluster.stats().counter(names::MEMBERSHIP_CHANGE);
    assert_eq!((changes, cluster.topology().version), (1, 1), "it does not flip");
}

/// Nodes 0 and 2 still believe in node 0 (epoch 4); node 1 has taken over (epoch 6).
fn node_of_three(index: usize, words: &[String], ports: &[u16]) -> Vec<u8> {
    let owner = if index == 1 { 1 } else { 0 };
    let row = |at: usize| format!("*3\r\n$9\r\n127.0.0.1\r\n:{}\r\n$2\r\nn{at}\r\n", ports[at]);
    match words.get(1).map(String::as_str) {
        Some("SLOTS") => {
            let other = 1 - owner;
            format!(
                "*1\r\n*5\r\n:0\r\n:16383\r\n{}{}{}",
                row(owner),
                row(other),
                row(2)
            )
            .into_bytes()
        }
        Some("NODES") => {
            let epoch = if owner == 1 { 6 } else { 4 };
            let text = format!(
                "n{owner} 127.0.0.1:{}@1 master - 0 0 {epoch} connected 0-16383\n",
                ports[owner]
            );
            format!("${}\r\n{text}\r\n", text.len()).into_bytes()
        }
        _ => b"-ERR unknown subcommand\r\n".to_vec(),
    }
}

/// A push that changes the cluster finds the slots where they were, also when nobody answers any more.
#[tokio::test]
async fn a_successor_goes_on_with_what_was_found() {
    let rows: Rows<'_> = &[(0, 99, &[("127.0.0.1", 7001), ("127.0.0.1", 7002)])];
    let server = Scripted::start(only_slots(move || slots(rows))).await;
    let first = start(redis(vec![ip(server.address)], NEVER));
    until("a topology", || first.topology().version > 0).await;
    let ids = |cluster: &Cluster| {
        cluster
            .topology()
            .hosts
            .iter()
            .map(|host| host.id)
            .collect::<Vec<_>>()
    };
    let (found, seeds) = (ids(&first), vec![ip(server.address)]);
    drop(server);
    let changed = adjust(redis(seeds, NEVER), |settings| {
        settings.refresh_timeout = Duration::from_secs(1);
    });
    let second =
        redplane_discovery::start_after(Arc::new(changed), &super::model::context(), Some(&first)).unwrap();
    first.stop();
    assert_eq!(ids(&second), found);
    assert_eq!(primary(&second, 50), Some("127.0.0.1:7001".parse().unwrap()));
    let elsewhere = redis(vec![named("localhost", 1)], NEVER);
    let third = redplane_discovery::start_after(Arc::new(elsewhere), &super::model::context(), Some(&second))
        .unwrap();
    assert!(third.topology().hosts.is_empty(), "other seeds, another cluster");
}

#[tokio::test]
async fn names_of_redirections_are_resolved() {
    let cluster = start(redis(vec![], NEVER));
    let host = cluster.stranger_by_name("localhost", 7001).await.unwrap();
    assert_eq!(
        (host.address.to_string().as_str(), host.hostname.as_str()),
        ("127.0.0.1:7001", "localhost")
    );
    assert!(
        cluster
            .stranger_by_name("no such host.invalid", 7001)
            .await
            .is_none()
    );
    assert_eq!(
        cluster.stranger_by_name("localhost", 7001).await.unwrap().id,
        host.id
    );
}

#[tokio::test]
async fn a_dropped_cluster_asks_nobody_any_more() {
    let server = Scripted::start(only_slots(|| slots(&[(0, 16383, &[("127.0.0.1", 7001)])]))).await;
    let cluster = start(redis(vec![ip(server.address)], FAST));
    until("a topology", || cluster.topology().version > 0).await;
    assert!(server.commands() >= 3);
    let weak = Arc::downgrade(&cluster);
    drop(cluster);
    until("its task lets go of it", || weak.upgrade().is_none()).await;
}

/// Three primaries that all say the same; one of them can be told to say something else.
async fn three_that_agree(name: &'static str) -> (Vec<Scripted>, Arc<AtomicBool>) {
    let ports: Arc<Mutex<Vec<u16>>> = Arc::default();
    let changed = Arc::new(AtomicBool::new(false));
    let mut servers = Vec::new();
    for _ in 0..3 {
        let (ports, changed) = (Arc::clone(&ports), Arc::clone(&changed));
        let answer = move || {
            let ports = ports.lock().unwrap();
            let end = if changed.load(SeqCst) { 199 } else { 99 };
            slots(&[
                (0, end, &[(name, ports[0])]),
                (end + 1, 999, &[(name, ports[1])]),
                (1000, 16383, &[(name, ports[2])]),
            ])
        };
        servers.push(Scripted::start(only_slots(answer)).await);
    }
    *ports.lock().unwrap() = servers.iter().map(|server| server.address.port()).collect();
    (servers, changed)
}

#[tokio::test]
async fn one_node_is_asked_one_thing_while_nothing_changes() {
    let (servers, changed) = three_that_agree("127.0.0.1").await;
    let commands = || servers.iter().map(Scripted::commands).sum::<usize>();
    let cluster = start(redis(
        servers.iter().map(|server| ip(server.address)).collect(),
        FAST,
    ));
    let refreshes = || cluster.stats().counter(names::UPDATE_NO_REBUILD) as usize;
    until("a quiet refresh", || refreshes() > 0).await;
    // The first one asked for all that nodes know.
    let first = commands() - refreshes();
    assert_eq!(first, 9);
    until("many quiet refreshes", || refreshes() > 30).await;
    // One may be under way.
    let quiet = commands() - first;
    assert!(
        quiet.abs_diff(refreshes()) <= 1,
        "{quiet} commands, {} refreshes",
        refreshes()
    );
    assert!(
        servers.iter().all(|server| server.commands() > 3),
        "each is asked in turn"
    );

    changed.store(true, SeqCst);
    until("the change", || {
        primary(&cluster, 150) == Some(servers[0].address)
    })
    .await;
    let before = commands();
    cluster.signal(Signal::Redirected);
    until("all are asked when a worker saw something odd", || {
        commands() >= before + 9
    })
    .await;
}

#[tokio::test]
async fn names_are_resolved_again_in_doubt_only() {
    let (servers, _) = three_that_agree("node.test").await;
    let zone = super::dns::Zone::default();
    zone.set("node.test", &["127.0.0.1"], 0);
    let config = redis(servers.iter().map(|server| ip(server.address)).collect(), FAST);
    let cluster = super::dns::start(&zone, config).await;
    let refreshes = || cluster.stats().counter(names::UPDATE_NO_REBUILD);
    until("quiet refreshes", || refreshes() > 10).await;
    assert_eq!(zone.queries(), 1);
    cluster.signal(Signal::Failed);
    until("the name is looked up again", || zone.queries() == 2).await;
}
