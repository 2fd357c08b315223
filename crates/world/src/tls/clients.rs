//! How clients' certificates are checked: a chain up to the configured roots, then SAN matchers and pinned hashes.
//!
//! Envoy: `DefaultCertValidator`. A context asks for a certificate as soon as it has a validation context; only
//! `require_client_certificate` makes one compulsory.

use std::sync::Arc;

use redplane_upstream::tls::peer::PeerRules;
use redplane_upstream::tls::provider;
use redplane_upstream::tls::secrets::Anchors;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

#[derive(Debug)]
pub(super) struct ClientCheck {
    /// `None` accepts any chain.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    rules: PeerRules,
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCheck {
    /// Prepares the checks; `None` if clients are not asked for a certificate. The error is the reason of the refusal.
    pub(super) fn new(anchors: Option<&Anchors>, mandatory: bool) -> Result<Option<Self>, String> {
        if anchors.is_none() && !mandatory {
            return Ok(None);
        }
        let mut check = Self {
            chain: None,
            rules: PeerRules::default(),
            mandatory,
            algorithms: provider().signature_verification_algorithms,
        };
        if let Some(anchors) = anchors.filter(|anchors| !anchors.config.accept_untrusted) {
            check.chain = chain(anchors)?;
            check.rules = PeerRules::new(&anchors.config);
        }
        Ok(Some(check))
    }
}

fn chain(anchors: &Anchors) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let Some(roots) = &anchors.roots else {
        return Ok(None);
    };
    let lists = anchors.revocation_lists()?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider());
    if !lists.is_empty() {
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    builder
        .build()
        .map(Some)
        .map_err(|error| format!("validation_context: {error}"))
}

impl ClientCertVerifier for ClientCheck {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain
            .as_ref()
            .map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(leaf, intermediates, now)?;
        }
        self.rules.check(leaf)?;
        Ok(ClientCertVerified::assertion())
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
