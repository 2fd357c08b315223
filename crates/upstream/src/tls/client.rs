//! `UpstreamTlsContext` as a rustls client, and the verifier that checks servers as Envoy does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use redplane_config::tls::{ClientTls, Versions};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::peer::{PeerRules, check_name};
use super::secrets::{Anchors, ContextSecrets, Material, Secrets};

/// TLS towards the hosts of one cluster. It stays the same while its certificates and roots are exchanged.
pub struct TlsClient {
    alpn: Vec<String>,
    versions: Versions,
    /// `auto_sni_san_validation`
    match_sni: bool,
    context_secrets: ContextSecrets,
    built: ArcSwapOption<Built>,
    /// `None` sends no SNI.
    sni: Option<ServerName<'static>>,
    auto_host_sni: bool,
}

/// What rustls works with, made of what the secrets were.
struct Built {
    material: Material,
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Builds a client.
    ///
    /// # Errors
    ///
    /// Certificates, keys, roots or names that cannot be used.
    pub fn new(tls: &ClientTls, secrets: &Secrets) -> Result<Self, String> {
        let sni = match tls.sni.as_str() {
            "" => None,
            name => {
                Some(ServerName::try_from(name.to_owned()).map_err(|_| format!("sni: {name} is no name"))?)
            }
        };
        let client = Self {
            alpn: tls.alpn.clone(),
            versions: tls.versions,
            match_sni: tls.auto_sni_san_validation,
            context_secrets: ContextSecrets::new(&tls.certificates, tls.validation.as_ref(), secrets)?,
            built: ArcSwapOption::empty(),
            sni,
            auto_host_sni: tls.auto_host_sni,
        };
        if tls.secrets().next().is_none() {
            // Nothing has to come: what is wrong is wrong now.
            client.config()?;
        }
        Ok(client)
    }

    /// What a handshake that begins now works with. Made anew when a secret has been exchanged: a session that was made
    /// under the old roots is not resumed under the new ones.
    ///
    /// # Errors
    ///
    /// A secret that has not come yet.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        Ok(Arc::clone(&self.built()?.config))
    }

    /// The same with the protocols that are offered: `wanted` in place of what the context says, `fallback` where it says
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`config`](Self::config).
    pub fn config_offering(
        &self,
        wanted: Option<&[Vec<u8>]>,
        fallback: &[Vec<u8>],
    ) -> Result<Arc<ClientConfig>, String> {
        let built = self.built()?;
        let offered = wanted.or_else(|| self.alpn.is_empty().then_some(fallback));
        let Some(offered) = offered else {
            return Ok(Arc::clone(&built.config));
        };
        let mut config = ClientConfig::clone(&built.config);
        config.alpn_protocols = offered.to_vec();
        Ok(Arc::new(config))
    }

    fn built(&self) -> Result<Arc<Built>, String> {
        if let Some(built) = &*self.built.load()
            && self.context_secrets.is_current(&built.material)
        {
            return Ok(Arc::clone(built));
        }
        let material = self.context_secrets.material()?;
        let built = Arc::new(Built {
            config: Arc::new(self.build(&material)?),
            material,
        });
        self.built.store(Some(Arc::clone(&built)));
        Ok(built)
    }

    fn build(&self, material: &Material) -> Result<ClientConfig, String> {
        let versions = super::versions(self.versions);
        let check = ServerCheck::new(material.anchors.as_deref(), self.match_sni)?;
        let builder = ClientConfig::builder_with_provider(super::provider())
            .with_protocol_versions(&versions)
            .map_err(|error| format!("tls_params: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(check));
        let mut config = match material.identities.first() {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = Arc::clone(&identity.key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = super::alpn(&self.alpn);
        Ok(config)
    }

    /// The name that a host is asked for. An address instead of a name is never sent as SNI.
    pub fn server_name(&self, address: Option<SocketAddr>, hostname: &str) -> ServerName<'static> {
        let host = Some(hostname).filter(|name| self.auto_host_sni && !name.is_empty());
        let host = host.and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let nowhere = IpAddr::from([127, 0, 0, 1]);
        host.or_else(|| self.sni.clone())
            .unwrap_or_else(|| ServerName::from(address.map_or(nowhere, |address| address.ip())))
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
    fn new(anchors: Option<&Anchors>, match_sni: bool) -> Result<Self, String> {
        let algorithms = super::provider().signature_verification_algorithms;
        let Some(anchors) = anchors.filter(|anchors| !anchors.config.accept_untrusted) else {
            return Ok(Self {
                chain: None,
                rules: PeerRules::default(),
                match_sni: false,
                algorithms,
            });
        };
        if match_sni && anchors.roots.is_none() {
            return Err(
                "'auto_sni_san_validation' was configured without configuring a trusted CA".to_owned(),
            );
        }
        Ok(Self {
            chain: chain(anchors)?,
            rules: PeerRules::new(&anchors.config),
            match_sni,
            algorithms,
        })
    }
}

fn chain(anchors: &Anchors) -> Result<Option<Arc<WebPkiServerVerifier>>, String> {
    let Some(roots) = &anchors.roots else {
        return Ok(None);
    };
    let lists = anchors.revocation_lists()?;
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), super::provider());
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
