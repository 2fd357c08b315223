//! The `tcp_proxy` network filter: `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.

#[cfg(test)]
mod tests;

use std::time::Duration;

use redplane_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3 as proto;
use redplane_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster as WeightedClusters,
};

use crate::access_log::AccessLog;
use crate::field::{duration, non_empty};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// One validated filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProxy {
    /// Stats go under `tcp.<stat_prefix>.`.
    pub stat_prefix: String,
    /// Clusters with their weights, at least one, no weight zero in sum.
    pub clusters: Vec<WeightedCluster>,
    /// Closes a connection on which nothing moved for so long; `None` never. Envoy's default is one hour.
    pub idle_timeout: Option<Duration>,
    /// `max_connect_attempts`, at least 1, if it is set.
    pub max_connect_attempts: Option<u32>,
    /// `max_downstream_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// Access logs of the filter.
    pub access_log: Vec<AccessLog>,
}

/// One member of `weighted_clusters`, or the only `cluster` with weight 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedCluster {
    /// Cluster name; it need not exist.
    pub cluster: String,
    /// Share of the sum of all weights.
    pub weight: u32,
}

impl TcpProxy {
    /// Reads the message. What would change where bytes go and is not served is refused.
    pub fn from_proto(message: &proto::TcpProxy, ignored: &mut Ignored) -> Result<Self, Invalid> {
        note_ignored(message, ignored);
        if message.tunneling_config.is_some() {
            return Err(Invalid::new("tunneling_config", "tunnels are not supported"));
        }
        Ok(Self {
            stat_prefix: non_empty(&message.stat_prefix, "stat_prefix")?,
            clusters: clusters(message, ignored)?,
            idle_timeout: idle_timeout(message)?,
            max_connect_attempts: max_connect_attempts(message)?,
            max_connection_duration: max_connection_duration(message)?,
            access_log: AccessLog::list(&message.access_log, ignored)?,
        })
    }
}

fn note_ignored(message: &proto::TcpProxy, ignored: &mut Ignored) {
    ignore_fields!(
        ignored,
        message,
        on_demand,
        metadata_match,
        downstream_idle_timeout,
        upstream_idle_timeout
    );
    ignore_fields!(
        ignored,
        message,
        backoff_options,
        hash_policy,
        max_downstream_connection_duration_jitter_percentage
    );
    ignore_fields!(
        ignored,
        message,
        access_log_flush_interval,
        flush_access_log_on_connected,
        access_log_options
    );
    ignore_fields!(
        ignored,
        message,
        proxy_protocol_tlvs,
        proxy_protocol_tlv_merge_policy,
        upstream_connect_mode
    );
    ignore_fields!(ignored, message, max_early_data_bytes, check_drain_close);
}

fn clusters(message: &proto::TcpProxy, ignored: &mut Ignored) -> Result<Vec<WeightedCluster>, Invalid> {
    match message.cluster_specifier.as_ref() {
        None => Err(Invalid::new("cluster_specifier", "value is required")),
        Some(ClusterSpecifier::Cluster(cluster)) => Ok(vec![WeightedCluster {
            cluster: non_empty(cluster, "cluster")?,
            weight: 1,
        }]),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => ignored.scope("weighted_clusters", |ignored| {
            weighted_clusters(weighted, ignored)
        }),
    }
}

fn weighted_clusters(
    message: &WeightedClusters,
    ignored: &mut Ignored,
) -> Result<Vec<WeightedCluster>, Invalid> {
    let list = ignored.each("clusters", &message.clusters, |member, ignored| {
        ignore_fields!(ignored, member, metadata_match);
        if member.weight == 0 {
            return Err(Invalid::new("weight", "value must be greater than or equal to 1"));
        }
        Ok(WeightedCluster {
            cluster: non_empty(&member.name, "name")?,
            weight: member.weight,
        })
    })?;
    if list.is_empty() {
        return Err(Invalid::new("clusters", "value must contain at least 1 item(s)"));
    }
    if list.iter().map(|member| u64::from(member.weight)).sum::<u64>() > u64::from(u32::MAX) {
        return Err(Invalid::new("clusters", "the sum of weights exceeds 4294967295"));
    }
    Ok(list)
}

fn idle_timeout(message: &proto::TcpProxy) -> Result<Option<Duration>, Invalid> {
    let Some(value) = message.idle_timeout.as_ref() else {
        return Ok(Some(Duration::from_secs(3600)));
    };
    let timeout = duration(value, "idle_timeout")?;
    Ok((!timeout.is_zero()).then_some(timeout))
}

fn max_connect_attempts(message: &proto::TcpProxy) -> Result<Option<u32>, Invalid> {
    match message
        .max_connect_attempts
        .as_ref()
        .map(|attempts| attempts.value)
    {
        Some(0) => Err(Invalid::new(
            "max_connect_attempts",
            "value must be greater than or equal to 1",
        )),
        attempts => Ok(attempts),
    }
}

fn max_connection_duration(message: &proto::TcpProxy) -> Result<Option<Duration>, Invalid> {
    let path = "max_downstream_connection_duration";
    let Some(value) = message.max_downstream_connection_duration.as_ref() else {
        return Ok(None);
    };
    let limit = duration(value, path)?;
    if limit.is_zero() {
        return Err(Invalid::new(path, "value must be greater than or equal to 1ms"));
    }
    Ok(Some(limit))
}
