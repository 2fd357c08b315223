//! A client in one line: what CLIENT LIST and CLIENT INFO say of it, in the server's layout.
//!
//! Redis: <https://redis.io/docs/latest/commands/client-list/>. Memory is what this proxy holds for the client: `qbuf` is
//! what has come and is not dealt with, the request that asks being a part of it, as is `argv-mem` its arguments; other
//! clients' are dealt with already. What the proxy has nothing of (`rbp`) is 0.

use std::fmt::Write as _;

use redplane_pubsub::Kind as Subscribed;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::{Client, ClientId, Session};
use redplane_redis_flow::core::Core;
use redplane_tracking::{Tracker, redirect_of};

use crate::engine::Engine;
use crate::selection::{Asking, Selection, command_name, one_word};

/// Closes the clients that are meant, the one that asks after its reply; says how many they are.
pub(crate) fn kill_clients(core: &mut Core, selection: &Selection, asker: Option<usize>) -> u64 {
    let clients = core.clients.iter();
    let meant: Vec<usize> = clients
        .filter(|(_, client)| selection.fits(client, &core.filters[client.filter], core.now))
        .map(|(key, _)| key)
        .collect();
    for &key in &meant {
        if asker == Some(key) {
            core.clients[key].inlet.rest(Rest::End);
        } else {
            core.close_client(ClientId(key as u32));
        }
    }
    meant.len() as u64
}

impl Engine {
    /// Redis's letters for what is special about it; `N` for nothing.
    fn client_flags(&self, key: usize, client: &Client) -> String {
        let transaction = self.transactions.of(key);
        let tracker = self.tracking.tracker(key);
        let letters = [
            ('P', client.features.has(Feature::Subscriptions)),
            (
                'b',
                client.inlet.rests_for(Rest::Pause) || self.blocking.is_blocked(key),
            ),
            ('x', transaction.is_some_and(|transaction| transaction.is_open())),
            ('t', tracker.is_some()),
            ('R', tracker.is_some_and(|tracker| tracker.broken)),
            ('B', tracker.is_some_and(Tracker::is_broadcast)),
            ('d', transaction.is_some_and(|transaction| transaction.is_lost())),
            ('c', client.inlet.is_ending()),
            ('U', client.session.socket.remote.is_none()),
            ('e', client.session.no_evict),
            ('T', client.session.no_touch),
        ];
        let set: String = letters
            .iter()
            .filter_map(|(letter, set)| set.then_some(*letter))
            .collect();
        if set.is_empty() { "N".to_owned() } else { set }
    }

    /// The clients that are meant, by id, each with its line.
    pub(crate) fn list_clients(&self, selection: &Selection) -> Vec<(u64, Vec<u8>)> {
        let clients = self.core.clients.iter();
        clients
            .filter(|(_, client)| selection.fits(client, &self.core.filters[client.filter], self.core.now))
            .map(|(key, client)| (client.session.id, self.client_line(key, client, selection.asking)))
            .collect()
    }

    /// One line with its line feed.
    pub(crate) fn client_line(&self, key: usize, client: &Client, asking: Asking) -> Vec<u8> {
        let session = &*client.session;
        let seconds = |since: u64| self.core.now.saturating_sub(since) / 1_000_000;
        let mut line = format!(
            "id={} addr={} laddr={} fd={} name=",
            session.id,
            Session::written(session.socket.remote),
            Session::written(session.socket.local),
            session.socket.fd,
        );
        line.push_str(&String::from_utf8_lossy(&session.name));
        let queued = self
            .transactions
            .of(key)
            .filter(|transaction| transaction.is_open())
            .map_or((-1, 0), |transaction| {
                (i64::from(transaction.queued()), transaction.size())
            });
        let (used, free) = client.inlet.carry.sizes();
        let (frame, arguments) = asking.of(session);
        // While a request is dealt with its bytes are out of the buffer that is kept for the rest.
        let used = used.max(frame);
        let (waits, held) = (client.replies.out.unwritten(), client.replies.out.held());
        let total = used + free + arguments + queued.1 + held + client.replies.backlog() - waits;
        let subscribed = |kind| {
            self.pubsub
                .subscriber(key)
                .map_or(0, |subscriber| subscriber.count(kind))
        };
        let events = if waits > 0 { "rw" } else { "r" };
        // Writing into a string cannot fail.
        let _ = write!(
            line,
            " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} qbuf={used} qbuf-free={free} argv-mem={arguments} \
             multi-mem={} rbs={held} rbp=0 obl={waits} oll=0 omem=0 tot-mem={total} events={events} cmd={} user={} \
             redir={} resp={} lib-name={} lib-ver={}",
            seconds(session.socket.opened),
            seconds(client.inlet.heard),
            self.client_flags(key, client),
            self.core.database(key),
            subscribed(Subscribed::Channel),
            subscribed(Subscribed::Pattern),
            subscribed(Subscribed::Shard),
            queued.0,
            queued.1,
            command_name(&self.core, client),
            one_word(session.user()),
            self.tracking.tracker(key).map_or(-1, redirect_of),
            if self.core.is_resp3(key) { 3 } else { 2 },
            session.library.name,
            session.library.version,
        );
        line.push('\n');
        line.into_bytes()
    }
}
