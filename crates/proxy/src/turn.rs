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

use redplane_blocking::Blocking;
use redplane_pubsub::PubSub;
use redplane_redis_core::client::ClientId;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::connection::ConnId;
use redplane_redis_core::output::Output;
use redplane_redis_core::scripts::Known;
use redplane_redis_flow::action::Action;
use redplane_redis_flow::core::{Core, Event, Forward, Moved, Shared};
use redplane_redis_flow::known_logins::ClientLogins;
use redplane_redis_flow::redirect::names::Redirects;
use redplane_resp::request::Args;
use redplane_tracking::TrackingState;
use redplane_transaction::Transactions;

use crate::engine::{Context, Engine, Turn};
use crate::external_auth::{Logins, Verdict};
use crate::lessons::Lessons;
use crate::pause::Pauses;
use crate::peers::PeerHandle;
use crate::scan::Scans;

/// Rounds of events and of clients that go on, in one step of a turn.
const ROUNDS: usize = 16;

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
            logins: ClientLogins::default(),
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
            transactions: Transactions::default(),
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

    /// Whether a connection is open.
    pub fn is_connected(&self, id: ConnId) -> bool {
        self.core
            .connections
            .get(id.0 as usize)
            .is_some_and(|connection| connection.life.connected)
    }
}
