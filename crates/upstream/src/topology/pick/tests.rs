//! The seven read policies over every state of health and zone that matters.

use std::collections::BTreeSet;

use super::*;
use crate::host::{Draft, HostAddress, Transport};

fn host(zone: &str, health: Health) -> Arc<Host> {
    let address = HostAddress::Ip("127.0.0.1:1".parse().unwrap());
    let host = Draft {
        zone: zone.into(),
        ..Draft::plain(address, String::new(), Transport::Plain)
    }
    .fresh();
    host.set_health(health);
    host
}

/// Everything a policy may choose among a primary (index 0) and replicas.
fn choices(nodes: &[(&str, Health)], policy: ReadPolicy, zone: &str) -> Vec<usize> {
    let hosts: Vec<Arc<Host>> = nodes.iter().map(|(zone, health)| host(zone, *health)).collect();
    let shard = Shard {
        primary: 0,
        replicas: (1..hosts.len()).collect(),
        ranges: vec![],
    };
    let found: BTreeSet<usize> = (0..64)
        .filter_map(
            |step| match within(&hosts, &shard, Want::Read(policy, zone, step << 58)) {
                Pick::Host(at) => Some(at),
                Pick::Unserved | Pick::NoHost => None,
            },
        )
        .collect();
    found.into_iter().collect()
}

use Health::{Degraded as D, Healthy as H, Unhealthy as U};
use ReadPolicy::{
    Any, LocalZoneAffinity as Zone, LocalZoneAffinityReplicasAndPrimary as ZonePrimary, Master, PreferMaster,
    PreferReplica, Replica,
};

/// Policy, primary and replicas, what may be chosen.
type Case = (ReadPolicy, &'static [(&'static str, Health)], &'static [usize]);

#[test]
fn health_decides() {
    let cases: &[Case] = &[
        (Master, &[("", U), ("", H)], &[0]),
        (PreferMaster, &[("", H), ("", H)], &[0]),
        (PreferMaster, &[("", U), ("", H), ("", H)], &[1, 2]),
        (PreferMaster, &[("", U), ("", U)], &[0, 1]),
        (Replica, &[("", H), ("", H), ("", U)], &[1]),
        (Replica, &[("", H), ("", U), ("", U)], &[1, 2]),
        (Replica, &[("", H), ("", U), ("", D)], &[2]),
        (Replica, &[("", H)], &[]),
        (PreferReplica, &[("", H), ("", H), ("", H)], &[1, 2]),
        (PreferReplica, &[("", H), ("", U), ("", D)], &[0]),
        (PreferReplica, &[("", H)], &[0]),
        (Any, &[("", H), ("", H), ("", U)], &[0, 1]),
        (Any, &[("", U), ("", D), ("", U)], &[1]),
        (Any, &[("", U), ("", U)], &[0, 1]),
    ];
    for (policy, nodes, expected) in cases {
        assert_eq!(choices(nodes, *policy, ""), *expected, "{policy:?} {nodes:?}");
    }
}

#[test]
fn zones_decide() {
    let cases: &[Case] = &[
        (Zone, &[("a", H), ("a", H), ("b", H), ("a", H)], &[1, 3]),
        (Zone, &[("a", H), ("b", H), ("b", H)], &[1, 2]),
        (Zone, &[("a", H)], &[0]),
        (Zone, &[("a", H), ("a", U), ("b", H)], &[1]),
        (ZonePrimary, &[("a", H), ("a", H), ("b", H)], &[1]),
        (ZonePrimary, &[("a", H), ("b", H), ("b", H)], &[0]),
        (ZonePrimary, &[("a", U), ("b", H), ("b", H)], &[1, 2]),
        (ZonePrimary, &[("b", H), ("b", H), ("b", H)], &[1, 2]),
        (ZonePrimary, &[("b", H)], &[0]),
    ];
    for (policy, nodes, expected) in cases {
        assert_eq!(choices(nodes, *policy, "a"), *expected, "{policy:?} {nodes:?}");
    }
    assert_eq!(
        choices(&[("", H), ("", H), ("a", H)], Zone, ""),
        [1, 2],
        "an unknown zone is nobody's"
    );
}

#[test]
fn writes_go_to_the_primary_whatever_its_health() {
    let hosts = [host("", U), host("", H)];
    let shard = Shard {
        primary: 0,
        replicas: vec![1],
        ranges: vec![],
    };
    assert_eq!(within(&hosts, &shard, Want::Primary), Pick::Host(0));
}

#[test]
fn the_choice_is_even() {
    let counts = (0..3000_u64).fold([0; 3], |mut counts, step| {
        counts[scaled(step * (u64::MAX / 3000), 3)] += 1;
        counts
    });
    assert!(
        counts.iter().all(|count| (990..=1010).contains(count)),
        "{counts:?}"
    );
}
