//! What a configured resource names: clusters, route configurations, secrets, an EDS service. Pure looks at configuration.

use std::sync::Arc;

use redplane_config::cluster::{Cluster, ConfigSource, Discovery, Transport};
use redplane_config::http::{HttpConnectionManager, RouteSource};
use redplane_config::listener::{FilterChain, Listener, Listener as Config, Terminal};
use redplane_config::tls::{SecretKind, SecretName};

use crate::needs::Named;

/// Source and name of an EDS cluster's service.
pub(crate) fn service_of(cluster: &Cluster) -> Option<Named> {
    match &cluster.discovery {
        Discovery::Eds { service_name, source } => Some((source.source.clone(), service_name.clone())),
        _ => None,
    }
}

/// All chains of a listener.
pub(crate) fn chains(listener: &Config) -> impl Iterator<Item = &Arc<FilterChain>> {
    listener.chains.iter().chain(&listener.default_chain)
}

/// Every cluster that a listener sends something to.
pub(crate) fn clusters_of(listener: &Config) -> impl Iterator<Item = &str> {
    chains(listener).flat_map(|chain| -> Vec<&str> {
        match &chain.terminal {
            Terminal::Redis(proxy) => {
                let routes = proxy.routes.prefixes.iter().chain(&proxy.routes.catch_all);
                let clusters = routes.flat_map(|route| {
                    let mirrors = route.mirrors.iter().map(|mirror| &mirror.cluster);
                    std::iter::once(&route.cluster)
                        .chain(&route.read_cluster)
                        .chain(mirrors)
                });
                clusters.map(String::as_str).collect()
            }
            Terminal::Tcp(proxy) => proxy
                .clusters
                .iter()
                .map(|weighted| weighted.cluster.as_str())
                .collect(),
            Terminal::Http(manager) => manager.clusters(),
            Terminal::Inert { .. } => Vec::new(),
        }
    })
}

/// The connection managers of a listener that name their routes, with the name and where it is asked for.
pub(crate) fn routes_of(
    listener: &Listener,
) -> impl Iterator<Item = (&HttpConnectionManager, &String, &ConfigSource)> {
    chains(listener).filter_map(|chain| match &chain.terminal {
        Terminal::Http(manager) => match &manager.routes {
            RouteSource::Rds { name, source } => Some((&**manager, name, source)),
            RouteSource::Inline(_) => None,
        },
        _ => None,
    })
}

/// The secrets that a cluster needs by name.
pub(crate) fn secrets_of_cluster(cluster: &Cluster) -> Vec<(SecretKind, &SecretName)> {
    let matches = cluster
        .transport_matches
        .iter()
        .map(|matching| &matching.transport);
    let transports = std::iter::once(&cluster.transport).chain(matches);
    let tls = transports.filter_map(|transport| match transport {
        Transport::Tls(tls) => Some(tls),
        Transport::RawBuffer | Transport::Inert(_) => None,
    });
    tls.flat_map(|tls| tls.secrets()).collect()
}

/// The secrets that a listener's chains need by name.
pub(crate) fn secrets_of_listener(listener: &Listener) -> Vec<(SecretKind, &SecretName)> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    let tls = chains.filter_map(|chain| chain.tls.as_ref());
    tls.flat_map(|tls| tls.secrets()).collect()
}
