//! Fault injection: errors in place of replies, and replies that come late.
//!
//! Envoy: faults of a command and of all commands are laid end to end by their percentage, and one random number
//! chooses among them. What is answered before dispatch (PING, AUTH and the like) is never faulted.

use crate::local::is_local;
use std::time::Duration;

use redplane_config::redis_proxy::{Fault, FaultKind};
use redplane_telemetry::stats::redis_command;

use crate::core::Core;
use crate::delays::Delays;
use crate::dispatch::{Request, Served};
use crate::engine::Engine;
use crate::settle::Ended;
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::filter::Outcome;

/// The reply of an error fault.
const FAULT: &[u8] = b"-Fault Injected: Error\r\n";

impl Core {
    fn answer_fault(&mut self, key: usize, delay: Duration) {
        if delay.is_zero() {
            return self.answer(key, FAULT);
        }
        let waiter = self.expect_reply(key, Slot::Waiting);
        self.hold(waiter, delay, FAULT.to_vec());
    }

    /// The reply of the client's next request is held back.
    fn delay_next(&mut self, key: usize, delay: Duration) -> u32 {
        let client = &mut self.clients[key];
        let sequence = client.replies.next_sequence();
        let delays = self.faults.delays.of(key, client, Delays::default);
        delays.0.push((sequence, delay));
        sequence
    }

    /// What was answered at once has nothing left to be held.
    fn forget_delay(&mut self, key: usize, sequence: u32) {
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
    pub(crate) fn release_held(&mut self) {
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
            crate::dispatch::mark_dirty(client, key, &mut self.due.clients);
        }
    }
}

impl Engine {
    /// True when the command was dealt with: answered with a fault, or run by a delay fault, which holds its reply.
    #[cold]
    pub(crate) fn inject_fault(&mut self, key: usize, served: Served, request: &Request<'_>) -> bool {
        if is_local(served) {
            return false;
        }
        let name = match served {
            Served::Known(command) => command.container.as_bytes().to_vec(),
            Served::Custom(_) => request.arg(0).to_ascii_lowercase(),
        };
        let drawn = self.core.shared.random.u32(..1_000_000);
        let filter = &self.core.filters[self.core.clients[key].filter];
        let Some(fault) = choose(&filter.proxy.faults, &name, drawn).cloned() else {
            return false;
        };
        let cells = filter.cells(served.id());
        match fault.kind {
            FaultKind::Delay if fault.delay.is_zero() => false,
            FaultKind::Delay => {
                if let Some(cells) = cells {
                    cells.inc(redis_command::DELAY_FAULT);
                }
                let sequence = self.core.delay_next(key, fault.delay);
                self.serve(key, served, *request);
                self.core.forget_delay(key, sequence);
                true
            }
            FaultKind::Error => {
                if let Some(cells) = cells {
                    cells.inc(redis_command::ERROR_FAULT);
                    cells.inc(redis_command::ERROR);
                }
                self.core.answer_fault(key, fault.delay);
                true
            }
        }
    }
}

/// The fault that a random number (of a million) falls on: those that name the command first, then those for all.
fn choose<'a>(faults: &'a [Fault], name: &[u8], drawn: u32) -> Option<&'a Fault> {
    let named = faults
        .iter()
        .filter(|fault| fault.commands.iter().any(|command| command.as_bytes() == name));
    let general = faults.iter().filter(|fault| fault.commands.is_empty());
    let mut end = 0_u32;
    named.chain(general).find(|fault| {
        end = end.saturating_add(fault.parts_per_million);
        drawn < end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_lie_end_to_end() {
        let fault = |parts_per_million, commands: &[&str]| Fault {
            kind: FaultKind::Error,
            parts_per_million,
            delay: Duration::ZERO,
            commands: commands.iter().map(|c| (*c).to_owned()).collect(),
        };
        let faults = [fault(200_000, &[]), fault(100_000, &["get"])];
        let chosen = |name: &str, drawn| choose(&faults, name.as_bytes(), drawn).map(|f| f.parts_per_million);
        assert_eq!(chosen("get", 99_999), Some(100_000));
        assert_eq!(chosen("get", 100_000), Some(200_000));
        assert_eq!(chosen("get", 300_000), None);
        assert_eq!(chosen("set", 199_999), Some(200_000));
        assert_eq!(chosen("set", 200_000), None);
    }
}
