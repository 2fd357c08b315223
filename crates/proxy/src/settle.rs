//! How replies find back: to their place in their client's order, and out when it is their turn.

use std::time::Duration;

use redplane_command::CommandId;

use crate::core::Core;
use crate::dispatch::mark_dirty;
use crate::engine::Engine;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::queue::MAX_OUTPUT;
use redplane_redis_core::client::reading::Reading;
use redplane_redis_core::client::{ClientId, Slot, Waiter};
use redplane_redis_core::filter::Outcome;
use redplane_redis_core::pending::Pending;

/// How often is looked at those that do not even take enough to be looked at when they do.
const LOOK: Duration = Duration::from_millis(250);

/// Nothing where an array might be, as a protocol says it.
pub(crate) fn null_array(resp3: bool) -> &'static [u8] {
    if resp3 { b"_\r\n" } else { b"*-1\r\n" }
}

/// How a command ended, for the statistics.
#[derive(Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) command: CommandId,
    pub(crate) success: bool,
    pub(crate) since: u64,
}

impl Core {
    /// The reply of a command that several servers were asked, at its place.
    pub(crate) fn deliver(&mut self, key: usize, offset: usize, ended: Ended, reply: &[u8]) {
        let client = &mut self.clients[key];
        let sequence = client.replies.head().wrapping_add(offset as u32);
        if client.features.has(Feature::Delays) && self.hold_delayed(key, sequence, ended, reply) {
            return;
        }
        self.clients[key].replies.finish(offset, reply);
        self.finished(key, ended.command, ended.success, ended.since);
    }

    /// A command has its whole reply: statistics, and the client is written to at the end of the turn.
    #[inline]
    pub(crate) fn finished(&mut self, key: usize, command: CommandId, success: bool, since: u64) {
        let client = &mut self.clients[key];
        let outcome = Outcome {
            command: Some(command),
            success,
            micros: self.now - since,
        };
        self.tally.ended(client.filter, &self.filters, outcome);
        mark_dirty(client, key, &mut self.due.clients);
    }

    /// A failure before anything was sent: answered in its place, and counted.
    #[cold]
    pub(crate) fn fail_now(&mut self, key: usize, command: CommandId, failure: Failure) {
        let client = &mut self.clients[key];
        client.replies.reply(|out| out.extend_from_slice(failure.reply()));
        let filter = &self.filters[client.filter];
        if let Some(cells) = filter.cells(command) {
            cells.inc(redplane_telemetry::stats::redis_command::ERROR);
        }
    }

    /// A server's reply, for a client that nearly always waits for just that.
    #[inline]
    pub(crate) fn settle_raw(&mut self, pending: &Pending, reply: &[u8]) {
        let waiter = pending.waiter;
        let key = waiter.client as usize;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let offset = client.replies.offset(waiter.sequence);
        let waits = client.generation == waiter.generation
            && !client.features.has(Feature::Delays)
            && client.replies.waits_at(offset);
        if !waits {
            return self.settle(waiter, pending.command, pending.since, Answer::Raw(reply));
        }
        client.replies.out.lend(|| self.buffers.take_empty());
        client.replies.finish(offset, reply);
        let outcome = Outcome {
            command: Some(pending.command),
            success: true,
            micros: self.now - pending.since,
        };
        self.tally.ended(client.filter, &self.filters, outcome);
        mark_dirty(client, key, &mut self.due.clients);
    }

    /// A request is answered. `since` is when it was sent, for the statistics.
    pub(crate) fn settle(&mut self, waiter: Waiter, command: CommandId, since: u64, answer: Answer<'_>) {
        let key = waiter.client as usize;
        let Some(client) = self.clients.of_mut(waiter) else {
            return;
        };
        let delayed = client.features.has(Feature::Delays);
        match client.replies.slot(waiter.sequence) {
            Some((offset, Slot::Waiting)) => {
                let ended = Ended {
                    command,
                    success: !matches!(answer, Answer::Failed(_)),
                    since,
                };
                if delayed && self.hold_delayed(key, waiter.sequence, ended, answer.bytes()) {
                    return;
                }
                let client = &mut self.clients[key];
                client.replies.out.lend(|| self.buffers.take_empty());
                match answer {
                    Answer::Shared(reply) => client.replies.finish_shared(offset, reply),
                    small => client.replies.finish(offset, small.bytes()),
                }
                self.finished(key, command, ended.success, since);
            }
            Some((offset, Slot::Split(_))) => self.settle_part(key, offset, waiter.part, answer),
            _ => {}
        }
    }

    /// A part of a split command is answered; the last one completes it.
    fn settle_part(&mut self, key: usize, offset: usize, part: u32, answer: Answer<'_>) {
        let client = &mut self.clients[key];
        match client.replies.take_part(offset, part, answer) {
            Some(split) => self.complete(key, offset, split),
            None if client.replies.is_full() => {
                client.inlet.rest(Rest::Output);
                // Whether that is more than can be kept is found out when it is written to.
                mark_dirty(client, key, &mut self.due.clients);
            }
            None => {}
        }
    }
}

impl Engine {
    /// The driver wrote `count` bytes to a client. Says whether more waits.
    pub fn client_wrote(&mut self, id: ClientId, count: usize) -> bool {
        let key = id.0 as usize;
        let Some(client) = self.core.clients.get_mut(key) else {
            return false;
        };
        client.dirty = false;
        client.replies.out.wrote_for_good(count);
        client.replies.sent += count as u64;
        self.core.tally.sent(client.filter, &self.core.filters, count);
        if client.replies.out.unwritten() > 0 {
            if client.replies.backlog() > MAX_OUTPUT {
                self.core.watch_reader(key);
            }
            return true;
        }
        if let Some(buffer) = client.replies.out.take_idle_buffer() {
            self.core.buffers.give(buffer);
        }
        client.replies.shrink(&mut self.core.buffers);
        if client.awaits_output() {
            self.after_output(key);
        }
        false
    }

    /// All that was to be written is: connections that end, end here, and paused ones go on.
    fn after_output(&mut self, key: usize) {
        let client = &mut self.core.clients[key];
        let id = ClientId(key as u32);
        if client.inlet.is_closed() {
            return;
        }
        if client.replies.is_empty() {
            if client.inlet.is_ending() {
                // Half an array is no reply.
                if !client.features.has(Feature::Share) || self.go_on_with_share(key) {
                    self.core.close_client(id);
                }
                return;
            }
            if client.inlet.rests_for(Rest::Order) {
                self.go_on_in_order(key);
            }
            // What was read is served before the client is sent away.
            let client = self.core.clients.get(key);
            if client.is_some_and(|client| client.session.draining && client.is_between_requests()) {
                return self.core.drain_close(id);
            }
        }
        let client = self.core.clients.get(key);
        if client.is_some_and(|client| client.inlet.rests_for(Rest::Output) && client.replies.has_room()) {
            self.core.lift(key, Rest::Output);
        }
    }

    /// The client will send nothing more: what it asked for is answered, then its connection closes.
    pub fn client_finished(&mut self, id: ClientId) {
        let key = id.0 as usize;
        let Some(client) = self.core.clients.get_mut(key) else {
            return;
        };
        client.inlet.rest(Rest::End);
        if client.replies.is_empty() && client.replies.out.unwritten() == 0 {
            self.core.close_client(id);
        }
    }
}

impl Core {
    /// Looks at a client for which more than [`MAX_OUTPUT`] waits.
    #[cold]
    pub(crate) fn watch_reader(&mut self, key: usize) {
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
    pub(crate) fn tick_readers(&mut self) {
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
    pub(crate) fn next_reader_tick(&self) -> Option<Duration> {
        (!self.due.slow_readers.is_empty()).then_some(LOOK)
    }
}
