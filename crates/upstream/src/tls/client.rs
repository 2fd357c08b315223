//! `UpstreamTlsContext` as a rustls client, and the verifier that checks servers as Envoy does.

use std::sync::Arc;

use redplane_config::tls::{ClientTls, Validation};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::peer::{PeerRules, check_name};
use super::pem;
use crate::host::{HostAddress, Transport};

/// TLS towards the hosts of one cluster.
pub struct TlsClient {
    config: Arc<ClientConfig>,
    /// `None` sends no SNI.
    sni: Option<ServerName<'static>>,
    auto_host_sni: bool,
}

impl TlsClient {
    /// Builds a client.
    ///
    /// # Errors
    ///
    /// Certificates, keys, roots or names that cannot be used.
    pub fn new(tls: &ClientTls) -> Result<Self, String> {
        let sni = match tls.sni.as_str() {
            "" => None,
            name => {
                Some(ServerName::try_from(name.to_owned()).map_err(|_| format!("sni: {name} is no name"))?)
            }
        };
        let versions = super::versions(tls.versions);
        let builder = ClientConfig::builder_with_provider(super::provider())
            .with_protocol_versions(&versions)
            .map_err(|error| format!("tls_params: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerCheck::new(tls)?));
        let mut config = match tls.certificates.first() {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let chain =
                    pem::certificates(&certificate.chain).map_err(|e| format!("certificate_chain: {e}"))?;
                let key = pem::key(&certificate.key).map_err(|e| format!("private_key: {e}"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| format!("tls_certificates: {e}"))?
            }
        };
        config.alpn_protocols = super::alpn(&tls.alpn);
        Ok(Self {
            config: Arc::new(config),
            sni,
            auto_host_sni: tls.auto_host_sni,
        })
    }

    /// The transport of one host. An address instead of a name is never sent as SNI.
    pub fn transport(&self, address: &HostAddress, hostname: &str) -> Transport {
        let host = Some(hostname).filter(|name| self.auto_host_sni && !name.is_empty());
        let host = host.and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let name = host
            .or_else(|| self.sni.clone())
            .unwrap_or_else(|| match address {
                HostAddress::Ip(address) => ServerName::from(address.ip()),
                HostAddress::Pipe(_) => ServerName::from(std::net::IpAddr::from([127, 0, 0, 1])),
            });
        Transport::Tls(Arc::clone(&self.config), name)
    }
}

/// Checks a server: chain, then SAN matchers and hashes, then (if asked for) the name.
#[derive(Debug)]
struct ServerCheck {
    /// `None` accepts any chain.
    chain: Option<Arc<WebPkiServerVerifier>>,
    rules: PeerRules,
    match_sni: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCheck {
    fn new(tls: &ClientTls) -> Result<Self, String> {
        let algorithms = super::provider().signature_verification_algorithms;
        let validation = tls
            .validation
            .as_deref()
            .filter(|validation| !validation.accept_untrusted);
        let Some(validation) = validation else {
            return Ok(Self {
                chain: None,
                rules: PeerRules::default(),
                match_sni: false,
                algorithms,
            });
        };
        let rules = PeerRules::new(validation)?;
        Ok(Self {
            chain: chain(validation)?,
            rules,
            match_sni: tls.auto_sni_san_validation,
            algorithms,
        })
    }
}

fn chain(validation: &Validation) -> Result<Option<Arc<WebPkiServerVerifier>>, String> {
    let roots = match (validation.system_roots, validation.roots.is_empty()) {
        (true, _) => pem::system_roots()?,
        (false, false) => pem::roots(&validation.roots).map_err(|error| format!("trusted_ca: {error}"))?,
        (false, true) => return Ok(None),
    };
    let lists = pem::revocation_lists(&validation.crl).map_err(|error| format!("crl: {error}"))?;
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), super::provider());
    if !lists.is_empty() {
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    builder
        .build()
        .map(Some)
        .map_err(|error| format!("validation_context: {error}"))
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            match chain.verify_server_cert(leaf, intermediates, name, ocsp, now) {
                // The name is looked at last: whoever gets this far has a good chain, and names are not checked here.
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        self.rules.check(leaf)?;
        if let (true, ServerName::DnsName(name)) = (self.match_sni, name) {
            check_name(leaf, name.as_ref())?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
