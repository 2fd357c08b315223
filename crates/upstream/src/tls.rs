//! TLS towards hosts, and the parts that a TLS server checks clients with as well.
//!
//! rustls does the handshakes with the `ring` provider. What it does not know is Envoy's idea of a good peer: a chain
//! up to the configured roots, then SAN matchers and pinned hashes, and no host-name check unless
//! `auto_sni_san_validation` asks for one.

pub mod client;
pub mod fault;
pub mod peer;
pub mod pem;
pub mod san;
pub mod secrets;
mod subject;

use std::sync::Arc;

use redplane_config::tls::Versions;
use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

pub use subject::subject;

/// The one provider of the process.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// rustls's constants for the configured versions.
pub fn versions(versions: Versions) -> Vec<&'static SupportedProtocolVersion> {
    let tls12 = versions.tls12.then_some(&rustls::version::TLS12);
    let tls13 = versions.tls13.then_some(&rustls::version::TLS13);
    tls13.into_iter().chain(tls12).collect()
}

/// Offered protocols as rustls wants them.
pub fn alpn(protocols: &[String]) -> Vec<Vec<u8>> {
    protocols
        .iter()
        .map(|protocol| protocol.as_bytes().to_vec())
        .collect()
}
