//! What one node says about its cluster: replies to `CLUSTER SLOTS`, `CLUSTER SHARDS` and `CLUSTER NODES` put together.
//!
//! `CLUSTER SLOTS` says which node serves what and must be faultless; the others add what they can (config epochs, health) and
//! are left out when they are missing or odd, as on servers that do not have them. Nothing here does I/O.
//!
//! Redis: cluster specification, `CLUSTER SLOTS` (null or empty host: the node that was asked; `?`: not known).

use std::collections::HashMap;
use std::net::IpAddr;

use redplane_config::endpoint::Health;
use redplane_resp::value::Value;
use redplane_upstream::topology::SLOTS;

mod nodes;
mod shards;

use crate::node::{Node, NodeAddress, ShardView};
pub use nodes::Gossip;

/// One node's view of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Shards in the order of the reply.
    pub shards: Vec<ShardView>,
    /// Most primaries live, as far as the node can see. True when it did not say.
    pub quorum: bool,
}

/// Replies of one node, as far as they came.
#[derive(Debug)]
pub struct Replies {
    /// `CLUSTER SLOTS`.
    pub slots: Value,
    /// `CLUSTER SHARDS`, Redis 7.0 and newer.
    pub shards: Option<Value>,
    /// `CLUSTER NODES`.
    pub nodes: Option<Value>,
}

impl Answer {
    /// Reads the replies of the node at `asked`.
    ///
    /// # Errors
    ///
    /// Why `CLUSTER SLOTS` is of no use; then the answer counts for nothing.
    pub fn read(replies: &Replies, asked: IpAddr) -> Result<Self, String> {
        let gossip = replies
            .nodes
            .as_ref()
            .and_then(Value::text)
            .map(Gossip::read)
            .unwrap_or_default();
        let mut health = replies.shards.as_ref().map(shards::health).unwrap_or_default();
        for (id, seen) in &gossip.nodes {
            health
                .entry(id.clone())
                .and_modify(|known| *known = worse(*known, seen.health))
                .or_insert(seen.health);
        }
        let reader = Reader {
            asked,
            gossip: &gossip,
            health: &health,
        };
        Ok(Self {
            shards: reader.slots(&replies.slots)?,
            quorum: gossip.quorum(),
        })
    }
}

fn worse(a: Health, b: Health) -> Health {
    let rank = |health| match health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::Draining => 2,
        Health::Unhealthy => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

/// One row of `CLUSTER SLOTS`.
struct Row {
    range: (u16, u16),
    primary: Node,
    replicas: Vec<Node>,
}

struct Reader<'a> {
    asked: IpAddr,
    gossip: &'a Gossip,
    health: &'a HashMap<String, Health>,
}

impl Reader<'_> {
    fn slots(&self, reply: &Value) -> Result<Vec<ShardView>, String> {
        if let Value::Error(text) = reply {
            return Err(String::from_utf8_lossy(text).into_owned());
        }
        let rows = reply.elements().ok_or("CLUSTER SLOTS gave no array")?;
        if rows.is_empty() {
            return Err("no slot is assigned".to_owned());
        }
        let mut shards: Vec<ShardView> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for row in rows {
            let Row {
                range,
                primary,
                replicas,
            } = self.row(row)?;
            let at = *places.entry(primary.key()).or_insert(shards.len());
            if at == shards.len() {
                let epoch = self.gossip.nodes.get(&primary.id).map_or(0, |node| node.epoch);
                shards.push(ShardView {
                    primary,
                    replicas,
                    ranges: vec![range],
                    epoch,
                });
            } else {
                shards[at].ranges.push(range);
            }
        }
        Ok(shards)
    }

    fn row(&self, row: &Value) -> Result<Row, String> {
        let Some([first, last, primary, replicas @ ..]) = row.elements() else {
            return Err("a row of CLUSTER SLOTS is too short".to_owned());
        };
        let range = (slot(first)?, slot(last)?);
        if range.0 > range.1 {
            return Err(format!("the range {}-{} is reversed", range.0, range.1));
        }
        let primary = self
            .node(primary)?
            .ok_or_else(|| format!("no address for the primary of {}", range.0))?;
        let replicas = replicas
            .iter()
            .map(|node| self.node(node))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Row {
            range,
            primary,
            replicas: replicas.into_iter().flatten().collect(),
        })
    }

    /// `None` for a node that cannot be reached by what is told: port 0, or a host that is `?` everywhere.
    fn node(&self, node: &Value) -> Result<Option<Node>, String> {
        let Some([host, port, rest @ ..]) = node.elements() else {
            return Err("a node of CLUSTER SLOTS is no array of host and port".to_owned());
        };
        let Value::Integer(port) = port else {
            return Err("a node's port is no integer".to_owned());
        };
        let port = u16::try_from(*port).map_err(|_| format!("{port} is no port"))?;
        let id = rest.first().and_then(Value::text).map(text).unwrap_or_default();
        let metadata = rest.get(1).map(pairs).unwrap_or_default();
        let told = |key: &[u8]| {
            metadata
                .iter()
                .find(|(k, _)| *k == key)
                .and_then(|(_, v)| v.text())
                .map(text)
        };
        let host = match host {
            Value::Null | Value::Bulk(None) => String::new(),
            host => text(host.text().ok_or("a node's host is no string")?),
        };
        let hostname =
            told(b"hostname").or_else(|| self.gossip.nodes.get(&id).map(|node| node.hostname.clone()));
        let place = match host.as_str() {
            "" => NodeAddress::Ip(self.asked),
            "?" => match told(b"ip")
                .and_then(|ip| ip.parse().ok())
                .or_else(|| self.gossip.nodes.get(&id)?.ip)
            {
                Some(ip) => NodeAddress::Ip(ip),
                None => return Ok(None),
            },
            host => place(host),
        };
        let mut hostname = hostname.filter(|name| name != "?").unwrap_or_default();
        if let (NodeAddress::Name(name), true) = (&place, hostname.is_empty()) {
            hostname.clone_from(name);
        }
        let health = self.health.get(&id).copied().unwrap_or_default();
        Ok((port > 0).then_some(Node {
            id,
            address: place,
            port,
            hostname,
            health,
        }))
    }
}

/// An address in its plainest form, or a name.
fn place(host: &str) -> NodeAddress {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => NodeAddress::Ip(ip.to_canonical()),
        Err(_) => NodeAddress::Name(host.trim_end_matches('.').to_owned()),
    }
}

fn slot(value: &Value) -> Result<u16, String> {
    match value {
        Value::Integer(slot) if (0..i64::from(SLOTS)).contains(slot) => Ok(*slot as u16),
        Value::Integer(slot) => Err(format!("{slot} is no slot")),
        _ => Err("a slot is no integer".to_owned()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Keys and values of a map, or of an array that stands for one.
fn pairs(value: &Value) -> Vec<(&[u8], &Value)> {
    let flat = value.elements().unwrap_or_default().chunks_exact(2);
    let flat = flat.filter_map(|pair| Some((pair[0].text()?, &pair[1])));
    let map = match value {
        Value::Map(map) => map.as_slice(),
        _ => &[],
    };
    flat.chain(map.iter().filter_map(|(key, value)| Some((key.text()?, value))))
        .collect()
}

#[cfg(test)]
mod tests;
