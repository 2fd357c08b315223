//! Mirrors: the same bytes once more, with an answer that nobody waits for.
//!
//! A mirror that is slow, full or gone never slows or fails the client; what it loses is counted.

use redplane_command::{Command, CommandId};
use redplane_redis_core::client::Waiter;
use redplane_redis_core::connection::MAX_MIRROR_HELD;
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::{Access, Target};
use redplane_telemetry::stats::cluster;

use crate::core::Core;
use crate::request::{Served, is_mirrored_write};
use crate::send::{Outgoing, Payload, Scripts, Sending};

impl Core {
    /// Sends a copy to each mirror that wants it. A mirror that is slow, full or gone costs the client nothing.
    #[cold]
    pub(crate) fn mirror(&mut self, outgoing: &Outgoing<'_>) {
        for mirror in outgoing.route.mirrors.iter() {
            if mirror.writes_only && !outgoing.changes || !self.chance(mirror.parts_per_million) {
                continue;
            }
            match self.connection_for_key(mirror.pool, outgoing.name, Access::Primary) {
                Ok(connection) => self.send_copy(mirror.pool, connection, outgoing),
                Err(_) => self.count_lost_mirror(mirror.pool),
            }
        }
    }

    /// One copy; dropped and counted when too much waits there already.
    fn send_copy(&mut self, pool: usize, connection: u32, outgoing: &Outgoing<'_>) {
        if self.is_full_mirror(connection) {
            return self.count_lost_mirror(pool);
        }
        match outgoing.scripts {
            Scripts::None => {}
            // A mirror may hold fewer scripts than the cluster.
            Scripts::One(sha) => self.load_before(connection, &sha),
            Scripts::OfBlock => self.load_for_block(connection, outgoing.payload.bytes()),
        }
        let own = outgoing.sending;
        let sending = Sending {
            // EXEC says with it how many replies stand in front of its own.
            waiter: Waiter {
                part: own.waiter.part,
                ..Waiter::NOBODY
            },
            command: own.command,
            purpose: Purpose::Mirror,
        };
        let leading = (Purpose::Mirror, outgoing.queued);
        self.send_behind(connection, sending, outgoing.payload.clone(), leading);
    }

    /// A copy of a command that every server gets.
    pub(crate) fn send_copy_to(
        &mut self,
        pool: usize,
        target: Target,
        command: CommandId,
        payload: Payload<'_>,
    ) {
        match self.connection_for(pool, target, Access::Primary) {
            Ok(connection) if !self.is_full_mirror(connection) => {
                let sending = Sending {
                    waiter: Waiter::NOBODY,
                    command,
                    purpose: Purpose::Mirror,
                };
                self.send(connection, sending, payload);
            }
            _ => self.count_lost_mirror(pool),
        }
    }

    /// Whether so much waits there already that copies are dropped.
    pub(crate) fn is_full_mirror(&self, connection: u32) -> bool {
        self.connections[connection as usize].out.held() > MAX_MIRROR_HELD
    }

    /// A command that takes what is there and perhaps waits for it cannot be repeated on a mirror, which holds and lacks
    /// other things: it is left out, and counted as lost where it was wanted.
    pub fn skip_mirrors(&mut self, route: &RouteTo, command: &'static Command) {
        for mirror in route.mirrors.iter() {
            let wanted = !mirror.writes_only || is_mirrored_write(Served::Known(command));
            if wanted && self.chance(mirror.parts_per_million) {
                self.count_lost_mirror(mirror.pool);
            }
        }
    }

    fn count_lost_mirror(&self, pool: usize) {
        if let Some(live) = &self.pools[pool].live {
            live.stats.inc(cluster::UPSTREAM_RQ_PENDING_OVERFLOW);
        }
    }

    /// True for so many parts of a million.
    pub(crate) fn chance(&mut self, parts_per_million: u32) -> bool {
        parts_per_million >= 1_000_000 || self.shared.random.u32(..1_000_000) < parts_per_million
    }
}
