//! Type URLs of the resource types, and what the protocol says about each of them.
//!
//! The order is the one in which Envoy asks at a reconnect: clusters before their endpoints, listeners before
//! their routes. A type that is not listed here works as well; it comes last and its absence from a response
//! means nothing.

/// Clusters (CDS).
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Cluster load assignments (EDS).
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Listeners (LDS).
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Route configurations (RDS).
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// TLS secrets (SDS).
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Extension configurations (ECDS).
pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// The wrapper that may stand around a resource in a state-of-the-world response.
pub const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

const ORDER: [&str; 6] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EXTENSION];

/// Place of a type in the order of requests; unknown types come after all known ones.
pub fn rank(type_url: &str) -> usize {
    ORDER
        .iter()
        .position(|known| *known == type_url)
        .unwrap_or(ORDER.len())
}

/// Whether a state-of-the-world response lists everything, so that what it leaves out is removed. True of CDS
/// and LDS only.
pub fn is_full_state(type_url: &str) -> bool {
    matches!(type_url, CLUSTER | LISTENER)
}

/// The word for a resource of this type in the text of a NACK.
pub fn noun(type_url: &str) -> &'static str {
    match type_url {
        CLUSTER => "cluster(s)",
        ENDPOINT => "cluster load assignment(s)",
        LISTENER => "listener(s)",
        ROUTE => "route configuration(s)",
        SECRET => "secret(s)",
        EXTENSION => "extension configuration(s)",
        _ => "resource(s)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_come_first_and_unknown_types_last() {
        let mut types = vec!["x", ROUTE, LISTENER, ENDPOINT, CLUSTER];
        types.sort_by_key(|url| rank(url));
        assert_eq!(types, [CLUSTER, ENDPOINT, LISTENER, ROUTE, "x"]);
    }
}
