//! Listeners that are gone and whose connections are not, as a statistic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redplane_telemetry::Block;
use redplane_telemetry::stats::listener_manager as names;

/// Counts a removed listener as draining for as long as a connection of it lives.
pub(crate) struct Draining(Arc<Mutex<Block>>);

impl Draining {
    pub(crate) fn new(stats: &Arc<Mutex<Block>>) -> Arc<Self> {
        locked(stats).inc(names::TOTAL_LISTENERS_DRAINING);
        Arc::new(Self(Arc::clone(stats)))
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        locked(&self.0).dec(names::TOTAL_LISTENERS_DRAINING);
    }
}

/// Locks, also after a panic elsewhere.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept here is changed in single steps: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
