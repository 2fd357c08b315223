//! Discovery of a real Redis Cluster: its life, its secrets, its names.

use std::sync::Arc;
use std::time::Duration;

use redplane_config::cluster::{Cluster as Config, Transport};
use redplane_config::endpoint::Health;
use redplane_config::redis_proxy::ReadPolicy;
use redplane_config::tls::{ClientTls, Secret};
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Cluster, Layout, Pick, Role, Signal, SlotMap, Want};

use super::model::{ip, named, redis, start, tls, until};
use super::real_cluster::{Options, RealCluster};

const FAST: Duration = Duration::from_millis(100);

/// Ports of the primary and its replicas for a slot.
fn shard(cluster: &Cluster, slot: u16) -> (u16, Vec<u16>) {
    let topology = cluster.topology();
    let port = |at: usize| {
        topology.hosts[at]
            .address
            .ip()
            .map_or(0, |address| address.port())
    };
    match topology
        .slots()
        .and_then(|map| map.shard_of(slot).map(|at| &map.shards[at]))
    {
        Some(shard) => (
            port(shard.primary),
            shard.replicas.iter().map(|at| port(*at)).collect(),
        ),
        None => (0, Vec::new()),
    }
}

fn served(cluster: &Cluster) -> usize {
    cluster.topology().slots().map_or(0, SlotMap::served)
}

fn complete(cluster: &Cluster) -> bool {
    let topology = cluster.topology();
    served(cluster) == 16384 && topology.hosts.len() == 6 && topology.shard_count() == 3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clusters_life() {
    let mut real = RealCluster::start(Options::default()).await;
    let cluster = start(redis(vec![ip(real.address(5))], FAST));
    until("the whole cluster is known", || complete(&cluster)).await;
    shape(&cluster);
    failover(&real, &cluster).await;
    migration(&real).await;
    death(&mut real, &cluster).await;
}

fn shape(cluster: &Cluster) {
    let topology = cluster.topology();
    let Layout::Slots(map) = &topology.layout else {
        panic!("no slots")
    };
    assert!(map.shards.iter().all(|shard| shard.replicas.len() == 1));
    assert!(
        map.shards
            .windows(2)
            .all(|pair| pair[0].ranges[0] < pair[1].ranges[0])
    );
    let roles = |role| (0..6).filter(|at| topology.role(*at) == Some(role)).count();
    assert_eq!((roles(Role::Primary), roles(Role::Replica)), (3, 3));
    let read = topology.by_slot(0, Want::Read(ReadPolicy::Replica, "", 1));
    assert_eq!(read, Pick::Host(map.shards[0].replicas[0]));
    let stats = cluster.stats();
    assert!(stats.counter(names::UPDATE_SUCCESS) > 0 && stats.counter(names::UPSTREAM_RQ_TOTAL) > 0);
    assert_eq!(stats.gauge(names::MEMBERSHIP_TOTAL), 6);
    assert_eq!(stats.gauge(names::MEMBERSHIP_HEALTHY), 6);
}

async fn failover(real: &RealCluster, cluster: &Arc<Cluster>) {
    let ids = |cluster: &Cluster| {
        let mut ids: Vec<u64> = cluster.topology().hosts.iter().map(|host| host.id).collect();
        ids.sort_unstable();
        ids
    };
    // As a worker with open connections would: a replica that is syncing leaves the slot map for a moment.
    let held = cluster.topology().clone();
    let before = ids(cluster);
    let (primary, replicas) = shard(cluster, 0);
    assert!(real.cli(replicas[0], &["CLUSTER", "FAILOVER"]).contains("OK"));
    until("primary and replica change places", || {
        shard(cluster, 0) == (replicas[0], vec![primary])
    })
    .await;
    // Any other replica may be syncing at that moment too.
    until("all hosts are there, each the one it was", || {
        ids(cluster) == before
    })
    .await;
    drop(held);
}

/// A slot changes hands; a worker sees MOVED long before the next refresh.
async fn migration(real: &RealCluster) {
    let mut config = redis(
        vec![named("localhost", real.address(0).port())],
        Duration::from_secs(3600),
    );
    if let redplane_config::cluster::Discovery::Redis(settings) = &mut config.discovery {
        settings.redirect_refresh_threshold = 0;
    }
    let cluster = start(config);
    // A replica that is still syncing after the failover may be missing; nobody asks again.
    until("every slot is served", || served(&cluster) == 16384).await;
    let ((source, _), (target, replicas)) = (shard(&cluster, 100), shard(&cluster, 16_000));
    let id = |port| real.cli(port, &["CLUSTER", "MYID"]).trim().to_owned();
    let (source_id, target_id) = (id(source), id(target));
    // The new owner first: it takes a new config epoch, which settles the matter for all others.
    let steps = [
        (target, "IMPORTING", &source_id),
        (source, "MIGRATING", &target_id),
        (target, "NODE", &target_id),
        (source, "NODE", &target_id),
    ];
    for (port, step, id) in steps {
        let done = real.cli(port, &["CLUSTER", "SETSLOT", "100", step, id]);
        assert!(done.contains("OK"), "{step}: {done}");
    }
    // A key of slot 100: the source answers with a redirection.
    let key = (0..)
        .map(|i| format!("k{i}"))
        .find(|key| redplane_command::slot(key.as_bytes()) == 100)
        .unwrap();
    let moved = real.cli(source, &["GET", &key]);
    assert!(
        moved.contains(&format!("MOVED 100 127.0.0.1:{target}")),
        "{moved}"
    );
    cluster.signal(Signal::Moved {
        slot: 100,
        to: ([127, 0, 0, 1], target).into(),
    });
    until("the slot stands at its new owner", || {
        shard(&cluster, 100) == (target, replicas.clone())
    })
    .await;
    assert_eq!(shard(&cluster, 101).0, source);
    assert_eq!(
        cluster.stats().counter(names::UPDATE_ATTEMPT),
        1,
        "without a refresh"
    );
}

async fn death(real: &mut RealCluster, cluster: &Arc<Cluster>) {
    until("the migrated slot is seen by refreshes, too", || {
        shard(cluster, 100) == shard(cluster, 16_000)
    })
    .await;
    let (primary, replicas) = shard(cluster, 16_000);
    real.kill(primary);
    until("the replica takes over", || {
        shard(cluster, 16_000) == (replicas[0], vec![])
    })
    .await;
    let topology = cluster.topology();
    assert!(
        topology
            .host_by_address(([127, 0, 0, 1], primary).into())
            .is_none(),
        "the dead node is gone"
    );
    assert_eq!(topology.slots().map(SlotMap::served), Some(16384));
    assert!(topology.hosts.iter().all(|host| host.health() == Health::Healthy));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_and_names() {
    let server = [
        "requirepass s3cret",
        "masterauth s3cret",
        "user proxy on >pr0xy ~* +@all",
        "cluster-announce-hostname localhost",
        "cluster-preferred-endpoint-type hostname",
    ];
    let options = Options {
        server: server.map(str::to_owned).to_vec(),
        client: ["-a", "s3cret", "--no-auth-warning"].map(str::to_owned).to_vec(),
        tls: None,
    };
    let real = RealCluster::start(options).await;
    let seeds = || vec![ip(real.address(0))];
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = redis(seeds(), FAST);
        change(&mut config);
        start(config)
    };
    let without = with(&|_| {});
    let wrong = with(&|config| config.redis_auth.password = b"wrong".to_vec());
    let password = with(&|config| config.redis_auth.password = b"s3cret".to_vec());
    let user = with(&|config| {
        config.redis_auth.username = "proxy".into();
        config.redis_auth.password = b"pr0xy".to_vec();
    });
    until("the password opens it", || complete(&password)).await;
    until("the user opens it", || complete(&user)).await;
    for closed in [without, wrong] {
        until("it is refused", || {
            closed.stats().counter(names::UPDATE_FAILURE) > 1
        })
        .await;
        assert!(closed.topology().hosts.is_empty());
    }
    let topology = password.topology();
    assert!(
        topology.hosts.iter().all(|host| host.hostname == "localhost"),
        "{:?}",
        topology.hosts
    );
    let port = real.address(3).port();
    assert_eq!(
        topology.host_by_name("localhost", port),
        topology.host_by_address(real.address(3))
    );
}

/// `ca.crt`, `tls.crt` and `tls.key` for `redis.test` and `localhost`; gives the root.
fn certificates(folder: &std::path::Path) -> String {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let root = params.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(["redis.test", "localhost"].map(str::to_owned)).unwrap();
    leaf.distinguished_name
        .push(rcgen::DnType::CommonName, "redis.test");
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.crt"), &root).unwrap();
    std::fs::write(folder.join("tls.crt"), leaf.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    root
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_client_certificates_passwords_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let root = certificates(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let client = [
        "--tls",
        "--sni",
        "redis.test",
        "--cacert",
        &file("ca.crt"),
        "--cert",
        &file("tls.crt"),
        "--key",
        &file("tls.key"),
        "-a",
        "s3cret",
        "--no-auth-warning",
    ];
    let server = [
        "requirepass s3cret",
        "masterauth s3cret",
        "cluster-announce-hostname localhost",
        "cluster-preferred-endpoint-type hostname",
    ];
    let options = Options {
        server: server.map(str::to_owned).to_vec(),
        client: client.map(str::to_owned).to_vec(),
        tls: Some(folder.path().to_owned()),
    };
    let real = RealCluster::start(options).await;
    let certificate = Arc::new(redplane_config::tls::Certificate {
        chain: std::fs::read(folder.path().join("tls.crt")).unwrap(),
        key: std::fs::read(folder.path().join("tls.key")).unwrap(),
        source: "<inline>".into(),
    });
    let with = |tls: ClientTls| {
        let mut config = redis(
            vec![ip(real.address(1)), named("localhost", real.address(2).port())],
            FAST,
        );
        config.redis_auth.password = b"s3cret".to_vec();
        config.transport = Transport::Tls(Arc::new(tls));
        start(config)
    };
    let good = ClientTls {
        certificates: vec![Secret::Here(certificate)],
        sni: "redis.test".into(),
        ..tls(Some(&root))
    };
    let strict = ClientTls {
        auto_sni_san_validation: true,
        ..good.clone()
    };
    let misnamed = ClientTls {
        sni: "other.test".into(),
        ..strict.clone()
    };
    let nameless = ClientTls {
        certificates: Vec::new(),
        ..good.clone()
    };
    // As with ElastiCache: every node is asked for by its own name, which its certificate must hold.
    let by_name = ClientTls {
        auto_host_sni: true,
        sni: "localhost".into(),
        ..strict.clone()
    };
    let by_name = with(by_name);
    let (good, strict) = (with(good), with(strict));
    until("it is discovered over TLS", || complete(&good)).await;
    until("also with its name checked", || complete(&strict)).await;
    until("also by the names of its nodes", || complete(&by_name)).await;
    let name = |host: &redplane_upstream::Host| format!("{:?}", host.transport);
    assert!(
        by_name
            .topology()
            .hosts
            .iter()
            .all(|host| name(host) == "Tls(localhost)")
    );
    for closed in [with(misnamed), with(nameless)] {
        until("it is refused", || {
            closed.stats().counter(names::UPDATE_FAILURE) > 1
        })
        .await;
        assert!(closed.topology().hosts.is_empty());
    }
}
