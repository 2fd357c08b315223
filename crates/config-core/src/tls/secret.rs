//! Secrets: here in the message, or named with the source that they come from (`SdsSecretConfig`), and the resource that
//! comes from there (`Secret`).

use std::sync::Arc;

use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3 as proto;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::{Certificate, Usable, Validation};
use crate::config_source::{ConfigSource, Source};
use crate::field::non_empty;
use crate::{Ignored, Invalid};

/// Names of this form are Kubernetes secrets, which only a control plane hands out, and only on its own stream.
const KUBERNETES: [&str; 2] = ["kubernetes://", "kubernetes-gateway://"];

/// Something secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret<T> {
    /// It stands in the message.
    Here(T),
    /// It comes from elsewhere, now and whenever it changes.
    Named(SecretName),
}

/// `SdsSecretConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretName {
    /// Its name at the source.
    pub name: String,
    /// `sds_config`; `None` means `static_resources.secrets` of the bootstrap.
    pub source: Option<ConfigSource>,
}

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretKind {
    /// A chain with its key.
    Certificate,
    /// How a peer is checked.
    Validation,
}

/// How a peer is checked: the message's own context, and what comes by SDS merged over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// `validation_context`, or `default_validation_context`; empty without either.
    pub own: Arc<Validation>,
    /// `validation_context_sds_secret_config`.
    pub secret: Option<SecretName>,
}

/// `Secret`: one resource of SDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSecret {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub value: SecretValue,
}

/// The content of a [`NamedSecret`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretValue {
    /// `tls_certificate`
    Certificate(Arc<Certificate>),
    /// `validation_context`
    Validation(Arc<Validation>),
}

impl SecretName {
    /// Reads the message.
    pub fn from_proto(message: &proto::SdsSecretConfig, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let source = match message.sds_config.as_ref() {
            Some(source) => {
                Some(ignored.scope("sds_config", |ignored| ConfigSource::from_proto(source, ignored))?)
            }
            None => None,
        };
        Ok(Self {
            name: non_empty(&message.name, "name")?,
            source,
        })
    }

    /// Why it can never come, if so.
    pub fn unobtainable(&self) -> Option<String> {
        let over_ads = self
            .source
            .as_ref()
            .is_some_and(|source| source.source == Source::Ads);
        let kubernetes = KUBERNETES.iter().any(|scheme| self.name.starts_with(scheme));
        (kubernetes && !over_ads).then(|| {
            let name = &self.name;
            format!("secret `{name}` is a Kubernetes secret, which comes over ads only")
        })
    }
}

impl SecretValue {
    /// What it is for.
    pub fn kind(&self) -> SecretKind {
        match self {
            Self::Certificate(_) => SecretKind::Certificate,
            Self::Validation(_) => SecretKind::Validation,
        }
    }
}

impl NamedSecret {
    /// Reads the resource. What would check a peer and is not served is refused: a secret cannot be inert.
    pub fn from_proto(message: &proto::Secret, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let refuse = |field, reason| Err(Invalid::new(field, reason));
        let value = match message.r#type.as_ref() {
            Some(Type::TlsCertificate(certificate)) => ignored.scope("tls_certificate", |ignored| {
                Certificate::from_proto(certificate, ignored)
                    .map(|certificate| SecretValue::Certificate(Arc::new(certificate)))
            })?,
            Some(Type::ValidationContext(context)) => ignored.scope("validation_context", |ignored| {
                match Validation::from_proto(context, ignored)? {
                    Usable::Ready(validation) => Ok(SecretValue::Validation(validation)),
                    Usable::Inert(reason) => Err(Invalid::new("", reason)),
                }
            })?,
            Some(Type::SessionTicketKeys(_)) => {
                return refuse("session_ticket_keys", "session tickets have keys of our own");
            }
            Some(Type::GenericSecret(_)) => return refuse("generic_secret", "nothing here asks for one"),
            None => return refuse("type", "value is required"),
        };
        Ok(Self {
            name: message.name.clone(),
            value,
        })
    }
}

impl Trust {
    /// Whether it has rules that the other has not, as far as they stand in the message. Roots are no rules.
    #[must_use]
    pub fn is_stricter_than(&self, other: &Self) -> bool {
        self.own.is_stricter_than(&other.own)
    }
}

impl From<Arc<Validation>> for Trust {
    fn from(own: Arc<Validation>) -> Self {
        Self { own, secret: None }
    }
}

/// The named ones among the secrets of a context.
pub(super) fn named<'a, T>(
    certificates: &'a [Secret<T>],
    validation: Option<&'a Trust>,
) -> impl Iterator<Item = (SecretKind, &'a SecretName)> {
    let certificates = certificates.iter().filter_map(|certificate| match certificate {
        Secret::Named(name) => Some((SecretKind::Certificate, name)),
        Secret::Here(_) => None,
    });
    let trust = validation.and_then(|trust| trust.secret.as_ref());
    certificates.chain(trust.map(|name| (SecretKind::Validation, name)))
}
