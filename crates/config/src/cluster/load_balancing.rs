//! How one host of a cluster is chosen: `lb_policy` with its `*_lb_config`, or the typed `load_balancing_policy`.
//!
//! Bounds are Envoy's. A typed policy that is not known is passed over for the next one, as in Envoy; where none is
//! known, hosts are taken in turn.

mod typed;

use redplane_proto::pb::envoy::config::cluster::v3 as proto;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::ring_hash_lb_config::HashFunction;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::{self, LbConfig, LbPolicy as Proto};
use redplane_proto::pb::google::protobuf::UInt64Value;

use crate::field::{enumeration, required};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Largest ring, in points.
const MAX_RING: u64 = 8 << 20;
/// Largest Maglev table.
const MAX_TABLE: u64 = 5_000_011;

/// How one host is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LbPolicy {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The less loaded of `choices` random ones.
    LeastRequest {
        /// Default 2.
        choices: u32,
    },
    /// Any.
    Random,
    /// Ketama ring.
    RingHash {
        /// Default 1024.
        minimum_size: u64,
        /// Default 8 Mi.
        maximum_size: u64,
        /// Hash of the ring's points.
        function: RingHashFunction,
        /// `use_hostname_for_hashing`.
        use_hostname: bool,
    },
    /// Maglev table.
    Maglev {
        /// A prime. Default 65537.
        table_size: u64,
        /// `use_hostname_for_hashing`.
        use_hostname: bool,
    },
    /// The cluster says: slots for `envoy.clusters.redis`, the destination for ORIGINAL_DST.
    ClusterProvided,
}

/// Hash function of a ring's points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RingHashFunction {
    /// xxHash64, the default.
    #[default]
    XxHash,
    /// MurmurHash2.
    MurmurHash2,
}

/// `common_lb_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonLb {
    /// `healthy_panic_threshold` in hundredths of a percent. Default 5000; 0 never panics.
    pub panic_threshold: u32,
    /// `locality_weighted_lb_config` is present.
    pub locality_weighted: bool,
}

/// Policy and common settings of a cluster.
pub(super) struct LoadBalancing {
    pub policy: LbPolicy,
    pub common: CommonLb,
}

impl LoadBalancing {
    /// Reads the fields of the cluster that concern load balancing; the typed policy wins over the enum.
    pub(super) fn from_proto(message: &proto::Cluster, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, lb_subset_config);
        let default = cluster::CommonLbConfig::default();
        let common_config = message.common_lb_config.as_ref().unwrap_or(&default);
        let mut common = ignored.scope("common_lb_config", |ignored| {
            CommonLb::from_proto(common_config, ignored)
        })?;
        let kind = enumeration(message.lb_policy, "lb_policy")?;
        if kind == Proto::LoadBalancingPolicyConfig || message.load_balancing_policy.is_some() {
            let typed = required(message.load_balancing_policy.as_ref(), "load_balancing_policy")?;
            let found = ignored.scope("load_balancing_policy", |ignored| typed::read(typed, ignored))?;
            common.locality_weighted |= found.locality_weighted;
            return Ok(Self {
                policy: found.policy,
                common,
            });
        }
        let use_hostname = common_config
            .consistent_hashing_lb_config
            .as_ref()
            .is_some_and(|hashing| hashing.use_hostname_for_hashing);
        Ok(Self {
            policy: by_enum(kind, message.lb_config.as_ref(), use_hostname, ignored)?,
            common,
        })
    }
}

fn by_enum(
    kind: Proto,
    config: Option<&LbConfig>,
    use_hostname: bool,
    ignored: &mut Ignored,
) -> Result<LbPolicy, Invalid> {
    match (kind, config) {
        (Proto::RingHash, Some(LbConfig::RingHashLbConfig(ring))) => {
            let function = match enumeration(ring.hash_function, "ring_hash_lb_config.hash_function")? {
                HashFunction::XxHash => RingHashFunction::XxHash,
                HashFunction::MurmurHash2 => RingHashFunction::MurmurHash2,
            };
            ring_hash(
                ring.minimum_ring_size.as_ref(),
                ring.maximum_ring_size.as_ref(),
                function,
                use_hostname,
            )
            .map_err(|refusal| refusal.within("ring_hash_lb_config"))
        }
        (Proto::Maglev, Some(LbConfig::MaglevLbConfig(table))) => {
            maglev(table.table_size.as_ref(), use_hostname)
                .map_err(|refusal| refusal.within("maglev_lb_config"))
        }
        (Proto::LeastRequest, Some(LbConfig::LeastRequestLbConfig(least))) => {
            ignored.scope("least_request_lb_config", |ignored| {
                ignore_fields!(ignored, least, active_request_bias, slow_start_config);
                choices(least.choice_count.as_ref().map(|count| count.value))
            })
        }
        (kind, config) => {
            if let Some(config) = config {
                ignored.note(config_name(config));
            }
            default_of(kind, use_hostname)
        }
    }
}

fn config_name(config: &LbConfig) -> &'static str {
    match config {
        LbConfig::RingHashLbConfig(_) => "ring_hash_lb_config",
        LbConfig::MaglevLbConfig(_) => "maglev_lb_config",
        LbConfig::OriginalDstLbConfig(_) => "original_dst_lb_config",
        LbConfig::LeastRequestLbConfig(_) => "least_request_lb_config",
        LbConfig::RoundRobinLbConfig(_) => "round_robin_lb_config",
    }
}

fn default_of(kind: Proto, use_hostname: bool) -> Result<LbPolicy, Invalid> {
    match kind {
        Proto::RoundRobin | Proto::LoadBalancingPolicyConfig => Ok(LbPolicy::RoundRobin),
        Proto::LeastRequest => choices(None),
        Proto::Random => Ok(LbPolicy::Random),
        Proto::RingHash => ring_hash(None, None, RingHashFunction::XxHash, use_hostname),
        Proto::Maglev => maglev(None, use_hostname),
        Proto::ClusterProvided => Ok(LbPolicy::ClusterProvided),
    }
}

fn choices(count: Option<u32>) -> Result<LbPolicy, Invalid> {
    match count {
        Some(0 | 1) => Err(Invalid::new(
            "choice_count",
            "value must be greater than or equal to 2",
        )),
        count => Ok(LbPolicy::LeastRequest {
            choices: count.unwrap_or(2),
        }),
    }
}

fn ring_hash(
    minimum: Option<&UInt64Value>,
    maximum: Option<&UInt64Value>,
    function: RingHashFunction,
    use_hostname: bool,
) -> Result<LbPolicy, Invalid> {
    let bounded =
        |value: Option<&UInt64Value>, path, default| match value.map_or(default, |value| value.value) {
            size if size > MAX_RING => Err(Invalid::new(
                path,
                format!("value must be less than or equal to {MAX_RING}"),
            )),
            size => Ok(size),
        };
    let minimum_size = bounded(minimum, "minimum_ring_size", 1024)?;
    let maximum_size = bounded(maximum, "maximum_ring_size", MAX_RING)?;
    if minimum_size > maximum_size {
        let reason =
            format!("ring hash: minimum_ring_size ({minimum_size}) > maximum_ring_size ({maximum_size})");
        return Err(Invalid::new("minimum_ring_size", reason));
    }
    Ok(LbPolicy::RingHash {
        minimum_size,
        maximum_size,
        function,
        use_hostname,
    })
}

fn maglev(table_size: Option<&UInt64Value>, use_hostname: bool) -> Result<LbPolicy, Invalid> {
    let table_size = table_size.map_or(65_537, |size| size.value);
    if table_size > MAX_TABLE {
        return Err(Invalid::new(
            "table_size",
            format!("value must be less than or equal to {MAX_TABLE}"),
        ));
    }
    if !is_prime(table_size) {
        return Err(Invalid::new(
            "table_size",
            "The table size of maglev must be prime number",
        ));
    }
    Ok(LbPolicy::Maglev {
        table_size,
        use_hostname,
    })
}

fn is_prime(n: u64) -> bool {
    n > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= n)
            .all(|divisor| !n.is_multiple_of(divisor))
}

impl CommonLb {
    fn from_proto(message: &cluster::CommonLbConfig, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(
            ignored,
            message,
            update_merge_window,
            ignore_new_hosts_until_first_hc,
            override_host_status
        );
        ignore_fields!(ignored, message, close_connections_on_host_set_change);
        if message
            .consistent_hashing_lb_config
            .as_ref()
            .is_some_and(|hashing| hashing.hash_balance_factor.is_some())
        {
            ignored.note("consistent_hashing_lb_config.hash_balance_factor");
        }
        if matches!(
            message.locality_config_specifier,
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_))
        ) {
            ignored.note("zone_aware_lb_config");
        }
        Ok(Self {
            panic_threshold: panic_threshold(
                message
                    .healthy_panic_threshold
                    .as_ref()
                    .map(|percent| percent.value),
            )?,
            locality_weighted: matches!(
                message.locality_config_specifier,
                Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
            ),
        })
    }
}

/// Percent to hundredths of a percent.
fn panic_threshold(percent: Option<f64>) -> Result<u32, Invalid> {
    let percent = percent.unwrap_or(50.0);
    if !(0.0..=100.0).contains(&percent) {
        return Err(Invalid::new(
            "healthy_panic_threshold.value",
            "value must be inside range [0, 100]",
        ));
    }
    // In range by the check above.
    Ok((percent * 100.0).round() as u32)
}
