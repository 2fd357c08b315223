//! Which certificate a client gets when there are several: one for its server name if there is one, in any case one
//! whose key it can verify.
//!
//! Envoy: `DefaultTlsCertificateSelector`.

use std::sync::Arc;

use redplane_config::tls::{Certificate, SanKind};
use redplane_upstream::tls::{pem, provider, san};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a context.
#[derive(Debug)]
pub(super) struct Certificates(Vec<Candidate>);

#[derive(Debug)]
struct Candidate {
    key: Arc<CertifiedKey>,
    /// DNS names of the leaf, wildcards among them.
    names: Vec<String>,
}

impl Certificates {
    /// Parses them all. The error is the reason of the refusal.
    pub(super) fn new(certificates: &[Arc<Certificate>]) -> Result<Self, String> {
        certificates
            .iter()
            .map(|certificate| candidate(certificate))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn candidate(certificate: &Certificate) -> Result<Candidate, String> {
    let chain =
        pem::certificates(&certificate.chain).map_err(|error| format!("certificate_chain: {error}"))?;
    let key = pem::key(&certificate.key).map_err(|error| format!("private_key: {error}"))?;
    let names = chain.first().map_or(Ok(Vec::new()), |leaf| san::names(leaf));
    let names = names.map_err(|error| format!("certificate_chain: {error}"))?;
    let key =
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| format!("private_key: {error}"))?;
    let dns = names.into_iter().filter(|name| name.kind == SanKind::Dns);
    Ok(Candidate {
        key: Arc::new(key),
        names: dns.map(|name| name.text).collect(),
    })
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |candidate: &&Candidate| {
            candidate
                .key
                .key
                .choose_scheme(hello.signature_schemes())
                .is_some()
        };
        let named = |candidate: &&Candidate| {
            let fits = |asked| candidate.names.iter().any(|name| san::dns_match(asked, name));
            hello.server_name().is_some_and(fits)
        };
        let mut usable = self.0.iter().filter(usable);
        let first = usable.clone().next();
        usable
            .find(named)
            .or(first)
            .map(|candidate| Arc::clone(&candidate.key))
    }
}
