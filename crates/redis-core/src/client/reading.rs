//! Whether a client takes what waits for it: one that reads gets everything, whatever its size; one that does not is
//! closed.
//!
//! Looked at only while more than [`MAX_OUTPUT`] waits. Time alone would let a client that reads nothing gather whatever
//! servers send meanwhile; bytes alone would close one that reads, but not while the next large reply came in.

use super::Client;
use super::queue::MAX_OUTPUT;

/// Microseconds in which [`TAKEN`] must be taken, and where as much again as [`MAX_OUTPUT`] has come meanwhile.
const PATIENCE: u64 = 10_000_000;
const SHORT_PATIENCE: u64 = 500_000;
/// Bytes that show that a client reads.
const TAKEN: u64 = 64 * 1024;

/// How a client takes what waits for it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Whose it is.
    pub client: u32,
    /// So that no other one is taken for it.
    pub generation: u32,
    /// When it had last shown that it reads; what it had been sent by then, and what waited.
    since: u64,
    sent: u64,
    owed: usize,
}

impl Reading {
    /// From now on it is looked at.
    pub fn begun(key: usize, client: &Client, now: u64) -> Self {
        Self {
            client: key as u32,
            generation: client.generation,
            since: now,
            sent: client.replies.sent,
            owed: client.replies.backlog(),
        }
    }

    /// Whether its client reads, or has not had time enough to show it.
    pub fn goes_on(&mut self, client: &Client, now: u64) -> bool {
        if client.replies.sent >= self.sent + TAKEN {
            *self = Self::begun(self.client as usize, client, now);
        }
        let waited = now.saturating_sub(self.since);
        let grows = client.replies.backlog() > self.owed + MAX_OUTPUT;
        waited < PATIENCE && !(grows && waited >= SHORT_PATIENCE)
    }
}
