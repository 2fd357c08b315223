//! Load balancing of clusters that are no Redis Cluster.
//!
//! A [`Balancer`] is built whenever hosts, weights or health change and is then only read. Priorities, the panic
//! threshold and locality weights follow Envoy's `load_balancer_impl.cc`; RING_HASH and MAGLEV give the same host for
//! the same key as Envoy does, which a test against a real Envoy proves.
//!
//! Unlike Envoy, LEAST_REQUEST with unequal weights compares a few hosts drawn by weight instead of keeping a queue, and
//! zone-aware routing (which needs a local cluster) does not exist.

mod load;
mod maglev;
mod members;
mod ring;

use std::sync::Arc;

use redplane_config::cluster::{CommonLb, LbPolicy};

use crate::host::{Health, Host};
use load::{Counts, Load};
use maglev::Maglev;
use members::Members;
use ring::Ring;

/// Hosts of one locality and priority, in configuration order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// 0 is the highest.
    pub priority: u32,
    /// Region, zone, sub-zone.
    pub locality: (String, String, String),
    /// Weight among the localities of the priority.
    pub weight: u32,
    /// Indices of its hosts.
    pub hosts: Vec<usize>,
}

/// What a balancer is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How a host is chosen.
    pub policy: LbPolicy,
    /// What all policies have in common.
    pub common: CommonLb,
    /// In percent.
    pub overprovisioning: u32,
    /// The hosts, by locality and priority.
    pub groups: Vec<Group>,
}

/// Chooses a host by policy, priority, locality and health.
#[derive(Debug)]
pub struct Balancer {
    plan: Plan,
    load: Load,
    levels: Vec<Level>,
    eligible: Vec<usize>,
}

/// One priority.
#[derive(Debug)]
struct Level {
    healthy: Chooser,
    degraded: Chooser,
}

#[derive(Debug)]
enum Chooser {
    Ring(Ring),
    Maglev(Maglev),
    Members(Members),
}

impl Balancer {
    /// A balancer for hosts as they are now.
    pub fn new(plan: Plan, hosts: &[Arc<Host>]) -> Self {
        let levels = plan
            .groups
            .iter()
            .map(|group| group.priority)
            .max()
            .map_or(0, |top| top as usize + 1);
        let counts: Vec<Counts> = (0..levels)
            .map(|level| Counts::of(&plan, level as u32, hosts))
            .collect();
        let load = Load::new(&counts, plan.overprovisioning, plan.common.panic_threshold);
        let levels: Vec<Level> = (0..levels)
            .map(|level| Level::new(&plan, level, &load, hosts))
            .collect();
        let mut balancer = Self {
            plan,
            load,
            levels,
            eligible: Vec::new(),
        };
        balancer.eligible = balancer.used();
        balancer
    }

    /// The same balancer for the health that hosts have now.
    pub(crate) fn again(&self, hosts: &[Arc<Host>]) -> Self {
        Self::new(self.plan.clone(), hosts)
    }

    /// What it was made of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Hosts that may be chosen, ascending.
    pub fn eligible(&self) -> &[usize] {
        &self.eligible
    }

    /// A host for a hash, or for a random number where the policy does not hash.
    pub(crate) fn choose(&self, hosts: &[Arc<Host>], hash: u64, random: u64) -> Option<usize> {
        let hashes = matches!(
            self.plan.policy,
            LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. }
        );
        let (level, degraded) = self.load.level(if hashes { hash } else { random });
        let level = self.levels.get(level)?;
        let chooser = if degraded { &level.degraded } else { &level.healthy };
        match chooser {
            Chooser::Ring(ring) => ring.choose(hash),
            Chooser::Maglev(maglev) => maglev.choose(hash),
            Chooser::Members(members) => members.choose(hosts, random),
        }
    }

    fn used(&self) -> Vec<usize> {
        let mut used: Vec<usize> = Vec::new();
        for (at, level) in self.levels.iter().enumerate() {
            let (healthy, degraded) = self.load.share(at);
            if healthy > 0 {
                used.extend(level.healthy.hosts());
            }
            if degraded > 0 {
                used.extend(level.degraded.hosts());
            }
        }
        used.sort_unstable();
        used.dedup();
        used
    }
}

impl Level {
    fn new(plan: &Plan, level: usize, load: &Load, hosts: &[Arc<Host>]) -> Self {
        let mut groups: Vec<&Group> = plan
            .groups
            .iter()
            .filter(|group| group.priority as usize == level)
            .collect();
        if plan.common.locality_weighted {
            // Envoy keeps localities sorted; only the rounding of a ring can tell.
            groups.sort_by(|a, b| a.locality.cmp(&b.locality));
        }
        let panic = load.panics(level);
        let healthy = |at: usize| panic || hosts[at].health() == Health::Healthy;
        let degraded = |at: usize| hosts[at].health() == Health::Degraded;
        let healthy = Weighted::new(plan, &groups, hosts, healthy);
        let degraded = Weighted::new(plan, &groups, hosts, degraded);
        // Envoy's hashing policies know healthy hosts only.
        Self {
            healthy: Chooser::new(plan, hosts, &healthy),
            degraded: Chooser::new(plan, hosts, &degraded),
        }
    }
}

/// Hosts that may be chosen with their part of the whole, as Envoy's thread-aware balancers normalise them.
#[derive(Debug, Default)]
pub(crate) struct Weighted {
    /// Host and its share of 1, in order.
    pub(crate) hosts: Vec<(usize, f64)>,
    /// The same hosts by locality, each with the locality's share.
    pub(crate) localities: Vec<(f64, Vec<usize>)>,
}

impl Weighted {
    fn new(plan: &Plan, groups: &[&Group], hosts: &[Arc<Host>], usable: impl Fn(usize) -> bool) -> Self {
        let mut weighted = Self::default();
        if !plan.common.locality_weighted {
            let all = groups.iter().flat_map(|group| group.hosts.iter().copied());
            weighted.add(1.0, all.filter(|at| usable(*at)).collect(), hosts);
            return weighted;
        }
        let total: u64 = groups.iter().map(|group| u64::from(group.weight)).sum();
        for group in groups.iter().filter(|group| group.weight > 0) {
            let members: Vec<usize> = group.hosts.iter().copied().filter(|at| usable(*at)).collect();
            weighted.add(f64::from(group.weight) / total as f64, members, hosts);
        }
        weighted
    }

    fn add(&mut self, share: f64, members: Vec<usize>, hosts: &[Arc<Host>]) {
        if members.is_empty() {
            return;
        }
        let sum: u64 = members.iter().map(|at| u64::from(hosts[*at].weight)).sum();
        self.hosts.extend(
            members
                .iter()
                .map(|at| (*at, f64::from(hosts[*at].weight) * share / sum as f64)),
        );
        self.localities.push((share, members));
    }
}

impl Chooser {
    fn new(plan: &Plan, hosts: &[Arc<Host>], weighted: &Weighted) -> Self {
        match plan.policy {
            LbPolicy::RingHash {
                minimum_size,
                maximum_size,
                function,
                use_hostname,
            } => {
                let keys = |at: usize| key(&hosts[at], use_hostname);
                Self::Ring(Ring::new(
                    &weighted.hosts,
                    keys,
                    (minimum_size, maximum_size),
                    function,
                ))
            }
            LbPolicy::Maglev {
                table_size,
                use_hostname,
            } => Self::Maglev(Maglev::new(
                &weighted.hosts,
                |at| key(&hosts[at], use_hostname),
                table_size,
            )),
            LbPolicy::RoundRobin | LbPolicy::ClusterProvided => {
                Self::Members(Members::in_turn(weighted, hosts))
            }
            LbPolicy::LeastRequest { choices } => {
                Self::Members(Members::least_loaded(weighted, hosts, choices))
            }
            LbPolicy::Random => Self::Members(Members::random(weighted)),
        }
    }

    fn hosts(&self) -> Vec<usize> {
        match self {
            Self::Ring(ring) => ring.hosts(),
            Self::Maglev(maglev) => maglev.hosts(),
            Self::Members(members) => members.hosts(),
        }
    }
}

/// What stands for a host in rings and tables. Envoy: `ThreadAwareLoadBalancerBase::hashKey`.
fn key(host: &Host, use_hostname: bool) -> String {
    if use_hostname {
        host.hostname.clone()
    } else {
        host.address.to_string()
    }
}

/// A random number of 64 bits as one below `count`, evenly.
pub(crate) fn scaled(random: u64, count: usize) -> usize {
    ((u128::from(random) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests;
