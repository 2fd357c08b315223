//! Client-side caching: CLIENT TRACKING, and invalidations on their way from servers to the clients that cache.
//!
//! Requests of clients that track go over a variant of the shared connections that begins with CLIENT TRACKING ON, so that
//! the servers remember what was read through it and tell that very connection when it changes: what a push overtakes
//! and what it does not is then as on one Redis. Here stands which client read which key (`table`), noted when the reply
//! comes (`noted`), so that a push can be passed on to those whom it concerns (`deliver`). BCAST has a variant of its own
//! (`broadcast`), and connections of RESP2 have feeds beside them (`relay`). Whatever might be missed (a connection that is
//! lost, a slot that moves, a table that is full) is told as an invalidation (`tend`): a client may drop too much, and
//! never keeps what has changed.
//!
//! Redis: <https://redis.io/docs/latest/develop/reference/client-side-caching/>. Keys are tracked without their database.

mod ask;
mod broadcast;
mod caching;
mod deliver;
mod describe;
mod noted;
mod options;
mod relay;
mod table;
mod tend;

pub use ask::Joining;
pub use describe::redirect_of;
pub use options::Wanted;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use redplane_redis_core::client::features::{Feature, PerClient};
use redplane_redis_core::pool::Tracking;
use redplane_redis_flow::notice::{Notice, Redirect};
use redplane_resp::request::Args;
use rustc_hash::FxHashMap;

use crate::relay::Relay;
use crate::table::Table;

/// Which keys a client wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All that it reads.
    Default,
    /// What it reads behind CLIENT CACHING YES.
    OptIn,
    /// What it reads, but not behind CLIENT CACHING NO.
    OptOut,
    /// All that begin so, read or not.
    Broadcast(BTreeSet<Bytes>),
}

/// A client that tracks.
#[derive(Debug)]
pub struct Tracker {
    pub(crate) mode: Mode,
    pub(crate) noloop: bool,
    pub(crate) redirect: Option<Redirect>,
    /// Whom it redirects to is gone.
    pub broken: bool,
    /// CLIENT CACHING was said and holds for the next command.
    pub(crate) caching: bool,
    /// The requests that it held for.
    marked: VecDeque<u32>,
    /// What must not be told before the replies to these requests are out.
    late: VecDeque<(u32, Notice)>,
    /// It was told to drop everything when so many bytes had gone to it, and nothing since.
    emptied: Option<u64>,
    /// Pools that it read through in another protocol or database: their servers go on telling.
    pools: Vec<usize>,
}

impl Tracker {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            noloop: false,
            redirect: None,
            broken: false,
            caching: false,
            marked: VecDeque::new(),
            late: VecDeque::new(),
            emptied: None,
            pools: Vec::new(),
        }
    }

    /// Whether it is told of prefixes, whatever it has read.
    pub fn is_broadcast(&self) -> bool {
        matches!(self.mode, Mode::Broadcast(_))
    }

    /// What its connections have to ask for.
    fn greets_with(&self) -> Tracking {
        match self.mode {
            Mode::Broadcast(_) => Tracking::Broadcast,
            Mode::Default | Mode::OptIn | Mode::OptOut => Tracking::Keys,
        }
    }

    /// Whether what this request reads is to be remembered.
    fn remembers(&self, sequence: u32) -> bool {
        match self.mode {
            Mode::Default => true,
            Mode::OptIn => self.marked.contains(&sequence),
            Mode::OptOut => !self.marked.contains(&sequence),
            Mode::Broadcast(_) => false,
        }
    }

    /// Notes that CLIENT CACHING holds for a request; `head` is the first one that is not answered.
    fn mark(&mut self, sequence: u32, head: u32) {
        let passed = |marked: &u32| marked.wrapping_sub(head) > u32::MAX / 2;
        while self.marked.front().is_some_and(passed) {
            self.marked.pop_front();
        }
        self.marked.push_back(sequence);
    }
}

/// A client's own write that was just answered: the push behind it, if it asked for NOLOOP, is not for it.
#[derive(Debug)]
struct OwnWrite {
    connection: u32,
    client: u32,
    key: Bytes,
    /// A PING behind it is on its way.
    fenced: bool,
}

/// What one worker knows of which client caches what.
#[derive(Debug)]
pub struct TrackingState {
    trackers: PerClient<Tracker>,
    table: Table,
    /// Of the bytes that are being read.
    own: Vec<OwnWrite>,
    /// CLIENT TRACKING ON of these clients waits for servers.
    joining: FxHashMap<u32, Joining>,
    /// Clients that track.
    clients: usize,
    /// Those of them that do with BCAST.
    broadcast: Vec<u32>,
    /// When connections last said something.
    heard: FxHashMap<u32, u64>,
    /// When they were looked at.
    looked: u64,
    /// Where clients that others redirect to were seen.
    redirected_to: FxHashMap<u64, u32>,
    args: Args,
    /// Feeds of connections of RESP2, and which one has which.
    relays: FxHashMap<u32, Relay>,
    feeds: FxHashMap<u32, u32>,
}

impl Default for TrackingState {
    fn default() -> Self {
        Self {
            trackers: PerClient::new(Feature::Tracking),
            table: Table::default(),
            own: Vec::new(),
            joining: FxHashMap::default(),
            clients: 0,
            broadcast: Vec::new(),
            heard: FxHashMap::default(),
            looked: 0,
            redirected_to: FxHashMap::default(),
            args: Args::default(),
            relays: FxHashMap::default(),
            feeds: FxHashMap::default(),
        }
    }
}
