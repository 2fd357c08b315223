//! Priorities, health and policies together, over hosts as they would be configured.

use std::collections::BTreeMap;

use super::*;
use crate::host::{Draft, HostAddress, Transport};
use redplane_config::cluster::RingHashFunction;

fn hosts(count: u16, weight: impl Fn(u16) -> u32) -> Vec<Arc<Host>> {
    let host = |at: u16| {
        let address = HostAddress::Ip(([10, 0, 0, 1], 1000 + at).into());
        Draft {
            weight: weight(at),
            ..Draft::plain(address, format!("h{at}"), Transport::Plain)
        }
        .fresh()
    };
    (0..count).map(host).collect()
}

fn plan(policy: LbPolicy, groups: Vec<Group>) -> Plan {
    let common = CommonLb {
        panic_threshold: 5000,
        locality_weighted: false,
    };
    Plan {
        policy,
        common,
        overprovisioning: 140,
        groups,
    }
}

fn group(priority: u32, hosts: &[usize]) -> Group {
    Group {
        priority,
        weight: 1,
        hosts: hosts.to_vec(),
        ..Group::default()
    }
}

fn ring() -> LbPolicy {
    let function = RingHashFunction::XxHash;
    LbPolicy::RingHash {
        minimum_size: 1024,
        maximum_size: 8 << 20,
        function,
        use_hostname: false,
    }
}

fn spread(balancer: &Balancer, hosts: &[Arc<Host>], rounds: u64) -> BTreeMap<usize, u64> {
    let mut counts = BTreeMap::new();
    for i in 0..rounds {
        let random = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if let Some(at) = balancer.choose(hosts, random, random) {
            *counts.entry(at).or_default() += 1;
        }
    }
    counts
}

#[test]
fn every_policy_serves_every_host_by_weight() {
    let hosts = hosts(3, |at| if at == 0 { 2 } else { 1 });
    let policies = [
        LbPolicy::RoundRobin,
        LbPolicy::LeastRequest { choices: 2 },
        ring(),
        LbPolicy::Maglev {
            table_size: 65537,
            use_hostname: false,
        },
    ];
    for policy in policies {
        let balancer = Balancer::new(plan(policy, vec![group(0, &[0, 1, 2])]), &hosts);
        let counts = spread(&balancer, &hosts, 8000);
        assert!((3400..4600).contains(&counts[&0]), "{policy:?} {counts:?}");
        assert!((1600..2400).contains(&counts[&1]), "{policy:?} {counts:?}");
        assert_eq!(balancer.eligible(), [0, 1, 2]);
    }
    let balancer = Balancer::new(plan(LbPolicy::Random, vec![group(0, &[0, 1, 2])]), &hosts);
    assert!(
        spread(&balancer, &hosts, 9000)
            .values()
            .all(|count| (2800..3200).contains(count))
    );
}

#[test]
fn no_hosts_choose_nobody() {
    for policy in [
        LbPolicy::RoundRobin,
        ring(),
        LbPolicy::Maglev {
            table_size: 7,
            use_hostname: true,
        },
    ] {
        let balancer = Balancer::new(plan(policy, vec![]), &[]);
        assert_eq!(balancer.choose(&[], 1, 2), None);
        let balancer = Balancer::new(plan(policy, vec![group(3, &[])]), &[]);
        assert_eq!(balancer.choose(&[], 1, 2), None);
    }
}

#[test]
fn the_next_priority_takes_over_when_the_first_fails() {
    let hosts = hosts(4, |_| 1);
    let build = || {
        Balancer::new(
            plan(LbPolicy::RoundRobin, vec![group(0, &[0, 1]), group(1, &[2, 3])]),
            &hosts,
        )
    };
    assert_eq!(build().eligible(), [0, 1]);
    hosts[0].set_health(Health::Unhealthy);
    let counts = spread(&build(), &hosts, 1000);
    assert!(
        !counts.contains_key(&0) && counts[&1] > 600 && counts[&2] > 100,
        "{counts:?}"
    );
    hosts[1].set_health(Health::Draining);
    assert_eq!(build().eligible(), [2, 3]);
}

#[test]
fn a_lightly_loaded_host_is_preferred() {
    let hosts = hosts(2, |_| 1);
    hosts[0]
        .stats
        .rq_active
        .store(9, std::sync::atomic::Ordering::Relaxed);
    let balancer = Balancer::new(
        plan(LbPolicy::LeastRequest { choices: 2 }, vec![group(0, &[0, 1])]),
        &hosts,
    );
    let counts = spread(&balancer, &hosts, 4000);
    assert!(counts[&1] > 2700, "{counts:?}");
}

#[test]
fn localities_get_their_weight() {
    let hosts = hosts(4, |_| 1);
    let mut plan = plan(
        LbPolicy::Random,
        vec![group(0, &[0]), group(0, &[1, 2]), group(0, &[3])],
    );
    plan.common.locality_weighted = true;
    plan.groups[0].weight = 3;
    plan.groups[2].weight = 0;
    let balancer = Balancer::new(plan, &hosts);
    let counts = spread(&balancer, &hosts, 8000);
    assert!(
        (5700..6300).contains(&counts[&0]) && !counts.contains_key(&3),
        "{counts:?}"
    );
    assert_eq!(balancer.eligible(), [0, 1, 2]);
}
