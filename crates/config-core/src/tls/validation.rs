//! `CertificateValidationContext`: how a peer is checked.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use data_encoding::HEXLOWER_PERMISSIVE;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3 as proto;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use rustls::RootCertStore;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

use super::certificate::certificates;
use super::{StringMatcher, Usable};
use crate::data_source;
use crate::field::{enumeration, required};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// `CertificateValidationContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validation {
    /// PEM roots; empty with `system_roots` false means that any chain is accepted.
    pub roots: Vec<u8>,
    /// Where the roots came from, for `/certs`.
    pub source: String,
    /// Use the machine's root store.
    pub system_roots: bool,
    /// PEM revocation lists, may be empty.
    pub crl: Vec<u8>,
    /// The peer must match one of them; empty matches all.
    pub sans: Vec<SanMatcher>,
    /// Hex or base64 SHA-256 of accepted leaf certificates; empty accepts all.
    pub certificate_hashes: Vec<[u8; 32]>,
    /// SHA-256 of accepted public keys; empty accepts all.
    pub spki_hashes: Vec<[u8; 32]>,
    /// `trust_chain_verification: ACCEPT_UNTRUSTED`.
    pub accept_untrusted: bool,
}

/// `SubjectAltNameMatcher`, and the old `match_subject_alt_names` (kind `Any`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SanMatcher {
    /// Which names are looked at.
    pub kind: SanKind,
    /// How a name is compared.
    pub text: StringMatcher,
}

/// `SanType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    /// Any kind (the untyped, deprecated list).
    Any,
    /// DNS names; an exact matcher honours wildcards in the certificate.
    Dns,
    /// URIs, SPIFFE identities among them.
    Uri,
    /// IP addresses.
    IpAddress,
    /// E-mail addresses.
    Email,
}

impl Validation {
    /// Whether it has rules that the other has not. Roots and revocation lists are no rules.
    #[must_use]
    pub fn is_stricter_than(&self, other: &Self) -> bool {
        let sans = !self.sans.is_empty() && self.sans != other.sans;
        let hashes =
            !self.certificate_hashes.is_empty() && self.certificate_hashes != other.certificate_hashes;
        let keys = !self.spki_hashes.is_empty() && self.spki_hashes != other.spki_hashes;
        let chain = other.accept_untrusted && !self.accept_untrusted;
        sans || hashes || keys || chain
    }

    /// Reads the message. What would check the peer and is not served makes the context inert: to leave a check out
    /// would let in those whom it should keep out.
    pub fn from_proto(
        message: &CertificateValidationContext,
        ignored: &mut Ignored,
    ) -> Result<Usable<Arc<Self>>, Invalid> {
        ignore_fields!(
            ignored,
            message,
            watched_directory,
            require_signed_certificate_timestamp,
            allow_expired_certificate
        );
        ignore_fields!(
            ignored,
            message,
            only_verify_leaf_cert_crl,
            max_verify_depth,
            suppress_client_ca_list
        );
        let trust: TrustChainVerification =
            enumeration(message.trust_chain_verification, "trust_chain_verification")?;
        let (roots, source) = roots(message, ignored)?;
        let validation = Self {
            source,
            system_roots: message.system_root_certs.is_some(),
            crl: crl(message, ignored)?,
            sans: sans(message, ignored)?,
            certificate_hashes: hashes("verify_certificate_hash", &message.verify_certificate_hash, hex)?,
            spki_hashes: hashes(
                "verify_certificate_spki",
                &message.verify_certificate_spki,
                base64,
            )?,
            accept_untrusted: trust == TrustChainVerification::AcceptUntrusted,
            roots,
        };
        if let Some(custom) = message.custom_validator_config.as_ref() {
            return Ok(Usable::Inert(format!(
                "certificate validator `{}` is not supported",
                custom.name
            )));
        }
        if message.ca_certificate_provider_instance.is_some() {
            return Ok(Usable::Inert(
                "certificate provider instances are not supported".to_owned(),
            ));
        }
        Ok(Usable::Ready(Arc::new(validation)))
    }

    /// Whether there is a root that a chain must lead to.
    pub fn has_roots(&self) -> bool {
        !self.roots.is_empty() || self.system_roots
    }

    /// `CombinedCertificateValidationContext`: what comes by SDS is merged into the default, as protobuf merges.
    #[must_use]
    pub fn merged(&self, over: &Self) -> Self {
        let own = |list: &[u8], other: &[u8]| if other.is_empty() { list } else { other }.to_vec();
        Self {
            roots: own(&self.roots, &over.roots),
            source: match over.roots.is_empty() {
                true => self.source.clone(),
                false => over.source.clone(),
            },
            system_roots: self.system_roots || over.system_roots,
            crl: own(&self.crl, &over.crl),
            sans: [&self.sans[..], &over.sans].concat(),
            certificate_hashes: [&self.certificate_hashes[..], &over.certificate_hashes].concat(),
            spki_hashes: [&self.spki_hashes[..], &over.spki_hashes].concat(),
            accept_untrusted: self.accept_untrusted || over.accept_untrusted,
        }
    }

    /// Envoy: names are worth nothing when nobody vouches for them.
    pub fn refuse_names_without_roots(&self) -> Result<(), Invalid> {
        if self.sans.is_empty() || self.has_roots() {
            return Ok(());
        }
        let reason =
            "SAN-based verification of peer certificates without trusted CA is insecure and not allowed";
        Err(Invalid::new("match_typed_subject_alt_names", reason))
    }
}

fn roots(
    message: &CertificateValidationContext,
    ignored: &mut Ignored,
) -> Result<(Vec<u8>, String), Invalid> {
    let Some(source) = message.trusted_ca.as_ref() else {
        return Ok((Vec::new(), String::new()));
    };
    let data = ignored.scope("trusted_ca", |ignored| data_source::read(source, ignored))?;
    let refuse = |reason| {
        let text = format!(
            "Failed to load trusted CA certificates from {}: {reason}",
            data.source
        );
        Invalid::new("trusted_ca", text)
    };
    let list = certificates(&data.bytes).map_err(&refuse)?;
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(list);
    if usable == 0 {
        return Err(refuse("no usable certificate".to_owned()));
    }
    Ok((data.bytes, data.source))
}

fn crl(message: &CertificateValidationContext, ignored: &mut Ignored) -> Result<Vec<u8>, Invalid> {
    let Some(source) = message.crl.as_ref() else {
        return Ok(Vec::new());
    };
    let data = ignored.scope("crl", |ignored| data_source::read(source, ignored))?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&data.bytes).collect();
    match lists {
        Ok(lists) if !lists.is_empty() => Ok(data.bytes),
        _ => Err(Invalid::new(
            "crl",
            format!("Failed to load CRL from {}", data.source),
        )),
    }
}

fn sans(message: &CertificateValidationContext, ignored: &mut Ignored) -> Result<Vec<SanMatcher>, Invalid> {
    let typed = ignored.each(
        "match_typed_subject_alt_names",
        &message.match_typed_subject_alt_names,
        |san, _| SanMatcher::from_proto(san),
    )?;
    if !typed.is_empty() {
        // Envoy: the typed list wins over the old one.
        return Ok(typed);
    }
    ignored.each(
        "match_subject_alt_names",
        &message.match_subject_alt_names,
        |text, _| {
            Ok(SanMatcher {
                kind: SanKind::Any,
                text: StringMatcher::from_proto(text)?,
            })
        },
    )
}

impl SanMatcher {
    /// Reads a typed matcher.
    pub fn from_proto(message: &proto::SubjectAltNameMatcher) -> Result<Self, Invalid> {
        let text = required(message.matcher.as_ref(), "matcher")?;
        Ok(Self {
            kind: san_kind(message)?,
            text: StringMatcher::from_proto(text).map_err(|refusal| refusal.within("matcher"))?,
        })
    }
}

fn san_kind(message: &proto::SubjectAltNameMatcher) -> Result<SanKind, Invalid> {
    Ok(match enumeration(message.san_type, "san_type")? {
        SanType::Email => SanKind::Email,
        SanType::Dns => SanKind::Dns,
        SanType::Uri => SanKind::Uri,
        SanType::IpAddress => SanKind::IpAddress,
        SanType::OtherName => return Err(Invalid::new("san_type", "OTHER_NAME is not supported")),
        SanType::Unspecified => return Err(Invalid::new("san_type", "value must not be in list [0]")),
    })
}

fn hashes(
    field: &str,
    list: &[String],
    read: impl Fn(&str) -> Result<[u8; 32], &'static str>,
) -> Result<Vec<[u8; 32]>, Invalid> {
    let item = |(i, text): (usize, &String)| {
        read(text).map_err(|kind| {
            Invalid::new(
                format!("{field}[{i}]"),
                format!("Invalid {kind}-encoded SHA-256 {text}"),
            )
        })
    };
    list.iter().enumerate().map(item).collect()
}

/// Hexadecimal, with or without colons.
fn hex(text: &str) -> Result<[u8; 32], &'static str> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let bytes = HEXLOWER_PERMISSIVE.decode(&digits).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or("hex")
}

fn base64(text: &str) -> Result<[u8; 32], &'static str> {
    BASE64
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or("base64")
}
