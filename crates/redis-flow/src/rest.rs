//! A client's input that rests, and how it goes on.
//!
//! Where a request must not overtake earlier ones, or later ones must not overtake it, its client's input stays undecoded
//! until the replies have come that it waits for. While it rests the client is not read from: its socket fills, as it would
//! before a server that is busy with it.

use redplane_redis_core::client::Waiter;
use redplane_redis_core::client::inlet::Rest;

use crate::core::{Core, mark_dirty};

impl Core {
    /// Nothing behind the request that was just sent is looked at before its reply has come.
    pub fn rest_behind(&mut self, key: usize) {
        self.clients[key].rest_behind();
    }

    /// Nothing more is looked at before all that the client is owed has come and has been written: replies may be long,
    /// and requests for them short.
    pub fn rest_until_written(&mut self, key: usize) {
        let client = &mut self.clients[key];
        if !client.replies.is_quiet() {
            client.inlet.rest(Rest::Order);
        }
    }

    /// The others get their turn: nothing more is looked at before what there is for the client is written, be it nothing.
    pub fn rest_a_turn(&mut self, key: usize) {
        let client = &mut self.clients[key];
        client.inlet.rest(Rest::Order);
        mark_dirty(client, key, &mut self.due.clients);
    }

    /// A reason for a client's input to rest is over. With the last one it goes on before the turn ends.
    pub fn lift(&mut self, key: usize, rest: Rest) {
        if self.clients[key].inlet.lift(rest) {
            self.resume(key);
        }
    }

    /// Nothing makes a client's input rest but that its turn has not come.
    pub(crate) fn resume(&mut self, key: usize) {
        let client = &mut self.clients[key];
        client.inlet.rest(Rest::Turn);
        self.due.resumed.push((key as u32, client.generation));
    }

    /// A request takes a redirection's extra way: what its client sends next must not get there first.
    pub fn rest_behind_redirected(&mut self, waiter: Waiter) {
        if let Some(client) = self.clients.of_mut(waiter) {
            client.rest_behind();
        }
    }

    /// So little waits at a connection again that the clients which rest for it go on.
    pub fn unchoke(&mut self, key: usize) {
        let choked = std::mem::take(&mut self.connections[key].flush.choked);
        self.unchoke_all(choked);
    }

    /// Too much waited at a connection for these clients, and does no more. They go on before the turn ends.
    pub(super) fn unchoke_all(&mut self, choked: Vec<(u32, u32)>) {
        for (client, generation) in choked {
            let own = self.clients.known_mut(client, generation);
            if own.is_some_and(|client| client.inlet.unchoke()) {
                self.resume(client as usize);
            }
        }
    }
}
