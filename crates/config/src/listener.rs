//! Listeners and their filter chains: `envoy.config.listener.v3.Listener`.

mod chain_match;
mod filter_chain;
mod listener_filter;
mod predicate;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3 as core;
use redplane_proto::pb::envoy::config::core::v3::TrafficDirection;
use redplane_proto::pb::envoy::config::core::v3::address::Address as AddressKind;
use redplane_proto::pb::envoy::config::core::v3::socket_address::Protocol;
use redplane_proto::pb::envoy::config::listener::v3 as proto;

pub use crate::access_log::{AccessLog, LogFormat};
pub use chain_match::{ChainMatch, SourceType};
pub use filter_chain::{ConnectionLimit, ConnectionRate, FilterChain, NetworkFilter, Terminal};
pub use listener_filter::{ListenerFilter, ListenerFilterKind, ProxyProtocol, TlsInspector};
pub use predicate::Predicate;

use crate::field::{duration_or, enumeration, required};
use crate::invalid::ignore_fields;
use crate::{Address, Ignored, Invalid};

/// One validated listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique name; Envoy makes one up where the message has none.
    pub name: String,
    /// First the `address`, then the `additional_addresses`.
    pub addresses: Vec<Address>,
    /// False: the listener never opens a socket (`bind_to_port`, `deprecated_v1.bind_to_port`).
    pub bind_to_port: bool,
    /// `use_original_dst`: a connection goes to the listener of its original destination, if there is one. The
    /// original_dst listener filter alone never does this.
    pub hands_off: bool,
    /// INBOUND, OUTBOUND or neither; chooses what `/drain_listeners?inboundonly` drains.
    pub direction: Direction,
    /// Chains in configuration order; matched by Envoy's precedence.
    pub chains: Vec<Arc<FilterChain>>,
    /// `default_filter_chain`.
    pub default_chain: Option<Arc<FilterChain>>,
    /// The listener filters, in the order in which they look.
    pub filters: Vec<ListenerFilter>,
    /// How long listener filters may wait; zero is for ever. Default 15 s.
    pub listener_filters_timeout: Duration,
    /// What happens after that time: go on, or close.
    pub continue_on_listener_filters_timeout: bool,
    /// `SO_REUSEPORT` per worker (`enable_reuse_port`, default true).
    pub reuse_port: bool,
    /// `transparent`: takes what a TPROXY rule leads here; the local address is the original destination then.
    pub transparent: bool,
    /// `tcp_backlog_size`, if set.
    pub backlog: Option<u32>,
    /// `stat_prefix`, else the address with `:` replaced: stats go under `listener.<stat_name>.`.
    pub stat_name: String,
    /// Written once for each connection, at close.
    pub access_log: Vec<AccessLog>,
    /// Accepted but without effect.
    pub ignored: Ignored,
}

/// `traffic_direction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Neither.
    #[default]
    Unspecified,
    /// Towards the application.
    Inbound,
    /// From the application.
    Outbound,
}

impl Listener {
    /// The chains that are not served, with the reason.
    pub fn inert_chains(&self) -> impl Iterator<Item = (&FilterChain, &str)> {
        let chains = self.chains.iter().chain(&self.default_chain);
        chains.filter_map(|chain| match &chain.terminal {
            Terminal::Inert { reason } => Some((&**chain, reason.as_str())),
            _ => None,
        })
    }

    /// Reads the resource.
    pub fn from_proto(message: &proto::Listener) -> Result<Self, Invalid> {
        let mut ignored = Ignored::default();
        note_ignored(message, &mut ignored);
        let addresses = addresses(message, &mut ignored)?;
        let stat_name = match addresses.first() {
            _ if !message.stat_prefix.is_empty() => message.stat_prefix.clone(),
            Some(address) => address.to_string().replace(':', "_"),
            None => message.name.clone(),
        };
        let name = if message.name.is_empty() {
            stat_name.clone()
        } else {
            message.name.clone()
        };
        let timeout = message.listener_filters_timeout.as_ref();
        let (chains, default_chain) = chains(message, &mut ignored)?;
        Ok(Self {
            name,
            bind_to_port: binds(message) && !addresses.is_empty(),
            hands_off: message.use_original_dst.is_some_and(|flag| flag.value),
            direction: match enumeration(message.traffic_direction, "traffic_direction")? {
                TrafficDirection::Unspecified => Direction::Unspecified,
                TrafficDirection::Inbound => Direction::Inbound,
                TrafficDirection::Outbound => Direction::Outbound,
            },
            chains,
            default_chain,
            filters: ListenerFilter::list(message, &mut ignored)?,
            listener_filters_timeout: duration_or(
                timeout,
                "listener_filters_timeout",
                Duration::from_secs(15),
            )?,
            continue_on_listener_filters_timeout: message.continue_on_listener_filters_timeout,
            reuse_port: message.enable_reuse_port.is_none_or(|flag| flag.value),
            transparent: message.transparent.is_some_and(|flag| flag.value),
            backlog: message.tcp_backlog_size.as_ref().map(|size| size.value),
            stat_name,
            access_log: AccessLog::list(&message.access_log, &mut ignored)?,
            addresses,
            ignored,
        })
    }
}

fn note_ignored(message: &proto::Listener, ignored: &mut Ignored) {
    ignore_fields!(
        ignored,
        message,
        stats_matcher,
        fcds_config,
        per_connection_buffer_limit_bytes,
        drain_type
    );
    ignore_fields!(
        ignored,
        message,
        per_connection_buffer_high_watermark_timeout,
        freebind,
        socket_options
    );
    ignore_fields!(
        ignored,
        message,
        tcp_fast_open_queue_length,
        udp_listener_config,
        api_listener
    );
    ignore_fields!(
        ignored,
        message,
        connection_balance_config,
        max_connections_to_accept_per_socket_event
    );
    ignore_fields!(
        ignored,
        message,
        enable_mptcp,
        ignore_global_conn_limit,
        bypass_overload_manager,
        tcp_keepalive
    );
    ignore_fields!(ignored, message, listener_specifier);
}

/// Either of the two fields that say so keeps the listener from opening a socket.
fn binds(message: &proto::Listener) -> bool {
    let old = message
        .deprecated_v1
        .as_ref()
        .and_then(|old| old.bind_to_port.as_ref());
    [old, message.bind_to_port.as_ref()]
        .into_iter()
        .flatten()
        .all(|flag| flag.value)
}

/// The addresses, the main one first. Listeners inside Envoy and UDP listeners have none.
fn addresses(message: &proto::Listener, ignored: &mut Ignored) -> Result<Vec<Address>, Invalid> {
    if message.listener_specifier.is_some() || message.api_listener.is_some() {
        return Ok(Vec::new());
    }
    let main = required(message.address.as_ref(), "address")?;
    if is_udp(main) {
        ignored.note("address.socket_address.protocol: UDP is not served, no socket is opened");
        return Ok(Vec::new());
    }
    let main = ignored.scope("address", |ignored| bindable(main, ignored))?;
    let additional = ignored.each(
        "additional_addresses",
        &message.additional_addresses,
        |additional, ignored| {
            ignore_fields!(ignored, additional, socket_options, tcp_keepalive);
            let address = required(additional.address.as_ref(), "address")?;
            ignored.scope("address", |ignored| bindable(address, ignored))
        },
    )?;
    Ok(std::iter::once(main).chain(additional).flatten().collect())
}

fn is_udp(message: &core::Address) -> bool {
    matches!(&message.address, Some(AddressKind::SocketAddress(socket)) if socket.protocol == Protocol::Udp as i32)
}

fn bindable(message: &core::Address, ignored: &mut Ignored) -> Result<Option<Address>, Invalid> {
    match Address::from_proto(message, ignored)? {
        Some(Address::Name { host, .. }) => Err(Invalid::new(
            "socket_address.address",
            format!("malformed IP address: {host}"),
        )),
        address => Ok(address),
    }
}

type Chains = (Vec<Arc<FilterChain>>, Option<Arc<FilterChain>>);

fn chains(message: &proto::Listener, ignored: &mut Ignored) -> Result<Chains, Invalid> {
    let mut chains = ignored.each("filter_chains", &message.filter_chains, |chain, ignored| {
        FilterChain::from_proto(chain, None, ignored)
    })?;
    let default = message.default_filter_chain.as_ref();
    let mut default = match default {
        Some(chain) => Some(ignored.scope("default_filter_chain", |ignored| {
            FilterChain::from_proto(chain, Some("default"), ignored)
        })?),
        None => None,
    };
    if message.filter_chain_matcher.is_some() {
        // Chains are chosen by other rules than those that are served: none of them is safe to take.
        ignored.note("filter_chain_matcher: not supported, no chain is served");
        for chain in chains.iter_mut().chain(&mut default) {
            chain.terminal = Terminal::Inert {
                reason: "filter_chain_matcher is not supported".to_owned(),
            };
        }
        return Ok((chains.into_iter().map(Arc::new).collect(), default.map(Arc::new)));
    }
    refuse_twins(&chains)?;
    Ok((chains.into_iter().map(Arc::new).collect(), default.map(Arc::new)))
}

fn refuse_twins(chains: &[FilterChain]) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    for (i, chain) in chains.iter().enumerate() {
        if !seen.insert(&chain.id) {
            let reason = "multiple filter chains with the same matching rules are defined";
            return Err(Invalid::new(
                format!("filter_chains[{i}].filter_chain_match"),
                reason,
            ));
        }
    }
    Ok(())
}
