//! What workers tell the control side: counters and a short bounded queue, never a lock that could be held.
//!
//! A move that finds the queue full is dropped: the slot's next request is redirected again and tells once more.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::sync::{Notify, mpsc};

/// What a worker saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `-MOVED`: the slot is served by this address. The topology changes at once; it counts as a redirection as well.
    Moved {
        /// Below 16384; others are ignored.
        slot: u16,
        /// The server that serves it.
        to: SocketAddr,
    },
    /// A redirection was followed (`-ASK`).
    Redirected,
    /// A request failed: timeout, closed connection, connect failure, `-CLUSTERDOWN`.
    Failed,
    /// A primary refused a write because it is none any more (`-READONLY`).
    Demoted,
    /// A host's health changed ([`Host::set_health`](crate::Host::set_health)).
    Degraded,
}

/// Most moves that may wait; a burst of one resharding step fits.
const QUEUE: usize = 4096;

/// The receiving end of the moves.
pub type Moves = mpsc::Receiver<(u16, SocketAddr)>;

/// Where signals are collected.
pub struct Events {
    moves: mpsc::Sender<(u16, SocketAddr)>,
    redirected: AtomicU32,
    failed: AtomicU32,
    degraded: AtomicU32,
    wake: Notify,
}

/// Signals since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// `-MOVED` and `-ASK`.
    pub redirected: u32,
    /// Requests without an answer, and refused writes.
    pub failed: u32,
    /// Hosts whose health changed.
    pub degraded: u32,
}

impl Events {
    pub(crate) fn new() -> (Self, Moves) {
        let (moves, receiver) = mpsc::channel(QUEUE);
        let (redirected, failed, degraded) = Default::default();
        (
            Self {
                moves,
                redirected,
                failed,
                degraded,
                wake: Notify::new(),
            },
            receiver,
        )
    }

    pub(crate) fn tell(&self, signal: Signal) {
        let counter = match signal {
            Signal::Moved { slot, to } => {
                // Full: the next redirection of the slot tells again.
                let _ = self.moves.try_send((slot, to));
                &self.redirected
            }
            Signal::Redirected => &self.redirected,
            Signal::Failed | Signal::Demoted => &self.failed,
            Signal::Degraded => &self.degraded,
        };
        // Only the first of a burst has to wake anybody: the reader takes all counters back to 0.
        if counter.fetch_add(1, Relaxed) == 0 {
            self.wake.notify_one();
        }
    }

    /// Waits until something was told.
    pub async fn told(&self) {
        self.wake.notified().await;
    }

    /// Takes what was told.
    pub fn take(&self) -> Tally {
        Tally {
            redirected: self.redirected.swap(0, Relaxed),
            failed: self.failed.swap(0, Relaxed),
            degraded: self.degraded.swap(0, Relaxed),
        }
    }
}
