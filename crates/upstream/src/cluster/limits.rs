//! How many connections there may be to a cluster: `max_connections` of its circuit breaker, over all workers.
//!
//! It bounds connections that carry one client each (tcp_proxy). Those that clients share are few by nature.
//!
//! Envoy: `ResourceManager::connections`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Cluster;

/// Leave to have one connection; dropping it gives it back.
pub struct Permit(Arc<Cluster>);

impl Cluster {
    /// Leave for one more connection; `None` when there are as many as there may be.
    pub fn admit(self: &Arc<Self>) -> Option<Permit> {
        let most = u64::from(self.config.max_connections);
        let more = |open| (open < most).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
