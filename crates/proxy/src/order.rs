//! The barrier: a client's input that rests.
//!
//! Most requests go out while earlier ones are still in flight, and replies are put back into order. A few must not:
//! a request that travels on a connection of the client's own (WATCH, a blocking command) might overtake what the
//! client sent before it on the shared ones, and what comes behind such a request might overtake it. So it is put
//! back undecoded until all earlier replies have come ([`Engine::must_rest`]), and where its reply matters to what
//! follows, what follows stays undecoded until that reply has come (`Core::rest_behind`).
//!
//! While the input rests the client is not read from: its socket fills, as it would before a server that is busy with
//! it. Nothing here costs a client that never waits more than one comparison a request.

use redplane_blocking::Blocking;
use redplane_command::{RequestPolicy, Script};
use redplane_redis_core::client::ClientId;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_flow::action::Action;
use redplane_redis_flow::request::{Request, Served};

use crate::engine::Engine;

impl Engine {
    /// Whether a request has to wait for its client's earlier replies; if so it is to be put back.
    #[inline]
    pub(crate) fn must_rest(&mut self, key: usize, served: Served, request: &Request<'_>) -> bool {
        if !self.pauses.list.is_empty() && self.must_pause(key, served, request) {
            return true;
        }
        // Some go out on leased connections, beside the shared ones, or lead to others that are shared.
        let watches = self.transactions.of(key);
        let watches = watches.is_some_and(|transaction| transaction.lease().is_some());
        let leaves = match served {
            Served::Custom(_) => false,
            Served::Known(command) => {
                command.waits_for_replies()
                    || Blocking::might_block(command, request) && !self.transactions.is_in_transaction(key)
            }
        };
        if !leaves && !watches {
            return false;
        }
        let client = &mut self.core.clients[key];
        if client.replies.is_empty() {
            return false;
        }
        client.inlet.rest(Rest::Order);
        true
    }

    /// Whether a request waits for the end of a pause, or for what servers say of the functions that it calls.
    #[cold]
    fn must_pause(&mut self, key: usize, served: Served, request: &Request<'_>) -> bool {
        let Some(reads) = self.calls_readers(key, served, request) else {
            return true;
        };
        let executes = self.transactions.executes_writes(key, served);
        let calls = !reads && self.transactions.executed_calls(key, served).is_some();
        self.pauses
            .must_pause(&mut self.core, key, served, request, executes || calls, reads)
    }

    /// Whether a request calls functions that only read, or executes a block that does; `None` while servers are asked.
    fn calls_readers(&mut self, key: usize, served: Served, request: &Request<'_>) -> Option<bool> {
        if !self.pauses.holds_writes(&self.core, key) {
            return Some(false);
        }
        if let Some((pool, names)) = self.transactions.executed_calls(key, served) {
            let pool = pool.or_else(|| self.core.keyless_route(key).map(|route| route.pool));
            let names = names.iter().map(Vec::as_slice);
            return match pool {
                Some(pool) => self.lessons.only_read(&mut self.core, key, pool, names),
                None => Some(false),
            };
        }
        let Served::Known(command) = served else {
            return Some(false);
        };
        if command.request != RequestPolicy::Script(Script::Function) || command.is_read() {
            return Some(false);
        }
        let first = redplane_command::first_key(command, request.len(), |i| request.arg(i));
        let filter = &self.core.filters[self.core.clients[key].filter];
        match filter
            .route(first.map_or(b"", |at| request.arg(at)))
            .map(|route| route.pool)
        {
            Some(pool) => {
                let name = std::iter::once(request.arg(1));
                self.lessons.only_read(&mut self.core, key, pool, name)
            }
            None => Some(false),
        }
    }

    /// All that a client was owed has come and has been written.
    pub(crate) fn go_on_in_order(&mut self, key: usize) {
        if self.core.clients[key].features.has(Feature::Share) && !self.go_on_with_share(key) {
            return;
        }
        if self.core.clients.get(key).is_some() {
            self.core.lift(key, Rest::Order);
        }
    }

    /// A client's input goes on: first what has arrived already, then what its socket holds.
    fn go_on(&mut self, key: usize) {
        let id = ClientId(key as u32);
        if !self.core.clients[key].inlet.carry.is_empty() {
            self.client_received(id, &[], 0);
        }
        // Its socket may hold bytes that no event will tell of.
        if self.client_readable(id) {
            self.core.out.actions.push(Action::Resume(id));
        }
    }

    /// Clients whose input rests no more: they go on one after the other, until something else makes them rest.
    pub(crate) fn go_on_resumed(&mut self) {
        for (client, generation) in std::mem::take(&mut self.core.due.resumed) {
            let client_now = self.core.clients.known_mut(client, generation);
            if client_now.is_some_and(|client| client.inlet.lift(Rest::Turn)) {
                self.go_on(client as usize);
            }
        }
    }
}
