//! An upstream connection as the engine sees it: requests in order, and the client that waits for each reply.
//!
//! Replies come in the order of the requests, so matching is taking from the front. The bytes of requests stay in
//! the output until they are answered: a redirected one is sent again from there.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use redplane_resp::reply::Scanner;
use redplane_telemetry::Block;
use redplane_telemetry::stats::cluster;
use redplane_upstream::{Cluster, Host};

use crate::input::{Buffers, Carry};
use crate::output::Output;
use crate::pending::Pending;
use crate::pool::Live;
use crate::scripts::Seen;
use crate::tally;

/// Names an upstream connection for the driver. Reused after the connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub u32);

/// What else a connection brings than replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Nothing.
    Replies,
    /// Messages of subscriptions, and no requests of clients: its place among the feeds.
    Subscriptions(usize),
    /// Invalidations of what was read through it.
    Invalidations,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests wait in the output.
    Connecting,
    /// Open, but the host was dead before: requests fail until it has answered a PING.
    Probing,
    /// Requests are written.
    Open,
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Server {
    /// The cluster that the connection was opened for.
    pub cluster: Arc<Cluster>,
    /// The server.
    pub host: Arc<Host>,
    /// Its bit among the hosts that a client wrote to.
    pub mark: u64,
}

/// How far a connection is in its life.
#[derive(Debug)]
pub struct Life {
    /// Whether requests are written already.
    pub state: State,
    /// The socket is there and can be written to.
    pub connected: bool,
    /// Gets no new requests and closes when nothing is pending: its host or its cluster is gone.
    pub draining: bool,
    /// When it was opened.
    pub opened: u64,
    /// With which words a server refused the clients' login that it began with.
    pub refusal: Option<Box<[u8]>>,
}

/// Whether a connection is one client's alone.
#[derive(Debug, Default)]
pub struct Lease {
    /// Opened to be leased: nobody shares it.
    pub exclusive: bool,
    /// Leased to this client (index and generation): from WATCH to EXEC, or while a command blocks.
    pub holder: Option<(u32, u32)>,
}

/// When the output of a connection is written, and what waits for that.
#[derive(Debug)]
pub struct Flush {
    /// What must be answered before anything of the output is written; only on connections with tracking, with a
    /// client's login or to a database other than 0.
    pub greeting: Option<Box<Output>>,
    /// It is among those that are written at the end of the turn.
    pub dirty: bool,
    /// When its first byte was put in that is not flushed.
    pub waits_since: u64,
    /// Clients that are not read from because too much waits here.
    pub choked: Vec<(u32, u32)>,
}

/// The reply that has begun to arrive.
#[derive(Debug, Default)]
pub struct Incoming {
    /// What has come of it.
    pub carry: Carry,
    /// How far its borders are known.
    pub scanner: Scanner,
}

/// What earlier requests on a connection have shown of its server.
#[derive(Debug, Default)]
pub struct Learnt {
    /// A redirection seen inside the transaction whose EXEC is still to come.
    pub moved_in_transaction: Option<Vec<u8>>,
    /// Scripts that were named here before.
    pub seen_scripts: Seen,
}

/// A connection to a server, and what waits on it.
#[derive(Debug)]
pub struct Connection {
    /// The place of its pool.
    pub pool: usize,
    /// The other end.
    pub server: Server,
    /// How far it is.
    pub life: Life,
    /// Whose it is alone, if anybody's.
    pub lease: Lease,
    /// What else it brings than replies.
    pub carries: Carries,
    /// Requests, kept until they are answered.
    pub out: Output,
    /// When those are written.
    pub flush: Flush,
    /// Requests that wait for their replies, in order.
    pub pending: VecDeque<Pending>,
    /// The reply that has begun to arrive.
    pub incoming: Incoming,
    /// When the first deadline of a request that came here by a redirection ends; those stand behind younger ones.
    pub overdue_at: u64,
    /// What its server has shown.
    pub learnt: Learnt,
    /// Requests and replies of this turn, not yet added to the statistics.
    pub tally: tally::Upstream,
}

/// Held bytes above which clients that send here are not read from.
pub const MAX_HELD: usize = 8 * 1024 * 1024;
/// Held bytes above which a mirror gets nothing more.
pub const MAX_MIRROR_HELD: usize = 4 * 1024 * 1024;

/// The bit of a host in [`Client::wrote`](crate::client::Client).
pub fn mark_of(host: u64) -> u64 {
    1 << (host % 64)
}

impl Connection {
    /// A request that was sent here and is not answered yet, for sending it once more; `None` when it is not kept.
    pub fn frame_of(&self, pending: &Pending) -> Option<Bytes> {
        let len = pending.len as usize;
        let shared = self.out.shared_range(pending.at, len);
        shared.or_else(|| self.out.range(pending.at, len).map(Bytes::copy_from_slice))
    }

    /// One that is being opened.
    pub fn new(pool: usize, cluster: Arc<Cluster>, host: Arc<Host>, now: u64) -> Self {
        Self {
            pool,
            server: Server {
                cluster,
                mark: mark_of(host.id),
                host,
            },
            life: Life {
                state: State::Connecting,
                connected: false,
                draining: false,
                opened: now,
                refusal: None,
            },
            lease: Lease::default(),
            carries: Carries::Replies,
            out: Output::default(),
            flush: Flush {
                greeting: None,
                dirty: false,
                waits_since: now,
                choked: Vec::new(),
            },
            pending: VecDeque::new(),
            incoming: Incoming::default(),
            overdue_at: u64::MAX,
            learnt: Learnt::default(),
            tally: tally::Upstream::default(),
        }
    }

    /// Its place among the connections with subscriptions.
    pub fn feed(&self) -> Option<usize> {
        match self.carries {
            Carries::Subscriptions(feed) => Some(feed),
            Carries::Replies | Carries::Invalidations => None,
        }
    }

    /// Makes room for a request; says where it will begin.
    #[inline]
    pub fn begin_send(&mut self, now: u64, buffers: &mut Buffers) -> u64 {
        self.out.lend(|| buffers.take_large_empty());
        if self.out.unwritten() == 0 {
            self.flush.waits_since = now;
        }
        self.out.end()
    }

    /// Lets go of the bytes of requests that are answered.
    #[inline]
    pub fn release(&mut self) {
        let position = self
            .pending
            .front()
            .map_or_else(|| self.out.end(), |first| first.at);
        self.out.release(position);
    }

    /// Adds what happened since the last time to the statistics of its host and of its cluster; once a turn, since the
    /// host's are shared.
    #[inline]
    pub fn add_up(&mut self, live: Option<&mut Live>) {
        self.tally.add_up(&self.server.host, live);
    }

    /// Adds what it has open to a writer's gauges.
    pub fn count_into(&self, stats: &Block) {
        stats.add(cluster::UPSTREAM_RQ_ACTIVE, self.pending.len() as u64);
        stats.add(cluster::UPSTREAM_CX_ACTIVE, u64::from(self.life.connected));
    }

    /// Whether a read would find a client waiting.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }
}
