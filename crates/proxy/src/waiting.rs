//! Why a reply is late: which clients wait, why their input rests, what they are owed and where the oldest of it is.
//!
//! A picture of one moment, made when somebody asks for it: nothing is kept for it while requests are served. It names
//! clients, hosts and commands, and shows no key and no value.

use std::time::Duration;

use redplane_redis_core::client::{Client, Waiter};
use rustc_hash::FxHashMap;

use crate::engine::Engine;
use crate::late::{Oldest, Waiting, WaitingClient, WaitsAt};
use crate::selection::command_name;

/// Clients that one worker shows at most; the oldest requests come first.
const MOST: usize = 1000;

impl Engine {
    /// What this worker's clients wait for.
    pub(crate) fn waiting(&self) -> Waiting {
        let mut oldest = self.oldest_requests();
        let waits = |client: &Client| !client.replies.is_empty() || !client.inlet.rests().is_empty();
        let clients = self.core.clients.iter().filter(|(_, client)| waits(client));
        let mut clients: Vec<WaitingClient> = clients
            .map(|(key, client)| self.waiting_client(client, oldest.remove(&(key as u32))))
            .collect();
        let age = |client: &WaitingClient| client.oldest.as_ref().map_or(Duration::ZERO, |oldest| oldest.age);
        clients.sort_by_key(|client| std::cmp::Reverse(age(client)));
        let left_out = clients.len().saturating_sub(MOST);
        clients.truncate(MOST);
        Waiting { clients, left_out }
    }

    fn waiting_client(&self, client: &Client, oldest: Option<Oldest>) -> WaitingClient {
        let filter = &self.core.filters[client.filter];
        let owed = client.replies.len();
        let elsewhere = || Oldest {
            command: command_name(&self.core, client),
            age: Duration::from_micros(self.core.now.saturating_sub(client.inlet.heard)),
            attempt: 1,
            place: WaitsAt::Proxy,
        };
        WaitingClient {
            worker: self.core.shared.worker,
            id: client.session.id,
            remote: client.session.socket.remote,
            listener: (filter.listener.to_string(), filter.chain.to_string()),
            rests: client.inlet.rests().iter().map(|rest| rest.name()).collect(),
            owed,
            backlog: client.replies.backlog(),
            oldest: oldest.or_else(|| (owed > 0).then(elsewhere)),
        }
    }

    /// By client, where the request waits whose reply is the next in its order; of several parts the oldest.
    fn oldest_requests(&self) -> FxHashMap<u32, Oldest> {
        let mut found: FxHashMap<u32, Oldest> = FxHashMap::default();
        let mut note =
            |waiter: Waiter, since: u64, command: redplane_command::CommandId, sent: u32, place| {
                let client = self.core.clients.of(waiter);
                if client.is_none_or(|client| client.replies.head() != waiter.sequence) {
                    return;
                }
                let age = Duration::from_micros(self.core.now.saturating_sub(since));
                if found.get(&waiter.client).is_some_and(|known| known.age >= age) {
                    return;
                }
                let known = redplane_command::all().get(command.index());
                let oldest = Oldest {
                    command: known.map_or_else(String::new, |command| command.name.to_owned()),
                    age,
                    attempt: sent,
                    place,
                };
                found.insert(waiter.client, oldest);
            };
        for (id, connection) in self.core.connections.iter() {
            for (ahead, pending) in connection.pending.iter().enumerate() {
                let place = || WaitsAt::Server {
                    cluster: connection.server.cluster.name().to_owned(),
                    host: connection.server.host.address.to_string(),
                    connection: id as u32,
                    connected: connection.life.connected,
                    ahead,
                };
                // Nearly all are of clients that wait for an earlier reply, or of none.
                let own = self.core.clients.of(pending.waiter);
                if own.is_some_and(|client| client.replies.head() == pending.waiter.sequence) {
                    let sent = pending.travel.times_sent();
                    note(pending.waiter, pending.since, pending.command, sent, place());
                }
            }
        }
        for (pending, host) in self.redirects.requests_to_repeat() {
            let sent = pending.travel.times_sent();
            note(
                pending.waiter,
                pending.since,
                pending.command,
                sent,
                WaitsAt::Again { host },
            );
        }
        for (pending, name) in self.redirects.requests_to_resolve() {
            let sent = pending.travel.times_sent();
            note(
                pending.waiter,
                pending.since,
                pending.command,
                sent,
                WaitsAt::Name(name.to_owned()),
            );
        }
        for (waiter, _) in self.core.faults.delayed.values() {
            let heard = self
                .core
                .clients
                .of(*waiter)
                .map_or(self.core.now, |client| client.inlet.heard);
            let nothing = redplane_command::CommandId(u16::MAX);
            note(*waiter, heard, nothing, 1, WaitsAt::Fault);
        }
        found
    }
}
