//! `FilterChain`: transport, filters and the one filter at their end that serves the connection.
//!
//! The type of a filter decides what it is. One that cannot be served makes its chain inert, as does one that would
//! keep clients out (RBAC, external authorization) and is not enforced here: the connection is refused, the other
//! chains live. One that only watches is noted and left out.

mod filters;

use std::sync::Arc;
use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3::TransportSocket;
use redplane_proto::pb::envoy::config::core::v3::transport_socket::ConfigType;
use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::type_url;

use super::chain_match::ChainMatch;
use crate::extension::Extension;
use crate::field::duration_or;
use crate::redis_proxy::RedisProxy;
use crate::tcp_proxy::TcpProxy;
use crate::tls::{ServerTls, Usable};
use crate::{Ignored, Invalid};

/// One filter chain.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterChain {
    /// Unique within its listener: the configured name, else `#<index>`; the default chain is `#default`.
    pub name: String,
    /// When it is chosen.
    pub matches: ChainMatch,
    /// TLS towards the client; `None` is plain text.
    pub tls: Option<Arc<ServerTls>>,
    /// `transport_socket_connect_timeout`: how long the TLS handshake may take; zero is for ever.
    pub handshake_timeout: Duration,
    /// What serves the connection.
    pub terminal: Terminal,
}

/// The terminal filter of a chain.
#[derive(Clone, Debug, PartialEq)]
pub enum Terminal {
    /// redis_proxy.
    Redis(Arc<RedisProxy>),
    /// tcp_proxy.
    Tcp(Arc<TcpProxy>),
    /// Not served: connections are refused, the reason is shown in the admin pages.
    Inert {
        /// Why, naming the filter.
        reason: String,
    },
}

impl FilterChain {
    /// Reads the message under the name it has in its listener.
    pub(super) fn from_proto(
        message: &proto::FilterChain,
        name: String,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let empty = proto::FilterChainMatch::default();
        let matches = message.filter_chain_match.as_ref().unwrap_or(&empty);
        let timeout = message.transport_socket_connect_timeout.as_ref();
        let socket = message.transport_socket.as_ref();
        let terminal = filters::read(&message.filters, ignored)?;
        let transport = ignored.scope("transport_socket", |ignored| transport(socket, ignored))?;
        let (tls, terminal) = match transport {
            Usable::Ready(tls) => (tls, terminal),
            Usable::Inert(reason) => (
                None,
                Terminal::Inert {
                    reason: format!("transport_socket: {reason}"),
                },
            ),
        };
        Ok(Self {
            name,
            matches: ignored.scope("filter_chain_match", |ignored| {
                ChainMatch::from_proto(matches, ignored)
            })?,
            tls,
            handshake_timeout: duration_or(timeout, "transport_socket_connect_timeout", Duration::ZERO)?,
            terminal,
        })
    }
}

/// TLS towards the client, or none.
fn transport(
    message: Option<&TransportSocket>,
    ignored: &mut Ignored,
) -> Result<Usable<Option<Arc<ServerTls>>>, Invalid> {
    let Some(message) = message else {
        return Ok(Usable::Ready(None));
    };
    let any = message
        .config_type
        .as_ref()
        .map(|ConfigType::TypedConfig(any)| any);
    let extension = Extension::new(&message.name, any);
    match (extension.type_url.as_str(), extension.name) {
        (type_url::RAW_BUFFER, _) | ("", "envoy.transport_sockets.raw_buffer" | "raw_buffer") => {
            Ok(Usable::Ready(None))
        }
        (type_url::DOWNSTREAM_TLS, _) | ("", "envoy.transport_sockets.tls" | "tls") => {
            let tls = ignored.scope("typed_config", |ignored| {
                ServerTls::from_proto(&extension.decode(ignored)?, ignored)
            })?;
            Ok(tls.map(|tls| Some(Arc::new(tls))))
        }
        _ => Ok(Usable::Inert(format!("`{}` is not supported", extension.label()))),
    }
}
