//! Which hosts serve what in one cluster, at one moment.
//!
//! A [`Topology`] is immutable; the cluster publishes the next one. Indices of hosts and shards are only good within
//! the topology they came from.

mod pick;
mod slots;

use std::net::SocketAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::balancer::Balancer;
use crate::host::{Host, Role};

pub use pick::{Pick, Want};
pub use slots::{Claim, SLOTS, Shard, SlotMap};

/// The hosts of a cluster and how requests are spread over them.
#[derive(Debug)]
pub struct Topology {
    /// Every host, in a stable order.
    pub hosts: Vec<Arc<Host>>,
    /// How one is chosen.
    pub layout: Layout,
    /// Grows with every topology of the cluster.
    pub version: u64,
    addresses: FxHashMap<SocketAddr, usize>,
    names: FxHashMap<String, Vec<usize>>,
}

/// How hosts are chosen.
#[derive(Debug)]
pub enum Layout {
    /// By slot: `envoy.clusters.redis`.
    Slots(SlotMap),
    /// One primary with its replicas, whatever the key: `redplane.clusters.sentinel`. `None` until it is found.
    Replicated(Option<Shard>),
    /// By load balancing policy.
    Balanced(Balancer),
    /// The connection's own destination; there are no hosts.
    OriginalDst,
}

impl Topology {
    pub(crate) fn new(hosts: Vec<Arc<Host>>, layout: Layout, version: u64) -> Self {
        let mut addresses = FxHashMap::default();
        let mut names: FxHashMap<String, Vec<usize>> = FxHashMap::default();
        for (at, host) in hosts.iter().enumerate() {
            if let Some(address) = host.address.ip() {
                addresses.entry(address).or_insert(at);
            }
            if !host.hostname.is_empty() {
                names.entry(host.hostname.clone()).or_default().push(at);
            }
        }
        Self {
            hosts,
            layout,
            version,
            addresses,
            names,
        }
    }

    /// The node that serves a slot. On a cluster without slots this is [`Pick::NoHost`].
    pub fn by_slot(&self, slot: u16, want: Want<'_>) -> Pick {
        let Layout::Slots(map) = &self.layout else {
            return Pick::NoHost;
        };
        if map.shards.is_empty() {
            return Pick::NoHost;
        }
        match map.shard_of(slot) {
            Some(shard) => pick::within(&self.hosts, &map.shards[shard], want),
            None => Pick::Unserved,
        }
    }

    /// The primary of a slot, as an index of [`hosts`](Self::hosts); `None` where no node serves it, and on a cluster
    /// without slots.
    #[inline]
    pub fn primary_of(&self, slot: u16) -> Option<usize> {
        let Layout::Slots(map) = &self.layout else {
            return None;
        };
        let shard = map.shards.get(map.shard_of(slot)?)?;
        Some(shard.primary)
    }

    /// A node of a shard, counted as [`shard_count`](Self::shard_count) does; on a cluster without slots each host that
    /// may be chosen is a shard of its own.
    pub fn by_shard(&self, shard: usize, want: Want<'_>) -> Pick {
        match &self.layout {
            Layout::Slots(map) => match map.shards.get(shard) {
                Some(shard) => pick::within(&self.hosts, shard, want),
                None => Pick::NoHost,
            },
            Layout::Replicated(Some(only)) if shard == 0 => pick::within(&self.hosts, only, want),
            Layout::Replicated(_) => Pick::NoHost,
            Layout::Balanced(balancer) => match balancer.eligible().get(shard) {
                Some(&host) => Pick::Host(host),
                None => Pick::NoHost,
            },
            Layout::OriginalDst => Pick::NoHost,
        }
    }

    /// The host for a hash (RING_HASH, MAGLEV) or for a random number (all other policies); the one primary where there
    /// is one. `None` on a cluster with slots, or when no host may be chosen.
    pub fn by_hash(&self, hash: u64, random: u64) -> Option<usize> {
        match &self.layout {
            Layout::Balanced(balancer) => balancer.choose(&self.hosts, hash, random),
            Layout::Replicated(shard) => shard.as_ref().map(|shard| shard.primary),
            Layout::Slots(_) | Layout::OriginalDst => None,
        }
    }

    /// How many parts a fan-out has: shards, or hosts that may be chosen.
    pub fn shard_count(&self) -> usize {
        match &self.layout {
            Layout::Slots(map) => map.shards.len(),
            Layout::Replicated(shard) => usize::from(shard.is_some()),
            Layout::Balanced(balancer) => balancer.eligible().len(),
            Layout::OriginalDst => 0,
        }
    }

    /// The host with this address.
    pub fn host_by_address(&self, address: SocketAddr) -> Option<usize> {
        self.addresses.get(&address).copied()
    }

    /// The host with this name and port.
    pub fn host_by_name(&self, name: &str, port: u16) -> Option<usize> {
        let named = self.names.get(name)?;
        named
            .iter()
            .copied()
            .find(|at| self.hosts[*at].address.ip().is_some_and(|ip| ip.port() == port))
    }

    /// What a host is to its shard; `None` for a host without a shard and on clusters without shards.
    pub fn role(&self, host: usize) -> Option<Role> {
        self.shards().iter().find_map(|shard| shard.role(host))
    }

    /// Primaries with their replicas; empty on clusters that have none.
    pub fn shards(&self) -> &[Shard] {
        match &self.layout {
            Layout::Slots(map) => &map.shards,
            Layout::Replicated(shard) => shard.as_slice(),
            Layout::Balanced(_) | Layout::OriginalDst => &[],
        }
    }

    /// Slot ranges a host serves (as primary or replica); empty on other clusters.
    pub fn ranges(&self, host: usize) -> &[(u16, u16)] {
        let Layout::Slots(map) = &self.layout else {
            return &[];
        };
        map.shards
            .iter()
            .find(|shard| shard.role(host).is_some())
            .map_or(&[], |shard| &shard.ranges)
    }

    /// The slot map of a Redis Cluster.
    pub fn slots(&self) -> Option<&SlotMap> {
        match &self.layout {
            Layout::Slots(map) => Some(map),
            Layout::Replicated(_) | Layout::Balanced(_) | Layout::OriginalDst => None,
        }
    }
}
