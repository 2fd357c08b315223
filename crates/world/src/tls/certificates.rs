//! Which certificate a client gets when there are several: one for its server name if there is one, in any case one
//! whose key it can verify.
//!
//! Envoy: `DefaultTlsCertificateSelector`.

use std::sync::Arc;

use redplane_upstream::tls::san;
use redplane_upstream::tls::secrets::Identity;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a context.
#[derive(Debug)]
pub(super) struct Certificates(pub(super) Vec<Arc<Identity>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |candidate: &&Arc<Identity>| {
            candidate
                .key
                .key
                .choose_scheme(hello.signature_schemes())
                .is_some()
        };
        let named = |candidate: &&Arc<Identity>| {
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
