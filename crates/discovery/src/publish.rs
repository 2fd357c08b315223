//! What servers said, published as hosts and a slot map, or as one primary with its replicas.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use redplane_upstream::cluster::{Cluster, Roster};
use redplane_upstream::host::{Draft, Host, HostAddress};
use redplane_upstream::topology::{Claim, Layout, Shard, SlotMap, Topology};

use crate::node::{Node, NodeAddress, ShardView};

/// What stands beside a view.
pub(crate) struct Surroundings<'a> {
    /// Names of the view that could be resolved.
    pub(crate) names: &'a HashMap<String, IpAddr>,
    /// Availability zones by address.
    pub(crate) zones: &'a HashMap<SocketAddr, String>,
    /// Of every host.
    pub(crate) priority: u32,
}

/// Publishes a view; says whether it was new.
///
/// # Errors
///
/// A primary's name could not be resolved: the view cannot be used. A replica's is left out.
pub(crate) fn publish(
    cluster: &Cluster,
    shards: &[ShardView],
    around: &Surroundings<'_>,
) -> Result<bool, String> {
    for shard in shards {
        if address(&shard.primary, around).is_none() {
            return Err(format!(
                "unable to resolve the primary {}",
                shard.primary.hostname
            ));
        }
    }
    Ok(cluster.publish(|current, roster| {
        let mut builder = Builder::new(cluster, around, roster);
        let claims: Vec<Claim> = shards.iter().filter_map(|shard| builder.shard(shard)).collect();
        let hosts = builder.hosts;
        let map = SlotMap::of(&claims);
        (!same(current, &hosts, &map)).then_some((hosts, Layout::Slots(map)))
    }))
}

/// Publishes a primary with its replicas, on a cluster without slots; says whether that was new.
///
/// # Errors
///
/// The primary's name could not be resolved.
pub(crate) fn publish_replicated(
    cluster: &Cluster,
    view: &ShardView,
    around: &Surroundings<'_>,
) -> Result<bool, String> {
    if address(&view.primary, around).is_none() {
        return Err(format!("unable to resolve the master {}", view.primary.hostname));
    }
    Ok(cluster.publish(|current, roster| {
        let mut builder = Builder::new(cluster, around, roster);
        let claim = builder.shard(view)?;
        let hosts = builder.hosts;
        let shard = Shard {
            primary: claim.primary,
            replicas: claim.replicas,
            ranges: Vec::new(),
        };
        let same = matches!(&current.layout, Layout::Replicated(Some(known)) if *known == shard)
            && same_hosts(current, &hosts);
        (!same).then_some((hosts, Layout::Replicated(Some(shard))))
    }))
}

fn same(current: &Topology, hosts: &[Arc<Host>], map: &SlotMap) -> bool {
    current.slots() == Some(map) && same_hosts(current, hosts)
}

fn same_hosts(current: &Topology, hosts: &[Arc<Host>]) -> bool {
    current.hosts.len() == hosts.len() && current.hosts.iter().zip(hosts).all(|(a, b)| Arc::ptr_eq(a, b))
}

pub(crate) fn address(node: &Node, around: &Surroundings<'_>) -> Option<SocketAddr> {
    let ip = match &node.address {
        NodeAddress::Ip(ip) => Some(*ip),
        NodeAddress::Name(name) => around.names.get(name).copied(),
    };
    ip.map(|ip| SocketAddr::new(ip, node.port))
}

struct Builder<'a> {
    cluster: &'a Cluster,
    around: &'a Surroundings<'a>,
    roster: &'a mut Roster,
    hosts: Vec<Arc<Host>>,
    places: HashMap<SocketAddr, usize>,
}

impl<'a> Builder<'a> {
    fn new(cluster: &'a Cluster, around: &'a Surroundings<'a>, roster: &'a mut Roster) -> Self {
        Self {
            cluster,
            around,
            roster,
            hosts: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn shard(&mut self, shard: &ShardView) -> Option<Claim> {
        let primary = self.host(&shard.primary)?;
        // Nodes list replicas in an order of their own; ours must not change with the node that was asked.
        let mut nodes: Vec<&Node> = shard.replicas.iter().collect();
        nodes.sort_by_key(|node| (address(node, self.around), node.hostname.clone()));
        let mut replicas: Vec<usize> = Vec::new();
        for node in nodes {
            if let Some(at) = self
                .host(node)
                .filter(|at| *at != primary && !replicas.contains(at))
            {
                replicas.push(at);
            }
        }
        Some(Claim {
            primary,
            replicas,
            ranges: shard.ranges.clone(),
        })
    }

    fn host(&mut self, node: &Node) -> Option<usize> {
        let Some(socket) = address(node, self.around) else {
            tracing::warn!(
                cluster = self.cluster.name(),
                replica = node.hostname,
                "unable to resolve a replica: left out"
            );
            return None;
        };
        if let Some(at) = self.places.get(&socket) {
            return Some(*at);
        }
        let place = HostAddress::Ip(socket);
        let transport = self.cluster.transport(&place, &node.hostname, &[]);
        let zone = self.around.zones.get(&socket).cloned().unwrap_or_default();
        let draft = Draft {
            zone,
            priority: self.around.priority,
            ..Draft::plain(place, node.hostname.clone(), transport)
        };
        let host = self.roster.host(draft);
        host.told(node.health);
        self.hosts.push(host);
        self.places.insert(socket, self.hosts.len() - 1);
        Some(self.hosts.len() - 1)
    }
}
