//! `-MOVED`: the slot table changes at once, a burst in one step.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use redplane_upstream::cluster::{Cluster, Moves};
use redplane_upstream::host::{Draft, HostAddress};
use redplane_upstream::topology::{Layout, SLOTS};

/// The first move and those that wait behind it.
pub(super) fn burst(first: (u16, SocketAddr), moves: &mut Moves) -> Vec<(u16, SocketAddr)> {
    let mut burst = vec![first];
    while let Ok(next) = moves.try_recv() {
        burst.push(next);
    }
    burst
}

/// Publishes a topology in which the slots stand where the redirections say. Of two moves of a slot the later counts.
pub(super) fn apply(cluster: &Cluster, burst: &[(u16, SocketAddr)]) {
    let moves: BTreeMap<u16, SocketAddr> = burst.iter().copied().filter(|(slot, _)| *slot < SLOTS).collect();
    cluster.publish(|current, roster| {
        let map = current.slots()?;
        let primary = |slot: u16| map.shard_of(slot).map(|shard| map.shards[shard].primary);
        let mut hosts = current.hosts.clone();
        let mut moved = Vec::new();
        for (slot, to) in &moves {
            let known = hosts.iter().position(|host| host.address == HostAddress::Ip(*to));
            let at = known.unwrap_or_else(|| {
                let address = HostAddress::Ip(*to);
                let transport = cluster.transport(&address, "", &[]);
                hosts.push(roster.host(Draft::plain(address, String::new(), transport)));
                hosts.len() - 1
            });
            if primary(*slot) != Some(at) {
                moved.push((*slot, at));
            }
        }
        if moved.is_empty() {
            return None;
        }
        tracing::debug!(cluster = cluster.name(), slots = moved.len(), "slots moved");
        Some((hosts, Layout::Slots(map.moved(&moved))))
    });
}
