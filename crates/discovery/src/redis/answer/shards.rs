//! `CLUSTER SHARDS` (Redis 7.0): only the health of the nodes is taken from it.

use std::collections::HashMap;

use redplane_config::endpoint::Health;
use redplane_resp::value::Value;

use super::{pairs, text};

/// Health by node id; what does not look as documented is left out.
pub(super) fn health(reply: &Value) -> HashMap<String, Health> {
    let shards = reply.elements().unwrap_or_default().iter();
    let nodes = shards
        .filter_map(|shard| find(shard, b"nodes"))
        .flat_map(|nodes| nodes.elements().unwrap_or_default());
    nodes
        .filter_map(|node| {
            Some((
                text(find(node, b"id")?.text()?),
                state(find(node, b"health")?.text()?),
            ))
        })
        .collect()
}

fn find<'a>(value: &'a Value, key: &[u8]) -> Option<&'a Value> {
    pairs(value)
        .into_iter()
        .find_map(|(k, v)| (k == key).then_some(v))
}

/// A replica that is loading answers errors, but it lives.
fn state(text: &[u8]) -> Health {
    match text {
        b"online" => Health::Healthy,
        b"loading" => Health::Degraded,
        _ => Health::Unhealthy,
    }
}
