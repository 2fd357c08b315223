//! Clusters: `envoy.config.cluster.v3.Cluster`.

mod aws_iam;
mod breakers;
mod discovery;
mod load_balancing;
mod outlier;
mod protocol;
mod redis;
mod sentinel;
#[cfg(test)]
mod tests;
mod transport;

use std::net::SocketAddr;
use std::time::Duration;

use redplane_proto::pb::envoy::config::cluster::v3 as proto;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use redplane_proto::pb::envoy::config::core::v3::{BindConfig, TcpKeepalive};

pub use crate::config_source::{ConfigSource, GrpcSource, Source};
pub use aws_iam::{AwsCredentials, AwsIam, AwsSource, AwsToken};
pub use breakers::{Breakers, RetryLimit, Thresholds};
pub use discovery::{Discovery, Dns, DnsFamily};
pub use load_balancing::{CommonLb, LbPolicy, RingHashFunction};
pub use outlier::{Outlier, Run};
pub use protocol::Http2Keepalive;
pub use redis::{RedisAuth, RedisCluster};
pub use sentinel::SentinelCluster;
pub use transport::{Transport, TransportMatch};

use load_balancing::LoadBalancing;
use protocol::{Options, client_logins};

use crate::field::{non_empty, positive_or};
use crate::http::HttpCluster;
use crate::invalid::ignore_fields;
use crate::{Address, Ignored, Invalid};

/// One validated cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Unique name.
    pub name: String,
    /// `alt_stat_name`, else the name: stats go under `cluster.<stat_name>.`.
    pub stat_name: String,
    /// How hosts are found.
    pub discovery: Discovery,
    /// How one of them is chosen.
    pub lb_policy: LbPolicy,
    /// Default 5 s.
    pub connect_timeout: Duration,
    /// Plain text, or TLS.
    pub transport: Transport,
    /// `transport_socket_matches`, in order; the first whose pairs all stand in the endpoint's metadata wins over
    /// `transport`.
    pub transport_matches: Vec<TransportMatch>,
    /// Upstream credentials, from `RedisProtocolOptions`.
    pub redis_auth: RedisAuth,
    /// Whether its servers decide on logins that clients of a filter without a password bring, where it has no credentials
    /// of its own. `metadata.filter_metadata.redplane.client_logins`, a field of redplane's; true without it.
    pub client_logins: bool,
    /// Locality and panic settings.
    pub common_lb: CommonLb,
    /// `upstream_connection_options.tcp_keepalive`; `None` leaves the socket as it is.
    pub keepalive: Option<Keepalive>,
    /// `upstream_bind_config.source_address`.
    pub source_address: Option<SocketAddr>,
    /// HTTP/2 is spoken to this cluster (gRPC: xds-grpc, sds-grpc).
    pub http2: bool,
    /// How HTTP is spoken to it.
    pub http: HttpCluster,
    /// `connection_keepalive` of its HTTP/2 options.
    pub http2_keepalive: Option<Http2Keepalive>,
    /// `circuit_breakers` of the default priority: how many connections tcp_proxy may open over all workers, and how
    /// many a blocking Redis command may lease of each host.
    pub max_connections: u32,
    /// `circuit_breakers`, as HTTP keeps them.
    pub breakers: Breakers,
    /// `outlier_detection`, fed by HTTP's results.
    pub outlier: Option<Outlier>,
    /// Accepted but without effect.
    pub ignored: Ignored,
}

/// TCP keepalive of upstream connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Probes before the connection is given up.
    pub probes: Option<u32>,
}

impl Cluster {
    /// Reads the resource.
    pub fn from_proto(message: &proto::Cluster) -> Result<Self, Invalid> {
        let mut ignored = Ignored::default();
        let name = non_empty(&message.name, "name")?;
        let stat_name = if message.alt_stat_name.is_empty() {
            &name
        } else {
            &message.alt_stat_name
        };
        let connect_timeout = message.connect_timeout.as_ref();
        let LoadBalancing {
            policy: lb_policy,
            common: common_lb,
        } = LoadBalancing::from_proto(message, &mut ignored)?;
        let discovery = Discovery::from_proto(message, &mut ignored)?;
        let lb_policy = fitting(&discovery, lb_policy, message, &mut ignored)?;
        let options = Options::from_proto(message, &mut ignored)?;
        let socket = message.transport_socket.as_ref();
        let matches = &message.transport_socket_matches;
        note_ignored(message, &mut ignored);
        let breakers = Breakers::from_proto(message, &mut ignored)?;
        let outlier = message.outlier_detection.as_ref();
        let match_sni = options.http.match_sni;
        Ok(Self {
            stat_name: stat_name.clone(),
            discovery,
            lb_policy,
            connect_timeout: positive_or(connect_timeout, "connect_timeout", Duration::from_secs(5))?,
            transport: ignored.scope("transport_socket", |ignored| {
                Transport::from_proto(socket, ignored).map(|transport| transport.matching(match_sni))
            })?,
            transport_matches: ignored.each("transport_socket_matches", matches, |matched, ignored| {
                let mut read = TransportMatch::from_proto(matched, ignored)?;
                read.transport = read.transport.matching(match_sni);
                Ok(read)
            })?,
            redis_auth: options.redis_auth,
            client_logins: client_logins(message)?,
            common_lb,
            keepalive: keepalive(message, &mut ignored),
            source_address: source_address(message.upstream_bind_config.as_ref(), &mut ignored)?,
            http2: options.http2,
            http: options.http,
            http2_keepalive: options.http2_keepalive,
            max_connections: breakers.default.connections,
            breakers,
            outlier: outlier
                .map(|outlier| {
                    ignored.scope("outlier_detection", |ignored| {
                        Outlier::from_proto(outlier, ignored)
                    })
                })
                .transpose()?,
            name,
            ignored,
        })
    }
}

/// Some discoveries bring their own way to choose a host, others have none. An extension that is not known here would
/// have brought one: in its place hosts are taken in turn.
fn fitting(
    discovery: &Discovery,
    policy: LbPolicy,
    message: &proto::Cluster,
    ignored: &mut Ignored,
) -> Result<LbPolicy, Invalid> {
    let reason = match (discovery, policy) {
        (
            Discovery::Redis(_) | Discovery::Sentinel(_) | Discovery::OriginalDst,
            LbPolicy::ClusterProvided,
        ) => return Ok(policy),
        // The default of the enum: it was not set, or says so.
        (Discovery::Redis(_), LbPolicy::RoundRobin) if message.load_balancing_policy.is_none() => {
            ignored.note("lb_policy: CLUSTER_PROVIDED is used, as for every cluster of this type");
            return Ok(LbPolicy::ClusterProvided);
        }
        (Discovery::Redis(_), _) => {
            "must be CLUSTER_PROVIDED for envoy.clusters.redis: any other policy would spread a key over all nodes"
        }
        (Discovery::Sentinel(_), _) => {
            "must be CLUSTER_PROVIDED for redplane.clusters.sentinel: any other policy would write to replicas"
        }
        (Discovery::OriginalDst, _) => "Only 'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'",
        (_, LbPolicy::ClusterProvided) if has_extension_type(message) => {
            ignored.note("lb_policy: hosts are taken in turn");
            return Ok(LbPolicy::RoundRobin);
        }
        (_, LbPolicy::ClusterProvided) => "cluster provided LB specified but the cluster did not provide one",
        _ => return Ok(policy),
    };
    Err(Invalid::new("lb_policy", reason))
}

fn has_extension_type(message: &proto::Cluster) -> bool {
    matches!(
        message.cluster_discovery_type,
        Some(ClusterDiscoveryType::ClusterType(_))
    )
}

fn note_ignored(message: &proto::Cluster, ignored: &mut Ignored) {
    for (i, filter) in message.filters.iter().enumerate() {
        ignored.note(format!("filters[{i}]: {}", filter.name));
    }
    ignore_fields!(
        ignored,
        message,
        transport_socket_matcher,
        stats_matcher,
        per_connection_buffer_limit_bytes
    );
    ignore_fields!(
        ignored,
        message,
        per_connection_buffer_high_watermark_timeout,
        health_checks
    );
    ignore_fields!(
        ignored,
        message,
        max_requests_per_connection,
        upstream_http_protocol_options,
        protocol_selection
    );
    ignore_fields!(
        ignored,
        message,
        common_http_protocol_options,
        http_protocol_options,
        wait_for_warm_on_init
    );
    ignore_fields!(
        ignored,
        message,
        cleanup_interval,
        close_connections_on_host_health_failure,
        lrs_server
    );
    ignore_fields!(
        ignored,
        message,
        ignore_health_on_host_removal,
        lrs_report_endpoint_metrics,
        track_timeout_budgets
    );
    ignore_fields!(
        ignored,
        message,
        upstream_config,
        track_cluster_stats,
        preconnect_policy,
        queuing_policies
    );
    ignore_fields!(ignored, message, connection_pool_per_downstream_connection);
}

fn keepalive(message: &proto::Cluster, ignored: &mut Ignored) -> Option<Keepalive> {
    let options = message.upstream_connection_options.as_ref()?;
    if options.set_local_interface_name_on_upstream_connections || options.happy_eyeballs_config.is_some() {
        ignored.note("upstream_connection_options: only tcp_keepalive is known");
    }
    let TcpKeepalive {
        keepalive_probes,
        keepalive_time,
        keepalive_interval,
    } = options.tcp_keepalive?;
    let seconds = |value: u32| Duration::from_secs(u64::from(value));
    Some(Keepalive {
        time: keepalive_time.map(|time| seconds(time.value)),
        interval: keepalive_interval.map(|interval| seconds(interval.value)),
        probes: keepalive_probes.map(|probes| probes.value),
    })
}

fn source_address(
    message: Option<&BindConfig>,
    ignored: &mut Ignored,
) -> Result<Option<SocketAddr>, Invalid> {
    let Some(message) = message else { return Ok(None) };
    ignored.scope("upstream_bind_config", |ignored| {
        ignore_fields!(
            ignored,
            message,
            freebind,
            socket_options,
            extra_source_addresses,
            additional_source_addresses
        );
        ignore_fields!(
            ignored,
            message,
            local_address_selector,
            validate_network_namespaces
        );
        let Some(source) = message.source_address.as_ref() else {
            return Ok(None);
        };
        match ignored.scope("source_address", |ignored| Address::socket(source, ignored))? {
            Address::Ip(address) => Ok(Some(address)),
            other => Err(Invalid::new(
                "source_address.address",
                format!("malformed IP address: {other}"),
            )),
        }
    })
}
