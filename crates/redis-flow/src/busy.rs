//! A server that runs a script for long answers others with BUSY, but not on the connection that the script came by: what
//! stands behind it there is not even read.
//!
//! So such a connection is left to the script, and others get a new one, where the server can say what it has to say. What
//! only reads and stands behind the script goes there as well; a write stays, since the server will run it when the script
//! has ended, and must not do so twice. Redis: `processEventsWhileBlocked`, `busy-reply-threshold`.

use redplane_command::{Command, RequestPolicy};
use redplane_redis_core::connection::{Carries, Connection};
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_resp::request::{Args, Decoded, decode};
use rustc_hash::FxHashSet;

use crate::core::Core;
use crate::send::Payload;

/// Microseconds that a script may take before others are given another connection.
const PATIENCE: u64 = 100_000;

/// Bytes of a transaction that are looked through for a script, with every tick while it is late.
const MAX_BLOCK: u32 = 64 * 1024;

/// Whether a script has kept everybody else on a connection waiting for long.
pub fn is_kept_by_script(connection: &Connection, now: u64) -> bool {
    let shared =
        !connection.lease.exclusive && !connection.life.draining && connection.carries == Carries::Replies;
    if !shared || !connection.life.connected {
        return false;
    }
    // Servers say that they have queued what a block holds; it runs with its EXEC.
    let mut pending = connection.pending.iter();
    let first = pending.find(|pending| pending.purpose != Purpose::Queued);
    first.is_some_and(|first| {
        now >= first.since + PATIENCE && (runs_script(first) || executes_script(connection, first))
    })
}

/// Whether a request runs a script.
fn runs_script(pending: &Pending) -> bool {
    let command = redplane_command::all().get(pending.command.index());
    matches!(pending.purpose, Purpose::Reply | Purpose::Loaded) && command.is_some_and(is_script)
}

/// Whether it is the EXEC of a block with a script in it. Blocks too long to be looked through are not known.
fn executes_script(connection: &Connection, pending: &Pending) -> bool {
    if pending.purpose != Purpose::Exec || pending.len > MAX_BLOCK {
        return false;
    }
    let block = connection.out.range(pending.at, pending.len as usize);
    let Some(mut rest) = block else {
        return false;
    };
    let mut args = Args::default();
    while let Ok(Decoded::Frame(end)) = decode(rest, &mut args, &mut None, true) {
        let command = redplane_command::find(args.len(), |i| args.arg(rest, i));
        if command.is_ok_and(is_script) {
            return true;
        }
        rest = &rest[end..];
    }
    false
}

fn is_script(command: &Command) -> bool {
    matches!(command.request, RequestPolicy::Script(_))
}

/// Whether a request may be sent once more though a server may run it later.
fn only_reads(pending: &Pending) -> bool {
    let command = redplane_command::all().get(pending.command.index());
    pending.purpose == Purpose::Reply && command.is_some_and(Command::is_read) && !runs_script(pending)
}

impl Core {
    /// Leaves a connection to the script that keeps it, and gives others a new one.
    #[cold]
    pub fn leave_to_script(&mut self, key: usize) {
        let pool = self.connections[key].pool;
        let live = self.pools[pool].live.as_ref();
        let place = live.and_then(|live| {
            let mut links = live.links.iter();
            links.position(|link| link.connection == Some(key as u32))
        });
        // Where none can be had, all wait as they did.
        let Some(Ok(next)) = place.map(|host| self.open(pool, host)) else {
            return;
        };
        let connection = &mut self.connections[key];
        connection.life.draining = true;
        let (mut stay, mut move_on) = (FxHashSet::default(), Vec::new());
        for (at, pending) in connection.pending.iter().enumerate() {
            let client = pending.waiter.client;
            match at > 0 && only_reads(pending) && !stay.contains(&client) {
                true => move_on.push((at, *pending, connection.frame_of(pending))),
                false => {
                    stay.insert(client);
                }
            }
        }
        let moved = move_on.iter().map(|(_, pending, _)| pending.waiter.client);
        let concerned: FxHashSet<u32> = stay.iter().copied().chain(moved).collect();
        for (at, pending, frame) in move_on {
            let Some(frame) = frame else {
                continue;
            };
            if let Some(left) = self.connections[key].pending.get_mut(at) {
                // Its reply is dropped when it comes.
                left.purpose = Purpose::Setup;
            }
            self.send_once_more(next, pending, Payload::Copied(&frame), (Purpose::Queued, 0));
        }
        // What they send from now on must not overtake what stays.
        for client in concerned {
            if let Some(client) = self.clients.get_mut(client as usize) {
                client.rest_behind();
            }
        }
    }
}
