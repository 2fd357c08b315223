//! How replies find back: to their place in their client's order, and out when it is their turn.

use redplane_command::CommandId;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::filter::Outcome;
use redplane_redis_core::pending::Pending;

use crate::core::{Core, mark_dirty};

/// Nothing where an array might be, as a protocol says it.
pub fn null_array(resp3: bool) -> &'static [u8] {
    if resp3 { b"_\r\n" } else { b"*-1\r\n" }
}

/// How a command ended, for the statistics.
#[derive(Clone, Copy)]
pub struct Ended {
    /// The command.
    pub command: CommandId,
    /// Whether its answer is no error.
    pub success: bool,
    /// When it was sent, in microseconds of the turn's clock.
    pub since: u64,
}

impl Core {
    /// The reply of a command that several servers were asked, at its place.
    pub fn deliver(&mut self, key: usize, offset: usize, ended: Ended, reply: &[u8]) {
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
    pub fn fail_now(&mut self, key: usize, command: CommandId, failure: Failure) {
        let client = &mut self.clients[key];
        client.replies.reply(|out| out.extend_from_slice(failure.reply()));
        let filter = &self.filters[client.filter];
        if let Some(cells) = filter.cells(command) {
            cells.inc(redplane_telemetry::stats::redis_command::ERROR);
        }
    }

    /// A server's reply, for a client that nearly always waits for just that.
    #[inline]
    pub fn settle_raw(&mut self, pending: &Pending, reply: &[u8]) {
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
    pub fn settle(&mut self, waiter: Waiter, command: CommandId, since: u64, answer: Answer<'_>) {
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

    /// The place of the reply at this offset of the client's queue.
    pub fn place_of(&self, key: usize, offset: usize) -> Waiter {
        let client = &self.clients[key];
        Waiter {
            client: key as u32,
            generation: client.generation,
            sequence: client.replies.head().wrapping_add(offset as u32),
            part: 0,
        }
    }
}
