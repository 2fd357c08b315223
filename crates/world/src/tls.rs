//! TLS towards clients: `DownstreamTlsContext` as a rustls server.
//!
//! ALPN is chosen for each ClientHello: the first configured protocol that the client offers. Without overlap the
//! handshake goes on without ALPN, as with Envoy (rustls alone would send an alert), which mesh clients that offer only
//! Istio's own protocols rely on. `istio-peer-exchange` is never chosen: configuration has left it out.

mod certificates;
mod clients;

use std::sync::Arc;

use redplane_config::tls::ServerTls;
use redplane_upstream::tls as shared;
use rustls::ServerConfig;
use rustls::server::ClientHello;

use certificates::Certificates;
use clients::ClientCheck;

/// TLS of one or more chains with the same context.
#[derive(Debug)]
pub struct TlsServer {
    config: Arc<ServerTls>,
    without_alpn: Arc<ServerConfig>,
    by_protocol: Vec<(Box<[u8]>, Arc<ServerConfig>)>,
}

impl TlsServer {
    /// Builds the server. The error is the reason of the refusal.
    pub(crate) fn new(config: Arc<ServerTls>) -> Result<Self, String> {
        let versions = shared::versions(config.versions);
        let check = ClientCheck::new(&config)?;
        let builder = ServerConfig::builder_with_provider(shared::provider())
            .with_protocol_versions(&versions)
            .map_err(|error| format!("tls_params: {error}"))?;
        let builder = match check {
            Some(check) => builder.with_client_cert_verifier(Arc::new(check)),
            None => builder.with_no_client_auth(),
        };
        let mut base = builder.with_cert_resolver(Arc::new(Certificates::new(&config.certificates)?));
        // Tickets instead of a session store: nothing is shared between workers.
        base.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| error.to_string())?;
        let with = |protocol: &String| {
            let mut variant = base.clone();
            variant.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            (protocol.as_bytes().into(), Arc::new(variant))
        };
        Ok(Self {
            by_protocol: config.alpn.iter().map(with).collect(),
            without_alpn: Arc::new(base),
            config,
        })
    }

    /// Whether it was built from this context.
    pub(crate) fn is_of(&self, config: &Arc<ServerTls>) -> bool {
        Arc::ptr_eq(&self.config, config) || self.config == *config
    }

    /// The settings for a client that says this first.
    pub fn for_client(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let offers = |protocol: &[u8]| {
            hello
                .alpn()
                .is_some_and(|mut offered| offered.any(|one| one == protocol))
        };
        let chosen = self.by_protocol.iter().find(|(protocol, _)| offers(protocol));
        Arc::clone(chosen.map_or(&self.without_alpn, |(_, config)| config))
    }
}
