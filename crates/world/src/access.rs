//! Filters of a chain that keep clients out, with the statistics that they are counted in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use redplane_config::listener::{ConnectionLimit, ConnectionRate, FilterChain, NetworkFilter};
use redplane_config::rbac::NetworkRbac;
use redplane_telemetry::stats::{connection_limit, local_rate_limit, rbac, rbac_shadow};
use redplane_telemetry::{Registry, Scope};

use crate::bucket::Bucket;

/// A filter of a chain that keeps clients out. Versions of a chain that are equal share what it counts.
#[derive(Clone)]
pub enum Access {
    /// `rbac`
    Rules(Rules),
    /// `connection_limit`
    Limit(Limit),
    /// `local_ratelimit`
    Rate(Rate),
}

/// Access rules.
#[derive(Clone)]
pub struct Rules {
    /// As configured.
    pub filter: Arc<NetworkRbac>,
    /// `<stat_prefix>.rbac.`
    pub stats: Arc<Scope>,
    /// `<stat_prefix>.rbac.<shadow_rules_stat_prefix>.`
    pub shadow: Arc<Scope>,
}

/// A limit of connections at a time.
#[derive(Clone)]
pub struct Limit {
    /// As configured.
    pub config: Arc<ConnectionLimit>,
    /// `connection_limit.<stat_prefix>.`
    pub stats: Arc<Scope>,
    open: Arc<AtomicU64>,
}

/// A place among the connections of a limit, until it is dropped.
pub struct Permit(Arc<AtomicU64>);

/// A limit of connections in a time.
#[derive(Clone)]
pub struct Rate {
    /// `local_rate_limit.<stat_prefix>.`
    pub stats: Arc<Scope>,
    /// What connections take from.
    pub bucket: Arc<Bucket>,
}

impl Access {
    /// The filters of a chain, in order. `bucket` has the bucket of a rate limit.
    pub(crate) fn of(
        chain: &FilterChain,
        registry: &Registry,
        mut bucket: impl FnMut(&ConnectionRate) -> Arc<Bucket>,
    ) -> Vec<Self> {
        let filters = chain.filters.iter().filter_map(|filter| match filter {
            NetworkFilter::Rbac(filter) => Some(Self::Rules(Rules::new(filter, registry))),
            NetworkFilter::Limit(config) => Some(Self::Limit(Limit::new(config, registry))),
            NetworkFilter::Rate(config) => {
                let prefix = format!("local_rate_limit.{}", dotted(&config.stat_prefix));
                Some(Self::Rate(Rate {
                    stats: registry.scope(&prefix, &local_rate_limit::SCHEMA),
                    bucket: bucket(config),
                }))
            }
            NetworkFilter::SniCluster | NetworkFilter::WithoutEffect { .. } => None,
        });
        filters.collect()
    }
}

impl Rules {
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

impl Limit {
    fn new(config: &Arc<ConnectionLimit>, registry: &Registry) -> Self {
        let prefix = format!("connection_limit.{}", dotted(&config.stat_prefix));
        Self {
            config: Arc::clone(config),
            stats: registry.scope(&prefix, &connection_limit::SCHEMA),
            open: Arc::new(AtomicU64::new(0)),
        }
    }

    /// A place for one more connection, if there is one.
    pub fn enter(&self) -> Option<Permit> {
        let below = |open: u64| (open < self.config.max).then_some(open + 1);
        let entered = self.open.fetch_update(Relaxed, Relaxed, below);
        entered.is_ok().then(|| Permit(Arc::clone(&self.open)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A prefix of names: with one dot at its end, if it is not empty. Envoy: `statPrefixJoin`.
pub(crate) fn dotted(prefix: &str) -> String {
    match prefix.strip_suffix('.').unwrap_or(prefix) {
        "" => String::new(),
        prefix => format!("{prefix}."),
    }
}
