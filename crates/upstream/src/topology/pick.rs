//! Which node of a shard serves a request: Envoy's seven read policies.
//!
//! "Any of" a set means: any healthy node; without one, any degraded; without one, any at all. The choice is uniformly
//! random by the number that is given, new for each request, as in Envoy's Redis cluster balancer.

use std::sync::Arc;

use redplane_config::redis_proxy::ReadPolicy;

use super::Shard;
use crate::balancer::scaled;
use crate::host::{Health, Host};

/// What is asked of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// The primary, whatever its health.
    Primary,
    /// A node for a read: policy, own zone (empty if not known), random number.
    Read(ReadPolicy, &'a str, u64),
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Index in [`Topology::hosts`](super::Topology).
    Host(usize),
    /// No shard serves the slot: `-CLUSTERDOWN Hash slot not served`.
    Unserved,
    /// There is no host that may serve it: `-no upstream host`.
    NoHost,
}

pub(super) fn within(hosts: &[Arc<Host>], shard: &Shard, want: Want<'_>) -> Pick {
    let Want::Read(policy, zone, random) = want else {
        return Pick::Host(shard.primary);
    };
    let chooser = Chooser { hosts, shard, random };
    match policy {
        ReadPolicy::Master => Pick::Host(shard.primary),
        ReadPolicy::PreferMaster if chooser.primary_is_healthy() => Pick::Host(shard.primary),
        ReadPolicy::PreferMaster | ReadPolicy::Any => chooser.any_of(chooser.all()),
        ReadPolicy::Replica => chooser.any_of(chooser.replicas()),
        ReadPolicy::PreferReplica => {
            if chooser.replicas().any(|at| chooser.health(at) == Health::Healthy) {
                chooser.any_of(chooser.replicas())
            } else {
                chooser.any_of(chooser.all())
            }
        }
        ReadPolicy::LocalZoneAffinity => chooser
            .in_zone(zone)
            .unwrap_or_else(|| chooser.replica_or_primary()),
        ReadPolicy::LocalZoneAffinityReplicasAndPrimary => match chooser.in_zone(zone) {
            Some(pick) => pick,
            None if chooser.local(shard.primary, zone) && chooser.primary_is_healthy() => {
                Pick::Host(shard.primary)
            }
            None => chooser.replica_or_primary(),
        },
    }
}

struct Chooser<'a> {
    hosts: &'a [Arc<Host>],
    shard: &'a Shard,
    random: u64,
}

impl<'a> Chooser<'a> {
    fn replicas(&self) -> impl Iterator<Item = usize> + Clone + 'a {
        self.shard.replicas.iter().copied()
    }

    fn all(&self) -> impl Iterator<Item = usize> + Clone + 'a {
        std::iter::once(self.shard.primary).chain(self.replicas())
    }

    fn health(&self, at: usize) -> Health {
        self.hosts[at].health()
    }

    fn primary_is_healthy(&self) -> bool {
        self.health(self.shard.primary) == Health::Healthy
    }

    fn local(&self, at: usize, zone: &str) -> bool {
        !zone.is_empty() && self.hosts[at].zone == zone
    }

    /// Any replica of the zone, if there is one.
    fn in_zone(&self, zone: &str) -> Option<Pick> {
        let local = self.replicas().filter(|at| self.local(*at, zone));
        match self.any_of(local) {
            Pick::Host(at) => Some(Pick::Host(at)),
            Pick::Unserved | Pick::NoHost => None,
        }
    }

    fn replica_or_primary(&self) -> Pick {
        match self.any_of(self.replicas()) {
            Pick::NoHost => Pick::Host(self.shard.primary),
            pick => pick,
        }
    }

    fn any_of(&self, set: impl Iterator<Item = usize> + Clone) -> Pick {
        let of = |health: Health| set.clone().filter(move |at| self.health(*at) == health);
        self.nth(of(Health::Healthy))
            .or_else(|| self.nth(of(Health::Degraded)))
            .or_else(|| self.nth(set.clone()))
            .map_or(Pick::NoHost, Pick::Host)
    }

    fn nth(&self, mut set: impl Iterator<Item = usize> + Clone) -> Option<usize> {
        let count = set.clone().count();
        if count == 0 {
            return None;
        }
        // Health may change between counting and taking; then the set is looked at from its start.
        let first = set.clone().next();
        set.nth(scaled(self.random, count)).or(first)
    }
}

#[cfg(test)]
mod tests;
