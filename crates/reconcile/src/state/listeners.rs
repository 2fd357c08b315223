//! What is known of listeners beside the snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redplane_admin::ResourceVersion;
use redplane_config::listener::Listener as Config;
use redplane_proxy::Statistics;
use redplane_telemetry::stats::listener_manager as names;
use redplane_telemetry::{Block, Registry};

use crate::book::Origin;

/// What is known of listeners beside the snapshot.
pub(crate) struct Listeners {
    /// Those of the bootstrap, which LDS cannot change.
    pub(crate) fixed: HashSet<String>,
    pub(crate) waiting: HashMap<String, Waiting>,
    /// Held so that a listener's statistics stand from its beginning to its end.
    pub(crate) statistics: HashMap<String, Vec<Statistics>>,
    pub(crate) stats: Block,
}

/// A listener that does not serve yet.
pub(crate) struct Waiting {
    pub(crate) wait: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) origin: Origin,
    pub(crate) resource: ResourceVersion,
    /// Start-up is not over without it.
    pub(crate) first: bool,
}

impl Listeners {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            fixed: HashSet::new(),
            waiting: HashMap::new(),
            statistics: HashMap::new(),
            stats: registry.scope("listener_manager.", &names::SCHEMA).block(),
        }
    }

    /// Whether start-up still waits for one.
    pub(crate) fn are_first_ones_waiting(&self) -> bool {
        self.waiting.values().any(|waiting| waiting.first)
    }
}
