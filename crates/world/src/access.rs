//! Access rules of a chain, with the statistics that they are counted in.

use std::sync::Arc;

use redplane_config::listener::{FilterChain, NetworkFilter};
use redplane_config::rbac::NetworkRbac;
use redplane_telemetry::stats::{rbac, rbac_shadow};
use redplane_telemetry::{Registry, Scope};

/// An RBAC filter of a chain.
pub struct Access {
    /// As configured.
    pub filter: Arc<NetworkRbac>,
    /// `<stat_prefix>.rbac.`
    pub stats: Arc<Scope>,
    /// `<stat_prefix>.rbac.<shadow_rules_stat_prefix>.`
    pub shadow: Arc<Scope>,
}

impl Access {
    /// The filters of a chain, in order.
    pub(crate) fn of(chain: &FilterChain, registry: &Registry) -> Vec<Self> {
        let filters = chain.filters.iter().filter_map(|filter| match filter {
            NetworkFilter::Rbac(filter) => Some(filter),
            _ => None,
        });
        filters.map(|filter| Self::new(filter, registry)).collect()
    }

    fn new(filter: &Arc<NetworkRbac>, registry: &Registry) -> Self {
        let prefix = format!("{}rbac.", dotted(&filter.stat_prefix));
        let shadow = format!("{prefix}{}", dotted(&filter.shadow_prefix));
        Self {
            filter: Arc::clone(filter),
            stats: registry.scope(&prefix, &rbac::SCHEMA),
            shadow: registry.scope(&shadow, &rbac_shadow::SCHEMA),
        }
    }
}

/// A prefix of names: with one dot at its end, if it is not empty. Envoy: `statPrefixJoin`.
pub(crate) fn dotted(prefix: &str) -> String {
    match prefix.strip_suffix('.').unwrap_or(prefix) {
        "" => String::new(),
        prefix => format!("{prefix}."),
    }
}
