//! How many clients one worker has, for everyone to read.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Written by its worker alone.
#[derive(Debug, Default)]
pub struct Headcount {
    clients: AtomicUsize,
    blocked: AtomicUsize,
    tracking: AtomicUsize,
}

impl Headcount {
    /// Clients.
    pub fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// Those of them that wait in a command (a pause, a blocking command).
    pub fn blocked(&self) -> usize {
        self.blocked.load(Relaxed)
    }

    /// Those of them that track.
    pub fn tracking(&self) -> usize {
        self.tracking.load(Relaxed)
    }

    /// A client has come.
    pub fn client_came(&self) {
        self.clients.store(self.clients() + 1, Relaxed);
    }

    /// A client has gone.
    pub fn client_went(&self) {
        self.clients.store(self.clients().saturating_sub(1), Relaxed);
    }

    /// A client waits in a command.
    pub fn client_blocked(&self) {
        self.blocked.store(self.blocked() + 1, Relaxed);
    }

    /// It waits no more.
    pub fn client_unblocked(&self) {
        self.blocked.store(self.blocked().saturating_sub(1), Relaxed);
    }

    /// So many clients track.
    pub fn note_tracking(&self, clients: usize) {
        self.tracking.store(clients, Relaxed);
    }

    /// The worker has ended.
    pub fn clear(&self) {
        for count in [&self.clients, &self.blocked, &self.tracking] {
            count.store(0, Relaxed);
        }
    }
}
