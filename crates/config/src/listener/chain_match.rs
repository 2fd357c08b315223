//! `FilterChainMatch`: when a chain is chosen.

use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;

use crate::Cidr;
use crate::field::enumeration;
use crate::{Ignored, Invalid};

/// `FilterChainMatch`. Empty lists match everything; a connection takes the most specific chain, in Envoy's order:
/// destination port, destination IP, server name, transport protocol, application protocol, source type, source
/// IP, source port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChainMatch {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges`.
    pub prefix_ranges: Vec<Cidr>,
    /// `server_names`, lower case; `*.example.com` matches by suffix.
    pub server_names: Vec<String>,
    /// `transport_protocol`: `tls`, `raw_buffer` or empty.
    pub transport_protocol: String,
    /// `application_protocols` as offered by the client.
    pub application_protocols: Vec<String>,
    /// `source_type`.
    pub source_type: SourceType,
    /// `source_prefix_ranges`.
    pub source_prefix_ranges: Vec<Cidr>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
}

/// `ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// Any source.
    #[default]
    Any,
    /// The same host.
    SameIpOrLoopback,
    /// Another host.
    External,
}

impl ChainMatch {
    /// The conditions as one text that depends on neither place nor order: `any` where there are none. Two chains of a
    /// listener never have the same.
    pub(super) fn id(&self) -> String {
        let mut parts = Vec::new();
        let port = self.destination_port.map(|port| port.to_string());
        let kind = match self.source_type {
            SourceType::Any => None,
            SourceType::SameIpOrLoopback => Some("same_ip_or_loopback".to_owned()),
            SourceType::External => Some("external".to_owned()),
        };
        let transport = Some(self.transport_protocol.clone()).filter(|protocol| !protocol.is_empty());
        for (name, values) in [
            ("destination_port", port.into_iter().collect()),
            ("prefix_ranges", texts(&self.prefix_ranges)),
            ("server_names", self.server_names.clone()),
            ("transport_protocol", transport.into_iter().collect()),
            ("application_protocols", self.application_protocols.clone()),
            ("source_type", kind.into_iter().collect()),
            ("source_prefix_ranges", texts(&self.source_prefix_ranges)),
            ("source_ports", texts(&self.source_ports)),
        ] {
            let mut values: Vec<String> = values;
            values.sort_unstable();
            values.dedup();
            if !values.is_empty() {
                parts.push(format!("{name}={}", values.join(",")));
            }
        }
        if parts.is_empty() {
            return "any".to_owned();
        }
        parts.join(" ")
    }

    /// Reads the message. A condition that is not served is refused: without it the chain would take connections
    /// that are meant for another.
    pub(super) fn from_proto(
        message: &proto::FilterChainMatch,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let unimplemented = |field| Invalid::new(field, "contains unimplemented fields");
        if !message.address_suffix.is_empty() {
            return Err(unimplemented("address_suffix"));
        }
        if message.suffix_len.is_some() {
            return Err(unimplemented("suffix_len"));
        }
        if !message.direct_source_prefix_ranges.is_empty() {
            return Err(Invalid::new("direct_source_prefix_ranges", "is not supported"));
        }
        let destination_port = message.destination_port.as_ref().map(|port| port.value);
        let port_at = |(i, value): (usize, &u32)| port(*value, &format!("source_ports[{i}]"));
        Ok(Self {
            destination_port: destination_port
                .map(|value| port(value, "destination_port"))
                .transpose()?,
            prefix_ranges: ignored.each("prefix_ranges", &message.prefix_ranges, |range, _| {
                Cidr::from_proto(range)
            })?,
            server_names: ignored.each("server_names", &message.server_names, |name, _| server_name(name))?,
            transport_protocol: message.transport_protocol.clone(),
            application_protocols: message.application_protocols.clone(),
            source_type: match enumeration(message.source_type, "source_type")? {
                ConnectionSourceType::Any => SourceType::Any,
                ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
                ConnectionSourceType::External => SourceType::External,
            },
            source_prefix_ranges: ignored.each(
                "source_prefix_ranges",
                &message.source_prefix_ranges,
                |range, _| Cidr::from_proto(range),
            )?,
            source_ports: message
                .source_ports
                .iter()
                .enumerate()
                .map(port_at)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

fn port(value: u32, path: &str) -> Result<u16, Invalid> {
    match u16::try_from(value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Invalid::new(path, "value must be inside range [1, 65535]")),
    }
}

fn server_name(name: &str) -> Result<String, Invalid> {
    if name.strip_prefix("*.").unwrap_or(name).contains('*') {
        let reason = format!("partial wildcards are not supported in \"server_names\": {name}");
        return Err(Invalid::new("", reason));
    }
    Ok(name.to_lowercase())
}
