//! How a cluster finds its hosts: `type`, `cluster_type`, `load_assignment`, `eds_cluster_config`, `dns_*`.

use std::time::Duration;

use redplane_proto::pb::envoy::config::cluster::v3 as proto;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily,
};
use redplane_proto::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as CommonFamily;
use redplane_proto::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use redplane_proto::type_url;

use super::ConfigSource;
use super::redis::RedisCluster;
use super::sentinel::SentinelCluster;
use crate::endpoint::{Assignment, Names};
use crate::extension::Extension;
use crate::field::{duration, enumeration, required};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// The `cluster_type` that discovers a Redis Cluster.
const REDIS: &str = "envoy.clusters.redis";
/// The `cluster_type` that follows a master by its Sentinels: redplane's own.
const SENTINEL: &str = "redplane.clusters.sentinel";
/// Envoy: `dns_refresh_rate` without a value.
const DNS_REFRESH: Duration = Duration::from_secs(5);

/// How hosts are found.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// STATIC: the addresses as given.
    Fixed(Assignment),
    /// STRICT_DNS: every address of every name is a host.
    StrictDns(Dns),
    /// LOGICAL_DNS: one host, whose address is the first of the latest answer when a connection is made.
    LogicalDns(Dns),
    /// EDS over ADS or a file.
    Eds {
        /// The resource to subscribe to.
        service_name: String,
        /// Where it comes from.
        source: ConfigSource,
    },
    /// ORIGINAL_DST: the connection's own destination.
    OriginalDst,
    /// `envoy.clusters.redis`.
    Redis(RedisCluster),
    /// `redplane.clusters.sentinel`.
    Sentinel(SentinelCluster),
}

/// Names to be resolved, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Addresses may be names or IP literals.
    pub assignment: Assignment,
    /// Which families are asked for and preferred.
    pub family: DnsFamily,
    /// Time between look-ups when TTLs are not respected. Default 5 s.
    pub refresh_rate: Duration,
    /// Wait for the TTL of the answer instead.
    pub respect_ttl: bool,
}

/// `dns_lookup_family`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsFamily {
    /// IPv6 if there is any, else IPv4.
    #[default]
    Auto,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4 if there is any, else IPv6.
    V4Preferred,
    /// Both.
    All,
}

impl Discovery {
    /// Reads the fields of the cluster that concern discovery.
    pub(crate) fn from_proto(message: &proto::Cluster, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(
            ignored,
            message,
            dns_jitter,
            dns_failure_refresh_rate,
            dns_resolvers,
            use_tcp_for_dns_lookups
        );
        ignore_fields!(ignored, message, dns_resolution_config, typed_dns_resolver_config);
        let kind = match message.cluster_discovery_type.as_ref() {
            None => DiscoveryType::Static,
            Some(ClusterDiscoveryType::Type(kind)) => enumeration(*kind, "type")?,
            Some(ClusterDiscoveryType::ClusterType(custom)) => return Self::custom(message, custom, ignored),
        };
        Self::of(kind, message, ignored)
    }

    fn of(kind: DiscoveryType, message: &proto::Cluster, ignored: &mut Ignored) -> Result<Self, Invalid> {
        if message.eds_cluster_config.is_some() && kind != DiscoveryType::Eds {
            return Err(Invalid::new(
                "eds_cluster_config",
                "eds_cluster_config set in a non-EDS cluster",
            ));
        }
        match kind {
            DiscoveryType::Static => Ok(Self::Fixed(assignment(message, Names::Refused, ignored)?)),
            DiscoveryType::StrictDns => Ok(Self::StrictDns(Dns::from_proto(message, ignored)?)),
            DiscoveryType::LogicalDns => Ok(Self::LogicalDns(Dns::from_proto(message, ignored)?.single()?)),
            DiscoveryType::Eds => Self::eds(message, ignored),
            DiscoveryType::OriginalDst if message.load_assignment.is_some() => {
                let reason = "ORIGINAL_DST clusters must have no load assignment configured";
                Err(Invalid::new("load_assignment", reason))
            }
            DiscoveryType::OriginalDst => Ok(Self::OriginalDst),
        }
    }

    fn eds(message: &proto::Cluster, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let refuse = |refusal: Invalid| refusal.within("eds_cluster_config");
        ignore_fields!(ignored, message, load_assignment);
        let eds = required(message.eds_cluster_config.as_ref(), "eds_cluster_config")?;
        let source = required(eds.eds_config.as_ref(), "eds_config").map_err(refuse)?;
        let source = ignored.scope("eds_cluster_config.eds_config", |ignored| {
            ConfigSource::shared(source, ignored)
        })?;
        let service_name = if eds.service_name.is_empty() {
            &message.name
        } else {
            &eds.service_name
        };
        Ok(Self::Eds {
            service_name: service_name.clone(),
            source,
        })
    }

    /// A cluster of an extension's type; what is not known runs on the names of its `load_assignment`.
    fn custom(
        message: &proto::Cluster,
        custom: &CustomClusterType,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let extension = Extension::new(&custom.name, custom.typed_config.as_ref());
        match custom.name.as_str() {
            REDIS => RedisCluster::from_proto(message, custom, ignored).map(Self::Redis),
            SENTINEL => SentinelCluster::from_proto(message, custom, ignored).map(Self::Sentinel),
            "envoy.cluster.static" => Self::of(DiscoveryType::Static, message, ignored),
            "envoy.cluster.strict_dns" => Self::of(DiscoveryType::StrictDns, message, ignored),
            "envoy.cluster.logical_dns" => Self::of(DiscoveryType::LogicalDns, message, ignored),
            "envoy.cluster.eds" => Self::of(DiscoveryType::Eds, message, ignored),
            "envoy.cluster.original_dst" => Self::of(DiscoveryType::OriginalDst, message, ignored),
            _ if extension.type_url == type_url::DNS_CLUSTER => {
                Self::dns_cluster(message, &extension, ignored)
            }
            name => {
                ignored.note(format!("cluster_type: {name} is served as STRICT_DNS"));
                Self::of(DiscoveryType::StrictDns, message, ignored)
            }
        }
    }

    fn dns_cluster(
        message: &proto::Cluster,
        extension: &Extension<'_>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let assignment = assignment(message, Names::Resolved, ignored)?;
        ignored.scope("cluster_type.typed_config", |ignored| {
            let config: DnsCluster = extension.decode(ignored)?;
            ignore_fields!(
                ignored,
                config,
                dns_failure_refresh_rate,
                dns_jitter,
                typed_dns_resolver_config
            );
            let dns = Dns {
                assignment,
                family: match enumeration(config.dns_lookup_family, "dns_lookup_family")? {
                    CommonFamily::Unspecified | CommonFamily::Auto => DnsFamily::Auto,
                    CommonFamily::V4Only => DnsFamily::V4Only,
                    CommonFamily::V6Only => DnsFamily::V6Only,
                    CommonFamily::V4Preferred => DnsFamily::V4Preferred,
                    CommonFamily::All => DnsFamily::All,
                },
                refresh_rate: refresh_rate(config.dns_refresh_rate.as_ref())?,
                respect_ttl: config.respect_dns_ttl,
            };
            Ok(if config.all_addresses_in_single_endpoint {
                Self::LogicalDns(dns.single()?)
            } else {
                Self::StrictDns(dns)
            })
        })
    }
}

/// The cluster's own assignment; a cluster without one has no hosts.
pub(super) fn assignment(
    message: &proto::Cluster,
    names: Names,
    ignored: &mut Ignored,
) -> Result<Assignment, Invalid> {
    match message.load_assignment.as_ref() {
        Some(assignment) => ignored.scope("load_assignment", |ignored| {
            Assignment::read(assignment, names, ignored)
        }),
        None => Ok(Assignment {
            cluster: message.name.clone(),
            localities: Vec::new(),
            overprovisioning_factor: 140,
        }),
    }
}

fn refresh_rate(value: Option<&redplane_proto::pb::google::protobuf::Duration>) -> Result<Duration, Invalid> {
    let Some(value) = value else {
        return Ok(DNS_REFRESH);
    };
    let rate = duration(value, "dns_refresh_rate")?;
    // Envoy: more than a millisecond.
    if rate.is_zero() || (rate == Duration::from_millis(1) && value.nanos == 1_000_000) {
        return Err(Invalid::new("dns_refresh_rate", "value must be greater than 1ms"));
    }
    Ok(rate)
}

impl Dns {
    fn from_proto(message: &proto::Cluster, ignored: &mut Ignored) -> Result<Self, Invalid> {
        Ok(Self {
            assignment: assignment(message, Names::Resolved, ignored)?,
            family: DnsFamily::from_proto(message)?,
            refresh_rate: refresh_rate(message.dns_refresh_rate.as_ref())?,
            respect_ttl: message.respect_dns_ttl,
        })
    }

    /// LOGICAL_DNS knows one name only.
    fn single(self) -> Result<Self, Invalid> {
        match self.assignment.localities.as_slice() {
            [locality] if locality.endpoints.len() == 1 => Ok(self),
            _ => Err(Invalid::new(
                "load_assignment",
                "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
            )),
        }
    }
}

impl DnsFamily {
    /// Reads the cluster's `dns_lookup_family`.
    pub(super) fn from_proto(message: &proto::Cluster) -> Result<Self, Invalid> {
        enumeration(message.dns_lookup_family, "dns_lookup_family").map(Self::of)
    }

    /// What a family of the protocol means.
    pub(crate) fn of(family: DnsLookupFamily) -> Self {
        match family {
            DnsLookupFamily::Auto => Self::Auto,
            DnsLookupFamily::V4Only => Self::V4Only,
            DnsLookupFamily::V6Only => Self::V6Only,
            DnsLookupFamily::V4Preferred => Self::V4Preferred,
            DnsLookupFamily::All => Self::All,
        }
    }
}
