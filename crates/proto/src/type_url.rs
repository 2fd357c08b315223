//! Type URLs of the messages that redplane acts on. All others are shown, never matched.

macro_rules! urls {
    ($($(#[$doc:meta])* $name:ident = $message:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = concat!("type.googleapis.com/", $message);)*

        #[cfg(test)]
        const ALL: &[&str] = &[$($name),*];
    };
}

urls! {
    /// CDS resource.
    CLUSTER = "envoy.config.cluster.v3.Cluster";
    /// LDS resource.
    LISTENER = "envoy.config.listener.v3.Listener";
    /// EDS resource.
    ENDPOINT = "envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// RDS resource.
    ROUTE = "envoy.config.route.v3.RouteConfiguration";
    /// Scoped RDS resource.
    SCOPED_ROUTE = "envoy.config.route.v3.ScopedRouteConfiguration";
    /// VHDS resource.
    VIRTUAL_HOST = "envoy.config.route.v3.VirtualHost";
    /// SDS resource.
    SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret";
    /// ECDS resource.
    EXTENSION_CONFIG = "envoy.config.core.v3.TypedExtensionConfig";
    /// RTDS resource.
    RUNTIME = "envoy.service.runtime.v3.Runtime";
    /// The bootstrap.
    BOOTSTRAP = "envoy.config.bootstrap.v3.Bootstrap";

    /// Redis network filter.
    REDIS_PROXY = "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy";
    /// Upstream credentials, in a cluster's `typed_extension_protocol_options`.
    REDIS_PROTOCOL_OPTIONS = "envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions";
    /// TCP network filter.
    TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    /// HTTP connection manager network filter.
    HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    /// RBAC network filter.
    NETWORK_RBAC = "envoy.extensions.filters.network.rbac.v3.RBAC";
    /// External authorization network filter.
    NETWORK_EXT_AUTHZ = "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz";
    /// Network filter that sets filter state.
    NETWORK_SET_FILTER_STATE = "envoy.extensions.filters.network.set_filter_state.v3.Config";
    /// Network filter that takes the cluster from SNI.
    SNI_CLUSTER = "envoy.extensions.filters.network.sni_cluster.v3.SniCluster";
    /// Wasm network filter.
    NETWORK_WASM = "envoy.extensions.filters.network.wasm.v3.Wasm";
    /// Connection limit network filter.
    CONNECTION_LIMIT = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit";
    /// Local rate limit network filter.
    NETWORK_LOCAL_RATELIMIT = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit";

    /// HTTP router filter.
    ROUTER = "envoy.extensions.filters.http.router.v3.Router";
    /// HTTP RBAC filter.
    HTTP_RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC";
    /// What a route says to it.
    HTTP_RBAC_ROUTE = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
    /// HTTP JWT filter.
    JWT_AUTHN = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
    /// What a route says to it.
    JWT_AUTHN_ROUTE = "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig";
    /// HTTP external authorization filter.
    HTTP_EXT_AUTHZ = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";
    /// HTTP fault filter.
    HTTP_FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault";
    /// HTTP CORS filter.
    CORS = "envoy.extensions.filters.http.cors.v3.Cors";
    /// CORS policy of a route.
    CORS_POLICY = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
    /// HTTP local rate limit filter.
    HTTP_LOCAL_RATELIMIT = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
    /// What a route says to a filter of any kind.
    ROUTE_FILTER_CONFIG = "envoy.config.route.v3.FilterConfig";
    /// HTTP gRPC statistics filter.
    GRPC_STATS = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig";
    /// HTTP compressor filter.
    COMPRESSOR = "envoy.extensions.filters.http.compressor.v3.Compressor";
    /// HTTP Wasm filter.
    HTTP_WASM = "envoy.extensions.filters.http.wasm.v3.Wasm";
    /// HTTP Lua filter.
    LUA = "envoy.extensions.filters.http.lua.v3.Lua";
    /// Request ids.
    UUID_REQUEST_ID = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig";

    /// TLS inspector listener filter.
    TLS_INSPECTOR = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    /// HTTP inspector listener filter.
    HTTP_INSPECTOR = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
    /// Original destination listener filter.
    ORIGINAL_DST = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
    /// Original source listener filter.
    ORIGINAL_SRC = "envoy.extensions.filters.listener.original_src.v3.OriginalSrc";
    /// PROXY protocol listener filter.
    PROXY_PROTOCOL = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";

    /// TLS towards clusters.
    UPSTREAM_TLS = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    /// TLS on listeners.
    DOWNSTREAM_TLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    /// Plain TCP.
    RAW_BUFFER = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    /// PROXY protocol towards clusters.
    UPSTREAM_PROXY_PROTOCOL = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    /// Internal listeners (ambient).
    INTERNAL_UPSTREAM = "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport";

    /// Redis Cluster discovery.
    REDIS_CLUSTER_CONFIG = "envoy.extensions.clusters.redis.v3.RedisClusterConfig";
    /// Sentinel discovery, redplane's own.
    SENTINEL_CLUSTER_CONFIG = "redplane.clusters.sentinel.v3.SentinelClusterConfig";
    /// Aggregate clusters.
    AGGREGATE_CLUSTER = "envoy.extensions.clusters.aggregate.v3.ClusterConfig";
    /// DNS clusters as an extension.
    DNS_CLUSTER = "envoy.extensions.clusters.dns.v3.DnsCluster";
    /// Redis health checks.
    REDIS_HEALTH_CHECK = "envoy.extensions.health_checkers.redis.v3.Redis";
    /// A cluster's HTTP options, in `typed_extension_protocol_options`.
    HTTP_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    /// DNS resolver of Istio's clusters.
    CARES_DNS_RESOLVER = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";

    /// Typed policy for `load_balancing_policy`.
    LB_ROUND_ROBIN = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin";
    /// Typed policy for `load_balancing_policy`.
    LB_LEAST_REQUEST = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest";
    /// Typed policy for `load_balancing_policy`.
    LB_RANDOM = "envoy.extensions.load_balancing_policies.random.v3.Random";
    /// Typed policy for `load_balancing_policy`.
    LB_RING_HASH = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash";
    /// Typed policy for `load_balancing_policy`.
    LB_MAGLEV = "envoy.extensions.load_balancing_policies.maglev.v3.Maglev";
    /// Typed policy for `load_balancing_policy`.
    LB_CLUSTER_PROVIDED = "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided";
    /// Typed policy for `load_balancing_policy`.
    LB_SUBSET = "envoy.extensions.load_balancing_policies.subset.v3.Subset";

    /// Access log to a file.
    FILE_ACCESS_LOG = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
    /// Access log to stdout.
    STDOUT_ACCESS_LOG = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
    /// Access log to stderr.
    STDERR_ACCESS_LOG = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";
    /// Limit of all downstream connections, in the overload manager.
    DOWNSTREAM_CONNECTIONS = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig";

    /// Untyped configuration.
    STRUCT = "google.protobuf.Struct";
    /// JSON of a type that the sender does not link.
    TYPED_STRUCT_UDPA = "udpa.type.v1.TypedStruct";
    /// The same under its newer name.
    TYPED_STRUCT_XDS = "xds.type.v3.TypedStruct";

    /// Istio's TCP metadata exchange.
    METADATA_EXCHANGE = "envoy.tcp.metadataexchange.config.MetadataExchange";
    /// Istio's HTTP metadata exchange.
    PEER_METADATA = "io.istio.http.peer_metadata.Config";
    /// Istio's statistics.
    ISTIO_STATS = "stats.PluginConfig";
    /// Istio's ALPN filter.
    ISTIO_ALPN = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptors::Descriptors;

    #[test]
    fn every_url_names_a_known_v3_message() {
        let descriptors = Descriptors::load();
        for url in ALL {
            assert!(descriptors.by_url(url).is_some_and(|known| !known.is_v2), "{url}");
        }
    }
}
