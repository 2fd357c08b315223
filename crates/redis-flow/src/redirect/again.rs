//! TRYAGAIN: a command over several keys met a slot that is being migrated, with some keys here and some there.
//!
//! A client of one big Redis never sees that. Commands that can be split are, key by key: each key is on one side,
//! and ASK leads to it. Any other is sent again until its keys are together or its `op_timeout` is over; only then
//! the client gets the error, in Redis's words.

use std::sync::Arc;

use bytes::Bytes;
use redplane_command::{FastKeys, RequestPolicy};
use redplane_merge::{Answer, Failure, Parts};
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::split::Split;
use redplane_resp::encode;
use redplane_resp::request::{self, Args};
use redplane_upstream::{Cluster, Host};

use crate::core::Core;
use crate::redirect::names::Redirects;
use crate::send::Payload;

/// Time between two attempts, in microseconds. Keys of a slot are moved within milliseconds.
const PAUSE: u64 = 10_000;

/// A request that will be sent again.
pub(crate) struct Again {
    pool: usize,
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    pending: Pending,
    frame: Bytes,
}

impl Core {
    /// A request for each key of one that can be split; the reply is put together from theirs. `None` when it cannot
    /// be, has one key, or nobody waits for it.
    pub(crate) fn single_keys(&mut self, pending: &Pending, frame: &[u8]) -> Option<Vec<(Pending, Bytes)>> {
        let command = redplane_command::all().get(pending.command.index())?;
        let (RequestPolicy::MultiShard, FastKeys::Range { first, step, .. }) =
            (command.request, command.keys.fast)
        else {
            return None;
        };
        let (first, step) = (usize::from(first), usize::from(step).max(1));
        let mut args = Args::default();
        request::decode(frame, &mut args, &mut None, true).ok()?;
        let parts = self.divide(pending, args.len().saturating_sub(first) / step)?;
        let single = |(at, part): (usize, u32)| {
            let own = first + at * step;
            let words: Vec<&[u8]> = (0..first)
                .chain(own..own + step)
                .map(|i| args.arg(frame, i))
                .collect();
            let mut single = Vec::new();
            encode::request(&mut single, &words);
            let waiter = Waiter {
                part,
                ..pending.waiter
            };
            let len = single.len() as u32;
            (
                Pending {
                    waiter,
                    len,
                    ..*pending
                },
                Bytes::from(single),
            )
        };
        Some(parts.into_iter().enumerate().map(single).collect())
    }

    /// Sends a request to the server that has just refused it.
    pub(crate) fn resend_here(&mut self, key: usize, pending: &Pending, frame: &Bytes) {
        // The side that imports the slot serves only those that were sent to ask; its owner does not mind the word.
        if pending.travel.hops() > 0 {
            self.setup(key as u32, Purpose::Setup, &[b"asking"]);
        }
        self.send_once_more(key as u32, *pending, Payload::Copied(frame), (Purpose::Queued, 0));
    }

    /// Makes the place of a reply wait for `count` parts instead of one, and names them. `None` when nobody waits
    /// there, or when there is nothing to divide.
    fn divide(&mut self, pending: &Pending, count: usize) -> Option<Vec<u32>> {
        let waiter = pending.waiter;
        let client = self.clients.of_mut(waiter).filter(|_| count >= 2)?;
        match client.replies.slot(waiter.sequence)?.1 {
            Slot::Split(split) => split.parts.divide(waiter.part, count),
            slot @ Slot::Waiting => {
                let command = redplane_command::all().get(pending.command.index())?;
                let parts: Vec<u32> = (0..count as u32).collect();
                let split = Split::new(Parts::new(command, count, parts.clone()), pending.since);
                *slot = Slot::Split(Box::new(split));
                Some(parts)
            }
            _ => None,
        }
    }

    fn connection_again(&mut self, again: &Again) -> Result<u32, Failure> {
        let live = self.pools.get(again.pool).and_then(|pool| pool.live.as_ref());
        let same = live.is_some_and(|live| Arc::ptr_eq(&live.cluster, &again.cluster));
        let address = again
            .host
            .address
            .ip()
            .filter(|_| same)
            .ok_or(Failure::Upstream)?;
        let found = self.connection_to(again.pool, address, "");
        found.map_err(|failure| failure.unwrap_or(Failure::Upstream))
    }
}

impl Redirects {
    /// The server asked to try again. False when the client is to get its error.
    #[cold]
    pub(crate) fn try_again(&mut self, core: &mut Core, key: usize, pending: &Pending) -> bool {
        let Some(frame) = core.connections[key].frame_of(pending) else {
            return false;
        };
        match core.single_keys(pending, &frame) {
            Some(singles) => {
                singles
                    .iter()
                    .for_each(|(own, frame)| core.resend_here(key, own, frame));
                true
            }
            None => self.later(core, key, pending, frame),
        }
    }

    /// Keeps a request for a while.
    fn later(&mut self, core: &mut Core, key: usize, pending: &Pending, frame: Bytes) -> bool {
        let connection = &core.connections[key];
        let op_timeout = core.pools[connection.pool].key.settings.op_timeout.as_micros() as u64;
        let due = core.now + PAUSE;
        if due >= pending.since + op_timeout {
            return false;
        }
        let again = Again {
            pool: connection.pool,
            cluster: connection.server.cluster.clone(),
            host: connection.server.host.clone(),
            pending: *pending,
            frame,
        };
        core.rest_behind_redirected(pending.waiter);
        core.shared.tickets += 1;
        self.again.insert((due, core.shared.tickets), again);
        // What waits keeps the clock ticking.
        core.in_flight += 1;
        true
    }

    /// Sends what is due. It goes where it was; if the slot has moved on, that server says so.
    pub fn send_again(&mut self, core: &mut Core) {
        while let Some(entry) = self.again.first_entry().filter(|entry| entry.key().0 <= core.now) {
            let again = entry.remove();
            core.in_flight -= 1;
            let pending = again.pending;
            match core.connection_again(&again) {
                Ok(connection) => {
                    core.resend_here(connection as usize, &pending, &again.frame);
                }
                Err(failure) => {
                    let answer = Answer::Failed(failure);
                    core.settle(pending.waiter, pending.command, pending.since, answer);
                }
            }
        }
    }

    /// Those that will be sent again, and to which host.
    pub fn requests_to_repeat(&self) -> impl Iterator<Item = (&Pending, String)> {
        let again = self.again.values();
        again.map(|again| (&again.pending, again.host.address.to_string()))
    }
}
