//! What is known of clusters beside the snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redplane_admin::ResourceVersion;
use redplane_proto::Any;
use redplane_telemetry::stats::cluster_manager as names;
use redplane_telemetry::{Block, Registry};
use redplane_upstream::Cluster;
use tokio::task::AbortHandle;

/// What is known of clusters beside the snapshot.
pub(crate) struct Clusters {
    /// Those of the bootstrap, which CDS cannot change.
    pub(crate) fixed: HashSet<String>,
    pub(crate) warming: HashMap<String, Warming>,
    /// Those of the bootstrap that have their place and are not warm yet.
    pub(crate) settling: HashMap<String, Option<Watching>>,
    /// Removed, with the number of their wait.
    pub(crate) lingering: HashMap<String, u64>,
    /// Replaced or removed, to be stopped when the next snapshot is out.
    pub(crate) retired: Vec<Arc<Cluster>>,
    pub(crate) discoveries: u64,
    pub(crate) stats: Block,
}

/// A cluster that does not serve yet.
pub(crate) struct Warming {
    pub(crate) wait: u64,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) resource: ResourceVersion,
    pub(crate) assignment: Option<Any>,
    /// Ends with the wait.
    pub(crate) _watching: Option<Watching>,
}

/// The task that waits for a cluster's discovery.
pub(crate) struct Watching(pub(crate) AbortHandle);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Clusters {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            fixed: HashSet::new(),
            warming: HashMap::new(),
            settling: HashMap::new(),
            lingering: HashMap::new(),
            retired: Vec::new(),
            discoveries: 0,
            stats: registry.scope("cluster_manager.", &names::SCHEMA).block(),
        }
    }

    pub(crate) fn stop_retired(&mut self) {
        self.retired.drain(..).for_each(|cluster| cluster.stop());
    }

    pub(crate) fn gauge_warming(&self) {
        self.stats.set(names::WARMING_CLUSTERS, self.warming.len() as u64);
    }
}
