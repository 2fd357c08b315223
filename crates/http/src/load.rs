//! How busy a connection is: requests on it, and since when there is none. It never decides what an end means.

use std::cell::Cell;
use std::future::pending;
use std::time::Duration;

use tokio::time::Instant;

/// Requests on a connection, of either side.
pub(crate) struct Load {
    active: Cell<usize>,
    idle_since: Cell<Instant>,
}

impl Load {
    /// Of a connection without requests.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            active: Cell::new(0),
            idle_since: Cell::new(now),
        }
    }

    /// Requests on it now.
    pub(crate) fn active(&self) -> usize {
        self.active.get()
    }

    /// One more.
    pub(crate) fn begin(&self) {
        self.active.set(self.active.get() + 1);
    }

    /// One less.
    pub(crate) fn end(&self) {
        self.active.set(self.active.get().saturating_sub(1));
        if self.active.get() == 0 {
            self.idle_since.set(Instant::now());
        }
    }

    /// Waits until it has been idle for so long; for ever without a limit. The timer is set anew only when it fires, not
    /// with every request.
    pub(crate) async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return pending().await;
        };
        loop {
            let now = Instant::now();
            let at = if self.active.get() > 0 {
                now + limit
            } else {
                self.idle_since.get() + limit
            };
            if at <= now {
                return;
            }
            tokio::time::sleep_until(at).await;
        }
    }
}
