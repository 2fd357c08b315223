//! What `CLUSTER SLOTS` alone tells: which node serves which slots, and which nodes are its replicas. Two answers with the same outline say
//! the same, whatever order they list nodes and ranges in; health and config epochs are not part of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::{Node, NodeAddress, ShardView};

/// Shards by the key of their primary.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outline(BTreeMap<String, Shard>);

#[derive(Debug, PartialEq, Eq)]
struct Shard {
    address: (NodeAddress, u16),
    /// Ascending; neighbours are one.
    ranges: Vec<(u16, u16)>,
    replicas: BTreeSet<(String, NodeAddress, u16)>,
}

impl Outline {
    pub(super) fn of(shards: &[ShardView]) -> Self {
        let shard = |view: &ShardView| {
            let replica = |node: &Node| (node.key(), node.address.clone(), node.port);
            let shard = Shard {
                address: (view.primary.address.clone(), view.primary.port),
                ranges: joined(&view.ranges),
                replicas: view.replicas.iter().map(replica).collect(),
            };
            (view.primary.key(), shard)
        };
        Self(shards.iter().map(shard).collect())
    }
}

fn joined(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use redplane_config::endpoint::Health;

    use super::*;

    fn node(port: u16, health: Health) -> Node {
        Node {
            id: format!("id{port}"),
            address: NodeAddress::Ip([10, 0, 0, 1].into()),
            port,
            hostname: String::new(),
            health,
        }
    }

    fn shard(primary: u16, replicas: &[u16], ranges: &[(u16, u16)], epoch: u64) -> ShardView {
        ShardView {
            primary: node(primary, Health::Healthy),
            replicas: replicas
                .iter()
                .map(|port| node(*port, Health::Degraded))
                .collect(),
            ranges: ranges.to_vec(),
            epoch,
        }
    }

    #[test]
    fn order_epoch_and_health_do_not_count_but_slots_and_replicas_do() {
        let known = Outline::of(&[
            shard(1, &[3, 4], &[(0, 99), (100, 200)], 7),
            shard(2, &[], &[(300, 400)], 8),
        ]);
        let same = [
            shard(2, &[], &[(300, 400)], 0),
            shard(1, &[4, 3], &[(100, 200), (0, 99)], 0),
        ];
        assert_eq!(Outline::of(&same), known);
        let other = |first: ShardView| Outline::of(&[first, shard(2, &[], &[(300, 400)], 0)]);
        assert_eq!(other(shard(1, &[3, 4], &[(0, 200)], 0)), known);
        assert_ne!(other(shard(1, &[3, 4], &[(0, 199)], 0)), known);
        assert_ne!(other(shard(1, &[3], &[(0, 200)], 0)), known);
        assert_ne!(other(shard(4, &[3, 1], &[(0, 200)], 0)), known);
    }
}
