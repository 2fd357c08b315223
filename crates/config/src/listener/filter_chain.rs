//! `FilterChain`: transport, filters and the one filter at their end that serves the connection.
//!
//! The type of a filter decides what it is. One that cannot be served makes its chain inert, as does one that would
//! keep clients out (RBAC, external authorization) and is not enforced here: the connection is refused, the other
//! chains live. One that only watches is noted and left out.

mod filters;
mod limits;

use std::sync::Arc;
use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3::TransportSocket;
use redplane_proto::pb::envoy::config::core::v3::transport_socket::ConfigType;
use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::type_url;

pub use filters::NetworkFilter;
pub use limits::{ConnectionLimit, ConnectionRate};

use super::chain_match::ChainMatch;
use crate::extension::Extension;
use crate::field::duration_or;
use crate::http::HttpConnectionManager;
use crate::redis_proxy::RedisProxy;
use crate::tcp_proxy::TcpProxy;
use crate::tls::{ServerTls, Usable};
use crate::{Ignored, Invalid};

/// One filter chain.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterChain {
    /// What a chain is known by across updates, unique within its listener: its conditions as text, whatever its name
    /// and its place in the list; `default` for `default_filter_chain`.
    pub id: Arc<str>,
    /// As configured; may be empty, and several chains may share it.
    pub name: String,
    /// When it is chosen.
    pub matches: ChainMatch,
    /// TLS towards the client; `None` is plain text.
    pub tls: Option<Arc<ServerTls>>,
    /// `transport_socket_connect_timeout`: how long the TLS handshake may take; zero is for ever.
    pub handshake_timeout: Duration,
    /// The filters in front of the terminal one, in order.
    pub filters: Vec<NetworkFilter>,
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
    /// http_connection_manager.
    Http(Arc<HttpConnectionManager>),
    /// Not served: connections are refused, the reason is shown in the admin pages.
    Inert {
        /// Why, naming the filter.
        reason: String,
    },
}

impl FilterChain {
    /// The filters that keep clients out, in order.
    pub fn guards(&self) -> impl Iterator<Item = &NetworkFilter> {
        self.filters.iter().filter(|filter| filter.is_guard())
    }

    /// Reads the message; `id` is the one of `default_filter_chain`, others are known by their conditions.
    pub(super) fn from_proto(
        message: &proto::FilterChain,
        id: Option<&str>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let empty = proto::FilterChainMatch::default();
        let matches = message.filter_chain_match.as_ref().unwrap_or(&empty);
        let timeout = message.transport_socket_connect_timeout.as_ref();
        let socket = message.transport_socket.as_ref();
        let (filters, terminal) = filters::read(&message.filters, ignored)?;
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
        let matches = ignored.scope("filter_chain_match", |ignored| {
            ChainMatch::from_proto(matches, ignored)
        })?;
        Ok(Self {
            id: id.map_or_else(|| matches.id().into(), Arc::from),
            name: message.name.clone(),
            matches,
            tls,
            handshake_timeout: duration_or(timeout, "transport_socket_connect_timeout", Duration::ZERO)?,
            filters,
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
