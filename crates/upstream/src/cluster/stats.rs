//! The stats of one cluster. Those of Redis are made when a redis_proxy first asks for them.

use std::sync::{Arc, OnceLock};

use redplane_config::cluster::Cluster as Config;
use redplane_telemetry::stats::{
    cluster as names, outlier_detection, redis_cluster, redis_discovery, ssl, upstream_command,
};
use redplane_telemetry::{Block, Registry, Scope, Table};

use super::Cluster;

/// The scopes of one cluster.
pub(super) struct Stats {
    /// `cluster.<name>.`
    prefix: String,
    pub(super) scope: Arc<Scope>,
    redis: OnceLock<Arc<Scope>>,
    redis_commands: OnceLock<Arc<Table>>,
    /// There when hosts are spoken to by TLS.
    ssl: Option<Arc<Scope>>,
}

impl Stats {
    pub(super) fn new(stat_name: &str, registry: &Registry, any_tls: bool) -> Self {
        let prefix = format!("cluster.{stat_name}.");
        Self {
            scope: registry.scope(&prefix, &names::SCHEMA),
            redis: OnceLock::new(),
            redis_commands: OnceLock::new(),
            ssl: any_tls.then(|| registry.scope(&format!("{prefix}ssl."), &ssl::SCHEMA)),
            prefix,
        }
    }

    /// `cluster.<name>.outlier_detection.`: there where outliers are detected.
    pub(super) fn outlier(&self, config: &Config, registry: &Registry) -> Option<Block> {
        config.outlier.as_ref()?;
        let prefix = format!("{}outlier_detection.", self.prefix);
        Some(registry.scope(&prefix, &outlier_detection::SCHEMA).block())
    }
}

impl Cluster {
    /// `cluster.<name>.`: the stats every cluster has.
    pub fn stats(&self) -> &Arc<Scope> {
        &self.stats.scope
    }

    /// `cluster.<name>.redis_cluster.`: made when a redis_proxy first asks for it.
    pub fn redis_stats(&self) -> &Arc<Scope> {
        let registry = &self.context.registry;
        self.stats.redis.get_or_init(|| {
            let prefix = format!("{}redis_cluster.", self.stats.prefix);
            registry.scope(&prefix, &redis_cluster::SCHEMA)
        })
    }

    /// `cluster.<name>.redis_cluster.upstream_commands.`: a row for each command, added when it is first sent.
    pub fn redis_commands(&self) -> &Arc<Table> {
        let registry = &self.context.registry;
        self.stats.redis_commands.get_or_init(|| {
            let prefix = format!("{}redis_cluster.upstream_commands.", self.stats.prefix);
            registry.table(&prefix, Arc::default(), &upstream_command::SCHEMA)
        })
    }

    /// `cluster.<name>.ssl.`: there when hosts are spoken to by TLS.
    pub fn ssl_stats(&self) -> Option<&Arc<Scope>> {
        self.stats.ssl.as_ref()
    }

    /// Of discovery's own traffic: `cluster.<name>.` and `cluster.<name>.upstream_commands.`.
    pub fn discovery_stats(&self) -> (Arc<Scope>, Arc<Table>) {
        let registry = &self.context.registry;
        let table = format!("{}upstream_commands.", self.stats.prefix);
        (
            registry.scope(&self.stats.prefix, &redis_discovery::SCHEMA),
            registry.table(&table, Arc::default(), &upstream_command::SCHEMA),
        )
    }
}
