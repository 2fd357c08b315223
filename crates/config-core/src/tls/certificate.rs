//! `TlsCertificate`: a chain and its key, read and checked once.

use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::data_source;
use crate::field::required;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// One certificate chain with its key. `Debug` never prints the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM, leaf first.
    pub chain: Vec<u8>,
    /// PEM.
    pub key: Vec<u8>,
    /// Where the chain came from, for `/certs`: a path, or `<inline>`.
    pub source: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.source)
    }
}

impl Certificate {
    /// Reads the message; a key that is not the leaf's is refused.
    pub fn from_proto(message: &TlsCertificate, ignored: &mut Ignored) -> Result<Self, Invalid> {
        refuse_other_forms(message)?;
        ignore_fields!(
            ignored,
            message,
            watched_directory,
            ocsp_staple,
            signed_certificate_timestamp,
            tls_params
        );
        let chain = required(message.certificate_chain.as_ref(), "certificate_chain")?;
        let chain = ignored.scope("certificate_chain", |ignored| data_source::read(chain, ignored))?;
        let key = required(message.private_key.as_ref(), "private_key")?;
        let key = ignored.scope("private_key", |ignored| data_source::read(key, ignored))?;
        check(&chain.bytes, &key.bytes)?;
        Ok(Self {
            chain: chain.bytes,
            key: key.bytes,
            source: chain.source,
        })
    }
}

fn refuse_other_forms(message: &TlsCertificate) -> Result<(), Invalid> {
    let refuse = |field, reason| Err(Invalid::new(field, reason));
    if message.pkcs12.is_some() {
        return refuse(
            "pkcs12",
            "PKCS #12 is not supported, use certificate_chain and private_key",
        );
    }
    if message.password.is_some() {
        return refuse("password", "encrypted private keys are not supported");
    }
    if message.private_key_provider.is_some() && message.private_key.is_none() {
        return refuse("private_key_provider", "private key providers are not supported");
    }
    Ok(())
}

/// Both parse, and belong together.
fn check(chain: &[u8], key: &[u8]) -> Result<(), Invalid> {
    let certificates = certificates(chain).map_err(|reason| Invalid::new("certificate_chain", reason))?;
    let bad_key =
        |reason: String| Invalid::new("private_key", format!("Failed to load private key: {reason}"));
    // The parser's own errors may quote the text of the key: they are not passed on.
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| bad_key("no PEM private key found".to_owned()))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|_| bad_key("the key is malformed or of an unknown type".to_owned()))?;
    match CertifiedKey::new(certificates, key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(bad_key("the key is not that of the certificate".to_owned()))
        }
        Err(error) => Err(Invalid::new(
            "certificate_chain",
            format!("Failed to load certificate chain: {error}"),
        )),
    }
}

/// The certificates of a PEM text, at least one. The error is the reason of the refusal.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(list) if list.is_empty() => Err("no PEM certificate found".to_owned()),
        Ok(list) => Ok(list),
        Err(_) => Err("malformed PEM".to_owned()),
    }
}
