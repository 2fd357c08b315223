//! Which transport a host gets: `transport_socket_matches` first, then `transport_socket`.

use std::sync::Arc;

use redplane_config::Invalid;
use redplane_config::cluster::{Cluster, Transport as Config};

use crate::host::{HostAddress, Transport};
use crate::tls::client::TlsClient;
use crate::tls::secrets::Secrets;

/// Transports of a cluster, built once.
pub(super) struct Transports {
    matches: Vec<(Vec<(String, String)>, Built)>,
    default: Built,
}

enum Built {
    Plain,
    Tls(Arc<TlsClient>),
    Inert(String),
}

impl Transports {
    pub(super) fn new(config: &Cluster, secrets: &Secrets) -> Result<Self, Invalid> {
        let default = Built::new(&config.transport, secrets)
            .map_err(|reason| Invalid::new("transport_socket", reason))?;
        let build = |(at, matched): (usize, &redplane_config::cluster::TransportMatch)| {
            let path = format!("transport_socket_matches[{at}].transport_socket");
            let built =
                Built::new(&matched.transport, secrets).map_err(|reason| Invalid::new(path, reason))?;
            Ok((matched.pairs.clone(), built))
        };
        let matches = config
            .transport_matches
            .iter()
            .enumerate()
            .map(build)
            .collect::<Result<_, Invalid>>()?;
        Ok(Self { matches, default })
    }

    /// Whether any host may be spoken to by TLS.
    pub(super) fn any_tls(&self) -> bool {
        let matched = self.matches.iter().map(|(_, built)| built);
        matched
            .chain([&self.default])
            .any(|built| matches!(built, Built::Tls(_)))
    }

    /// Whether two configurations give the same transports.
    pub(super) fn same(a: &Cluster, b: &Cluster) -> bool {
        a.transport == b.transport && a.transport_matches == b.transport_matches
    }

    pub(super) fn of(
        &self,
        address: &HostAddress,
        hostname: &str,
        metadata: &[(String, String)],
    ) -> Transport {
        let fits = |pairs: &[(String, String)]| pairs.iter().all(|pair| metadata.contains(pair));
        let built = self
            .matches
            .iter()
            .find(|(pairs, _)| fits(pairs))
            .map_or(&self.default, |(_, built)| built);
        match built {
            Built::Plain => Transport::Plain,
            Built::Inert(reason) => Transport::Inert(reason.clone()),
            Built::Tls(client) => {
                Transport::Tls(Arc::clone(client), client.server_name(address.ip(), hostname))
            }
        }
    }
}

impl Built {
    fn new(config: &Config, secrets: &Secrets) -> Result<Self, String> {
        Ok(match config {
            Config::RawBuffer => Self::Plain,
            Config::Inert(reason) => Self::Inert(reason.clone()),
            Config::Tls(tls) => Self::Tls(Arc::new(TlsClient::new(tls, secrets)?)),
        })
    }
}
