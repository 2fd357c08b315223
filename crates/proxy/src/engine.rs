//! The turn: what the driver calls, in which order.
//!
//! 1. [`Engine::begin_turn`] takes the time and what is published (`adopt`).
//! 2. What sockets had to say: `client_received`, `upstream_received`, `connected`, `closed` …
//! 3. [`Engine::take_dirty_connections`], then [`Engine::take_dirty_clients`]: each is written once, upstreams first,
//!    so that servers work while clients are answered.
//! 4. [`Engine::actions`]: sockets to open and to close.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use redplane_config::redis_proxy::Protocol;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::{Client, ClientId, Opened, Session};
use redplane_redis_core::connection::ConnId;
use redplane_redis_core::filter::ChainLife;
use redplane_redis_core::output::Output;
use redplane_redis_core::pool::Greeting;
use redplane_redis_core::scripts::{Known, Scripts};
use redplane_redis_flow::action::{Action, Traffic};
use redplane_redis_flow::core::{Core, Event, Forward, Moved, Shared};
use redplane_redis_flow::redirect::names::Redirects;
use redplane_resp::request::Args;
use redplane_telemetry::Registry;
use redplane_telemetry::stats::redis_proxy;
use redplane_world::{Reader, Store};

use crate::blocking::Blocking;
use crate::external_auth::{Logins, Verdict};
use crate::lessons::Lessons;
use crate::pause::Pauses;
use crate::peers::{PeerHandle, Peers};
use crate::pubsub::PubSub;
use crate::scan::Scans;
use crate::tracking::TrackingState;
use crate::transaction::Transactions;

/// Rounds of events and of clients that go on, in one step of a turn.
const ROUNDS: usize = 16;

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

/// What a turn begins with, and what it reads requests with.
pub(crate) struct Turn {
    pub(crate) reader: Reader,
    /// Topologies that were published when those in use were taken over.
    pub(crate) published: u64,
    pub(crate) args: Args,
    /// Of the client that came last.
    pub(crate) generation: u32,
}

/// The redis_proxy of one worker: the core, and the features that it is lent to.
pub struct Engine {
    pub(crate) core: Core,
    pub(crate) turn: Turn,
    /// The other workers' engines, and what is asked of them.
    pub(crate) peer: PeerHandle,
    pub(crate) transactions: Transactions,
    /// Commands that go from shard to shard.
    pub(crate) scans: Scans,
    /// Requests that servers sent elsewhere, or asked for again.
    pub(crate) redirects: Redirects,
    pub(crate) logins: Logins,
    /// CLIENT PAUSE.
    pub(crate) pauses: Pauses,
    /// Clients that wait in blocking commands, or for replicas.
    pub(crate) blocking: Blocking,
    /// Questions about commands that are not answered yet.
    pub(crate) lessons: Lessons,
    pub(crate) pubsub: PubSub,
    /// What clients cache.
    pub(crate) tracking: TrackingState,
}

impl Engine {
    /// An engine without clients.
    pub fn new(context: Context) -> Self {
        let peer = PeerHandle::take(&context.peers, context.worker);
        let core = Core::new(Shared {
            snapshot: context.store.load_full(),
            registry: context.registry.clone(),
            zone: Arc::clone(&context.zone),
            scripts: Arc::clone(&context.scripts),
            known: Known::default(),
            random: fastrand::Rng::with_seed(context.seed),
            tickets: 0,
            worker: peer.worker(),
            heads: Arc::clone(peer.heads()),
        });
        Self {
            core,
            pubsub: PubSub::new(&context.peers.subscriptions),
            turn: Turn {
                reader: context.store.reader(),
                published: 0,
                args: Args::default(),
                generation: 0,
            },
            peer,
            transactions: Transactions::new(),
            scans: Scans::new(&context.peers.scans),
            redirects: Redirects::default(),
            logins: Logins::default(),
            pauses: Pauses::default(),
            blocking: Blocking::default(),
            lessons: Lessons::default(),
            tracking: TrackingState::default(),
        }
    }

    /// What happened is heard of, and clients that rested go on, until there is nothing left to be done. What goes on
    /// for ever leaves the others their turn.
    fn go_on_with_turn(&mut self) {
        for _ in 0..ROUNDS {
            self.run_events();
            if self.core.due.resumed.is_empty() {
                return;
            }
            self.go_on_resumed();
        }
        self.peer.remind();
    }

    /// The loop that reads what the core says, in order, and hands it to the feature whose it is.
    pub(crate) fn run_events(&mut self) {
        while let Some(event) = self.core.out.events.pop_front() {
            match event {
                Event::Lost(lost) => self.lost(*lost),
                Event::Whole(waiter, split) => self.whole(waiter, split),
                Event::Unsent(pending) => self.fail_pending(&pending),
                Event::WantsFeed(id) => self.tracking.open_relay(&mut self.core, id),
                Event::Moved(moved) => self.moved(moved),
                Event::Share(client) => drop(self.go_on_with_share(client as usize)),
                Event::Told(client) => self.pubsub.watch_slow(&mut self.core, client),
                Event::Forward(forward) => self.forward(forward),
            }
        }
    }

    /// A client that tracks has moved to another variant of its filter.
    fn moved(&mut self, moved: Moved) {
        if self.core.clients.known(moved.client, moved.generation).is_some() {
            self.tracking
                .track_from(&mut self.core, moved.client as usize, moved.former);
        }
        self.core.leave_filter(moved.former, moved.in_flight);
    }

    /// A client of another worker is to be told something.
    fn forward(&mut self, forward: Forward) {
        let Some(client) = self.core.clients.known(forward.client, forward.generation) else {
            return;
        };
        let from = (self.core.shared.worker, client.session.id);
        let to = forward.to;
        if !self.peer.forward(to.worker, to.id, &forward.notice, from) {
            self.tracking
                .lose_redirect(&mut self.core, forward.client as usize);
        }
    }

    /// Starts a turn. `now` is microseconds of a clock that never goes back.
    pub fn begin_turn(&mut self, now: u64) {
        self.core.now = now;
        let latest = self.turn.reader.load();
        let published = redplane_upstream::published();
        if self.turn.published != published || !Arc::ptr_eq(latest, &self.core.shared.snapshot) {
            let latest = Arc::clone(latest);
            self.adopt(latest, published);
            self.run_events();
        }
        if self.logins.any_over(now) {
            self.logins.end_logins(&mut self.core);
        }
        if self.peer.has_messages() {
            self.read_messages();
        }
        self.run_events();
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
        let filter = self.core.filter_for(&of, &opened.proxy, Greeting::default());
        let entry = &mut self.core.filters[filter];
        entry.users += 1;
        entry.stats.inc(redis_proxy::DOWNSTREAM_CX_TOTAL);
        entry.stats.inc(redis_proxy::DOWNSTREAM_CX_ACTIVE);
        let logged_in = entry.proxy.auth.is_none();
        let authenticated = logged_in && entry.proxy.protocol == Protocol::Resp2;
        self.turn.generation = self.turn.generation.wrapping_add(1);
        self.core.shared.heads.client_came();
        let mut session = Session::new(self.peer.next_client(), &opened, self.core.now);
        session.logged_in = logged_in;
        session.draining = opened.draining;
        let client = Client::new(self.turn.generation, filter, session, authenticated);
        ClientId(self.core.clients.insert(client) as u32)
    }

    /// Lets the clients go that were closed.
    fn end_closing(&mut self) {
        while let Some((key, generation)) = self.core.due.closing.pop() {
            if self.core.clients.known(key, generation).is_some() {
                let traffic = self.client_closed(ClientId(key));
                self.core
                    .out
                    .actions
                    .push(Action::CloseClient(ClientId(key), traffic));
            }
        }
    }

    /// Lets a client go whose connection is gone. Its requests in flight are answered to nobody.
    pub fn client_closed(&mut self, id: ClientId) -> Traffic {
        let Some(client) = self.core.clients.try_remove(id.0 as usize) else {
            return Traffic::default();
        };
        self.core.shared.heads.client_went();
        if client.inlet.rests_for(Rest::Pause) {
            self.core.shared.heads.client_unblocked();
        }
        let traffic = Traffic {
            received: client.inlet.received,
            sent: client.replies.sent,
        };
        let key = id.0 as usize;
        self.transactions.forget(&mut self.core, key);
        self.core.faults.delays.forget(key);
        self.scans.forget(key);
        self.logins.forget_login(&mut self.core, id.0);
        self.blocking.abandon_wait(&mut self.core, id.0);
        self.blocking.abandon_acknowledged(&self.core, id.0);
        self.pubsub.forget(&mut self.core, key);
        self.tracking.forget(&mut self.core, key);
        self.core.leave_filter(client.filter, client.replies.open());
        traffic
    }

    /// Closes a listener's clients: each one as soon as it waits for nothing.
    pub fn drain(&mut self, listener: &str) {
        let quiet: Vec<u32> = self
            .core
            .clients
            .iter_mut()
            .filter(|(_, client)| &*self.core.filters[client.filter].listener == listener)
            .filter_map(|(id, client)| {
                client.session.draining = true;
                client.is_between_requests().then_some(id as u32)
            })
            .collect();
        for id in quiet {
            self.core.drain_close(ClientId(id));
        }
    }

    /// Lets the clients of a chain end behind their next command. Quiet ones stay: what they send may be on its way.
    pub fn drain_chain(&mut self, life: u64) {
        let clients = self.core.clients.iter_mut();
        let own = clients.filter(|(_, client)| self.core.filters[client.filter].life == life);
        own.for_each(|(_, client)| client.session.draining = true);
    }

    /// The clients of a listener that is drained.
    pub fn clients_of(&self, listener: &str) -> Vec<ClientId> {
        self.core.draining_where(|filter| *filter.listener == *listener)
    }

    /// The clients of a chain that is drained.
    pub fn clients_of_chain(&self, life: u64) -> Vec<ClientId> {
        self.core.draining_where(|filter| filter.life == life)
    }

    /// Connections with bytes to write, once each. Give the list back with [`Self::recycle_connections`].
    pub fn take_dirty_connections(&mut self) -> Vec<u32> {
        self.go_on_with_turn();
        std::mem::take(&mut self.core.due.connections)
    }

    /// Clients with bytes to write, once each. Give the list back with [`Self::recycle_clients`].
    pub fn take_dirty_clients(&mut self) -> Vec<u32> {
        self.core.tally.add_up(&self.core.filters);
        std::mem::take(&mut self.core.due.clients)
    }

    /// Gives an emptied list its memory back.
    pub fn recycle_connections(&mut self, mut list: Vec<u32>) {
        list.clear();
        if self.core.due.connections.is_empty() {
            self.core.due.connections = list;
        }
    }

    /// Gives an emptied list its memory back.
    pub fn recycle_clients(&mut self, mut list: Vec<u32>) {
        list.clear();
        if self.core.due.clients.is_empty() {
            self.core.due.clients = list;
        }
    }

    /// What is to be done with sockets, in order, before any other socket is looked at.
    pub fn actions(&mut self) -> Vec<Action> {
        self.go_on_with_turn();
        self.end_closing();
        self.core.clients.wake();
        self.core.connections.wake();
        std::mem::take(&mut self.core.out.actions)
    }

    /// Bytes for a client.
    pub fn client_output(&mut self, id: ClientId) -> Option<&mut Output> {
        let client = self.core.clients.get(id.0 as usize)?;
        if client.features.has(Feature::Tracking) {
            self.tracking.release_late(&mut self.core, id.0 as usize);
        }
        self.core
            .clients
            .get_mut(id.0 as usize)
            .map(|client| &mut client.replies.out)
    }

    /// Whether something waits that [`Self::tick`] may have to end soon. Ticks that were planned before it waited may be
    /// far away.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.core.in_flight > 0
            || !self.core.faults.delayed.is_empty()
            || !self.pauses.list.is_empty()
            || self.blocking.blocked_clients() > 0
    }

    /// How long until [`Self::tick`] has something to do; `None` when nothing waits.
    pub fn next_tick(&self) -> Option<Duration> {
        let ticks = [
            self.next_request_tick(),
            self.pubsub.next_pubsub_tick(&self.core),
            self.tracking.next_tracking_tick(),
            self.core.next_reader_tick(),
            self.core.next_pool_tick(),
        ];
        ticks.into_iter().flatten().min()
    }

    fn next_request_tick(&self) -> Option<Duration> {
        let held = self
            .core
            .faults
            .delayed
            .first_key_value()
            .map(|((due, _), _)| *due);
        let pauses = self.pauses.list.iter().map(|pause| pause.end);
        let due = held.into_iter().chain(pauses).min();
        let due =
            due.map(|due| Duration::from_micros(due.saturating_sub(self.core.now).clamp(1_000, 50_000)));
        let waits = self.core.in_flight > 0
            || self.blocking.blocked_clients() > 0
            || !self.core.connections.is_empty() && self.core.has_unready_connections();
        due.into_iter()
            .chain(waits.then(|| self.core.tick_step(self.blocking.longest_step())))
            .min()
    }

    /// The driver has resolved a name for a redirection, or could not.
    pub fn resolved(&mut self, ticket: u64, address: Option<IpAddr>) {
        self.redirects.resolved(&mut self.core, ticket, address);
    }

    /// What the service said of a login. A ticket that is not known any more, its client having gone, means nothing.
    pub fn authenticated(&mut self, ticket: u64, verdict: &Verdict) {
        self.logins.authenticated(&mut self.core, ticket, verdict);
    }

    /// The other side of a client's connection is closed, perhaps with bytes before the end that are not read yet.
    pub fn client_hung_up(&mut self, id: ClientId) {
        self.blocking.client_hung_up(&mut self.core, id);
    }

    /// Clients that wait in a command.
    pub fn blocked_clients(&self) -> usize {
        self.blocking.blocked_clients()
    }

    /// Ends a client's wait, with an error or as if its time were over; false when it does not wait.
    pub fn unblock(&mut self, id: ClientId, with_error: bool) -> bool {
        self.blocking.unblock(&mut self.core, id, with_error)
    }

    /// Whether a connection is open.
    pub fn is_connected(&self, id: ConnId) -> bool {
        self.core
            .connections
            .get(id.0 as usize)
            .is_some_and(|connection| connection.life.connected)
    }
}
