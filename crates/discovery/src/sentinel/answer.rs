//! What one Sentinel says about a master: its replies as values, read without I/O.
//!
//! `SENTINEL GET-MASTER-ADDR-BY-NAME` says where the master is and must be faultless; the others add what they can
//! (config epoch, health, replicas, other Sentinels) and are left out where they are odd.
//!
//! Redis: "High availability with Redis Sentinel", "Guidelines for Redis clients with support for Sentinel".

use std::collections::HashMap;

use redplane_config::endpoint::Health;
use redplane_resp::value::Value;

use crate::node::{Node, NodeAddress, ShardView};

/// One Sentinel's view of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The master and its replicas. The epoch is the master's config epoch: of two answers the higher one is newer.
    pub(super) shard: ShardView,
    /// The other Sentinels of the master.
    pub(super) sentinels: Vec<(NodeAddress, u16)>,
}

/// Replies of one Sentinel.
#[derive(Debug)]
pub(super) struct Replies {
    /// `SENTINEL GET-MASTER-ADDR-BY-NAME`.
    pub(super) address: Value,
    /// `SENTINEL MASTER`.
    pub(super) master: Value,
    /// `SENTINEL REPLICAS`.
    pub(super) replicas: Value,
    /// `SENTINEL SENTINELS`.
    pub(super) sentinels: Value,
}

impl Answer {
    /// Reads the replies.
    ///
    /// # Errors
    ///
    /// Why the Sentinel does not know where the master is.
    pub(super) fn read(replies: &Replies) -> Result<Self, String> {
        let (place, port) = address(&replies.address)?;
        let own = fields(&replies.master);
        // Its flags speak of the master it knows, which during a failover is another than the one it tells.
        let same = located(&own).is_some_and(|known| known == (place.clone(), port));
        let down = same && is_down(&own);
        let primary = node(
            place,
            port,
            if down { Health::Unhealthy } else { Health::Healthy },
        );
        let listed = replies.replicas.elements().unwrap_or_default().iter();
        let replicas = listed
            .filter_map(replica)
            .filter(|node| (&node.address, node.port) != (&primary.address, primary.port));
        let known = replies.sentinels.elements().unwrap_or_default().iter();
        Ok(Self {
            shard: ShardView {
                replicas: replicas.collect(),
                epoch: own
                    .get("config-epoch")
                    .and_then(|epoch| epoch.parse().ok())
                    .unwrap_or(0),
                ranges: Vec::new(),
                primary,
            },
            sentinels: known.filter_map(|sentinel| located(&fields(sentinel))).collect(),
        })
    }
}

/// What `ROLE` says: whether the server is a master. An error says nothing: a user may lack the right to ask.
pub(super) fn is_master(reply: &Value) -> Option<bool> {
    let role = reply.elements()?.first()?.text()?;
    Some(role == b"master")
}

/// Whether a message of a Sentinel's channel is about this master, its replicas or its Sentinels: `NAME old new …` of
/// `+switch-master`, else `TYPE NAME ip port` of a master or `TYPE name ip port @ NAME ip port` of all others.
pub(super) fn concerns(message: &Value, master_name: &str) -> bool {
    let Some([kind, channel, payload]) = message.elements() else {
        return false;
    };
    if kind.text() != Some(b"message") {
        return false;
    }
    let text = String::from_utf8_lossy(payload.text().unwrap_or_default()).into_owned();
    let words: Vec<&str> = text.split(' ').collect();
    let named = match (channel.text(), words.as_slice()) {
        (Some(b"+switch-master"), [name, ..]) | (_, ["master", name, ..]) => Some(*name),
        (_, [_, _, _, _, "@", name, ..]) => Some(*name),
        _ => None,
    };
    named == Some(master_name)
}

fn address(reply: &Value) -> Result<(NodeAddress, u16), String> {
    match reply {
        Value::Error(text) => Err(String::from_utf8_lossy(text).into_owned()),
        Value::Array(None) | Value::Null => Err("it monitors no master of this name".to_owned()),
        other => match other.elements() {
            Some([host, port]) => {
                place(host.text(), port.integer()).ok_or_else(|| "no address in its answer".to_owned())
            }
            _ => Err("no address in its answer".to_owned()),
        },
    }
}

fn place(host: Option<&[u8]>, port: Option<i64>) -> Option<(NodeAddress, u16)> {
    let host = std::str::from_utf8(host?).ok().filter(|host| !host.is_empty())?;
    let port = u16::try_from(port?).ok().filter(|port| *port > 0)?;
    let place = match host.parse() {
        Ok(ip) => NodeAddress::Ip(ip),
        Err(_) => NodeAddress::Name(host.to_owned()),
    };
    Some((place, port))
}

/// The fields of one instance: names and values in turn (RESP2), or a map.
fn fields(instance: &Value) -> HashMap<String, String> {
    let text = |value: &Value| String::from_utf8_lossy(value.text().unwrap_or_default()).into_owned();
    match instance {
        Value::Map(pairs) => pairs
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        flat => flat
            .elements()
            .unwrap_or_default()
            .chunks_exact(2)
            .map(|pair| (text(&pair[0]), text(&pair[1])))
            .collect(),
    }
}

fn located(fields: &HashMap<String, String>) -> Option<(NodeAddress, u16)> {
    let port = fields.get("port")?.parse().ok();
    place(fields.get("ip").map(String::as_bytes), port)
}

fn is_down(fields: &HashMap<String, String>) -> bool {
    let down = |flag: &str| matches!(flag, "s_down" | "o_down" | "disconnected");
    fields
        .get("flags")
        .is_some_and(|flags| flags.split(',').any(down))
}

fn replica(instance: &Value) -> Option<Node> {
    let fields = fields(instance);
    let is = |field: &str, value: &str| fields.get(field).is_none_or(|said| said == value);
    let health = if is_down(&fields) || !is("role-reported", "slave") {
        Health::Unhealthy
    } else if is("master-link-status", "ok") {
        Health::Healthy
    } else {
        Health::Degraded
    };
    let (place, port) = located(&fields)?;
    Some(node(place, port, health))
}

fn node(address: NodeAddress, port: u16, health: Health) -> Node {
    let hostname = match &address {
        NodeAddress::Name(name) => name.clone(),
        NodeAddress::Ip(_) => String::new(),
    };
    Node {
        id: String::new(),
        address,
        port,
        hostname,
        health,
    }
}

#[cfg(test)]
mod tests;
