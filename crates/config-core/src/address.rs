//! Where something listens or can be reached: Envoy's `core.v3.Address`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use redplane_proto::pb::envoy::config::core::v3 as core;
use redplane_proto::pb::envoy::config::core::v3::address::Address as Kind;
use redplane_proto::pb::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};

use crate::field::{enumeration, non_empty, port};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Longest path of a Unix socket on Linux, without its final NUL.
const MAX_PIPE_PATH: usize = 107;

/// A bindable or dialable place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP literal and port. IPv4-mapped IPv6 is normalised to IPv4.
    Ip(SocketAddr),
    /// A DNS name and port, to be resolved by the cluster that owns it.
    Name {
        /// The name as written, without a trailing dot.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket path; relative paths stay relative to the working directory, `@name` is abstract.
    Pipe(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Pipe(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    /// Reads the message. `None` is an address inside Envoy (`envoy_internal_address`), which nothing can dial here.
    pub fn from_proto(message: &core::Address, ignored: &mut Ignored) -> Result<Option<Self>, Invalid> {
        match message.address.as_ref() {
            None => Err(Invalid::new("address", "value is required")),
            Some(Kind::EnvoyInternalAddress(_)) => Ok(None),
            Some(Kind::SocketAddress(socket)) => ignored
                .scope("socket_address", |ignored| Self::socket(socket, ignored))
                .map(Some),
            Some(Kind::Pipe(pipe)) => ignored
                .scope("pipe", |ignored| Self::pipe(pipe, ignored))
                .map(Some),
        }
    }

    /// Reads a TCP address.
    pub fn socket(message: &core::SocketAddress, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, ipv4_compat, network_namespace_filepath);
        if enumeration::<Protocol>(message.protocol, "protocol")? == Protocol::Udp {
            return Err(Invalid::new("protocol", "UDP is not served"));
        }
        if !message.resolver_name.is_empty() {
            return Err(Invalid::new(
                "resolver_name",
                format!("Unknown address resolver: {}", message.resolver_name),
            ));
        }
        let host = non_empty(&message.address, "address")?;
        let port = match message.port_specifier.as_ref() {
            None => return Err(Invalid::new("port_specifier", "value is required")),
            Some(PortSpecifier::NamedPort(_)) => {
                return Err(Invalid::new("named_port", "named ports are not supported"));
            }
            Some(&PortSpecifier::PortValue(value)) => port(value, "port_value")?,
        };
        Ok(match host.parse::<IpAddr>() {
            Ok(ip) => Self::Ip(SocketAddr::new(ip.to_canonical(), port)),
            Err(_) => Self::Name {
                host: host.strip_suffix('.').unwrap_or(&host).to_owned(),
                port,
            },
        })
    }

    fn pipe(message: &core::Pipe, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, mode);
        let path = non_empty(&message.path, "path")?;
        if path.len() > MAX_PIPE_PATH {
            let reason = format!("exceeds maximum UNIX domain socket path size of {MAX_PIPE_PATH}");
            return Err(Invalid::new("path", reason));
        }
        Ok(Self::Pipe(path.into()))
    }

    /// The address if nothing has to be resolved for it.
    pub fn literal(self) -> Result<Self, Invalid> {
        match self {
            Self::Name { host, .. } => Err(Invalid::new(
                "socket_address.address",
                format!(
                    "malformed IP address: {host}. Consider setting resolver_name or setting cluster type to \
                     'STRICT_DNS' or 'LOGICAL_DNS'"
                ),
            )),
            other => Ok(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(host: &str, port: Option<PortSpecifier>) -> Result<Address, Invalid> {
        let socket = core::SocketAddress {
            address: host.to_owned(),
            port_specifier: port,
            ..Default::default()
        };
        let message = core::Address {
            address: Some(Kind::SocketAddress(socket)),
        };
        Address::from_proto(&message, &mut Ignored::default()).map(Option::unwrap)
    }

    fn at(host: &str, port: u32) -> Result<Address, Invalid> {
        read(host, Some(PortSpecifier::PortValue(port)))
    }

    #[test]
    fn literals_and_names() {
        assert_eq!(at("127.0.0.1", 80).unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(at("::ffff:10.0.0.1", 80).unwrap().to_string(), "10.0.0.1:80");
        assert_eq!(at("fd00::1", 6379).unwrap().to_string(), "[fd00::1]:6379");
        assert_eq!(
            at("redis.ns.svc.", 6379).unwrap().to_string(),
            "redis.ns.svc:6379"
        );
        assert!(
            at("redis.ns.svc", 1)
                .unwrap()
                .literal()
                .unwrap_err()
                .reason
                .starts_with("malformed IP address")
        );
    }

    #[test]
    fn refusals_name_the_field() {
        let path = |result: Result<Address, Invalid>| result.unwrap_err().path;
        assert_eq!(path(at("", 80)), "socket_address.address");
        assert_eq!(path(at("h", 65536)), "socket_address.port_value");
        assert_eq!(path(read("h", None)), "socket_address.port_specifier");
        assert_eq!(
            path(read("h", Some(PortSpecifier::NamedPort("x".into())))),
            "socket_address.named_port"
        );
    }

    #[test]
    fn pipes_and_inner_addresses() {
        let pipe = |path: String| {
            let message = core::Address {
                address: Some(Kind::Pipe(core::Pipe { path, mode: 0 })),
            };
            Address::from_proto(&message, &mut Ignored::default())
        };
        assert_eq!(
            pipe("./x/XDS".into()).unwrap(),
            Some(Address::Pipe("./x/XDS".into()))
        );
        assert_eq!(pipe("x".repeat(108)).unwrap_err().path, "pipe.path");
        let inner = core::Address {
            address: Some(Kind::EnvoyInternalAddress(core::EnvoyInternalAddress::default())),
        };
        assert_eq!(
            Address::from_proto(&inner, &mut Ignored::default()).unwrap(),
            None
        );
        let none = Address::from_proto(&core::Address::default(), &mut Ignored::default()).unwrap_err();
        assert_eq!(none.to_string(), "address: value is required");
    }
}
