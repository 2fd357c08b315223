//! What upstream connections tell: that they are open, what they answered, that they are gone, that they are late.

mod departures;
mod replies;

use std::sync::atomic::Ordering::Relaxed;

use redplane_redis_core::connection::{ConnId, State};
use redplane_redis_core::output::Output;
use redplane_redis_core::pending::{Pending, Purpose, Travel};
use redplane_redis_flow::action::Gone;
use redplane_telemetry::stats::cluster;

use crate::engine::Engine;

impl Engine {
    /// The socket of a connection is open (its TLS handshake done): what waits is written.
    pub fn connected(&mut self, id: ConnId) {
        let Some(connection) = self.core.connections.get_mut(id.0 as usize) else {
            return;
        };
        connection.life.connected = true;
        if connection.life.state == State::Connecting {
            connection.life.state = State::Open;
        }
        connection.server.host.stats.cx_total.fetch_add(1, Relaxed);
        connection.server.host.stats.cx_active.fetch_add(1, Relaxed);
        if let Some(live) = &self.core.pools[connection.pool].live {
            live.stats.inc(cluster::UPSTREAM_CX_TOTAL);
            live.stats.inc(cluster::UPSTREAM_CX_ACTIVE);
            live.stats.record(
                cluster::UPSTREAM_CX_CONNECT_MS,
                (self.core.now - connection.life.opened) / 1000,
            );
        }
        // Time spent connecting is not the server's; a redirected request keeps its one deadline.
        let fresh = connection
            .pending
            .iter_mut()
            .filter(|pending| !pending.travel.is_resent());
        fresh.for_each(|pending| pending.since = self.core.now);
        let greets = connection.flush.greeting.is_some();
        if (greets || connection.out.unwritten() > 0) && !connection.flush.dirty {
            connection.flush.dirty = true;
            self.core.due.connections.push(id.0);
        }
    }

    /// Bytes for a server; `None` while its socket is not open, or while bytes are held back to be sent together.
    pub fn upstream_output(&mut self, id: ConnId) -> Option<&mut Output> {
        let now = self.core.now;
        let connection = self.core.connections.get_mut(id.0 as usize)?;
        connection.flush.dirty = false;
        connection.add_up(self.core.pools[connection.pool].live.as_mut());
        if let Some(greeting) = &mut connection.flush.greeting {
            return connection.life.connected.then_some(greeting);
        }
        let settings = &self.core.pools[connection.pool].key.settings;
        let few = connection.out.unwritten() < settings.max_buffer_size_before_flush as usize;
        let early = now < connection.flush.waits_since + settings.buffer_flush_timeout.as_micros() as u64;
        let hold = few && early && connection.life.state == State::Open;
        (connection.life.connected && !hold).then_some(&mut connection.out)
    }

    /// The driver wrote `count` bytes to a server. Says whether more waits.
    pub fn upstream_wrote(&mut self, id: ConnId, count: usize) -> bool {
        let Some(connection) = self.core.connections.get_mut(id.0 as usize) else {
            return false;
        };
        let out = match &mut connection.flush.greeting {
            Some(greeting) => greeting,
            None => &mut connection.out,
        };
        out.wrote(count);
        let more = out.unwritten() > 0;
        if let Some(live) = &self.core.pools[connection.pool].live {
            live.stats.add(cluster::UPSTREAM_CX_TX_BYTES_TOTAL, count as u64);
        }
        more
    }

    /// What is due by time: late connections, late replies, held bytes and held replies.
    pub fn tick(&mut self) {
        let now = self.core.now;
        let mut late = Vec::new();
        let mut overdue = Vec::new();
        let mut kept = Vec::new();
        for (key, connection) in self.core.connections.iter() {
            if redplane_redis_flow::busy::is_kept_by_script(connection, now) {
                kept.push(key);
            }
            let settings = &self.core.pools[connection.pool].key.settings;
            let op_timeout = settings.op_timeout.as_micros() as u64;
            let connect_timeout = connection.server.cluster.config().connect_timeout.as_micros() as u64;
            if !connection.life.connected && now >= connection.life.opened + connect_timeout {
                late.push((key, Gone::ConnectTimeout));
            } else if connection.life.connected
                && let Some(first) = connection.pending.front()
                && !first.travel.is_resent()
                && now >= first.late_at(op_timeout)
            {
                late.push((key, Gone::Timeout));
            } else if connection.life.connected && now >= connection.overdue_at {
                overdue.push(key);
            } else if connection.life.connected && connection.out.unwritten() > 0 && !connection.flush.dirty {
                self.core.due.connections.push(key as u32);
            }
        }
        for &id in &self.core.due.connections {
            if let Some(connection) = self.core.connections.get_mut(id as usize) {
                connection.flush.dirty = true;
            }
        }
        overdue.into_iter().for_each(|key| self.give_up_resent(key));
        for (key, why) in late {
            self.core.lose(ConnId(key as u32), why);
        }
        self.run_events();
        for key in kept {
            if self.core.connections.get(key).is_some() {
                self.core.leave_to_script(key);
            }
        }
        self.pauses.end_pauses(&mut self.core);
        self.pubsub.tick_pubsub(&mut self.core);
        self.tracking.tick_tracking(&mut self.core);
        self.core.tick_readers();
        self.core.tick_pools();
        self.core.release_held();
        self.redirects.send_again(&mut self.core);
        self.blocking.tick_waits(&mut self.core);
        self.blocking.tick_acknowledged(&mut self.core);
        self.redirects.expire_unresolved(&mut self.core);
        self.run_events();
    }

    /// The time of requests that were sent here again is over, but not the server's: the time that they spent before says
    /// nothing about it. Their clients get an error, and the replies will be dropped when they come.
    #[cold]
    fn give_up_resent(&mut self, key: usize) {
        let now = self.core.now;
        let Some(connection) = self.core.connections.get_mut(key) else {
            return;
        };
        let op_timeout = self.core.pools[connection.pool]
            .key
            .settings
            .op_timeout
            .as_micros() as u64;
        let mut given_up = Vec::new();
        connection.overdue_at = u64::MAX;
        let resent = |pending: &&mut Pending| pending.travel.is_resent();
        for pending in connection.pending.iter_mut().filter(resent) {
            let due = pending.late_at(op_timeout);
            if now < due {
                connection.overdue_at = connection.overdue_at.min(due);
                continue;
            }
            given_up.push(*pending);
            (pending.purpose, pending.since, pending.travel) = (Purpose::Mirror, now, Travel::default());
        }
        given_up.iter().for_each(|pending| self.fail_pending(pending));
    }
}
