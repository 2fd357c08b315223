//! The stats of one listener on one worker.

use redplane_telemetry::stats::{listener, listener_worker, ssl};
use redplane_telemetry::{Block, Registry};

/// Cells of one worker.
#[derive(Debug)]
pub(crate) struct Stats {
    /// `listener.<stat_name>.`
    pub listener: Block,
    /// `listener.<stat_name>.worker_<n>.`
    pub worker: Block,
    /// `listener.<stat_name>.ssl.`
    pub ssl: Block,
}

impl Stats {
    /// New cells.
    pub(crate) fn new(registry: &Registry, stat_name: &str, worker: usize) -> Self {
        let prefix = format!("listener.{stat_name}.");
        Self {
            listener: registry.scope(&prefix, &listener::SCHEMA).block(),
            worker: registry
                .scope(&format!("{prefix}worker_{worker}."), &listener_worker::SCHEMA)
                .block(),
            ssl: registry.scope(&format!("{prefix}ssl."), &ssl::SCHEMA).block(),
        }
    }
}
