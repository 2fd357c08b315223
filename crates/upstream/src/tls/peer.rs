//! What makes a peer welcome once its chain holds: SAN matchers and pinned hashes. Used by both sides.

use redplane_config::tls::Validation;
use rustls::Error;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::fault::Fault;
use super::san::{SanMatchers, dns_match, names};
use redplane_config::tls::SanKind;

/// Rules for a peer's leaf certificate.
#[derive(Debug, Default)]
pub struct PeerRules {
    sans: SanMatchers,
    certificates: Vec<[u8; 32]>,
    keys: Vec<[u8; 32]>,
}

impl PeerRules {
    /// Rules of a validation context.
    #[must_use]
    pub fn new(validation: &Validation) -> Self {
        Self {
            sans: SanMatchers::new(&validation.sans),
            certificates: validation.certificate_hashes.clone(),
            keys: validation.spki_hashes.clone(),
        }
    }

    /// Checks a leaf (DER). With hashes of both kinds one match is enough, as in Envoy.
    ///
    /// # Errors
    ///
    /// Why the peer is not welcome.
    pub fn check(&self, leaf: &[u8]) -> Result<(), Error> {
        if !self.sans.is_empty() {
            let names = names(leaf).map_err(|reason| Fault::Name.refuse(reason))?;
            if !self.sans.accept(&names) {
                let names: Vec<&str> = names.iter().map(|name| name.text.as_str()).collect();
                let reason = format!("no subject alternative name is accepted: {}", names.join(", "));
                return Err(Fault::Name.refuse(reason));
            }
        }
        if self.certificates.is_empty() && self.keys.is_empty() {
            return Ok(());
        }
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|error| Fault::Hash.refuse(error.to_string()))?;
        let pinned =
            self.certificates.contains(&sha256(leaf)) || self.keys.contains(&sha256(parsed.public_key().raw));
        if pinned {
            Ok(())
        } else {
            Err(Fault::Hash.refuse("neither the certificate nor its key is pinned"))
        }
    }
}

/// Whether a DNS name of the leaf fits the name that was asked for (`auto_sni_san_validation`).
///
/// # Errors
///
/// It does not, or the certificate cannot be parsed.
pub fn check_name(leaf: &[u8], asked: &str) -> Result<(), Error> {
    let fits = names(leaf)
        .map_err(|reason| Fault::Name.refuse(reason))?
        .iter()
        .any(|name| name.kind == SanKind::Dns && dns_match(asked, &name.text));
    if fits {
        Ok(())
    } else {
        Err(Fault::Name.refuse(format!("the certificate is not for {asked}")))
    }
}

/// SHA-256 from the provider that does the handshakes.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    let suite = TLS13_AES_128_GCM_SHA256.tls13();
    if let Some(output) = suite.map(|suite| suite.common.hash_provider.hash(data)) {
        digest.copy_from_slice(output.as_ref());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_sha256() {
        let hex: String = sha256(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
