//! What all features work with: clients, connections and routes, and the events that they yield.
//!
//! It calls nobody: what becomes of a reply, of a lost connection, of a whole answer is said by [`Event`]s, which the
//! engine hands to the feature whose they are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use redplane_config::redis_proxy::Protocol;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::reading::Reading;
use redplane_redis_core::client::{Client, ClientId, Waiter};
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
use redplane_telemetry::stats::redis_proxy;
use redplane_world::Snapshot;
use slab::Slab;

use crate::action::{Action, Gone};
use crate::delays::Faults;
use crate::known_logins::ClientLogins;
use crate::notice::{Notice, Redirect};

impl Core {
    /// Whether a client speaks RESP3.
    pub fn is_resp3(&self, key: usize) -> bool {
        self.filters[self.clients[key].filter].greeting.protocol == Protocol::Resp3
    }

    /// A listener that has come back under its name has clients that are not meant.
    pub fn draining_where(&self, own: impl Fn(&Filter) -> bool) -> Vec<ClientId> {
        let clients = self.clients.iter();
        let own = clients.filter(|(_, client)| client.session.draining && own(&self.filters[client.filter]));
        own.map(|(id, _)| ClientId(id as u32)).collect()
    }

    /// Whether a connection is still being opened.
    pub fn has_unready_connections(&self) -> bool {
        self.connections
            .iter()
            .any(|(_, connection)| !connection.life.connected)
    }

    /// Closes a client from our side. Nothing more is read from it or written to it, but it stays in its place until
    /// the actions of the turn: whoever is in the middle of serving it, or of telling it something, goes on to find it there.
    pub fn close_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id.0 as usize)
            && !client.inlet.is_closed()
        {
            client.inlet.rest(Rest::Closed);
            self.due.closing.push((id.0, client.generation));
        }
    }

    /// Closes a client of a listener or a chain that is drained, and counts it.
    pub fn drain_close(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get(id.0 as usize) {
            self.filters[client.filter]
                .stats
                .inc(redis_proxy::DOWNSTREAM_CX_DRAIN_CLOSE);
        }
        self.close_client(id);
    }

    /// Fine enough for the shortest time-out in use, coarse enough to cost nothing.
    pub fn tick_step(&self, longest: Duration) -> Duration {
        let times = self.pools.iter().flat_map(|(_, pool)| {
            let settings = &pool.key.settings;
            let flush =
                (settings.max_buffer_size_before_flush > 0).then_some(settings.buffer_flush_timeout * 8);
            [Some(settings.op_timeout), flush]
        });
        let shortest = times.flatten().min().unwrap_or(Duration::from_secs(1));
        (shortest / 16).clamp(Duration::from_millis(1), longest)
    }

    /// One without clients.
    pub fn new(shared: Shared) -> Self {
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

/// Marks a client for writing at the end of the turn.
#[inline]
pub fn mark_dirty(client: &mut Client, key: usize, list: &mut Vec<u32>) {
    if !client.dirty {
        client.dirty = true;
        list.push(key as u32);
    }
}

/// What happened in the core that a feature has to hear of. Read by the engine's loop, in order.
pub enum Event {
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
pub struct Moved {
    /// The client's place.
    pub client: u32,
    /// Of the client: its place may have been given to another one.
    pub generation: u32,
    /// The variant that it has left.
    pub former: usize,
    /// Requests that were in flight.
    pub in_flight: u64,
}

/// What a client that redirects wants another one to be told.
pub struct Forward {
    /// The client's place.
    pub client: u32,
    /// Of the client: its place may have been given to another one.
    pub generation: u32,
    /// The client that is told instead.
    pub to: Redirect,
    /// What it is told.
    pub notice: Notice,
}

/// A connection that is gone, with what waited on it. Its pool stays until this is heard.
pub struct Lost {
    /// The number that it had.
    pub id: ConnId,
    /// It, with what waited on it.
    pub connection: Connection,
    /// What ended it.
    pub why: Gone,
}

/// Who is to be looked at before the turn ends.
#[derive(Default)]
pub struct Due {
    /// Clients with bytes to write.
    pub clients: Vec<u32>,
    /// Connections with bytes to write.
    pub connections: Vec<u32>,
    /// Clients whose input goes on, since it rests no more: index and generation.
    pub resumed: Vec<(u32, u32)>,
    /// Clients that leave with the next actions, by number and generation.
    pub closing: Vec<(u32, u32)>,
    /// Clients for which very much waits.
    pub(crate) slow_readers: Vec<Reading>,
}

/// What the core says: to the driver, and to the features.
#[derive(Default)]
pub struct Outbox {
    /// What the driver is to do, in order.
    pub actions: Vec<Action>,
    /// What features have to hear of, in order.
    pub events: VecDeque<Event>,
}

/// What a worker has from elsewhere.
pub struct Shared {
    /// The configuration in use.
    pub snapshot: Arc<Snapshot>,
    /// Where statistics are registered.
    pub registry: Registry,
    /// This proxy's own zone, for read policies; empty if not known.
    pub zone: Arc<str>,
    /// The scripts that clients loaded or ran, of all workers.
    pub scripts: Arc<Scripts>,
    /// Script bodies that need no look at the shared store.
    pub known: Known,
    /// The worker's random numbers.
    pub random: fastrand::Rng,
    /// Numbers for what waits by time, so that no two are alike.
    pub tickets: u64,
    /// The logins that its clients brought.
    pub logins: ClientLogins,
    /// Its number.
    pub worker: usize,
    /// Where its clients are counted.
    pub heads: Arc<Headcount>,
}

/// Clients, upstreams and routes of one worker.
pub struct Core {
    /// Microseconds of the driver's clock, the same for the whole turn.
    pub now: u64,
    /// The worker's clients.
    pub clients: Places<Client>,
    /// Connections to servers.
    pub connections: Places<Connection>,
    /// The connections of clusters, by what they are used for.
    pub pools: Slab<Pool>,
    /// Chains that clients came under, in their variants.
    pub filters: Slab<Filter>,
    /// Memory that is lent to inputs and outputs.
    pub buffers: Buffers,
    /// What clients asked and were answered in this turn, not yet added to the statistics.
    pub tally: tally::Downstream,
    /// Requests that servers have not answered.
    pub in_flight: usize,
    /// What is to be looked at before the turn ends.
    pub due: Due,
    /// What the core has to say.
    pub out: Outbox,
    /// Replies that fault injection holds back.
    pub faults: Faults,
    /// What comes from outside the worker.
    pub shared: Shared,
}
