//! Clients that come, that go, and that are sent away when their listener or chain is drained.

use std::sync::Arc;

use redplane_config::redis_proxy::Protocol;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::{Client, ClientId, Opened, Session};
use redplane_redis_core::filter::ChainLife;
use redplane_redis_core::pool::Greeting;
use redplane_redis_flow::action::{Action, Traffic};
use redplane_telemetry::stats::redis_proxy;

use crate::engine::Engine;

impl Engine {
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
    pub(crate) fn end_closing(&mut self) {
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
}
