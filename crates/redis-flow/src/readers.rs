//! Clients that do not read what they are owed: they are watched, and closed when it goes on too long.

use std::time::Duration;

use redplane_redis_core::client::ClientId;
use redplane_redis_core::client::queue::MAX_OUTPUT;
use redplane_redis_core::client::reading::Reading;

use crate::core::Core;

/// How often is looked at those that do not even take enough to be looked at when they do.
const LOOK: Duration = Duration::from_millis(250);

impl Core {
    /// Looks at a client for which more than [`MAX_OUTPUT`] waits.
    #[cold]
    pub fn watch_reader(&mut self, key: usize) {
        let now = self.now;
        let Some(client) = self.clients.get(key) else {
            return;
        };
        let own =
            |reading: &Reading| reading.client as usize == key && reading.generation == client.generation;
        let Some(reading) = self.due.slow_readers.iter_mut().find(|reading| own(reading)) else {
            return self.due.slow_readers.push(Reading::begun(key, client, now));
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
    pub fn tick_readers(&mut self) {
        for mut reading in std::mem::take(&mut self.due.slow_readers) {
            let client = self.clients.known(reading.client, reading.generation);
            let Some(client) = client.filter(|client| client.replies.backlog() > MAX_OUTPUT) else {
                continue;
            };
            match reading.goes_on(client, self.now) {
                true => self.due.slow_readers.push(reading),
                false => self.close_reader(reading.client as usize),
            }
        }
    }

    /// When [`Self::tick_readers`] has something to do.
    pub fn next_reader_tick(&self) -> Option<Duration> {
        (!self.due.slow_readers.is_empty()).then_some(LOOK)
    }
}
