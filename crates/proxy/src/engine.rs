//! The turn: what the driver calls, in which order.
//!
//! 1. [`Engine::begin_turn`] takes the time and what is published (`adopt`).
//! 2. What sockets had to say: `client_received`, `upstream_received`, `connected`, `closed` …
//! 3. [`Engine::take_dirty_connections`], then [`Engine::take_dirty_clients`]: each is written once, upstreams first,
//!    so that servers work while clients are answered.
//! 4. [`Engine::actions`]: sockets to open and to close.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use redplane_config::cluster::DnsFamily;
use redplane_config::redis_proxy::Protocol;
use redplane_resp::request::Args;
use redplane_telemetry::Registry;
use redplane_telemetry::stats::redis_proxy;
use redplane_upstream::{Cluster, Host};
use redplane_world::{Reader, Snapshot, Store};
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::again::Again;
use crate::blocking::{Acknowledged, Wait};
use crate::external_auth::{LoginQuestion, Logins};
use crate::fault::Delays;
use crate::inquiry::Inquiry;
use crate::lessons::LessonRequest;
use crate::pause::Pause;
use crate::peers::{PeerHandle, Peers};
use crate::pubsub::PubSub;
use crate::redirect::Unresolved;
use crate::scan::Walks;
use crate::tracking::TrackingState;
use crate::transaction::Transactions;
use redplane_redis_core::client::features::{Feature, PerClient};
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::reading::Reading;
use redplane_redis_core::client::{Client, ClientId, Opened, Session, Waiter};
use redplane_redis_core::connection::{ConnId, Connection};
use redplane_redis_core::filter::{ChainLife, Filter};
use redplane_redis_core::input::Buffers;
use redplane_redis_core::output::Output;
use redplane_redis_core::places::Places;
use redplane_redis_core::pool::{Greeting, Pool};
use redplane_redis_core::scripts::{Known, Scripts};
use redplane_redis_core::tally;

/// What an engine works with.
#[derive(Clone)]
pub struct Context {
    /// The published configuration.
    pub store: Arc<Store>,
    /// Where statistics are registered.
    pub registry: Registry,
    /// This proxy's own zone, for read policies; empty if not known.
    pub zone: Arc<str>,
    /// Seed of the worker's random numbers.
    pub seed: u64,
    /// The engines of all workers.
    pub peers: Arc<Peers>,
    /// This one's place among them.
    pub worker: usize,
    /// The scripts that clients loaded or ran, shared by all workers.
    pub scripts: Arc<Scripts>,
}

/// Plain-text bytes of a client, for the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From it.
    pub received: u64,
    /// To it.
    pub sent: u64,
}

/// What the engine asks the driver to do.
#[derive(Debug)]
pub enum Action {
    /// Open a connection to a host; `connected` or `closed` tells how it went.
    Connect(ConnId, Arc<Cluster>, Arc<Host>),
    /// Close an upstream connection. The engine has forgotten it already.
    CloseUpstream(ConnId),
    /// Close a client's connection. The engine has forgotten it by now.
    CloseClient(ClientId, Traffic),
    /// Read from this client again: its socket may hold bytes that no event will tell of.
    Resume(ClientId),
    /// Resolve a name for a redirection and call [`Engine::resolved`] with the ticket.
    Resolve {
        /// To be given back.
        ticket: u64,
        /// The name.
        host: String,
        /// The cluster whose rules apply.
        cluster: Arc<Cluster>,
        /// The filter's families, where it names any.
        family: Option<DnsFamily>,
    },
    /// Ask a service about a login and call [`Engine::authenticated`] with the ticket.
    Authenticate(Box<LoginQuestion>),
    /// Nobody waits for the verdict of this ticket any more.
    ForgetLogin(u64),
}

/// The redis_proxy of one worker.
pub struct Engine {
    pub(crate) context: Context,
    reader: Reader,
    pub(crate) snapshot: Arc<Snapshot>,
    /// Topologies that were published when those in use were taken over.
    pub(crate) published: u64,
    /// Microseconds of the driver's clock, the same for the whole turn.
    pub(crate) now: u64,
    pub(crate) clients: Places<Client>,
    pub(crate) connections: Places<Connection>,
    pub(crate) pools: Slab<Pool>,
    pub(crate) filters: Slab<Filter>,
    pub(crate) dirty_clients: Vec<u32>,
    /// Clients that leave with the next actions, by number and generation.
    closing: Vec<(u32, u32)>,
    /// Clients for which very much waits.
    pub(crate) slow_readers: Vec<Reading>,
    pub(crate) dirty_connections: Vec<u32>,
    /// Clients whose input goes on, since servers have room again: index and generation.
    pub(crate) unchoked: Vec<(u32, u32)>,
    pub(crate) actions: Vec<Action>,
    pub(crate) buffers: Buffers,
    pub(crate) args: Args,
    pub(crate) random: fastrand::Rng,
    pub(crate) generation: u32,
    /// The other workers' engines, and what is asked of them.
    pub(crate) peer: PeerHandle,
    pub(crate) inquiries: BTreeMap<u64, Inquiry>,
    /// Replies held back by delay faults, by the time they are due.
    pub(crate) delayed: BTreeMap<(u64, u64), (Waiter, Vec<u8>)>,
    /// Numbers for what waits by time, so that no two are alike.
    pub(crate) tickets: u64,
    /// Requests whose replies a fault holds back.
    pub(crate) delays: PerClient<Delays>,
    pub(crate) transactions: Transactions,
    /// Commands that go from shard to shard.
    pub(crate) walks: PerClient<Walks>,
    pub(crate) unresolved: BTreeMap<u64, Unresolved>,
    /// Requests that a migrating slot refused, by the time they are sent again.
    pub(crate) again: BTreeMap<(u64, u64), Again>,
    pub(crate) in_flight: usize,
    pub(crate) logins: Logins,
    /// CLIENT PAUSE.
    pub(crate) pauses: Vec<Pause>,
    /// Script bodies that need no look at the shared store.
    pub(crate) known: Known,
    /// Clients that wait in blocking commands.
    pub(crate) waits: FxHashMap<u32, Box<Wait>>,
    /// Questions about commands that are not answered yet.
    pub(crate) lesson_requests: Slab<LessonRequest>,
    /// Clients that wait for replicas.
    pub(crate) acknowledged: BTreeMap<u32, Acknowledged>,
    pub(crate) pubsub: PubSub,
    /// What clients cache.
    pub(crate) tracking: TrackingState,
    /// What clients asked and were answered in this turn, not yet added to the statistics.
    pub(crate) tally: tally::Downstream,
}

impl Engine {
    /// An engine without clients.
    pub fn new(context: Context) -> Self {
        let snapshot = context.store.load_full();
        let random = fastrand::Rng::with_seed(context.seed);
        let peer = PeerHandle::take(&context.peers, context.worker);
        Self {
            pubsub: PubSub::new(&context.peers.subscriptions),
            reader: context.store.reader(),
            context,
            snapshot,
            published: 0,
            now: 0,
            clients: Places::new(),
            connections: Places::new(),
            pools: Slab::new(),
            filters: Slab::new(),
            dirty_clients: Vec::new(),
            closing: Vec::new(),
            slow_readers: Vec::new(),
            dirty_connections: Vec::new(),
            unchoked: Vec::new(),
            actions: Vec::new(),
            buffers: Buffers::default(),
            args: Args::default(),
            random,
            generation: 0,
            peer,
            inquiries: BTreeMap::new(),
            delayed: BTreeMap::new(),
            tickets: 0,
            delays: PerClient::new(Feature::Delays),
            transactions: Transactions::new(),
            walks: PerClient::new(Feature::Walks),
            unresolved: BTreeMap::new(),
            again: BTreeMap::new(),
            in_flight: 0,
            logins: Logins::default(),
            pauses: Vec::new(),
            known: Known::default(),
            waits: FxHashMap::default(),
            lesson_requests: Slab::new(),
            acknowledged: BTreeMap::new(),
            tracking: TrackingState::default(),
            tally: tally::Downstream::default(),
        }
    }

    /// Starts a turn. `now` is microseconds of a clock that never goes back.
    pub fn begin_turn(&mut self, now: u64) {
        self.now = now;
        let latest = self.reader.load();
        let published = redplane_upstream::published();
        if self.published != published || !Arc::ptr_eq(latest, &self.snapshot) {
            let latest = Arc::clone(latest);
            self.adopt(latest, published);
        }
        if self.logins.any_over(now) {
            self.end_logins();
        }
        if self.peer.has_messages() {
            self.read_messages();
        }
    }

    /// Says what starts the next turn when another worker has written.
    pub fn wake_by(&self, waker: Waker) {
        self.peer.wake_by(waker);
    }

    /// Takes a client in. It is served by the chain that it was accepted under, whatever has become of that since.
    pub fn client_opened(&mut self, opened: Opened) -> ClientId {
        let of = ChainLife {
            listener: Arc::clone(&opened.listener),
            chain: Arc::clone(&opened.chain),
            life: opened.life,
        };
        let filter = self.filter_for(&of, &opened.proxy, Greeting::default());
        let entry = &mut self.filters[filter];
        entry.users += 1;
        entry.stats.inc(redis_proxy::DOWNSTREAM_CX_TOTAL);
        entry.stats.inc(redis_proxy::DOWNSTREAM_CX_ACTIVE);
        let logged_in = entry.proxy.auth.is_none();
        let authenticated = logged_in && entry.proxy.protocol == Protocol::Resp2;
        self.generation = self.generation.wrapping_add(1);
        let mut session = Session::new(self.peer.client_came(), &opened, self.now);
        session.logged_in = logged_in;
        session.draining = opened.draining;
        let client = Client::new(self.generation, filter, session, authenticated);
        ClientId(self.clients.insert(client) as u32)
    }

    /// Whether a client speaks RESP3.
    pub(crate) fn is_resp3(&self, key: usize) -> bool {
        self.filters[self.clients[key].filter].greeting.protocol == Protocol::Resp3
    }

    /// Closes a client from our side. Nothing more is read from it or written to it, but it stays in its place until
    /// [`Self::actions`]: whoever is in the middle of serving it, or of telling it something, goes on to find it there.
    pub(crate) fn close_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id.0 as usize)
            && !client.inlet.is_closed()
        {
            client.inlet.rest(Rest::Closed);
            self.closing.push((id.0, client.generation));
        }
    }

    /// Lets the clients go that were closed.
    fn end_closing(&mut self) {
        while let Some((key, generation)) = self.closing.pop() {
            if self.clients.known(key, generation).is_some() {
                let traffic = self.client_closed(ClientId(key));
                self.actions.push(Action::CloseClient(ClientId(key), traffic));
            }
        }
    }

    /// Lets a client go whose connection is gone. Its requests in flight are answered to nobody.
    pub fn client_closed(&mut self, id: ClientId) -> Traffic {
        let Some(client) = self.clients.try_remove(id.0 as usize) else {
            return Traffic::default();
        };
        self.peer.client_went();
        if client.inlet.rests_for(Rest::Pause) {
            self.peer.client_unblocked();
        }
        let traffic = Traffic {
            received: client.inlet.received,
            sent: client.replies.sent,
        };
        let key = id.0 as usize;
        if let Some(transaction) = self.transactions.open.forget(key) {
            self.end_transaction(&transaction);
        }
        self.transactions.shares.forget(key);
        self.delays.forget(key);
        self.walks.forget(key);
        self.forget_login(id.0);
        self.abandon_wait(id.0);
        self.abandon_acknowledged(id.0);
        if let Some(subscriber) = self.pubsub.subscribers.forget(key) {
            self.leave_all(key, *subscriber);
        }
        if let Some(tracker) = self.tracking.trackers.forget(key) {
            self.forget_tracker(key, &tracker);
        }
        self.leave_filter(client.filter, client.replies.open());
        traffic
    }

    /// Closes a listener's clients: each one as soon as it waits for nothing.
    pub fn drain(&mut self, listener: &str) {
        let quiet: Vec<u32> = self
            .clients
            .iter_mut()
            .filter(|(_, client)| &*self.filters[client.filter].listener == listener)
            .filter_map(|(id, client)| {
                client.session.draining = true;
                client.is_between_requests().then_some(id as u32)
            })
            .collect();
        for id in quiet {
            self.drain_close(ClientId(id));
        }
    }

    /// Lets the clients of a chain end behind their next command. Quiet ones stay: what they send may be on its way.
    pub fn drain_chain(&mut self, life: u64) {
        let clients = self.clients.iter_mut();
        let own = clients.filter(|(_, client)| self.filters[client.filter].life == life);
        own.for_each(|(_, client)| client.session.draining = true);
    }

    pub(crate) fn drain_close(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get(id.0 as usize) {
            self.filters[client.filter]
                .stats
                .inc(redis_proxy::DOWNSTREAM_CX_DRAIN_CLOSE);
        }
        self.close_client(id);
    }

    /// The clients of a listener that is drained.
    pub fn clients_of(&self, listener: &str) -> Vec<ClientId> {
        self.draining_where(|filter| *filter.listener == *listener)
    }

    /// The clients of a chain that is drained.
    pub fn clients_of_chain(&self, life: u64) -> Vec<ClientId> {
        self.draining_where(|filter| filter.life == life)
    }

    /// A listener that has come back under its name has clients that are not meant.
    fn draining_where(&self, own: impl Fn(&Filter) -> bool) -> Vec<ClientId> {
        let clients = self.clients.iter();
        let own = clients.filter(|(_, client)| client.session.draining && own(&self.filters[client.filter]));
        own.map(|(id, _)| ClientId(id as u32)).collect()
    }

    /// Connections with bytes to write, once each. Give the list back with [`Self::recycle_connections`].
    pub fn take_dirty_connections(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dirty_connections)
    }

    /// Clients with bytes to write, once each. Give the list back with [`Self::recycle_clients`].
    pub fn take_dirty_clients(&mut self) -> Vec<u32> {
        self.tally.add_up(&self.filters);
        std::mem::take(&mut self.dirty_clients)
    }

    /// Gives an emptied list its memory back.
    pub fn recycle_connections(&mut self, mut list: Vec<u32>) {
        list.clear();
        if self.dirty_connections.is_empty() {
            self.dirty_connections = list;
        }
    }

    /// Gives an emptied list its memory back.
    pub fn recycle_clients(&mut self, mut list: Vec<u32>) {
        list.clear();
        if self.dirty_clients.is_empty() {
            self.dirty_clients = list;
        }
    }

    /// What is to be done with sockets, in order, before any other socket is looked at.
    pub fn actions(&mut self) -> Vec<Action> {
        if !self.unchoked.is_empty() {
            self.go_on_unchoked();
        }
        self.end_closing();
        self.clients.wake();
        self.connections.wake();
        std::mem::take(&mut self.actions)
    }

    /// Bytes for a client.
    pub fn client_output(&mut self, id: ClientId) -> Option<&mut Output> {
        let client = self.clients.get(id.0 as usize)?;
        if client.features.has(Feature::Tracking) {
            self.release_late(id.0 as usize);
        }
        self.clients
            .get_mut(id.0 as usize)
            .map(|client| &mut client.replies.out)
    }

    /// Whether something waits that [`Self::tick`] may have to end soon. Ticks that were planned before it waited may be
    /// far away.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.in_flight > 0
            || !self.delayed.is_empty()
            || !self.pauses.is_empty()
            || self.blocked_clients() > 0
    }

    /// How long until [`Self::tick`] has something to do; `None` when nothing waits.
    pub fn next_tick(&self) -> Option<Duration> {
        let ticks = [
            self.next_request_tick(),
            self.next_pubsub_tick(),
            self.next_tracking_tick(),
            self.next_reader_tick(),
            self.next_pool_tick(),
        ];
        ticks.into_iter().flatten().min()
    }

    fn next_request_tick(&self) -> Option<Duration> {
        let held = self.delayed.first_key_value().map(|((due, _), _)| *due);
        let pauses = self.pauses.iter().map(|pause| pause.end);
        let due = held.into_iter().chain(pauses).min();
        let due = due.map(|due| Duration::from_micros(due.saturating_sub(self.now).clamp(1_000, 50_000)));
        let waits = self.in_flight > 0
            || self.blocked_clients() > 0
            || !self.connections.is_empty() && self.has_unready_connections();
        due.into_iter().chain(waits.then(|| self.tick_step())).min()
    }

    /// Fine enough for the shortest time-out in use, coarse enough to cost nothing.
    fn tick_step(&self) -> Duration {
        let times = self.pools.iter().flat_map(|(_, pool)| {
            let settings = &pool.key.settings;
            let flush =
                (settings.max_buffer_size_before_flush > 0).then_some(settings.buffer_flush_timeout * 8);
            [Some(settings.op_timeout), flush]
        });
        let shortest = times.flatten().min().unwrap_or(Duration::from_secs(1));
        let longest = if self.acknowledged.is_empty() { 50 } else { 10 };
        (shortest / 16).clamp(Duration::from_millis(1), Duration::from_millis(longest))
    }

    fn has_unready_connections(&self) -> bool {
        self.connections
            .iter()
            .any(|(_, connection)| !connection.life.connected)
    }

    /// Whether a connection is open.
    pub fn is_connected(&self, id: ConnId) -> bool {
        self.connections
            .get(id.0 as usize)
            .is_some_and(|connection| connection.life.connected)
    }
}
