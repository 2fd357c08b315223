//! What servers answer: replies found by their borders, matched first in, first out.

use bytes::Bytes;
use redplane_merge::Answer;
use redplane_redis_core::connection::{Carries, ConnId, MAX_HELD};
use redplane_redis_core::filter::Outcome;
use redplane_redis_core::output::LARGE;
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_flow::action::Gone;
use redplane_resp::reply::{Scan, Scanner};
use redplane_telemetry::stats::cluster;
use redplane_transaction::queued_reply;

use crate::engine::Engine;

/// Bytes of one reply above which its connection is given up: twice what Redis allows a string to have. A reply is kept
/// until it is whole, and a server that never ends one must not fill the memory.
const MAX_REPLY: usize = 1024 * 1024 * 1024;

impl Engine {
    /// Where the driver reads a server's bytes to: its own buffer while a reply is incomplete, else `None`.
    #[inline]
    pub fn upstream_room(&mut self, id: ConnId) -> Option<&mut [u8]> {
        let connection = self.core.connections.get_mut(id.0 as usize)?;
        if connection.incoming.carry.is_empty() {
            None
        } else {
            Some(connection.incoming.carry.room())
        }
    }

    /// `count` bytes came from a server: into its room if it had one, else into `shared`.
    pub fn upstream_received(&mut self, id: ConnId, shared: &[u8], count: usize) {
        let key = id.0 as usize;
        let Some(connection) = self.core.connections.get_mut(key) else {
            return;
        };
        if let Some(live) = &self.core.pools[connection.pool].live {
            live.stats.add(cluster::UPSTREAM_CX_RX_BYTES_TOTAL, count as u64);
        }
        if connection.incoming.carry.is_empty() {
            let data = &shared[..count.min(shared.len())];
            let (used, need) = self.replies(key, data, None);
            if used < data.len()
                && let Some(connection) = self.core.connections.get_mut(key)
            {
                connection
                    .incoming
                    .carry
                    .begin(data, used, need, &mut self.core.buffers);
            }
        } else if connection.incoming.carry.gathers(count) {
            return;
        } else {
            let (buffer, filled) = connection.incoming.carry.take(count);
            self.carried_replies(key, buffer, filled);
        }
        if self.core.connections.get_mut(key).is_some() {
            self.after_replies(key);
        }
        // What was lost is heard of before anybody sends to it.
        self.run_events();
    }

    fn carried_replies(&mut self, key: usize, buffer: Vec<u8>, filled: usize) {
        if filled < LARGE {
            let (used, need) = self.replies(key, &buffer[..filled], None);
            match self.core.connections.get_mut(key) {
                Some(connection) => {
                    connection
                        .incoming
                        .carry
                        .put_back(buffer, used, filled, need, &mut self.core.buffers);
                }
                None => self.core.buffers.give(buffer),
            }
            return;
        }
        let buffer = Bytes::from(buffer);
        let (used, need) = self.replies(key, &buffer[..filled], Some(&buffer));
        let Some(connection) = self.core.connections.get_mut(key) else {
            return;
        };
        match buffer.try_into_mut() {
            Ok(buffer) => {
                connection
                    .incoming
                    .carry
                    .put_back(buffer.into(), used, filled, need, &mut self.core.buffers);
            }
            Err(kept) if used < filled => {
                connection
                    .incoming
                    .carry
                    .begin(&kept[..filled], used, need, &mut self.core.buffers);
            }
            Err(_) => {}
        }
    }

    /// Finds the replies in `data`; says how many bytes they had, and how many the next one needs.
    fn replies(&mut self, key: usize, data: &[u8], shared: Option<&Bytes>) -> (usize, usize) {
        let mut at = 0;
        let mut need = 0;
        while at < data.len() {
            let Some(connection) = self.core.connections.get_mut(key) else {
                return (data.len(), 0);
            };
            match connection.incoming.scanner.scan(&data[at..]) {
                Ok(Scan::Whole(end)) => {
                    connection.incoming.scanner = Scanner::default();
                    self.reply(key, &data[at..at + end], shared);
                    at += end;
                }
                Ok(Scan::Incomplete(bytes)) => {
                    need = bytes;
                    break;
                }
                Err(_) => {
                    self.core.lose(ConnId(key as u32), Gone::Protocol);
                    return (data.len(), 0);
                }
            }
        }
        if need.max(data.len() - at) > MAX_REPLY {
            self.core.lose(ConnId(key as u32), Gone::Protocol);
            return (data.len(), 0);
        }
        (at, need)
    }

    /// One whole reply.
    #[inline]
    fn reply(&mut self, key: usize, raw: &[u8], shared: Option<&Bytes>) {
        if raw.first() == Some(&b'>') {
            // Push frames answer nothing.
            return self.tracking.pushed(&mut self.core, key, raw);
        }
        if self.is_fed(key, raw) {
            return;
        }
        let connection = &mut self.core.connections[key];
        let Some(pending) = connection.pending.pop_front() else {
            // A reply that nobody asked for: whatever follows cannot be trusted.
            return self.core.lose(ConnId(key as u32), Gone::Protocol);
        };
        self.core.in_flight -= 1;
        let is_error = is_error(raw);
        let outcome = Outcome {
            command: pending.counted(),
            success: !is_error,
            micros: self.core.now - pending.since,
        };
        connection
            .tally
            .answered(outcome, self.core.pools[connection.pool].live.as_mut());
        if pending.purpose == Purpose::Reply && !is_error && shared.is_none() {
            return self.core.settle_raw(&pending, raw);
        }
        self.reply_to(key, &pending, raw, shared);
    }

    /// Whether it belongs to a subscription; on a connection with tracking, what it tells about is noted.
    #[inline]
    fn is_fed(&mut self, key: usize, raw: &[u8]) -> bool {
        match self.core.connections[key].carries {
            Carries::Replies => return false,
            Carries::Subscriptions(feed) => return self.pubsub.fed(&mut self.core, feed, raw),
            Carries::Invalidations => self.tracking.note_answered(&mut self.core, key, raw),
        }
        false
    }

    /// A reply for whoever waits for it.
    fn reply_to(&mut self, key: usize, pending: &Pending, raw: &[u8], shared: Option<&Bytes>) {
        let is_error = is_error(raw);
        let answer = || match shared.filter(|_| raw.len() >= LARGE) {
            Some(shared) => Answer::Shared(shared.slice_ref(raw)),
            None => Answer::Raw(raw),
        };
        match pending.purpose {
            _ if is_error
                && pending.purpose.row().redirected
                && self.redirects.intercept(&mut self.core, key, pending, raw) => {}
            Purpose::Pinned => self
                .transactions
                .watch_reply(&mut self.core, key, pending, raw, is_error),
            Purpose::Reply | Purpose::Loaded => {
                self.core
                    .settle(pending.waiter, pending.command, pending.since, answer());
            }
            Purpose::Exec => self.transactions.exec_reply(&mut self.core, key, pending, raw),
            Purpose::Block => self.blocking.block_reply(&mut self.core, key, pending, answer()),
            Purpose::Acknowledged => self
                .blocking
                .acknowledged_reply(&mut self.core, pending.waiter, raw),
            Purpose::Nudge => self.blocking.nudged(&mut self.core, key, pending.waiter),
            Purpose::Published => self.pubsub.published(&mut self.core, key, pending, raw),
            Purpose::Feed => self.pubsub.feed_reply(&mut self.core, key, raw, is_error),
            Purpose::Greeting => self.tracking.greeting_reply(&mut self.core, key, raw, is_error),
            Purpose::Quiet => self.quieted(pending),
            Purpose::Login => self.logins.offered(&mut self.core, pending, Some(raw)),
            Purpose::Select => self.core.selected(pending, raw, is_error),
            Purpose::Mirror if is_error => self.core.mirror_failed(key, pending, raw),
            Purpose::Track => self.tracking.step_joining(&mut self.core, pending, true),
            Purpose::Relay => self.tracking.relay_named(&mut self.core, key, raw, is_error),
            Purpose::Fence => self.tracking.fenced(&mut self.core, key as u32),
            Purpose::Mirror | Purpose::Setup => {}
            Purpose::Auth if is_error => self.core.login_refused(key, raw),
            Purpose::Hello if is_error => self.core.hello_refused(key, raw),
            Purpose::Auth | Purpose::Hello => {}
            Purpose::Probe => self.core.probe_reply(key, raw),
            Purpose::Lesson => self.lessons.lesson(&mut self.core, pending, Some(raw)),
            Purpose::Queued => queued_reply(&mut self.core, key, raw, is_error),
        }
    }

    fn after_replies(&mut self, key: usize) {
        let Some(connection) = self.core.connections.get_mut(key) else {
            return;
        };
        connection.release();
        if connection.carries == Carries::Invalidations {
            self.tracking.end_own_writes(&mut self.core, key as u32);
        }
        let connection = &mut self.core.connections[key];
        connection.add_up(self.core.pools[connection.pool].live.as_mut());
        if let Some(buffer) = connection.out.take_idle_buffer() {
            self.core.buffers.give(buffer);
        }
        if !connection.flush.choked.is_empty() && connection.out.held() < MAX_HELD / 2 {
            self.core.unchoke(key);
        }
        let connection = &self.core.connections[key];
        if connection.life.draining && connection.is_idle() {
            self.core.close_drained(key);
        }
    }
}

/// Whether a reply is an error.
#[inline]
fn is_error(raw: &[u8]) -> bool {
    matches!(raw.first(), Some(b'-' | b'!'))
}
