//! What upstream connections tell: that they are open, what they answered, that they are gone, that they are late.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use redplane_resp::reply::{Scan, Scanner};
use redplane_telemetry::stats::{cluster, redis_cluster, upstream_command};
use redplane_upstream::Signal;

use crate::connection::{ConnId, Connection, MAX_HELD, Pending, Purpose, State};
use crate::engine::{Action, Engine};
use crate::failure::Failure;
use crate::forward::counts_upstream;
use crate::output::{LARGE, Output};
use crate::settle::Answer;

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It could not be opened.
    Refused,
    /// It was not open in time.
    ConnectTimeout,
    /// The server closed it or it broke.
    Remote,
    /// Its reply did not come in time.
    Timeout,
    /// Its bytes were no RESP.
    Protocol,
    /// We have no use for it any more.
    Local,
}

impl Engine {
    /// The socket of a connection is open (its TLS handshake done): what waits is written.
    pub fn connected(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id.0 as usize) else {
            return;
        };
        connection.connected = true;
        if connection.state == State::Connecting {
            connection.state = State::Open;
        }
        connection.host.stats.cx_total.fetch_add(1, Relaxed);
        connection.host.stats.cx_active.fetch_add(1, Relaxed);
        if let Some(live) = &self.pools[connection.pool].live {
            live.stats.inc(cluster::UPSTREAM_CX_TOTAL);
            live.stats.inc(cluster::UPSTREAM_CX_ACTIVE);
            live.stats.record(
                cluster::UPSTREAM_CX_CONNECT_MS,
                (self.now - connection.opened) / 1000,
            );
        }
        // Time spent connecting is not the server's; a redirected request keeps its one deadline.
        let fresh = connection.pending.iter_mut().filter(|pending| pending.hops == 0);
        fresh.for_each(|pending| pending.since = self.now);
        if connection.out.unwritten() > 0 && !connection.dirty {
            connection.dirty = true;
            self.dirty_connections.push(id.0);
        }
    }

    /// Bytes for a server; `None` while its socket is not open, or while bytes are held back to be sent together.
    pub fn upstream_output(&mut self, id: ConnId) -> Option<&mut Output> {
        let now = self.now;
        let connection = self.connections.get_mut(id.0 as usize)?;
        connection.dirty = false;
        let settings = &self.pools[connection.pool].key.settings;
        let few = connection.out.unwritten() < settings.max_buffer_size_before_flush as usize;
        let early = now < connection.held_since + settings.buffer_flush_timeout.as_micros() as u64;
        let hold = few && early && connection.state == State::Open;
        (connection.connected && !hold).then_some(&mut connection.out)
    }

    /// The driver wrote `count` bytes to a server. Says whether more waits.
    pub fn upstream_wrote(&mut self, id: ConnId, count: usize) -> bool {
        let Some(connection) = self.connections.get_mut(id.0 as usize) else {
            return false;
        };
        connection.out.wrote(count);
        if let Some(live) = &self.pools[connection.pool].live {
            live.stats.add(cluster::UPSTREAM_CX_TX_BYTES_TOTAL, count as u64);
        }
        add_to_host(connection);
        connection.out.unwritten() > 0
    }

    /// Where the driver reads a server's bytes to: its own buffer while a reply is incomplete, else `None`.
    #[inline]
    pub fn upstream_room(&mut self, id: ConnId) -> Option<&mut [u8]> {
        let connection = self.connections.get_mut(id.0 as usize)?;
        if connection.carry.is_empty() {
            None
        } else {
            Some(connection.carry.room())
        }
    }

    /// `count` bytes came from a server: into its room if it had one, else into `shared`.
    pub fn upstream_received(&mut self, id: ConnId, shared: &[u8], count: usize) {
        let key = id.0 as usize;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Some(live) = &self.pools[connection.pool].live {
            live.stats.add(cluster::UPSTREAM_CX_RX_BYTES_TOTAL, count as u64);
        }
        if connection.carry.is_empty() {
            let data = &shared[..count.min(shared.len())];
            let (used, need) = self.replies(key, data, None);
            if used < data.len()
                && let Some(connection) = self.connections.get_mut(key)
            {
                connection.carry.begin(&data[used..], need, &mut self.buffers);
            }
        } else {
            let (buffer, filled) = connection.carry.take(count);
            self.carried_replies(key, buffer, filled);
        }
        if self.connections.get_mut(key).is_some() {
            self.after_replies(key);
        }
    }

    fn carried_replies(&mut self, key: usize, buffer: Vec<u8>, filled: usize) {
        if filled < LARGE {
            let (used, need) = self.replies(key, &buffer[..filled], None);
            match self.connections.get_mut(key) {
                Some(connection) => connection
                    .carry
                    .put_back(buffer, used, filled, need, &mut self.buffers),
                None => self.buffers.give(buffer),
            }
            return;
        }
        let buffer = Bytes::from(buffer);
        let (used, need) = self.replies(key, &buffer[..filled], Some(&buffer));
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match buffer.try_into_mut() {
            Ok(buffer) => connection
                .carry
                .put_back(buffer.into(), used, filled, need, &mut self.buffers),
            Err(kept) if used < filled => {
                connection
                    .carry
                    .begin(&kept[used..filled], need, &mut self.buffers);
            }
            Err(_) => {}
        }
    }

    /// Finds the replies in `data`; says how many bytes they had, and how many the next one needs.
    fn replies(&mut self, key: usize, data: &[u8], shared: Option<&Bytes>) -> (usize, usize) {
        let mut at = 0;
        let mut need = 0;
        while at < data.len() {
            let Some(connection) = self.connections.get_mut(key) else {
                return (data.len(), 0);
            };
            match connection.scanner.scan(&data[at..]) {
                Ok(Scan::Whole(end)) => {
                    connection.scanner = Scanner::default();
                    self.reply(key, &data[at..at + end], shared);
                    at += end;
                }
                Ok(Scan::Incomplete(bytes)) => {
                    need = bytes;
                    break;
                }
                Err(_) => {
                    self.upstream_gone(ConnId(key as u32), Gone::Protocol);
                    return (data.len(), 0);
                }
            }
        }
        (at, need)
    }

    /// One whole reply.
    #[inline]
    fn reply(&mut self, key: usize, raw: &[u8], shared: Option<&Bytes>) {
        let connection = &mut self.connections[key];
        if raw.first() == Some(&b'>') {
            // Push frames answer nothing.
            return;
        }
        let Some(pending) = connection.pending.pop_front() else {
            // A reply that nobody asked for: whatever follows cannot be trusted.
            return self.upstream_gone(ConnId(key as u32), Gone::Protocol);
        };
        self.in_flight -= 1;
        let is_error = matches!(raw.first(), Some(b'-' | b'!'));
        self.count_reply(key, pending, is_error);
        match pending.purpose {
            Purpose::Reply if is_error && self.intercept(key, &pending, raw) => {}
            Purpose::Reply | Purpose::Pinned => {
                let answer = match shared.filter(|_| raw.len() >= LARGE) {
                    Some(shared) => Answer::Shared(shared.slice_ref(raw)),
                    None => Answer::Raw(raw),
                };
                self.settle(pending.waiter, pending.command, pending.since, answer);
            }
            Purpose::Exec => self.exec_reply(key, &pending, raw),
            Purpose::Mirror | Purpose::Setup => {}
            Purpose::Auth => self.auth_reply(key, raw, is_error),
            Purpose::Hello => self.hello_answer(key, raw, is_error),
            Purpose::Probe => self.probe_reply(key, raw),
            Purpose::Queued => self.queued_reply(key, raw, is_error),
        }
    }

    #[inline]
    fn count_reply(&mut self, key: usize, pending: Pending, is_error: bool) {
        let connection = &mut self.connections[key];
        if is_error {
            connection.errors += 1;
        } else {
            connection.successes += 1;
        }
        let Some(live) = &mut self.pools[connection.pool].live else {
            return;
        };
        live.stats.dec(cluster::UPSTREAM_RQ_ACTIVE);
        live.stats.inc(cluster::UPSTREAM_RQ_COMPLETED);
        let micros = self.now - pending.since;
        live.redis_stats.record(redis_cluster::UPSTREAM_RQ_TIME, micros);
        if let Some(commands) = live.commands.as_mut().filter(|_| counts_upstream(pending)) {
            let row = commands.row(pending.command);
            row.inc(if is_error {
                upstream_command::FAILURE
            } else {
                upstream_command::SUCCESS
            });
            row.record(upstream_command::LATENCY, micros);
        }
    }

    fn auth_reply(&self, key: usize, raw: &[u8], is_error: bool) {
        if is_error {
            let connection = &self.connections[key];
            let text = String::from_utf8_lossy(raw);
            tracing::warn!(target: "redis", cluster = connection.cluster.name(), host = %connection.host.address, reply = text.trim_end(), "upstream refused AUTH");
        }
    }

    /// A server that does not speak RESP3 cannot serve a client that does.
    fn hello_answer(&mut self, key: usize, raw: &[u8], is_error: bool) {
        if !is_error {
            return;
        }
        self.auth_reply(key, raw, is_error);
        if let Some(live) = &self.pools[self.connections[key].pool].live {
            live.redis_stats.inc(redis_cluster::UPSTREAM_RESP3_HELLO_FAILURE);
        }
        self.upstream_gone(ConnId(key as u32), Gone::Protocol);
    }

    /// The host that was dead answers: requests may go there again.
    fn probe_reply(&mut self, key: usize, raw: &[u8]) {
        let connection = &mut self.connections[key];
        // LOADING and MASTERDOWN are answers, and better ones than ours.
        tracing::debug!(target: "redis", host = %connection.host.address, reply = %String::from_utf8_lossy(raw).trim_end(), "host answers again");
        connection.state = State::Open;
        let live = self.pools[connection.pool].live.as_mut();
        if let Some(link) = live.and_then(|live| live.link_with(key as u32)) {
            link.recovered();
        }
    }

    fn after_replies(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.release();
        add_to_host(connection);
        if let Some(buffer) = connection.out.take_idle_buffer() {
            self.buffers.give(buffer);
        }
        if !connection.choked.is_empty() && connection.out.held() < MAX_HELD / 2 {
            self.unchoke(key);
        }
        let connection = &self.connections[key];
        if connection.draining && connection.is_idle() {
            self.close_drained(key);
        }
    }

    fn unchoke(&mut self, key: usize) {
        let choked = std::mem::take(&mut self.connections[key].choked);
        for (client, generation) in choked {
            if self
                .clients
                .get(client as usize)
                .is_some_and(|client| client.generation == generation)
            {
                self.resume(client as usize);
            }
        }
    }

    /// Connections that get no more requests: closed when the last reply has come.
    pub(crate) fn drain_connections(&mut self, connections: &[u32]) {
        for &id in connections {
            let Some(connection) = self.connections.get_mut(id as usize) else {
                continue;
            };
            connection.draining = true;
            if connection.is_idle() {
                self.close_drained(id as usize);
            }
        }
    }

    fn close_drained(&mut self, key: usize) {
        let connection = &self.connections[key];
        if let Some(live) = &self.pools[connection.pool].live {
            live.redis_stats.inc(redis_cluster::UPSTREAM_CX_DRAINED);
        }
        self.actions.push(Action::CloseUpstream(ConnId(key as u32)));
        self.upstream_gone(ConnId(key as u32), Gone::Local);
    }

    /// A connection is gone: its requests fail, its host is left alone for a while.
    pub fn upstream_gone(&mut self, id: ConnId, why: Gone) {
        let Some(mut connection) = self.connections.try_remove(id.0 as usize) else {
            return;
        };
        add_to_host(&mut connection);
        if matches!(why, Gone::Timeout | Gone::ConnectTimeout | Gone::Protocol) {
            self.actions.push(Action::CloseUpstream(id));
        }
        self.count_gone(&connection, why);
        self.unlink(id.0, &connection, why);
        self.in_flight -= connection.pending.len();
        let pool = connection.pool;
        for pending in std::mem::take(&mut connection.pending) {
            self.fail_pending(&pending);
        }
        for (client, generation) in connection.choked {
            if self
                .clients
                .get(client as usize)
                .is_some_and(|client| client.generation == generation)
            {
                self.resume(client as usize);
            }
        }
        if let Some((client, generation)) = connection.lease {
            self.lease_lost(id.0, client, generation);
        }
        self.drop_pool_if_unused(pool);
    }

    fn fail_pending(&mut self, pending: &Pending) {
        if matches!(pending.purpose, Purpose::Reply | Purpose::Pinned | Purpose::Exec) {
            self.settle(
                pending.waiter,
                pending.command,
                pending.since,
                Answer::Failed(Failure::Upstream),
            );
        }
    }

    fn unlink(&mut self, id: u32, connection: &Connection, why: Gone) {
        let now = self.now;
        let Some(live) = self.pools[connection.pool].live.as_mut() else {
            return;
        };
        let Some(link) = live.link_with(id) else {
            return;
        };
        let served = connection.connected && connection.state == State::Open;
        match why {
            // An open connection that the server closed says nothing about the next one.
            Gone::Remote | Gone::Protocol | Gone::Local if served => link.connection = None,
            _ => link.failed(now),
        }
    }

    fn count_gone(&mut self, connection: &Connection, why: Gone) {
        let busy = !connection.is_idle();
        let host = &connection.host.stats;
        if connection.connected {
            host.cx_active.fetch_sub(1, Relaxed);
        } else {
            host.cx_connect_fail.fetch_add(1, Relaxed);
        }
        host.rq_active.fetch_sub(connection.pending.len() as u64, Relaxed);
        host.rq_error.fetch_add(connection.pending.len() as u64, Relaxed);
        if why == Gone::Timeout {
            host.rq_timeout
                .fetch_add(connection.pending.len() as u64, Relaxed);
        }
        if busy || !connection.connected {
            connection.cluster.signal(Signal::Failed);
        }
        let Some(live) = self.pools[connection.pool].live.as_mut() else {
            return;
        };
        let stats = &live.stats;
        stats.sub(cluster::UPSTREAM_RQ_ACTIVE, connection.pending.len() as u64);
        match why {
            Gone::Timeout => stats.inc(cluster::UPSTREAM_RQ_TIMEOUT),
            Gone::ConnectTimeout => stats.inc(cluster::UPSTREAM_CX_CONNECT_TIMEOUT),
            Gone::Protocol => stats.inc(cluster::UPSTREAM_CX_PROTOCOL_ERROR),
            _ => {}
        }
        if !connection.connected {
            stats.inc(cluster::UPSTREAM_CX_CONNECT_FAIL);
            return;
        }
        stats.dec(cluster::UPSTREAM_CX_ACTIVE);
        stats.inc(cluster::UPSTREAM_CX_DESTROY);
        let remote = why == Gone::Remote;
        stats.inc(if remote {
            cluster::UPSTREAM_CX_DESTROY_REMOTE
        } else {
            cluster::UPSTREAM_CX_DESTROY_LOCAL
        });
        stats.record(
            cluster::UPSTREAM_CX_LENGTH_MS,
            (self.now - connection.opened) / 1000,
        );
        if busy {
            stats.inc(cluster::UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
            stats.inc(match remote {
                true => cluster::UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ,
                false => cluster::UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ,
            });
        }
    }

    /// What is due by time: late connections, late replies, held bytes and held replies.
    pub fn tick(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        let mut overdue = Vec::new();
        for (key, connection) in self.connections.iter() {
            let settings = &self.pools[connection.pool].key.settings;
            let op_timeout = settings.op_timeout.as_micros() as u64;
            let connect_timeout = connection.cluster.config().connect_timeout.as_micros() as u64;
            if !connection.connected && now >= connection.opened + connect_timeout {
                late.push((key, Gone::ConnectTimeout));
            } else if connection.connected
                && connection
                    .pending
                    .front()
                    .is_some_and(|p| now >= p.since + op_timeout)
            {
                // The time that a redirected request spent elsewhere says nothing about this server.
                match connection.pending.front() {
                    Some(pending) if pending.hops > 0 => overdue.push(key),
                    _ => late.push((key, Gone::Timeout)),
                }
            } else if connection.connected && connection.out.unwritten() > 0 && !connection.dirty {
                self.dirty_connections.push(key as u32);
            }
        }
        for &id in &self.dirty_connections {
            if let Some(connection) = self.connections.get_mut(id as usize) {
                connection.dirty = true;
            }
        }
        overdue.into_iter().for_each(|key| self.give_up_first(key));
        for (key, why) in late {
            self.upstream_gone(ConnId(key as u32), why);
        }
        self.release_held();
        self.send_again();
        self.expire_unresolved();
    }
}

impl Engine {
    /// The time of the first request on a connection is over, but not the server's: its client gets an error, and the
    /// reply will be dropped when it comes.
    #[cold]
    fn give_up_first(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let now = self.now;
        let first = connection.pending.front().map(|pending| pending.at);
        let mut given_up = Vec::new();
        // A transaction is several requests that begin at the same place.
        for pending in connection
            .pending
            .iter_mut()
            .take_while(|pending| Some(pending.at) == first)
        {
            given_up.push(*pending);
            (pending.purpose, pending.since, pending.hops) = (Purpose::Mirror, now, 0);
        }
        given_up.iter().for_each(|pending| self.fail_pending(pending));
    }
}

/// Brings a host's counters up to date; once a turn, since they are shared.
#[inline]
fn add_to_host(connection: &mut Connection) {
    let stats = &connection.host.stats;
    let ended = connection.successes + connection.errors;
    if connection.requests > 0 {
        stats.rq_total.fetch_add(u64::from(connection.requests), Relaxed);
        stats.rq_active.fetch_add(u64::from(connection.requests), Relaxed);
        connection.requests = 0;
    }
    if ended > 0 {
        stats.rq_active.fetch_sub(u64::from(ended), Relaxed);
        stats
            .rq_success
            .fetch_add(u64::from(connection.successes), Relaxed);
        stats.rq_error.fetch_add(u64::from(connection.errors), Relaxed);
        connection.successes = 0;
        connection.errors = 0;
    }
}
