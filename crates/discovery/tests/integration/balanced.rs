//! STATIC, DNS and EDS clusters: what readers see of them.

use std::sync::Arc;

use redplane_config::cluster::{
    ConfigSource, Discovery, Dns, DnsFamily, LbPolicy, Transport, TransportMatch,
};
use redplane_config::endpoint::{Assignment, Health, Locality};
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Cluster, Pick, Signal, Want};

use super::model::{assignment, config, endpoint, ip, localities, locality, named, start, until};

fn eds() -> Arc<Cluster> {
    let discovery = Discovery::Eds {
        service_name: "s".into(),
        source: ConfigSource::ads(),
    };
    start(config("eds", discovery, LbPolicy::RoundRobin))
}

fn dns(assignment: Assignment, family: DnsFamily) -> Dns {
    let refresh_rate = std::time::Duration::from_millis(50);
    Dns {
        assignment,
        family,
        refresh_rate,
        respect_ttl: false,
    }
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster
        .topology()
        .hosts
        .iter()
        .map(|host| host.address.to_string())
        .collect()
}

#[tokio::test]
async fn static_hosts_stand_at_once() {
    let hosts = vec![
        ip("10.0.0.1:1".parse().unwrap()),
        ip("10.0.0.2:2".parse().unwrap()),
    ];
    let pipe = endpoint(redplane_config::Address::Pipe("/run/x.sock".into()));
    let all = assignment([hosts, vec![pipe, ip("10.0.0.1:1".parse().unwrap())]].concat());
    let cluster = start(config("static", Discovery::Fixed(all), LbPolicy::RoundRobin));
    assert!(cluster.is_warm());
    cluster.warmed().await;
    assert_eq!(
        addresses(&cluster),
        ["10.0.0.1:1", "10.0.0.2:2", "/run/x.sock"],
        "a duplicate is left out"
    );
    let topology = cluster.topology();
    assert_eq!(topology.host_by_address("10.0.0.2:2".parse().unwrap()), Some(1));
    assert_eq!(topology.shard_count(), 3);
    assert_eq!(topology.by_shard(2, Want::Primary), Pick::Host(2));
    assert_eq!(topology.by_shard(3, Want::Primary), Pick::NoHost);
    assert_eq!(topology.by_slot(1, Want::Primary), Pick::NoHost);
    let turns: Vec<_> = (0..6).filter_map(|_| topology.by_hash(0, 0)).collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    assert_eq!(cluster.stats().gauge(names::MEMBERSHIP_TOTAL), 3);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_path() {
    let refused = |discovery, policy| {
        let config = config("bad", discovery, policy);
        redplane_discovery::start(Arc::new(config), &super::model::context())
            .unwrap_err()
            .path
    };
    let names = assignment(vec![named("redis", 6379)]);
    assert_eq!(
        refused(Discovery::Fixed(names), LbPolicy::Random),
        "load_assignment"
    );
    let redis = super::model::redis(vec![], std::time::Duration::from_secs(1)).discovery;
    assert_eq!(refused(redis, LbPolicy::Random), "lb_policy");
}

#[tokio::test]
async fn eds_keeps_the_identity_of_hosts() {
    let cluster = eds();
    assert!(!cluster.is_warm());
    let (a, b) = ("10.0.0.1:6379".parse().unwrap(), "10.0.0.2:6379".parse().unwrap());
    redplane_discovery::assign(&cluster, &assignment(vec![ip(a), ip(b)]));
    cluster.warmed().await;
    let first = cluster.topology().hosts.clone();
    let mut heavier = ip(b);
    heavier.weight = 9;
    heavier.health = Health::Unhealthy;
    redplane_discovery::assign(&cluster, &assignment(vec![heavier.clone(), ip(a)]));
    let second = cluster.topology().hosts.clone();
    assert_eq!((second[0].id, second[0].weight), (first[1].id, 9));
    assert!(Arc::ptr_eq(&second[1], &first[0]));
    assert_eq!(
        cluster.topology().by_hash(0, 5),
        Some(1),
        "the other one is unhealthy"
    );
    assert_eq!(cluster.stats().gauge(names::MEMBERSHIP_HEALTHY), 1);
    let version = cluster.topology().version;
    redplane_discovery::assign(&cluster, &assignment(vec![heavier, ip(a)]));
    assert_eq!(cluster.topology().version, version);
    assert_eq!(cluster.stats().counter(names::UPDATE_NO_REBUILD), 1);
    assert_eq!(cluster.stats().counter(names::UPDATE_SUCCESS), 3);
    redplane_discovery::assign(&cluster, &assignment(vec![]));
    assert_eq!(cluster.topology().by_hash(0, 5), None);
    assert_eq!(cluster.stats().counter(names::UPDATE_EMPTY), 1);
}

#[tokio::test]
async fn health_seen_by_workers_moves_the_balance() {
    let hosts = vec![
        ip("10.0.0.1:1".parse().unwrap()),
        ip("10.0.0.2:2".parse().unwrap()),
    ];
    let other = Locality {
        priority: 1,
        ..locality(vec![ip("10.0.0.3:3".parse().unwrap())])
    };
    let discovery = Discovery::Fixed(localities(vec![locality(hosts), other]));
    let cluster = start(config("static", discovery, LbPolicy::Random));
    let topology = cluster.topology().clone();
    topology.hosts[0].set_health(Health::Unhealthy);
    topology.hosts[1].set_health(Health::Unhealthy);
    cluster.signal(Signal::Degraded);
    until("the lower priority takes over", || {
        cluster.topology().by_hash(0, 7) == Some(2)
    })
    .await;
    assert_eq!(cluster.topology().shard_count(), 1);
}

#[tokio::test]
async fn metadata_chooses_the_transport() {
    let discovery = Discovery::Eds {
        service_name: "s".into(),
        source: ConfigSource::ads(),
    };
    let mut config = config("matches", discovery, LbPolicy::Random);
    let matched = |name: &str, pairs: Vec<(String, String)>, transport| TransportMatch {
        name: name.into(),
        pairs,
        transport,
    };
    let pair = ("tlsMode".to_owned(), "istio".to_owned());
    config.transport_matches = vec![
        matched(
            "tlsMode-istio",
            vec![pair.clone()],
            Transport::Inert("mutual TLS".into()),
        ),
        matched("tlsMode-disabled", vec![], Transport::RawBuffer),
    ];
    let cluster = start(config);
    let mut sidecar = ip("10.0.0.1:1".parse().unwrap());
    sidecar.socket_match = vec![pair];
    redplane_discovery::assign(
        &cluster,
        &assignment(vec![sidecar, ip("10.0.0.2:2".parse().unwrap())]),
    );
    let topology = cluster.topology();
    assert_eq!(
        topology.hosts[0].transport,
        redplane_upstream::Transport::Inert("mutual TLS".into())
    );
    assert_eq!(topology.hosts[1].transport, redplane_upstream::Transport::Plain);
}

#[tokio::test]
async fn strict_dns_makes_a_host_of_every_address() {
    let seeds = assignment(vec![
        named("localhost", 7000),
        named("127.0.0.9", 7001),
        ip("10.0.0.1:1".parse().unwrap()),
    ]);
    let cluster = start(config(
        "dns",
        Discovery::StrictDns(dns(seeds, DnsFamily::V4Only)),
        LbPolicy::RoundRobin,
    ));
    cluster.warmed().await;
    let found = addresses(&cluster);
    assert!(
        found.contains(&"127.0.0.1:7000".to_owned()) && found.contains(&"127.0.0.9:7001".to_owned()),
        "{found:?}"
    );
    assert_eq!(cluster.topology().host_by_name("localhost", 7000), Some(0));
    let version = cluster.topology().version;
    until("further look-ups", || {
        cluster.stats().counter(names::UPDATE_NO_REBUILD) > 3
    })
    .await;
    assert_eq!(
        cluster.topology().version,
        version,
        "the same answer is no change"
    );
}

#[tokio::test]
async fn logical_dns_is_one_host() {
    let seeds = assignment(vec![named("localhost", 7000)]);
    let cluster = start(config(
        "dns",
        Discovery::LogicalDns(dns(seeds, DnsFamily::V4Preferred)),
        LbPolicy::RoundRobin,
    ));
    cluster.warmed().await;
    assert_eq!(addresses(&cluster), ["127.0.0.1:7000"]);
    assert_eq!(cluster.topology().hosts[0].hostname, "localhost");
}

#[tokio::test]
async fn a_name_that_fails_warms_the_cluster_without_hosts() {
    let seeds = assignment(vec![named("no such name.invalid", 7000)]);
    let cluster = start(config(
        "dns",
        Discovery::StrictDns(dns(seeds, DnsFamily::Auto)),
        LbPolicy::RoundRobin,
    ));
    cluster.warmed().await;
    assert!(cluster.topology().hosts.is_empty());
    assert!(cluster.stats().counter(names::UPDATE_FAILURE) > 0);
}

#[tokio::test]
async fn a_cluster_ends_with_its_last_user() {
    let seeds = assignment(vec![named("localhost", 7000)]);
    let cluster = start(config(
        "dns",
        Discovery::StrictDns(dns(seeds, DnsFamily::Auto)),
        LbPolicy::RoundRobin,
    ));
    cluster.warmed().await;
    let weak = Arc::downgrade(&cluster);
    drop(cluster);
    until("its tasks let go of it", || weak.upgrade().is_none()).await;
}
