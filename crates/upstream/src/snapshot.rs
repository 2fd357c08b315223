//! The one world that readers see: listeners as configured, clusters as they live.
//!
//! One owner builds the next [`Snapshot`] and publishes it; the maps are persistent, so a push costs what it changes
//! (O(log N) for each resource). Readers never lock and never see half a push.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache, Guard};
use redplane_config::listener::Listener;
use rpds::HashTrieMapSync;

use crate::Cluster;

/// Everything a worker needs to serve, as of one accepted push.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Grows with every published snapshot.
    pub version: u64,
    /// Listeners by name.
    pub listeners: HashTrieMapSync<String, Arc<Listener>>,
    /// Clusters by name; each publishes its own topology.
    pub clusters: HashTrieMapSync<String, Arc<Cluster>>,
}

impl Snapshot {
    /// The cluster of that name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }
}

/// The current [`Snapshot`]. Cloning shares it.
#[derive(Clone, Default)]
pub struct Store(Arc<ArcSwap<Snapshot>>);

impl Store {
    /// A store that holds an empty snapshot.
    pub fn new() -> Self {
        Self::default()
    }

    /// The current snapshot, for a short look.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    /// The current snapshot, to be kept.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Makes a snapshot the current one. Only one owner may call this.
    pub fn publish(&self, next: Arc<Snapshot>) {
        self.0.store(next);
    }

    /// A reader for one worker: looking is one relaxed load as long as nothing was published.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(Arc::clone(&self.0)))
    }
}

/// One worker's view of a [`Store`].
pub struct Reader(Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl Reader {
    /// The current snapshot.
    pub fn load(&mut self) -> &Arc<Snapshot> {
        self.0.load()
    }
}
