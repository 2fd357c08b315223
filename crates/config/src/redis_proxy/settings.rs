//! `ConnPoolSettings` of the `redis_proxy` filter.

use std::time::Duration;

use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::redis_proxy::{
    ConnPoolSettings, conn_pool_settings,
};

use crate::cluster::DnsFamily;
use crate::field::{duration, duration_or, enumeration, non_empty, required};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// `ConnPoolSettings`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How long a request may wait for its reply. Zero: every request fails at once.
    pub op_timeout: Duration,
    /// Hash only the `{tag}` of a key on upstreams that are not Redis Clusters.
    pub enable_hashtagging: bool,
    /// Follow MOVED and ASK; answer CLUSTERDOWN with `upstream failure`.
    pub enable_redirection: bool,
    /// Bytes collected before an upstream write; 0 writes at the end of each turn.
    pub max_buffer_size_before_flush: u32,
    /// Longest time bytes are held back when `max_buffer_size_before_flush` is not 0. Default 3 ms.
    pub buffer_flush_timeout: Duration,
    /// Hosts known only through redirections, for each worker and cluster. Default 100.
    pub max_upstream_unknown_connections: u32,
    /// Which node of a shard serves reads.
    pub read_policy: ReadPolicy,
    /// Statistics for each upstream command.
    pub enable_command_stats: bool,
    /// New connections a second for each worker and host; `None` is no limit.
    pub connection_rate_limit: Option<u32>,
    /// `dns_cache_config`: the families that host names in redirections are resolved to. Without it names are resolved
    /// as the cluster's own are; Envoy hands such a redirection to the client.
    pub dns_cache: Option<DnsFamily>,
}

/// `ConnPoolSettings.ReadPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadPolicy {
    /// The primary, whatever its health.
    #[default]
    Master,
    /// The primary if healthy, else any node of the shard.
    PreferMaster,
    /// A replica; none means no host.
    Replica,
    /// A healthy replica if there is one, else any node.
    PreferReplica,
    /// Any node, healthy ones first.
    Any,
    /// A replica in this zone, else any replica, else the primary.
    LocalZoneAffinity,
    /// A replica in this zone, else the primary if in this zone and healthy, else any replica, else the primary.
    LocalZoneAffinityReplicasAndPrimary,
}

impl Settings {
    /// Reads the message.
    pub(crate) fn from_proto(message: &ConnPoolSettings, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let op_timeout = required(message.op_timeout.as_ref(), "op_timeout")?;
        let unknown = message.max_upstream_unknown_connections.as_ref();
        let flush = message.buffer_flush_timeout.as_ref();
        Ok(Self {
            op_timeout: duration(op_timeout, "op_timeout")?,
            enable_hashtagging: message.enable_hashtagging,
            enable_redirection: message.enable_redirection,
            max_buffer_size_before_flush: message.max_buffer_size_before_flush,
            buffer_flush_timeout: duration_or(flush, "buffer_flush_timeout", Duration::from_millis(3))?,
            max_upstream_unknown_connections: unknown.map_or(100, |limit| limit.value),
            read_policy: enumeration::<conn_pool_settings::ReadPolicy>(message.read_policy, "read_policy")?
                .into(),
            enable_command_stats: message.enable_command_stats,
            connection_rate_limit: rate_limit(message)?,
            dns_cache: dns_cache(message, ignored)?,
        })
    }
}

impl From<conn_pool_settings::ReadPolicy> for ReadPolicy {
    fn from(policy: conn_pool_settings::ReadPolicy) -> Self {
        use conn_pool_settings::ReadPolicy as Proto;
        match policy {
            Proto::Master => Self::Master,
            Proto::PreferMaster => Self::PreferMaster,
            Proto::Replica => Self::Replica,
            Proto::PreferReplica => Self::PreferReplica,
            Proto::Any => Self::Any,
            Proto::LocalZoneAffinity => Self::LocalZoneAffinity,
            Proto::LocalZoneAffinityReplicasAndPrimary => Self::LocalZoneAffinityReplicasAndPrimary,
        }
    }
}

fn rate_limit(message: &ConnPoolSettings) -> Result<Option<u32>, Invalid> {
    let Some(limit) = message.connection_rate_limit.as_ref() else {
        return Ok(None);
    };
    match limit.connection_rate_limit_per_sec {
        0 => Err(Invalid::new(
            "connection_rate_limit.connection_rate_limit_per_sec",
            "value must be greater than 0",
        )),
        rate => Ok(Some(rate)),
    }
}

/// The family counts; the cache's other settings change nothing: there is one resolver, with a cache of its own.
fn dns_cache(message: &ConnPoolSettings, ignored: &mut Ignored) -> Result<Option<DnsFamily>, Invalid> {
    let Some(cache) = message.dns_cache_config.as_ref() else {
        return Ok(None);
    };
    ignored.scope("dns_cache_config", |ignored| {
        non_empty(&cache.name, "name")?;
        ignore_fields!(
            ignored,
            cache,
            dns_refresh_rate,
            dns_min_refresh_rate,
            host_ttl,
            max_hosts
        );
        ignore_fields!(
            ignored,
            cache,
            disable_dns_refresh_on_failure,
            dns_failure_refresh_rate,
            dns_cache_circuit_breaker
        );
        ignore_fields!(
            ignored,
            cache,
            use_tcp_for_dns_lookups,
            dns_resolution_config,
            typed_dns_resolver_config
        );
        ignore_fields!(
            ignored,
            cache,
            preresolve_hostnames,
            dns_query_timeout,
            key_value_config
        );
        let family = enumeration(cache.dns_lookup_family, "dns_lookup_family")?;
        Ok(Some(DnsFamily::of(family)))
    })
}
