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

use redplane_command::{Local, RequestPolicy, Transaction as Step};

use crate::client::{Client, ClientId, Ending, Waiter};
use crate::dispatch::{Request, Served};
use crate::engine::{Action, Engine};

/// Why nothing of a client's input is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is looked at.
    #[default]
    No,
    /// Until every reply that it is owed has come and has been written.
    UntilQuiet,
    /// Until a server has said what the command is that it sent.
    Asking,
    /// Until CLIENT PAUSE is over.
    Paused,
}

impl Client {
    /// Nothing more is looked at before the replies that it is owed have come. What rests for another reason goes on
    /// with [`Engine::go_on_in_order`].
    pub(crate) fn rest_behind(&mut self) {
        if !self.queue.is_empty() && self.hold == Hold::No {
            self.hold = Hold::UntilQuiet;
        }
    }
}

impl Engine {
    /// Whether a request has to wait for its client's earlier replies; if so it is to be put back.
    #[inline]
    pub(crate) fn must_rest(&mut self, key: usize, served: Served, request: &Request<'_>) -> bool {
        if !self.pauses.is_empty() && self.must_pause(key, served, request) {
            return true;
        }
        // Some go out on leased connections, beside the shared ones, or lead to others that are shared.
        let watches = self.clients[key].transaction.as_ref();
        let watches = watches.is_some_and(|transaction| transaction.lease().is_some());
        let leaves = match served {
            Served::Custom(_) => false,
            Served::Known(command) => match command.request {
                RequestPolicy::Transaction(Step::Watch)
                | RequestPolicy::Local(Local::Select | Local::Hello | Local::Reset | Local::ClientTracking) => {
                    true
                }
                _ => self.might_block(key, command, request),
            },
        };
        if !leaves && !watches {
            return false;
        }
        let client = &mut self.clients[key];
        if client.queue.is_empty() {
            return false;
        }
        client.hold = Hold::UntilQuiet;
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
        if !client.is_quiet() {
            client.hold = Hold::UntilQuiet;
        }
    }

    /// A request takes a redirection's extra way: what its client sends next must not get there first.
    pub(crate) fn rest_behind_redirected(&mut self, waiter: Waiter) {
        if let Some(client) = self.clients.of_mut(waiter) {
            client.rest_behind();
        }
    }

    /// What a client's input rested for is over, unless replies that it is owed travel by a way that is no more.
    pub(crate) fn go_on_in_order(&mut self, key: usize) {
        let client = &mut self.clients[key];
        match client.queue.is_empty() {
            true => self.go_on(key),
            false => client.hold = Hold::UntilQuiet,
        }
    }

    /// A client's input goes on: first what has arrived already, then what its socket holds.
    pub(crate) fn go_on(&mut self, key: usize) {
        if self.clients[key].session.share.is_some() && !self.go_on_with_share(key) {
            return;
        }
        let client = &mut self.clients[key];
        client.hold = Hold::No;
        client.paused &= client.is_full();
        let id = ClientId(key as u32);
        if !client.carry.is_empty() && client.ending == Ending::No {
            self.client_received(id, &[], 0);
        }
        // Its socket may hold bytes that no event will tell of.
        if self.client_readable(id) {
            self.actions.push(Action::Resume(id));
        }
    }
}
