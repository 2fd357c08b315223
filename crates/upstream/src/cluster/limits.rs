//! How much of something there may be at a cluster at a time, over all workers: its circuit breakers.
//!
//! tcp_proxy asks for connections, HTTP for all four resources. What has no limit is not counted, so that nothing is
//! shared between workers where nobody asked for it.
//!
//! Envoy: `ResourceManagerImpl`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use redplane_config::cluster::{RetryLimit, Thresholds};

use super::Cluster;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Connections.
    Connection,
    /// Requests that wait for a connection.
    Pending,
    /// Requests.
    Request,
    /// Retries.
    Retry,
}

/// What there is of each resource, by priority.
#[derive(Debug, Default)]
pub(super) struct Open([[AtomicU64; 4]; 2]);

/// Leave to have one of something; dropping it gives it back.
pub struct Permit(Option<(Arc<Cluster>, bool, Resource)>);

impl Open {
    fn of(&self, high: bool, resource: Resource) -> &AtomicU64 {
        &self.0[usize::from(high)][resource as usize]
    }
}

impl Cluster {
    /// Leave for one more connection; `None` when there are as many as there may be.
    pub fn admit(self: &Arc<Self>) -> Option<Permit> {
        self.admit_one(false, Resource::Connection)
    }

    /// Leave for one more of something; `None` when there is as much as there may be.
    pub fn admit_one(self: &Arc<Self>, high: bool, resource: Resource) -> Option<Permit> {
        let breakers = &self.config.breakers;
        let limits = if high { &breakers.high } else { &breakers.default };
        let most = match resource {
            Resource::Connection => u64::from(limits.connections),
            Resource::Pending => u64::from(limits.pending),
            Resource::Request => u64::from(limits.requests),
            Resource::Retry => self.most_retries(high, limits),
        };
        if !counts(limits, resource) {
            return Some(Permit(None));
        }
        let more = |open| (open < most).then_some(open + 1);
        let open = self.open.of(high, resource);
        open.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Permit(Some((Arc::clone(self), high, resource))))
    }

    fn most_retries(&self, high: bool, limits: &Thresholds) -> u64 {
        match limits.retries {
            RetryLimit::Count(count) => u64::from(count),
            RetryLimit::Budget { percent, least } => {
                let open = |resource| self.open.of(high, resource).load(Relaxed);
                let active = open(Resource::Request) + open(Resource::Pending);
                // A share of a count is far inside the range.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "a share of a count of requests"
                )]
                let share = (active as f64 * percent / 100.0) as u64;
                share.max(u64::from(least))
            }
        }
    }
}

/// Whether a resource has to be counted: it has a limit, or a budget is a share of it.
fn counts(limits: &Thresholds, resource: Resource) -> bool {
    let has_budget = matches!(limits.retries, RetryLimit::Budget { .. });
    match resource {
        Resource::Connection => limits.connections != u32::MAX,
        Resource::Pending => limits.pending != u32::MAX || has_budget,
        Resource::Request => limits.requests != u32::MAX || has_budget,
        Resource::Retry => limits.retries != RetryLimit::Count(u32::MAX),
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((cluster, high, resource)) = self.0.take() {
            cluster.open.of(high, resource).fetch_sub(1, Relaxed);
        }
    }
}
