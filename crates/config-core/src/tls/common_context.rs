//! `CommonTlsContext`: what both directions of TLS share.

use std::sync::Arc;

use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3 as proto;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;

use super::secret::{Secret, SecretName, Trust};
use super::{Certificate, Usable, Validation};
use crate::field::{enumeration, required};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Spoken only by Istio's own Envoy: a client that agrees on it gets a preamble before the application's first byte.
const ISTIO_PEER_EXCHANGE: &str = "istio-peer-exchange";

/// Lowest and highest TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// TLS 1.2 may be used.
    pub tls12: bool,
    /// TLS 1.3 may be used.
    pub tls13: bool,
}

/// The shared part of both contexts.
pub(super) struct Common {
    pub certificates: Vec<Secret<Arc<Certificate>>>,
    pub validation: Option<Trust>,
    pub alpn: Vec<String>,
    pub versions: Versions,
}

impl Common {
    /// Reads the message. Everything that stands in it is checked, also where the context is inert in the end.
    pub(super) fn from_proto(
        message: Option<&proto::CommonTlsContext>,
        ignored: &mut Ignored,
    ) -> Result<Usable<Self>, Invalid> {
        let empty = proto::CommonTlsContext::default();
        let message = message.unwrap_or(&empty);
        ignore_fields!(ignored, message, key_log);
        refuse_extensions(message)?;
        let read = |certificate: &_, ignored: &mut Ignored| {
            Certificate::from_proto(certificate, ignored).map(|own| Secret::Here(Arc::new(own)))
        };
        let mut certificates = ignored.each("tls_certificates", &message.tls_certificates, read)?;
        let versions = Versions::from_proto(message.tls_params.as_ref(), ignored)?;
        let alpn = message
            .alpn_protocols
            .iter()
            .filter(|protocol| *protocol != ISTIO_PEER_EXCHANGE);
        let alpn = alpn.cloned().collect();
        let secrets = ignored.each(
            "tls_certificate_sds_secret_configs",
            &message.tls_certificate_sds_secret_configs,
            SecretName::from_proto,
        )?;
        let validation = match validation(message, ignored)? {
            Usable::Ready(validation) => validation,
            Usable::Inert(reason) => return Ok(Usable::Inert(reason)),
        };
        let validated = validation.iter().filter_map(|trust| trust.secret.as_ref());
        if let Some(reason) = secrets.iter().chain(validated).find_map(SecretName::unobtainable) {
            return Ok(Usable::Inert(reason));
        }
        certificates.extend(secrets.into_iter().map(Secret::Named));
        if message.tls_certificate_provider_instance.is_some() {
            return Ok(Usable::Inert(
                "certificate provider instances are not supported".to_owned(),
            ));
        }
        Ok(Usable::Ready(Self {
            certificates,
            validation,
            alpn,
            versions,
        }))
    }
}

fn refuse_extensions(message: &proto::CommonTlsContext) -> Result<(), Invalid> {
    if message.custom_handshaker.is_some() {
        return Err(Invalid::new(
            "custom_handshaker",
            "custom handshakers are not supported",
        ));
    }
    if message.custom_tls_certificate_selector.is_some() {
        return Err(Invalid::new(
            "custom_tls_certificate_selector",
            "certificate selectors are not supported",
        ));
    }
    Ok(())
}

fn validation(
    message: &proto::CommonTlsContext,
    ignored: &mut Ignored,
) -> Result<Usable<Option<Trust>>, Invalid> {
    match message.validation_context_type.as_ref() {
        None => Ok(Usable::Ready(None)),
        Some(ValidationContextType::ValidationContext(context)) => {
            ignored.scope("validation_context", |ignored| {
                let usable = Validation::from_proto(context, ignored)?;
                if let Usable::Ready(validation) = &usable {
                    validation.refuse_names_without_roots()?;
                }
                Ok(usable.map(|own| Some(Trust { own, secret: None })))
            })
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(sds)) => {
            let own = Arc::default();
            Ok(Usable::Ready(Some(trust(own, sds, ignored)?)))
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => ignored
            .scope("combined_validation_context", |ignored| {
                combined_trust(combined, ignored)
            }),
        Some(
            ValidationContextType::ValidationContextCertificateProvider(_)
            | ValidationContextType::ValidationContextCertificateProviderInstance(_),
        ) => Ok(Usable::Inert(
            "certificate providers are not supported".to_owned(),
        )),
    }
}

/// Names to check from the message, roots by SDS.
fn combined_trust(
    message: &proto::common_tls_context::CombinedCertificateValidationContext,
    ignored: &mut Ignored,
) -> Result<Usable<Option<Trust>>, Invalid> {
    let context = required(
        message.default_validation_context.as_ref(),
        "default_validation_context",
    )?;
    let own = ignored.scope("default_validation_context", |ignored| {
        Validation::from_proto(context, ignored)
    })?;
    let sds = message.validation_context_sds_secret_config.as_ref();
    let sds = required(sds, "validation_context_sds_secret_config")?;
    let trust = trust(Arc::default(), sds, ignored)?;
    Ok(own.map(|own| Some(Trust { own, ..trust })))
}

fn trust(
    own: Arc<Validation>,
    sds: &proto::SdsSecretConfig,
    ignored: &mut Ignored,
) -> Result<Trust, Invalid> {
    let secret = ignored.scope("validation_context_sds_secret_config", |ignored| {
        SecretName::from_proto(sds, ignored)
    })?;
    Ok(Trust {
        own,
        secret: Some(secret),
    })
}

impl Versions {
    fn from_proto(message: Option<&proto::TlsParameters>, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let Some(message) = message else {
            return Ok(Self {
                tls12: true,
                tls13: true,
            });
        };
        ignored.scope("tls_params", |ignored| Self::of(message, ignored))
    }

    fn of(message: &proto::TlsParameters, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(
            ignored,
            message,
            cipher_suites,
            ecdh_curves,
            signature_algorithms,
            compliance_policies
        );
        let lowest = match enumeration(
            message.tls_minimum_protocol_version,
            "tls_minimum_protocol_version",
        )? {
            old @ (TlsProtocol::TlSv10 | TlsProtocol::TlSv11) => {
                ignored.note(format!(
                    "tls_minimum_protocol_version: {} is raised to TLSv1_2",
                    old.as_str_name()
                ));
                TlsProtocol::TlSv12
            }
            TlsProtocol::TlsAuto => TlsProtocol::TlSv12,
            lowest => lowest,
        };
        let highest = match enumeration(
            message.tls_maximum_protocol_version,
            "tls_maximum_protocol_version",
        )? {
            TlsProtocol::TlsAuto => TlsProtocol::TlSv13,
            highest => highest,
        };
        if highest < lowest {
            let reason = format!("{} leaves no version that is supported", highest.as_str_name());
            return Err(Invalid::new("tls_maximum_protocol_version", reason));
        }
        Ok(Self {
            tls12: lowest == TlsProtocol::TlSv12,
            tls13: highest == TlsProtocol::TlSv13,
        })
    }
}
