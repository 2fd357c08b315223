//! `load_balancing_policy`: policies as extensions, the first known one counts.

use redplane_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use redplane_proto::pb::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use redplane_proto::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::LocalityConfigSpecifier;
use redplane_proto::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use redplane_proto::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use redplane_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use redplane_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::ring_hash::HashFunction;
use redplane_proto::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use redplane_proto::pb::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;
use redplane_proto::type_url;

use super::{LbPolicy, RingHashFunction, choices, maglev, ring_hash};
use crate::extension::Extension;
use crate::field::{enumeration, required};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// A policy that weighs localities and lets another one choose inside them.
const WRR_LOCALITY: &str =
    "type.googleapis.com/envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality";

/// What a typed policy says.
pub(super) struct Found {
    pub policy: LbPolicy,
    pub locality_weighted: bool,
}

/// Reads the list.
pub(super) fn read(message: &LoadBalancingPolicy, ignored: &mut Ignored) -> Result<Found, Invalid> {
    first_known(message, Nesting::Allowed, ignored)
}

/// A policy may hold a list of policies; a list inside that one is more than anybody needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Allowed,
    Ended,
}

fn first_known(
    message: &LoadBalancingPolicy,
    nesting: Nesting,
    ignored: &mut Ignored,
) -> Result<Found, Invalid> {
    for (i, policy) in message.policies.iter().enumerate() {
        let found = ignored.scope(&format!("policies[{i}].typed_extension_config"), |ignored| {
            let config = required(policy.typed_extension_config.as_ref(), "")?;
            let extension = Extension::new(&config.name, config.typed_config.as_ref());
            let found =
                known(&extension, nesting, ignored).map_err(|refusal| refusal.within("typed_config"))?;
            if found.is_none() {
                ignored.note(format!("typed_config: {} is not known", extension.label()));
            }
            Ok(found)
        })?;
        if let Some(found) = found {
            return Ok(found);
        }
    }
    ignored.note("policies: none is known, hosts are taken in turn");
    Ok(Found {
        policy: LbPolicy::RoundRobin,
        locality_weighted: false,
    })
}

fn known(
    extension: &Extension<'_>,
    nesting: Nesting,
    ignored: &mut Ignored,
) -> Result<Option<Found>, Invalid> {
    let plain = |policy| Found {
        policy,
        locality_weighted: false,
    };
    Ok(Some(match extension.type_url.as_str() {
        type_url::LB_ROUND_ROBIN => {
            let config: RoundRobin = extension.decode(ignored)?;
            ignore_fields!(ignored, config, slow_start_config);
            let locality_weighted = is_weighted(config.locality_lb_config.as_ref());
            Found {
                policy: LbPolicy::RoundRobin,
                locality_weighted,
            }
        }
        type_url::LB_LEAST_REQUEST => least_request(&extension.decode(ignored)?, ignored)?,
        type_url::LB_RANDOM => plain(LbPolicy::Random),
        type_url::LB_RING_HASH => rings(&extension.decode(ignored)?, ignored)?,
        type_url::LB_MAGLEV => tables(&extension.decode(ignored)?, ignored)?,
        type_url::LB_CLUSTER_PROVIDED => plain(LbPolicy::ClusterProvided),
        WRR_LOCALITY if nesting == Nesting::Allowed => {
            let config: WrrLocality = extension.decode(ignored)?;
            let inner = required(config.endpoint_picking_policy.as_ref(), "endpoint_picking_policy")?;
            let found = ignored.scope("endpoint_picking_policy", |ignored| {
                first_known(inner, Nesting::Ended, ignored)
            })?;
            Found {
                locality_weighted: true,
                ..found
            }
        }
        _ => return Ok(None),
    }))
}

fn is_weighted(config: Option<&LocalityLbConfig>) -> bool {
    let specifier = config.and_then(|config| config.locality_config_specifier.as_ref());
    matches!(
        specifier,
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
    )
}

fn least_request(config: &LeastRequest, ignored: &mut Ignored) -> Result<Found, Invalid> {
    ignore_fields!(
        ignored,
        config,
        active_request_bias,
        slow_start_config,
        enable_full_scan,
        selection_method
    );
    let policy = choices(config.choice_count.as_ref().map(|count| count.value))?;
    Ok(Found {
        policy,
        locality_weighted: is_weighted(config.locality_lb_config.as_ref()),
    })
}

fn rings(config: &RingHash, ignored: &mut Ignored) -> Result<Found, Invalid> {
    ignore_fields!(ignored, config, hash_balance_factor);
    let function = match enumeration(config.hash_function, "hash_function")? {
        HashFunction::DefaultHash | HashFunction::XxHash => RingHashFunction::XxHash,
        HashFunction::MurmurHash2 => RingHashFunction::MurmurHash2,
    };
    let hashing = config.consistent_hashing_lb_config.as_ref();
    let use_hostname =
        config.use_hostname_for_hashing || hashing.is_some_and(|hashing| hashing.use_hostname_for_hashing);
    let sizes = (
        config.minimum_ring_size.as_ref(),
        config.maximum_ring_size.as_ref(),
    );
    let policy = ring_hash(sizes.0, sizes.1, function, use_hostname)?;
    Ok(Found {
        policy,
        locality_weighted: config.locality_weighted_lb_config.is_some(),
    })
}

fn tables(config: &Maglev, ignored: &mut Ignored) -> Result<Found, Invalid> {
    let hashing = config.consistent_hashing_lb_config.as_ref();
    if hashing.is_some_and(|hashing| hashing.hash_balance_factor.is_some()) {
        ignored.note("consistent_hashing_lb_config.hash_balance_factor");
    }
    let use_hostname = hashing.is_some_and(|hashing| hashing.use_hostname_for_hashing);
    let policy = maglev(config.table_size.as_ref(), use_hostname)?;
    Ok(Found {
        policy,
        locality_weighted: config.locality_weighted_lb_config.is_some(),
    })
}
