//! An upstream connection as the engine sees it: requests in order, and who waits for each reply.
//!
//! Replies come in the order of the requests, so matching is taking from the front. The bytes of requests stay in
//! the output until they are answered: a redirected one is sent again from there.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use redplane_command::CommandId;
use redplane_resp::reply::Scanner;
use redplane_telemetry::Block;
use redplane_telemetry::stats::cluster;
use redplane_upstream::{Cluster, Host};

use crate::client::Waiter;
use crate::input::{Buffers, Carry};
use crate::output::Output;
use crate::pool::Live;
use crate::scripts::Seen;
use crate::tally;

/// Names an upstream connection for the driver. Reused after the connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub u32);

/// What happens to a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client waits for it.
    Reply,
    /// Nobody does: a mirror's.
    Mirror,
    /// COMMAND INFO of a command that the table lacks.
    Lesson,
    /// AUTH.
    Auth,
    /// HELLO 3: without it the connection is of no use.
    Hello,
    /// As `Reply`, behind a SCRIPT LOAD that a NOSCRIPT called for: another one is the client's.
    Loaded,
    /// READONLY, ASKING, SCRIPT LOAD: read and dropped.
    Setup,
    /// PING of a connection that has to prove itself before it gets requests.
    Probe,
    /// MULTI and the commands of a transaction: dropped, unless one is a redirection.
    Queued,
    /// EXEC.
    Exec,
    /// WATCH and the like on a leased connection: a client waits, and a redirection is not followed.
    Pinned,
    /// A blocking command on a leased connection: it may take as long as it likes.
    Block,
    /// What WAIT asks of a primary.
    Acknowledged,
    /// A WAIT of the proxy's own on a leased connection: it makes replicas speak.
    Nudge,
    /// PUBLISH while clients are subscribed: the server's count is put right.
    Published,
    /// A command on a connection that carries subscriptions.
    Feed,
    /// SELECT and CLIENT TRACKING in front of all requests: until they are granted none of those is written.
    Greeting,
    /// A client's own SELECT: it waits, and goes back to where it was (`part` of the waiter) when it is refused.
    Select,
    /// A PING whose reply a client's CLIENT TRACKING waits for: the server has granted what stands in front of it.
    Track,
    /// CLIENT ID of a connection that invalidations are redirected to.
    Relay,
    /// PING on such a connection: what comes behind the reply is not about writes that were answered in front of it.
    Fence,
}

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) waiter: Waiter,
    /// The turn it was first sent in: microseconds of the engine's clock. Redirections do not change it.
    pub(crate) since: u64,
    /// Where its bytes are in the connection's output.
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) command: CommandId,
    pub(crate) purpose: Purpose,
    pub(crate) hops: u8,
}

impl Pending {
    /// When its reply is late, in microseconds of the engine's clock.
    pub(crate) fn late_at(&self, op_timeout: u64) -> u64 {
        match self.purpose {
            Purpose::Block => u64::MAX,
            // Servers look at the clock of those who wait some ten times a second.
            Purpose::Nudge => self.since + op_timeout.max(1_000_000),
            _ => self.since + op_timeout,
        }
    }
}

/// What else a connection brings than replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Nothing.
    Replies,
    /// Messages of subscriptions, and no requests of clients: its place among the feeds.
    Subscriptions(usize),
    /// Invalidations of what was read through it.
    Invalidations,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Requests wait in the output.
    Connecting,
    /// Open, but the host was dead before: requests fail until it has answered a PING.
    Probing,
    /// Requests are written.
    Open,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) pool: usize,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) host: Arc<Host>,
    pub(crate) state: State,
    /// The socket is there and can be written to.
    pub(crate) connected: bool,
    /// Its host's, among the hosts that a client wrote to.
    pub(crate) mark: u64,
    /// Opened to be leased: nobody shares it.
    pub(crate) leased: bool,
    /// Leased to this client (index and generation): from WATCH to EXEC, or while a command blocks.
    pub(crate) lease: Option<(u32, u32)>,
    pub(crate) carries: Carries,
    /// Gets no new requests and closes when nothing is pending: its host or its cluster is gone.
    pub(crate) draining: bool,
    pub(crate) out: Output,
    /// What must be answered before anything of `out` is written; only on connections with tracking or to
    /// a database other than 0.
    pub(crate) greeting: Option<Box<Output>>,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) carry: Carry,
    pub(crate) scanner: Scanner,
    pub(crate) dirty: bool,
    /// When it was opened, and when its first unflushed byte was put in.
    pub(crate) opened: u64,
    pub(crate) held_since: u64,
    /// Clients that are not read from because too much waits here.
    pub(crate) choked: Vec<(u32, u32)>,
    /// When the first deadline of a request that came here by a redirection ends; those stand behind younger ones.
    pub(crate) overdue_at: u64,
    /// A redirection seen inside the transaction whose EXEC is still to come.
    pub(crate) moved_in_transaction: Option<Vec<u8>>,
    /// Scripts that were named here before.
    pub(crate) seen_scripts: Seen,
    /// Requests and replies of this turn, not yet added to the statistics.
    pub(crate) tally: tally::Upstream,
}

/// Held bytes above which clients that send here are not read from.
pub(crate) const MAX_HELD: usize = 8 * 1024 * 1024;
/// Held bytes above which a mirror gets nothing more.
pub(crate) const MAX_MIRROR_HELD: usize = 4 * 1024 * 1024;

impl Connection {
    /// A request that was sent here and is not answered yet, for sending it once more; `None` when it is not kept.
    pub(crate) fn frame_of(&self, pending: &Pending) -> Option<Bytes> {
        let len = pending.len as usize;
        let shared = self.out.shared_range(pending.at, len);
        shared.or_else(|| self.out.range(pending.at, len).map(Bytes::copy_from_slice))
    }

    pub(crate) fn new(pool: usize, cluster: Arc<Cluster>, host: Arc<Host>, now: u64) -> Self {
        Self {
            pool,
            cluster,
            mark: crate::blocking::mark_of(host.id),
            host,
            state: State::Connecting,
            connected: false,
            leased: false,
            lease: None,
            carries: Carries::Replies,
            draining: false,
            out: Output::default(),
            greeting: None,
            pending: VecDeque::new(),
            carry: Carry::default(),
            scanner: Scanner::default(),
            dirty: false,
            opened: now,
            held_since: now,
            choked: Vec::new(),
            overdue_at: u64::MAX,
            moved_in_transaction: None,
            seen_scripts: Seen::default(),
            tally: tally::Upstream::default(),
        }
    }

    /// Its place among the connections with subscriptions.
    pub(crate) fn feed(&self) -> Option<usize> {
        match self.carries {
            Carries::Subscriptions(feed) => Some(feed),
            Carries::Replies | Carries::Invalidations => None,
        }
    }

    /// Makes room for a request; says where it will begin.
    #[inline]
    pub(crate) fn begin_send(&mut self, now: u64, buffers: &mut Buffers) -> u64 {
        self.out.lend(|| buffers.take_large_empty());
        if self.out.unwritten() == 0 {
            self.held_since = now;
        }
        self.out.end()
    }

    /// Lets go of the bytes of requests that are answered.
    #[inline]
    pub(crate) fn release(&mut self) {
        let position = self
            .pending
            .front()
            .map_or_else(|| self.out.end(), |first| first.at);
        self.out.release(position);
    }

    /// Adds what happened since the last time to the statistics of its host and of its cluster; once a turn, since the
    /// host's are shared.
    #[inline]
    pub(crate) fn add_up(&mut self, live: Option<&mut Live>) {
        self.tally.add_up(&self.host, live);
    }

    /// Adds what it has open to a writer's gauges.
    pub(crate) fn count_into(&self, stats: &Block) {
        stats.add(cluster::UPSTREAM_RQ_ACTIVE, self.pending.len() as u64);
        stats.add(cluster::UPSTREAM_CX_ACTIVE, u64::from(self.connected));
    }

    /// Whether a read would find a client waiting.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }
}
