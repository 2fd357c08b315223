//! What becomes of `x-forwarded-client-cert`.

use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as proto;

use crate::field::enumeration;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// `forward_client_cert_details`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// Dropped.
    #[default]
    Sanitize,
    /// Kept over mTLS, else dropped.
    ForwardOnly,
    /// Kept and one element appended over mTLS, else dropped.
    AppendForward,
    /// Only the new element is left over mTLS, else dropped.
    SanitizeSet,
    /// Kept.
    AlwaysForwardOnly,
}

/// `set_current_client_cert_details`: which keys the new element has beside By and Hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCertFields {
    /// Subject.
    pub subject: bool,
    /// DNS SANs.
    pub dns: bool,
    /// URI SANs.
    pub uri: bool,
}

impl ForwardClientCert {
    /// Reads the enum.
    pub(super) fn from_proto(value: i32) -> Result<Self, Invalid> {
        use proto::ForwardClientCertDetails as Proto;
        Ok(match enumeration(value, "forward_client_cert_details")? {
            Proto::Sanitize => Self::Sanitize,
            Proto::ForwardOnly => Self::ForwardOnly,
            Proto::AppendForward => Self::AppendForward,
            Proto::SanitizeSet => Self::SanitizeSet,
            Proto::AlwaysForwardOnly => Self::AlwaysForwardOnly,
        })
    }
}

impl ClientCertFields {
    /// Reads the message.
    pub(super) fn from_proto(
        message: Option<&proto::SetCurrentClientCertDetails>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let Some(message) = message else {
            return Ok(Self::default());
        };
        ignored.scope("set_current_client_cert_details", |ignored| {
            ignore_fields!(ignored, message, issuer, format, cert, chain);
            Ok(Self {
                subject: message.subject.is_some_and(|flag| flag.value),
                dns: message.dns,
                uri: message.uri,
            })
        })
    }
}
