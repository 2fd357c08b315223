//! The barrier: a client's input that rests.
//!
//! Most requests go out while earlier ones are still in flight, and replies are put back into order. A few must not:
//! a request that travels on a connection of the client's own (WATCH, a blocking command) might overtake what the
//! client sent before it on the shared ones, and what comes behind such a request might overtake it. So it is put
//! back undecoded until all earlier replies have come ([`Engine::must_rest`]), and where its reply matters to what
//! follows, what follows stays undecoded until that reply has come ([`Engine::rest_behind`]).
//!
//! While the input rests the client is not read from: its socket fills, as it would before a server that is busy with
//! it. Nothing here costs a client that never waits more than one comparison a request.

use crate::dispatch::{Request, Served, mark_dirty};
use crate::engine::{Action, Engine};
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::{ClientId, Waiter};

impl Engine {
    /// Whether a request has to wait for its client's earlier replies; if so it is to be put back.
    #[inline]
    pub(crate) fn must_rest(&mut self, key: usize, served: Served, request: &Request<'_>) -> bool {
        if !self.pauses.is_empty() && self.must_pause(key, served, request) {
            return true;
        }
        // Some go out on leased connections, beside the shared ones, or lead to others that are shared.
        let watches = self.transactions.open.get(key);
        let watches = watches.is_some_and(|transaction| transaction.lease().is_some());
        let leaves = match served {
            Served::Custom(_) => false,
            Served::Known(command) => command.waits_for_replies() || self.might_block(key, command, request),
        };
        if !leaves && !watches {
            return false;
        }
        let client = &mut self.clients[key];
        if client.replies.is_empty() {
            return false;
        }
        client.inlet.rest(Rest::Order);
        true
    }

    /// Nothing behind the request that was just sent is looked at before its reply has come.
    pub(crate) fn rest_behind(&mut self, key: usize) {
        self.clients[key].rest_behind();
    }

    /// Nothing more is looked at before all that the client is owed has come and has been written: replies may be long,
    /// and requests for them short.
    pub(crate) fn rest_until_written(&mut self, key: usize) {
        let client = &mut self.clients[key];
        if !client.replies.is_quiet() {
            client.inlet.rest(Rest::Order);
        }
    }

    /// The others get their turn: nothing more is looked at before what there is for the client is written, be it nothing.
    pub(crate) fn rest_a_turn(&mut self, key: usize) {
        let client = &mut self.clients[key];
        client.inlet.rest(Rest::Order);
        mark_dirty(client, key, &mut self.dirty_clients);
    }

    /// A request takes a redirection's extra way: what its client sends next must not get there first.
    pub(crate) fn rest_behind_redirected(&mut self, waiter: Waiter) {
        if let Some(client) = self.clients.of_mut(waiter) {
            client.rest_behind();
        }
    }

    /// All that a client was owed has come and has been written.
    pub(crate) fn go_on_in_order(&mut self, key: usize) {
        if self.clients[key].features.has(Feature::Share) && !self.go_on_with_share(key) {
            return;
        }
        if self.clients.get(key).is_some() {
            self.lift(key, Rest::Order);
        }
    }

    /// A reason for a client's input to rest is over. With the last one it goes on.
    pub(crate) fn lift(&mut self, key: usize, rest: Rest) {
        if self.clients[key].inlet.lift(rest) {
            self.go_on(key);
        }
    }

    /// A client's input goes on: first what has arrived already, then what its socket holds.
    fn go_on(&mut self, key: usize) {
        let id = ClientId(key as u32);
        if !self.clients[key].inlet.carry.is_empty() {
            self.client_received(id, &[], 0);
        }
        // Its socket may hold bytes that no event will tell of.
        if self.client_readable(id) {
            self.actions.push(Action::Resume(id));
        }
    }

    /// Clients whose servers have room again: they go on one after the other until a server has none.
    pub(crate) fn go_on_unchoked(&mut self) {
        for (client, generation) in std::mem::take(&mut self.unchoked) {
            let client_now = self.clients.known_mut(client, generation);
            if client_now.is_some_and(|client| client.inlet.rests().is_empty()) {
                self.go_on(client as usize);
            }
        }
    }
}
