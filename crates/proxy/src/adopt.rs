//! What is published, taken over between two turns: configurations, topologies, and what they mean to open clients.
//!
//! A request never meets a change halfway: pools, filters and slot maps stay as they are for a whole turn. A client
//! whose requests may still travel by the former ways rests until they are answered, so that what it sends next does
//! not get there first. Pools and filters live as long as something uses them; nothing here opens a connection.

use std::sync::Arc;

use redplane_redis_core::pool::{Live, Pool};
use redplane_world::Snapshot;

use crate::engine::Engine;

impl Engine {
    /// Takes over the published configuration, clusters first, and the topologies of what is in use.
    #[cold]
    pub(crate) fn adopt(&mut self, latest: Arc<Snapshot>, published: u64) {
        self.turn.published = published;
        let reconfigured = !Arc::ptr_eq(&latest, &self.core.shared.snapshot);
        self.core.shared.snapshot = latest;
        let mut changed = Vec::new();
        for key in 0..self.core.pools.capacity() {
            let in_use = self.core.pools.get(key).is_some_and(Pool::is_in_use);
            if in_use && ((reconfigured && self.core.resolve_pool(key)) || self.refresh_pool(key)) {
                changed.push(key);
            }
        }
        let mut filters = Vec::new();
        if reconfigured {
            filters.extend((0..self.core.filters.capacity()).filter(|&key| self.core.filters.contains(key)));
            filters.retain(|&key| self.core.resolve_filter(key));
            self.pubsub.adopt_pubsub(&mut self.core, &filters);
            self.tracking.adopt_tracking(&mut self.core, &filters);
        }
        if !changed.is_empty() || !filters.is_empty() {
            self.core.rest_where(&changed, &filters);
        }
    }

    /// Takes over a cluster's latest topology; false when there is no other.
    fn refresh_pool(&mut self, pool: usize) -> bool {
        let live = self.core.pools[pool].live.as_mut();
        let Some(gone) = live.and_then(Live::refresh) else {
            return false;
        };
        self.core.drain_connections(&gone);
        self.tracking.tracking_moved(&mut self.core, pool);
        true
    }
}
