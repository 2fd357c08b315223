//! Replies that fault injection holds back.

use std::time::Duration;

use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::filter::Outcome;

use crate::core::Core;
use crate::delays::Delays;
use crate::settle::Ended;

/// The reply of an error fault.
const FAULT: &[u8] = b"-Fault Injected: Error\r\n";

impl Core {
    /// Answers the client's request with a fault, at once or late.
    pub fn answer_fault(&mut self, key: usize, delay: Duration) {
        if delay.is_zero() {
            return self.answer(key, FAULT);
        }
        let waiter = self.expect_reply(key, Slot::Waiting);
        self.hold(waiter, delay, FAULT.to_vec());
    }

    /// The reply of the client's next request is held back.
    pub fn delay_next(&mut self, key: usize, delay: Duration) -> u32 {
        let client = &mut self.clients[key];
        let sequence = client.replies.next_sequence();
        let delays = self.faults.delays.of(key, client, Delays::default);
        delays.0.push((sequence, delay));
        sequence
    }

    /// What was answered at once has nothing left to be held.
    pub fn forget_delay(&mut self, key: usize, sequence: u32) {
        let client = &mut self.clients[key];
        let waits = matches!(
            client.replies.slot(sequence),
            Some((_, Slot::Waiting | Slot::Split(_)))
        );
        if !waits {
            self.take_delay(key, sequence);
        }
    }

    /// The delay of a request; with the last one goes the list.
    fn take_delay(&mut self, key: usize, sequence: u32) -> Option<Duration> {
        let own = self.faults.delays.get_mut(key)?;
        let delay = own.take(sequence)?;
        if own.0.is_empty() {
            self.faults.delays.take(key, &mut self.clients[key]);
        }
        Some(delay)
    }

    /// Holds a reply whose request has a delay; true when it was taken.
    #[cold]
    pub(crate) fn hold_delayed(&mut self, key: usize, sequence: u32, ended: Ended, reply: &[u8]) -> bool {
        let Some(delay) = self.take_delay(key, sequence) else {
            return false;
        };
        let client = &self.clients[key];
        let waiter = Waiter {
            client: key as u32,
            generation: client.generation,
            sequence,
            part: 0,
        };
        let outcome = Outcome {
            command: Some(ended.command),
            success: ended.success,
            micros: self.now - ended.since,
        };
        self.filters[client.filter].count(outcome, 1);
        self.hold(waiter, delay, reply.to_vec());
        true
    }

    fn hold(&mut self, waiter: Waiter, delay: Duration, reply: Vec<u8>) {
        self.shared.tickets += 1;
        let due = self.now + delay.as_micros() as u64;
        self.faults
            .delayed
            .insert((due, self.shared.tickets), (waiter, reply));
    }

    /// Replies whose time has come.
    pub fn release_held(&mut self) {
        while let Some(entry) = self.faults.delayed.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let (waiter, reply) = entry.remove();
            self.finish_held(waiter, &reply);
        }
    }

    fn finish_held(&mut self, waiter: Waiter, reply: &[u8]) {
        let key = waiter.client as usize;
        let Some(client) = self.clients.of_mut(waiter) else {
            return;
        };
        if let Some((offset, _)) = client.replies.slot(waiter.sequence) {
            client.replies.finish(offset, reply);
            let stats = &self.filters[client.filter].stats;
            stats.dec(redplane_telemetry::stats::redis_proxy::DOWNSTREAM_RQ_ACTIVE);
            crate::core::mark_dirty(client, key, &mut self.due.clients);
        }
    }
}
