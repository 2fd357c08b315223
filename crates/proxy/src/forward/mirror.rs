//! Mirrors: the same bytes once more, with an answer that nobody waits for.
//!
//! A mirror that is slow, full or gone never slows or fails the client; what it loses is counted.

use std::rc::Rc;

use redplane_command::{Command, CommandId, Flags};
use redplane_telemetry::stats::cluster;

use super::{Payload, Sending, payload};
use crate::client::Waiter;
use crate::connection::{MAX_MIRROR_HELD, Purpose};
use crate::dispatch::{Request, Served};
use crate::engine::Engine;
use crate::filter::RouteTo;
use crate::pool::Access;

impl Engine {
    /// Sends a copy to each mirror that wants it. A mirror that is slow, full or gone costs the client nothing.
    pub(crate) fn mirror(&mut self, route: &Rc<RouteTo>, served: Served, name: &[u8], request: &Request<'_>) {
        for mirror in route.mirrors.iter() {
            if mirror.writes_only && !is_mirrored_write(served) || !self.chance(mirror.parts_per_million) {
                continue;
            }
            match self.connection_for_key(mirror.pool, name, Access::Primary) {
                Ok(connection) => {
                    self.load_before_copy(connection, served, request);
                    self.send_mirrored(mirror.pool, connection, served.id(), payload(request));
                }
                Err(_) => self.count_lost_mirror(mirror.pool),
            }
        }
    }

    /// One copy; dropped and counted when too much waits there already.
    pub(crate) fn send_mirrored(
        &mut self,
        pool: usize,
        connection: u32,
        command: CommandId,
        payload: Payload<'_>,
    ) {
        if self.is_full_mirror(connection) {
            return self.count_lost_mirror(pool);
        }
        self.send(
            connection,
            Sending {
                waiter: Waiter::NOBODY,
                command,
                purpose: Purpose::Mirror,
            },
            payload,
        );
    }

    /// Whether so much waits there already that copies are dropped.
    pub(crate) fn is_full_mirror(&self, connection: u32) -> bool {
        self.connections[connection as usize].out.held() > MAX_MIRROR_HELD
    }

    /// A command that takes what is there and perhaps waits for it cannot be repeated on a mirror, which holds and lacks
    /// other things: it is left out, and counted as lost where it was wanted.
    pub(crate) fn skip_mirrors(&mut self, route: &RouteTo, command: &'static Command) {
        for mirror in route.mirrors.iter() {
            let wanted = !mirror.writes_only || is_mirrored_write(Served::Known(command));
            if wanted && self.chance(mirror.parts_per_million) {
                self.count_lost_mirror(mirror.pool);
            }
        }
    }

    pub(crate) fn count_lost_mirror(&self, pool: usize) {
        if let Some(live) = &self.pools[pool].live {
            live.stats.inc(cluster::UPSTREAM_RQ_PENDING_OVERFLOW);
        }
    }

    /// True for so many parts of a million.
    pub(crate) fn chance(&mut self, parts_per_million: u32) -> bool {
        parts_per_million >= 1_000_000 || self.random.u32(..1_000_000) < parts_per_million
    }
}

/// Whether a command changes something, so that a mirror of writes wants it.
fn is_mirrored_write(served: Served) -> bool {
    match served {
        Served::Known(command) => {
            command.is_write() || command.flags.contains(Flags::MAY_REPLICATE) && !command.is_read()
        }
        Served::Custom(_) => true,
    }
}
