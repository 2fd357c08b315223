//! TLS settings of chains and clusters: `envoy.extensions.transport_sockets.tls.v3`.
//!
//! The model holds certificates as PEM bytes that were read and parsed once; building rustls objects is the work
//! of the crates that open sockets. A secret that comes by SDS stands here by its name, with its source.

mod certificate;
mod common_context;
mod san;
mod secret;
#[cfg(test)]
mod tests;
mod validation;

use std::sync::Arc;

use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3 as proto;

pub use crate::matcher::StringMatcher;
pub use certificate::Certificate;
pub use common_context::Versions;
pub use san::dns_match;
pub use secret::{NamedSecret, Secret, SecretKind, SecretName, SecretValue, Trust};
pub use validation::{SanKind, SanMatcher, Validation};

use common_context::Common;

use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// What became of a TLS context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable<T> {
    /// Everything is at hand.
    Ready(T),
    /// Something is missing that would make it safe, for this reason: nothing may be sent or accepted under it.
    Inert(String),
}

impl<T> Usable<T> {
    /// The same about what the value becomes.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Usable<U> {
        match self {
            Self::Ready(value) => Usable::Ready(change(value)),
            Self::Inert(reason) => Usable::Inert(reason),
        }
    }
}

/// `DownstreamTlsContext`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Certificates to present, at least one.
    pub certificates: Vec<Secret<Arc<Certificate>>>,
    /// How clients are checked; `None` asks for no certificate.
    pub validation: Option<Trust>,
    /// A client without a certificate is refused.
    pub require_client_certificate: bool,
    /// Offered protocols in order of preference; `istio-peer-exchange` is never selected.
    pub alpn: Vec<String>,
    /// Lowest and highest version.
    pub versions: Versions,
}

/// `UpstreamTlsContext`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Certificates given when the server asks.
    pub certificates: Vec<Secret<Arc<Certificate>>>,
    /// How the server is checked; `None` accepts any certificate, as Envoy does without a validation context.
    pub validation: Option<Trust>,
    /// Server name sent; empty sends none (or the host name with `auto_host_sni`).
    pub sni: String,
    /// `auto_host_sni`: the endpoint's host name is the SNI.
    pub auto_host_sni: bool,
    /// `auto_sni_san_validation`: the certificate must match the SNI.
    pub auto_sni_san_validation: bool,
    /// Offered protocols; `istio-peer-exchange` is left out.
    pub alpn: Vec<String>,
    /// Lowest and highest version.
    pub versions: Versions,
}

impl ServerTls {
    /// Whether it keeps out clients that the other let in. Other certificates and other roots alone do not: they are
    /// exchanged under living connections.
    #[must_use]
    pub fn is_stricter_than(&self, other: &Self) -> bool {
        let asks_more = self.require_client_certificate && !other.require_client_certificate;
        let checks_more = match (&self.validation, &other.validation) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(own), Some(other)) => own.is_stricter_than(other),
        };
        asks_more || checks_more
    }

    /// The secrets that it needs by name.
    pub fn secrets(&self) -> impl Iterator<Item = (SecretKind, &SecretName)> {
        secret::named(&self.certificates, self.validation.as_ref())
    }

    /// Reads the message.
    pub fn from_proto(
        message: &proto::DownstreamTlsContext,
        ignored: &mut Ignored,
    ) -> Result<Usable<Self>, Invalid> {
        ignore_fields!(
            ignored,
            message,
            require_sni,
            disable_stateful_session_resumption,
            session_timeout
        );
        ignore_fields!(
            ignored,
            message,
            ocsp_staple_policy,
            full_scan_certs_on_sni_mismatch,
            prefer_client_ciphers
        );
        ignore_fields!(ignored, message, session_ticket_keys_type);
        let common = message.common_tls_context.as_ref();
        let common = ignored.scope("common_tls_context", |ignored| {
            Common::from_proto(common, ignored)
        })?;
        let Common {
            certificates,
            validation,
            alpn,
            versions,
        } = match common {
            Usable::Ready(common) => common,
            Usable::Inert(reason) => return Ok(Usable::Inert(reason)),
        };
        if certificates.is_empty() {
            let reason = "No TLS certificates found for server context";
            return Err(Invalid::new("common_tls_context.tls_certificates", reason));
        }
        let require_client_certificate = message
            .require_client_certificate
            .is_some_and(|required| required.value);
        Ok(Usable::Ready(Self {
            certificates,
            validation,
            require_client_certificate,
            alpn,
            versions,
        }))
    }
}

impl ClientTls {
    /// The secrets that it needs by name.
    pub fn secrets(&self) -> impl Iterator<Item = (SecretKind, &SecretName)> {
        secret::named(&self.certificates, self.validation.as_ref())
    }

    /// Reads the message.
    pub fn from_proto(
        message: &proto::UpstreamTlsContext,
        ignored: &mut Ignored,
    ) -> Result<Usable<Self>, Invalid> {
        ignore_fields!(
            ignored,
            message,
            allow_renegotiation,
            max_session_keys,
            enforce_rsa_key_usage
        );
        if message.sni.len() > 255 {
            return Err(Invalid::new("sni", "value length must be at most 255 bytes"));
        }
        let common = message.common_tls_context.as_ref();
        let common = ignored.scope("common_tls_context", |ignored| {
            Common::from_proto(common, ignored)
        })?;
        if let (true, Usable::Ready(common)) = (message.auto_sni_san_validation, &common) {
            refuse_names_without_trust(common.validation.as_ref())?;
        }
        Ok(common.map(
            |Common {
                 certificates,
                 validation,
                 alpn,
                 versions,
             }| Self {
                certificates,
                validation,
                sni: message.sni.clone(),
                auto_host_sni: message.auto_host_sni,
                auto_sni_san_validation: message.auto_sni_san_validation,
                alpn,
                versions,
            },
        ))
    }
}

/// Envoy: a name is worth nothing when nobody vouches for it. What comes by SDS is looked at when it is there.
fn refuse_names_without_trust(validation: Option<&Trust>) -> Result<(), Invalid> {
    let what = match validation {
        None => "a validation context",
        Some(trust) if trust.secret.is_none() && !trust.own.has_roots() => "configuring a trusted CA",
        Some(_) => return Ok(()),
    };
    let reason = format!("'auto_sni_san_validation' was configured without {what}");
    Err(Invalid::new("auto_sni_san_validation", reason))
}
