//! Plain text or TLS towards a cluster's hosts: `transport_socket` and `transport_socket_matches`.

use std::sync::Arc;

use redplane_proto::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use redplane_proto::pb::envoy::config::core::v3::TransportSocket;
use redplane_proto::pb::envoy::config::core::v3::transport_socket::ConfigType;
use redplane_proto::type_url;

use crate::extension::Extension;
use crate::field::{non_empty, required};
use crate::metadata::pairs;
use crate::tls::{ClientTls, Usable};
use crate::{Ignored, Invalid};

/// Plain text or TLS towards hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain text.
    RawBuffer,
    /// TLS.
    Tls(Arc<ClientTls>),
    /// Cannot be used; connections fail with this reason, which the admin pages show.
    Inert(String),
}

/// One `TransportSocketMatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportMatch {
    /// Its name.
    pub name: String,
    /// Pairs that must all stand in the endpoint's metadata; none matches every endpoint.
    pub pairs: Vec<(String, String)>,
    /// What is used then.
    pub transport: Transport,
}

impl Transport {
    /// The same, with the name that is asked for matched against the certificate, if `match_sni` says so.
    pub(super) fn matching(self, match_sni: bool) -> Self {
        match self {
            Self::Tls(tls) if match_sni && !tls.auto_sni_san_validation => {
                let mut tls = ClientTls::clone(&tls);
                tls.auto_sni_san_validation = true;
                Self::Tls(Arc::new(tls))
            }
            other => other,
        }
    }

    /// Reads the message; a kind that is not known cannot be used.
    pub(crate) fn from_proto(
        message: Option<&TransportSocket>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let Some(message) = message else {
            return Ok(Self::RawBuffer);
        };
        let any = message
            .config_type
            .as_ref()
            .map(|ConfigType::TypedConfig(any)| any);
        let extension = Extension::new(&message.name, any);
        match (extension.type_url.as_str(), extension.name) {
            (type_url::RAW_BUFFER, _) | ("", "envoy.transport_sockets.raw_buffer" | "raw_buffer") => {
                Ok(Self::RawBuffer)
            }
            (type_url::UPSTREAM_TLS, _) | ("", "envoy.transport_sockets.tls" | "tls") => {
                let tls = ignored.scope("typed_config", |ignored| {
                    ClientTls::from_proto(&extension.decode(ignored)?, ignored)
                })?;
                Ok(match tls {
                    Usable::Ready(tls) => Self::Tls(Arc::new(tls)),
                    Usable::Inert(reason) => Self::Inert(reason),
                })
            }
            _ => Ok(Self::Inert(format!(
                "transport socket `{}` is not supported",
                extension.label()
            ))),
        }
    }
}

impl TransportMatch {
    /// Reads the message.
    pub(super) fn from_proto(message: &TransportSocketMatch, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let socket = required(message.transport_socket.as_ref(), "transport_socket")?;
        Ok(Self {
            name: non_empty(&message.name, "name")?,
            pairs: message.r#match.as_ref().map(pairs).unwrap_or_default(),
            transport: ignored.scope("transport_socket", |ignored| {
                Transport::from_proto(Some(socket), ignored)
            })?,
        })
    }
}
