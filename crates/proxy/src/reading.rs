//! Whether a client takes what waits for it: one that reads gets everything, whatever its size; one that does not is
//! closed.
//!
//! Looked at only while more than [`MAX_OUTPUT`] waits. Time alone would let a client that reads nothing gather whatever
//! servers send meanwhile; bytes alone would close one that reads, but not while the next large reply came in.

use std::time::Duration;

use crate::engine::Engine;
use redplane_redis_core::client::queue::MAX_OUTPUT;
use redplane_redis_core::client::{Client, ClientId};

/// Microseconds in which [`TAKEN`] must be taken, and where as much again as [`MAX_OUTPUT`] has come meanwhile.
const PATIENCE: u64 = 10_000_000;
const SHORT_PATIENCE: u64 = 500_000;
/// Bytes that show that a client reads.
const TAKEN: u64 = 64 * 1024;
/// How often is looked at those that do not even take enough to be looked at when they do.
const LOOK: Duration = Duration::from_millis(250);

/// How a client takes what waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    client: u32,
    generation: u32,
    /// When it had last shown that it reads; what it had been sent by then, and what waited.
    since: u64,
    sent: u64,
    owed: usize,
}

impl Reading {
    fn begun(key: usize, client: &Client, now: u64) -> Self {
        Self {
            client: key as u32,
            generation: client.generation,
            since: now,
            sent: client.replies.sent,
            owed: client.replies.backlog(),
        }
    }

    /// Whether its client reads, or has not had time enough to show it.
    fn goes_on(&mut self, client: &Client, now: u64) -> bool {
        if client.replies.sent >= self.sent + TAKEN {
            *self = Self::begun(self.client as usize, client, now);
        }
        let waited = now.saturating_sub(self.since);
        let grows = client.replies.backlog() > self.owed + MAX_OUTPUT;
        waited < PATIENCE && !(grows && waited >= SHORT_PATIENCE)
    }
}

impl Engine {
    /// Looks at a client for which more than [`MAX_OUTPUT`] waits.
    #[cold]
    pub(crate) fn watch_reader(&mut self, key: usize) {
        let now = self.now;
        let Some(client) = self.clients.get(key) else {
            return;
        };
        let own =
            |reading: &Reading| reading.client as usize == key && reading.generation == client.generation;
        let Some(reading) = self.slow_readers.iter_mut().find(|reading| own(reading)) else {
            return self.slow_readers.push(Reading::begun(key, client, now));
        };
        if !reading.goes_on(client, now) {
            self.close_reader(key);
        }
    }

    fn close_reader(&mut self, key: usize) {
        if let Some(client) = self.clients.get(key) {
            tracing::warn!(target: "redis", client = client.session.id, waiting = client.replies.backlog(), "closed: it does not read its replies");
            self.close_client(ClientId(key as u32));
        }
    }

    /// Looks at those that are watched, also when their sockets say nothing.
    pub(crate) fn tick_readers(&mut self) {
        for mut reading in std::mem::take(&mut self.slow_readers) {
            let client = self.clients.known(reading.client, reading.generation);
            let Some(client) = client.filter(|client| client.replies.backlog() > MAX_OUTPUT) else {
                continue;
            };
            match reading.goes_on(client, self.now) {
                true => self.slow_readers.push(reading),
                false => self.close_reader(reading.client as usize),
            }
        }
    }

    /// When [`Self::tick_readers`] has something to do.
    pub(crate) fn next_reader_tick(&self) -> Option<Duration> {
        (!self.slow_readers.is_empty()).then_some(LOOK)
    }
}
