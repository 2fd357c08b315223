//! TLS towards clients: `DownstreamTlsContext` as a rustls server.
//!
//! ALPN is chosen for each ClientHello: the first configured protocol that the client offers. Without overlap the
//! handshake goes on without ALPN, as with Envoy (rustls alone would send an alert), which mesh clients that offer only
//! Istio's own protocols rely on. `istio-peer-exchange` is never chosen: configuration has left it out.

mod certificates;
mod clients;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use redplane_config::tls::ServerTls;
use redplane_upstream::tls as shared;
use redplane_upstream::tls::secrets::{ContextSecrets, Identity, Material, Secrets};
use rustls::ServerConfig;
use rustls::server::ClientHello;

use certificates::Certificates;
use clients::ClientCheck;

/// TLS of one or more chains with the same context. It stays the same while its certificates and roots are exchanged.
pub struct TlsServer {
    config: Arc<ServerTls>,
    context_secrets: ContextSecrets,
    built: ArcSwapOption<Built>,
}

/// What rustls works with, made of what the secrets were.
struct Built {
    material: Material,
    without_alpn: Arc<ServerConfig>,
    by_protocol: Vec<(Box<[u8]>, Arc<ServerConfig>)>,
}

impl TlsServer {
    /// Builds the server. The error is the reason of the refusal.
    pub(crate) fn new(config: Arc<ServerTls>, secrets: &Secrets) -> Result<Self, String> {
        let server = Self {
            context_secrets: ContextSecrets::new(&config.certificates, config.validation.as_ref(), secrets)?,
            built: ArcSwapOption::empty(),
            config,
        };
        if server.config.secrets().next().is_none() {
            // Nothing has to come: what is wrong is wrong now.
            server.built()?;
        }
        Ok(server)
    }

    /// Whether it was built from this context.
    pub(crate) fn is_of(&self, config: &Arc<ServerTls>) -> bool {
        Arc::ptr_eq(&self.config, config) || self.config == *config
    }

    /// The settings for a client that says this first.
    ///
    /// # Errors
    ///
    /// A secret that has not come yet.
    pub fn for_client(&self, hello: &ClientHello<'_>) -> Result<Arc<ServerConfig>, String> {
        Ok(self.built()?.for_client(hello))
    }

    /// The first certificate that is presented now, if it has come.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.built().ok()?.material.identities.first().cloned()
    }

    /// What a handshake that begins now works with. Made anew when a secret has been exchanged, with other keys for
    /// tickets: a session that was made under the old roots is not resumed under the new ones.
    fn built(&self) -> Result<Arc<Built>, String> {
        if let Some(built) = &*self.built.load()
            && self.context_secrets.is_current(&built.material)
        {
            return Ok(Arc::clone(built));
        }
        let built = Arc::new(Built::new(&self.config, self.context_secrets.material()?)?);
        self.built.store(Some(Arc::clone(&built)));
        Ok(built)
    }
}

impl Built {
    fn new(config: &ServerTls, material: Material) -> Result<Self, String> {
        let versions = shared::versions(config.versions);
        let check = ClientCheck::new(material.anchors.as_deref(), config.require_client_certificate)?;
        let builder = ServerConfig::builder_with_provider(shared::provider())
            .with_protocol_versions(&versions)
            .map_err(|error| format!("tls_params: {error}"))?;
        let builder = match check {
            Some(check) => builder.with_client_cert_verifier(Arc::new(check)),
            None => builder.with_no_client_auth(),
        };
        let mut base = builder.with_cert_resolver(Arc::new(Certificates(material.identities.clone())));
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
            material,
        })
    }

    fn for_client(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let offers = |protocol: &[u8]| {
            hello
                .alpn()
                .is_some_and(|mut offered| offered.any(|one| one == protocol))
        };
        let chosen = self.by_protocol.iter().find(|(protocol, _)| offers(protocol));
        Arc::clone(chosen.map_or(&self.without_alpn, |(_, config)| config))
    }
}
