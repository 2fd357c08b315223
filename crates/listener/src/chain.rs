//! Which filter chain a connection takes: `FilterChainMatch` by Envoy's fixed precedence.
//!
//! One condition after the other narrows the chains down to those that name the most specific value that fits; there
//! is no way back, so a chain that fits better in a later condition cannot win once an earlier one has ruled it out.
//!
//! Envoy: `FilterChainManagerImpl::findFilterChain`.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use redplane_config::Cidr;
use redplane_config::listener::{ChainMatch, Listener, SourceType};
use redplane_world::{Chain, ConnectionFacts, Listener as Prepared};

/// The chain that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Index in `chains`.
    Chain(usize),
    /// `default_filter_chain`.
    Default,
    /// None fits: the connection is closed.
    None,
}

/// The chain of a listener for a connection.
pub(crate) fn chain_of<'a>(listener: &'a Prepared, facts: &ConnectionFacts) -> Option<&'a Arc<Chain>> {
    match choose(&listener.config, facts) {
        Choice::Chain(index) => listener.chains.get(index),
        Choice::Default => listener.default.as_ref(),
        Choice::None => None,
    }
}

/// Chooses the chain of a listener for a connection.
pub fn choose(listener: &Listener, facts: &ConnectionFacts) -> Choice {
    let all = listener.chains.iter().map(|chain| &chain.matches).enumerate();
    match narrow(all.collect(), facts) {
        Some(index) => Choice::Chain(index),
        None if listener.default_chain.is_some() => Choice::Default,
        None => Choice::None,
    }
}

type Candidates<'a> = Vec<(usize, &'a ChainMatch)>;

fn narrow(mut chains: Candidates<'_>, facts: &ConnectionFacts) -> Option<usize> {
    by_destination_port(&mut chains, facts.destination.map(|at| at.port()));
    by_prefix(&mut chains, facts.destination.map(|at| at.ip()), |chain| {
        &chain.prefix_ranges
    });
    by_server_name(&mut chains, facts.server_name.as_deref().unwrap_or_default());
    by_transport(&mut chains, if facts.is_tls { "tls" } else { "raw_buffer" });
    by_application_protocol(&mut chains, &facts.application_protocols);
    by_source_type(&mut chains, facts);
    by_prefix(&mut chains, facts.source.map(|at| at.ip()), |chain| {
        &chain.source_prefix_ranges
    });
    by_source_port(&mut chains, facts.source.map(|at| at.port()));
    chains.first().map(|(index, _)| *index)
}

/// Keeps the chains that name the value, or else those that name none.
fn prefer(
    chains: &mut Candidates<'_>,
    names: impl Fn(&ChainMatch) -> bool,
    open: impl Fn(&ChainMatch) -> bool,
) {
    if chains.iter().any(|(_, chain)| names(chain)) {
        chains.retain(|(_, chain)| names(chain));
    } else {
        chains.retain(|(_, chain)| open(chain));
    }
}

fn by_destination_port(chains: &mut Candidates<'_>, port: Option<u16>) {
    let named = |chain: &ChainMatch| port.is_some() && chain.destination_port == port;
    prefer(chains, named, |chain| chain.destination_port.is_none());
}

/// Keeps the chains with the longest range that holds the address; no range is the one of length nought.
fn by_prefix(chains: &mut Candidates<'_>, ip: Option<IpAddr>, ranges: impl Fn(&ChainMatch) -> &Vec<Cidr>) {
    let length = |chain: &ChainMatch| -> Option<u8> {
        let ranges = ranges(chain);
        if ranges.is_empty() {
            return Some(0);
        }
        let holding = ranges
            .iter()
            .filter(|range| ip.is_some_and(|ip| range.contains(ip)));
        holding.map(|range| range.prefix_len).max()
    };
    let longest = chains.iter().filter_map(|(_, chain)| length(chain)).max();
    chains.retain(|(_, chain)| longest.is_some() && length(chain) == longest);
}

fn by_server_name(chains: &mut Candidates<'_>, name: &str) {
    let name = name.to_ascii_lowercase();
    let lists = |chains: &Candidates<'_>, wanted: &dyn Fn(&str) -> bool| {
        let any = |(_, chain): &(usize, &ChainMatch)| chain.server_names.iter().any(|name| wanted(name));
        chains.iter().any(any)
    };
    let keep = |chains: &mut Candidates<'_>, wanted: &dyn Fn(&str) -> bool| {
        chains.retain(|(_, chain)| chain.server_names.iter().any(|name| wanted(name)));
    };
    let exact = |listed: &str| !name.is_empty() && listed == name;
    if lists(chains, &exact) {
        return keep(chains, &exact);
    }
    // `*.b.c` before `*.c`; the name itself has at least one label in place of the star.
    for (dot, _) in name.match_indices('.').filter(|(dot, _)| *dot > 0) {
        let suffix = &name[dot..];
        let wildcard = |listed: &str| suffix.len() > 1 && listed.strip_prefix('*') == Some(suffix);
        if lists(chains, &wildcard) {
            return keep(chains, &wildcard);
        }
    }
    chains.retain(|(_, chain)| chain.server_names.is_empty());
}

fn by_transport(chains: &mut Candidates<'_>, transport: &str) {
    prefer(
        chains,
        |chain| chain.transport_protocol == transport,
        |chain| chain.transport_protocol.is_empty(),
    );
}

/// The client's order decides, as for Envoy: its first protocol that any chain names.
fn by_application_protocol(chains: &mut Candidates<'_>, offered: &[Vec<u8>]) {
    let names = |chain: &ChainMatch, protocol: &[u8]| {
        chain
            .application_protocols
            .iter()
            .any(|name| name.as_bytes() == protocol)
    };
    let first = offered
        .iter()
        .find(|protocol| chains.iter().any(|(_, chain)| names(chain, protocol)));
    match first {
        Some(protocol) => chains.retain(|(_, chain)| names(chain, protocol)),
        None => chains.retain(|(_, chain)| chain.application_protocols.is_empty()),
    }
}

fn by_source_type(chains: &mut Candidates<'_>, facts: &ConnectionFacts) {
    let kind = if is_same_ip_or_loopback(facts) {
        SourceType::SameIpOrLoopback
    } else {
        SourceType::External
    };
    prefer(
        chains,
        |chain| chain.source_type == kind,
        |chain| chain.source_type == SourceType::Any,
    );
}

/// A Unix socket is always on this machine.
fn is_same_ip_or_loopback(facts: &ConnectionFacts) -> bool {
    let Some(source) = facts.source else {
        return true;
    };
    source.ip().is_loopback() || facts.destination.is_some_and(|at| at.ip() == source.ip())
}

fn by_source_port(chains: &mut Candidates<'_>, port: Option<u16>) {
    let named = |chain: &ChainMatch| port.is_some_and(|port| chain.source_ports.contains(&port));
    prefer(chains, named, |chain| chain.source_ports.is_empty());
}
