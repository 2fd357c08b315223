//! `applyTo: NETWORK_FILTER`: the filters of a listener's chains.
//!
//! Each operation acts once per chain, on the first filter that matches; ADD and INSERT_FIRST need no filter
//! match. Filters are told apart by name, old names included, as Istiod tells them apart.

use redplane_proto::Json;
use redplane_proto::pb::envoy::config::core::v3::address::Address;
use redplane_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use redplane_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use redplane_proto::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};

use serde_json::Value;

use super::merge;
use crate::finding::Finding;
use crate::istio::envoy_filter::{ChainMatch, ListenerMatch, Operation, Patch};

/// The names that Envoy's first releases gave to filters.
const OLD_NAMES: [(&str, &str); 8] = [
    ("envoy.tcp_proxy", "envoy.filters.network.tcp_proxy"),
    ("envoy.redis_proxy", "envoy.filters.network.redis_proxy"),
    (
        "envoy.http_connection_manager",
        "envoy.filters.network.http_connection_manager",
    ),
    ("envoy.mongo_proxy", "envoy.filters.network.mongo_proxy"),
    ("envoy.ratelimit", "envoy.filters.network.ratelimit"),
    ("envoy.echo", "envoy.filters.network.echo"),
    ("envoy.ext_authz", "envoy.filters.network.ext_authz"),
    ("envoy.client_ssl_auth", "envoy.filters.network.client_ssl_auth"),
];

/// Applies one patch to every chain it matches and says how many it changed.
pub(super) fn apply(
    patch: &Patch,
    wanted: &ListenerMatch,
    listeners: &mut [Listener],
    json: &Json,
    notes: &mut Vec<Finding>,
) -> Result<usize, Finding> {
    let value = value(patch, json, notes)?;
    let mut met = 0;
    for listener in listeners
        .iter_mut()
        .filter(|listener| listener_matches(wanted, listener))
    {
        let chains = listener
            .filter_chains
            .iter_mut()
            .chain(listener.default_filter_chain.as_mut());
        for chain in chains.filter(|chain| chain_matches(&wanted.filter_chain, chain)) {
            let filter = wanted.filter_chain.filter.name.as_str();
            met += usize::from(apply_to_chain(patch, filter, &value, &mut chain.filters, json)?);
        }
    }
    Ok(met)
}

/// The filter to put in; an empty one where the operation needs none.
fn value(patch: &Patch, json: &Json, notes: &mut Vec<Finding>) -> Result<Filter, Finding> {
    if patch.operation == Operation::Remove {
        return Ok(Filter::default());
    }
    let filter: Filter = super::read(patch, json, notes)?;
    if filter.name.is_empty() && patch.operation != Operation::Merge {
        return Err(patch.finding("patch.value: name: is missing"));
    }
    Ok(filter)
}

fn apply_to_chain(
    patch: &Patch,
    wanted: &str,
    value: &Filter,
    filters: &mut Vec<Filter>,
    json: &Json,
) -> Result<bool, Finding> {
    match patch.operation {
        Operation::Add => filters.push(value.clone()),
        Operation::InsertFirst => filters.insert(0, value.clone()),
        // These are relative to a filter; without one named Istiod leaves them alone.
        Operation::InsertBefore | Operation::InsertAfter | Operation::Replace | Operation::Remove
            if wanted.is_empty() =>
        {
            return Ok(false);
        }
        operation => {
            let Some(at) = filters
                .iter()
                .position(|filter| name_matches(wanted, &filter.name))
            else {
                return Ok(false);
            };
            match operation {
                Operation::InsertBefore => filters.insert(at, value.clone()),
                Operation::InsertAfter => filters.insert(at + 1, value.clone()),
                Operation::Replace => filters[at] = value.clone(),
                Operation::Remove => drop(filters.remove(at)),
                _ => merge_filter(&mut filters[at], value, &patch.value, json)
                    .map_err(|reason| patch.finding(reason))?,
            }
        }
    }
    Ok(true)
}

/// The value's name replaces the filter's; the configurations are merged when both are of one type.
fn merge_filter(filter: &mut Filter, value: &Filter, written: &Value, json: &Json) -> Result<(), String> {
    let written = written
        .get("typed_config")
        .or_else(|| written.get("typedConfig"))
        .unwrap_or(&Value::Null);
    let merged = match (&filter.config_type, &value.config_type) {
        (_, None) => None,
        (Some(ConfigType::TypedConfig(base)), Some(ConfigType::TypedConfig(patch))) => {
            Some(ConfigType::TypedConfig(merge::any(base, patch, written, json)?))
        }
        _ => return Err("MERGE needs typed_config on both sides".to_owned()),
    };
    if !value.name.is_empty() {
        filter.name.clone_from(&value.name);
    }
    if merged.is_some() {
        filter.config_type = merged;
    }
    Ok(())
}

fn name_matches(wanted: &str, name: &str) -> bool {
    let same = |old: &str, new: &str| (wanted, name) == (old, new) || (wanted, name) == (new, old);
    wanted.is_empty() || wanted == name || OLD_NAMES.iter().any(|(old, new)| same(old, new))
}

fn listener_matches(wanted: &ListenerMatch, listener: &Listener) -> bool {
    (wanted.name.is_empty() || wanted.name == listener.name)
        && (wanted.port_number == 0 || Some(wanted.port_number) == port(listener))
}

fn port(listener: &Listener) -> Option<u32> {
    match listener.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            PortSpecifier::PortValue(port) => Some(*port),
            PortSpecifier::NamedPort(_) => None,
        },
        _ => None,
    }
}

fn chain_matches(wanted: &ChainMatch, chain: &FilterChain) -> bool {
    let empty = Default::default();
    let given = chain.filter_chain_match.as_ref().unwrap_or(&empty);
    let mut protocols = wanted
        .application_protocols
        .split(',')
        .filter(|protocol| !protocol.is_empty());
    (wanted.name.is_empty() || wanted.name == chain.name)
        && (wanted.sni.is_empty() || given.server_names.contains(&wanted.sni))
        && (wanted.transport_protocol.is_empty() || wanted.transport_protocol == given.transport_protocol)
        && (wanted.destination_port == 0
            || given.destination_port.map(|port| port.value) == Some(wanted.destination_port))
        && protocols.all(|protocol| given.application_protocols.iter().any(|p| p == protocol))
}
