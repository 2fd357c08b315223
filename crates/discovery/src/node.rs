//! Nodes and shards as servers tell them: by address or by name, before names are resolved and hosts are made.

use std::net::{IpAddr, SocketAddr};

use redplane_config::endpoint::Health;

/// One primary with what it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardView {
    /// The node that serves writes.
    pub primary: Node,
    /// The nodes that copy it.
    pub replicas: Vec<Node>,
    /// First and last slot of each range; both below 16384, never reversed.
    pub ranges: Vec<(u16, u16)>,
    /// The primary's config epoch; 0 when the node did not say.
    pub epoch: u64,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's id; empty when not told.
    pub id: String,
    /// Where to connect to.
    pub address: NodeAddress,
    /// Never 0.
    pub port: u16,
    /// The name it announces; empty if none.
    pub hostname: String,
    /// As the cluster sees it.
    pub health: Health,
}

/// A host of the slot map.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeAddress {
    /// An address.
    Ip(IpAddr),
    /// A name that has to be resolved.
    Name(String),
}

impl Node {
    /// What identifies it: its id, or where it is.
    pub fn key(&self) -> String {
        if !self.id.is_empty() {
            return self.id.clone();
        }
        match &self.address {
            NodeAddress::Ip(ip) => SocketAddr::new(*ip, self.port).to_string(),
            NodeAddress::Name(name) => format!("{name}:{}", self.port),
        }
    }
}
