//! What all features work with: clients, connections and routes, and the events that they yield.
//!
//! It calls nobody: what becomes of a reply, of a lost connection, of a whole answer is said by [`Event`]s, which the
//! engine hands to the feature whose they are.

use std::collections::VecDeque;
use std::sync::Arc;

use redplane_redis_core::client::reading::Reading;
use redplane_redis_core::client::{Client, Waiter};
use redplane_redis_core::connection::{ConnId, Connection};
use redplane_redis_core::filter::Filter;
use redplane_redis_core::headcount::Headcount;
use redplane_redis_core::input::Buffers;
use redplane_redis_core::pending::Pending;
use redplane_redis_core::places::Places;
use redplane_redis_core::pool::Pool;
use redplane_redis_core::scripts::{Known, Scripts};
use redplane_redis_core::split::Split;
use redplane_redis_core::tally;
use redplane_telemetry::Registry;
use redplane_world::Snapshot;
use slab::Slab;

use crate::action::{Action, Gone};
use crate::delays::Faults;
use crate::notice::{Notice, Redirect};

/// What happened in the core that a feature has to hear of. Read by the engine's loop, in order.
pub(crate) enum Event {
    /// A connection is gone.
    Lost(Box<Lost>),
    /// All parts of a split command are answered that the core cannot put together alone.
    Whole(Waiter, Box<Split>),
    /// A request was for a connection that is gone.
    Unsent(Box<Pending>),
    /// A connection is being opened whose server is to tell what changes, by another connection.
    WantsFeed(u32),
    /// A client that tracks has moved from a variant of its filter to another.
    Moved(Moved),
    /// What is left of a transaction is done: its client goes on with it.
    Share(u32),
    /// A client was told something that may not be read.
    Told(u32),
    /// A client of another worker is to be told what changed.
    Forward(Forward),
}

/// A client that tracks and has moved; its former filter stays until this is heard.
pub(crate) struct Moved {
    pub(crate) client: u32,
    pub(crate) generation: u32,
    pub(crate) former: usize,
    /// Requests that were in flight.
    pub(crate) in_flight: u64,
}

/// What a client that redirects wants another one to be told.
pub(crate) struct Forward {
    pub(crate) client: u32,
    pub(crate) generation: u32,
    pub(crate) to: Redirect,
    pub(crate) notice: Notice,
}

/// A connection that is gone, with what waited on it. Its pool stays until this is heard.
pub(crate) struct Lost {
    pub(crate) id: ConnId,
    pub(crate) connection: Connection,
    pub(crate) why: Gone,
}

/// Who is to be looked at before the turn ends.
#[derive(Default)]
pub(crate) struct Due {
    /// Clients with bytes to write.
    pub(crate) clients: Vec<u32>,
    /// Connections with bytes to write.
    pub(crate) connections: Vec<u32>,
    /// Clients whose input goes on, since it rests no more: index and generation.
    pub(crate) resumed: Vec<(u32, u32)>,
    /// Clients that leave with the next actions, by number and generation.
    pub(crate) closing: Vec<(u32, u32)>,
    /// Clients for which very much waits.
    pub(crate) slow_readers: Vec<Reading>,
}

/// What the core says: to the driver, and to the features.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) actions: Vec<Action>,
    pub(crate) events: VecDeque<Event>,
}

/// What a worker has from elsewhere.
pub(crate) struct Shared {
    /// The configuration in use.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Where statistics are registered.
    pub(crate) registry: Registry,
    /// This proxy's own zone, for read policies; empty if not known.
    pub(crate) zone: Arc<str>,
    /// The scripts that clients loaded or ran, of all workers.
    pub(crate) scripts: Arc<Scripts>,
    /// Script bodies that need no look at the shared store.
    pub(crate) known: Known,
    pub(crate) random: fastrand::Rng,
    /// Numbers for what waits by time, so that no two are alike.
    pub(crate) tickets: u64,
    /// Its number.
    pub(crate) worker: usize,
    /// Where its clients are counted.
    pub(crate) heads: Arc<Headcount>,
}

/// Clients, upstreams and routes of one worker.
pub(crate) struct Core {
    /// Microseconds of the driver's clock, the same for the whole turn.
    pub(crate) now: u64,
    pub(crate) clients: Places<Client>,
    pub(crate) connections: Places<Connection>,
    pub(crate) pools: Slab<Pool>,
    pub(crate) filters: Slab<Filter>,
    pub(crate) buffers: Buffers,
    /// What clients asked and were answered in this turn, not yet added to the statistics.
    pub(crate) tally: tally::Downstream,
    /// Requests that servers have not answered.
    pub(crate) in_flight: usize,
    pub(crate) due: Due,
    pub(crate) out: Outbox,
    pub(crate) faults: Faults,
    pub(crate) shared: Shared,
}

impl Core {
    /// One without clients.
    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            now: 0,
            clients: Places::new(),
            connections: Places::new(),
            pools: Slab::new(),
            filters: Slab::new(),
            buffers: Buffers::default(),
            tally: tally::Downstream::default(),
            in_flight: 0,
            due: Due::default(),
            out: Outbox::default(),
            faults: Faults::default(),
            shared,
        }
    }
}
