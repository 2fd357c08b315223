//! Invalidations on their way to clients: whom a push concerns, when it may go out, and to whom instead.
//!
//! A push goes out at once, between two replies, unless the reply that it speaks of is here but not out yet (it came
//! early, or is a part of a larger one): then it follows that reply. It never comes before: the client would keep what
//! it reads afterwards. Redis: `tracking.c`, `sendTrackingMessage`.

use std::collections::VecDeque;

use bytes::Bytes;
use redplane_config::redis_proxy::Protocol;
use redplane_resp::encode;
use redplane_resp::value::{self, Value};

use super::table::Reader;
use super::{Redirect, Tracking};
use crate::dispatch::mark_dirty;
use crate::engine::Engine;
use crate::peers::Forwarded;
use redplane_redis_core::client::Client;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::connection::Carries;
use redplane_redis_core::filter::Filter;

/// Notices that wait for replies of one client, above which it is told to drop everything instead.
pub(super) const MAX_LATE: usize = 1024;

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// These keys may have changed.
    Keys(Vec<Bytes>),
    /// All of them may have.
    All,
}

impl Notice {
    /// Reads a push frame; `None` when it is about something else.
    fn read(raw: &[u8]) -> Option<Self> {
        let (push, _) = value::decode(raw).ok()??;
        let [kind, keys] = push.elements()? else {
            return None;
        };
        if kind.text()? != b"invalidate" {
            return None;
        }
        match keys {
            Value::Null | Value::Array(None) | Value::Bulk(None) => Some(Self::All),
            keys => {
                let names = keys.elements()?.iter().filter_map(Value::text);
                Some(Self::Keys(names.map(Bytes::copy_from_slice).collect()))
            }
        }
    }

    /// It as a push, or as a message for a client of RESP2, which has subscribed to hear it.
    fn encoded(&self, protocol: Protocol) -> Vec<u8> {
        let mut out = match protocol {
            Protocol::Resp3 => b">2\r\n$10\r\ninvalidate\r\n".to_vec(),
            Protocol::Resp2 => b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n".to_vec(),
        };
        match (self, protocol) {
            (Self::Keys(keys), _) => {
                encode::array(&mut out, keys.len());
                keys.iter().for_each(|key| encode::bulk(&mut out, key));
            }
            (Self::All, Protocol::Resp3) => encode::null(&mut out),
            (Self::All, Protocol::Resp2) => encode::null_bulk(&mut out),
        }
        out
    }
}

impl Engine {
    /// A push frame: what a server says unasked.
    #[cold]
    pub(crate) fn pushed(&mut self, key: usize, raw: &[u8]) {
        if self.connections[key].carries != Carries::Invalidations {
            return;
        }
        let via = key as u32;
        self.tracking.heard.insert(via, self.now);
        let (Some(notice), Some(origin)) = (Notice::read(raw), self.origin_of(key)) else {
            return;
        };
        let pool = self.connections[origin].pool;
        if self.pools[pool].key.greeting.tracking == Tracking::Broadcast {
            return self.broadcast(origin, via, &notice);
        }
        self.note_overtaken(via, origin, &notice);
        match &notice {
            Notice::Keys(keys) => keys.iter().for_each(|name| self.changed(via, name)),
            Notice::All => self.emptied(via, pool),
        }
    }

    /// A server says that a key has changed that was read through this connection.
    fn changed(&mut self, via: u32, name: &Bytes) {
        let readers = self.tracking.table.take(name, via);
        let own = |engine: &mut Self, reader: &Reader| engine.is_own_write(via, reader.client, name);
        let told: Vec<Reader> = readers.into_iter().filter(|reader| !own(self, reader)).collect();
        self.tell_readers(name, &told);
    }

    /// Tells clients of a key that they read.
    pub(super) fn tell_readers(&mut self, name: &Bytes, readers: &[Reader]) {
        if readers.is_empty() {
            return;
        }
        let notice = Notice::Keys(vec![name.clone()]);
        for reader in readers {
            if self.clients.known(reader.client, reader.generation).is_some() {
                self.tell(reader.client as usize, Some(reader.sequence), &notice);
            }
        }
    }

    /// Whether a push behind a client's own write is about that very write, and not for it.
    pub(super) fn take_own_write(&mut self, connection: u32, client: u32, name: &[u8]) -> bool {
        let own = &mut self.tracking.own;
        let found = own
            .iter()
            .position(|own| own.connection == connection && own.client == client && own.key == name);
        if let Some(found) = found {
            own.swap_remove(found);
        }
        found.is_some()
    }

    /// A server says that it has dropped all keys.
    fn emptied(&mut self, via: u32, pool: usize) {
        self.tracking.table.take_all(|_, reader| reader.via == via);
        let concerned: Vec<usize> = self
            .clients
            .iter()
            .filter(|(key, _)| {
                let own = self.tracking.trackers.get(*key);
                own.is_some_and(|own| !own.is_broadcast())
            })
            .filter(|(key, _)| self.reads_through(*key, pool))
            .map(|(key, _)| key)
            .collect();
        concerned.into_iter().for_each(|key| self.tell_all(key));
    }

    /// Whether requests of a client go to a pool.
    pub(super) fn reads_through(&self, key: usize, pool: usize) -> bool {
        let filter = self.clients.get(key).map(|client| &self.filters[client.filter]);
        let mut routes = filter.into_iter().flat_map(Filter::routes);
        routes.any(|route| route.pool == pool || route.read_pool == Some(pool))
    }

    /// Tells a client to drop everything that it has been sent.
    pub(crate) fn tell_all(&mut self, key: usize) {
        let behind = self.clients.get(key).and_then(Client::last_answered);
        self.tell(key, behind, &Notice::All);
    }

    /// Tells a client something, as soon as the reply to request `behind` is out.
    pub(super) fn tell(&mut self, key: usize, behind: Option<u32>, notice: &Notice) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        let behind = behind.filter(|sequence| client.replies.owes(*sequence));
        let Some(tracker) = self.tracking.trackers.get_mut(key) else {
            return;
        };
        let Some(sequence) = behind else {
            return self.tell_now(key, notice);
        };
        if tracker.late.len() < MAX_LATE {
            tracker.late.push_back((sequence, notice.clone()));
        } else {
            let next = client.replies.next_sequence();
            tracker.late.clear();
            tracker.late.push_back((next.wrapping_sub(1), Notice::All));
        }
    }

    fn tell_now(&mut self, key: usize, notice: &Notice) {
        let resp3 = self.is_resp3(key);
        let client = &mut self.clients[key];
        let Some(tracker) = self.tracking.trackers.get_mut(key) else {
            return;
        };
        let all = *notice == Notice::All;
        if all && tracker.emptied == Some(client.replies.out.end()) {
            // It has had nothing since: as if there were one server.
            return;
        }
        let redirect = tracker.redirect;
        if redirect.is_none() && resp3 {
            client.replies.out.lend(|| self.buffers.take_empty());
            self.transactions
                .interject(key, client, &notice.encoded(Protocol::Resp3));
        }
        tracker.emptied = all.then(|| client.replies.out.end());
        match redirect {
            Some(redirect) => self.tell_other(key, redirect, notice),
            None => mark_dirty(client, key, &mut self.dirty_clients),
        }
    }

    /// Tells clients what they could not be told before, now that they are written to.
    #[cold]
    pub(crate) fn release_late(&mut self, key: usize) {
        let client = &self.clients[key];
        let (head, owed) = (client.replies.head(), client.replies.len());
        let tracker = self.tracking.trackers.get_mut(key);
        let Some(tracker) = tracker.filter(|own| !own.late.is_empty()) else {
            return;
        };
        let late = std::mem::take(&mut tracker.late);
        let (waiting, ready): (VecDeque<_>, VecDeque<_>) = late
            .into_iter()
            .partition(|(sequence, _)| (sequence.wrapping_sub(head) as usize) < owed);
        tracker.late = waiting;
        ready.iter().for_each(|(_, notice)| self.tell_now(key, notice));
    }

    fn tell_other(&mut self, key: usize, redirect: Redirect, notice: &Notice) {
        let known = match redirect.worker == self.peer.worker() {
            true => self.hear_for_other(redirect.id, notice),
            false => {
                let from = (self.peer.worker(), self.clients[key].session.id);
                self.peer.forward(redirect.worker, redirect.id, notice, from)
            }
        };
        if !known {
            self.lose_redirect(key);
        }
    }

    /// A client of this worker is told what another one asked to be sent here; false when it is gone.
    pub(crate) fn hear_for_other(&mut self, id: u64, notice: &Notice) -> bool {
        let Some(key) = self.client_with(id) else {
            return false;
        };
        let resp3 = self.is_resp3(key);
        let client = &mut self.clients[key];
        if !resp3 && !client.features.has(Feature::Subscriptions) {
            // Redis: it could not tell such a message from a reply, and gets none.
            return true;
        }
        client.replies.out.lend(|| self.buffers.take_empty());
        let protocol = if resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
        self.transactions
            .interject(key, client, &notice.encoded(protocol));
        mark_dirty(client, key, &mut self.dirty_clients);
        self.watch_slow(key as u32);
        true
    }

    /// What a client of another worker wants one of this worker's to be told.
    pub(crate) fn hear_forwarded(&mut self, forwarded: Forwarded) {
        if !self.hear_for_other(forwarded.to, &forwarded.notice) {
            self.peer.return_unheard(forwarded.from);
        }
    }

    /// The client with this id. Found once by looking at all of them.
    fn client_with(&mut self, id: u64) -> Option<usize> {
        let is = |engine: &Self, key: usize| {
            let client = engine.clients.get(key);
            client.is_some_and(|client| client.session.id == id)
        };
        let known = self.tracking.redirected_to.get(&id).map(|key| *key as usize);
        if let Some(key) = known.filter(|key| is(self, *key)) {
            return Some(key);
        }
        let found = self.clients.iter().find(|(_, client)| client.session.id == id);
        let found = found.map(|(key, _)| key);
        match found {
            Some(key) => self.tracking.redirected_to.insert(id, key as u32),
            None => self.tracking.redirected_to.remove(&id),
        };
        found
    }

    /// Whom a client redirected to is gone.
    pub(crate) fn lose_redirect(&mut self, key: usize) {
        let resp3 = self.is_resp3(key);
        let client = &mut self.clients[key];
        let Some(tracker) = self.tracking.trackers.get_mut(key) else {
            return;
        };
        tracker.broken = true;
        if let Some(redirect) = tracker.redirect.filter(|_| resp3) {
            client.replies.out.lend(|| self.buffers.take_empty());
            let mut push = b">2\r\n$21\r\ntracking-redir-broken\r\n".to_vec();
            encode::integer(&mut push, redirect.id as i64);
            self.transactions.interject(key, client, &push);
            mark_dirty(client, key, &mut self.dirty_clients);
        }
    }

    /// Another worker says that whom a client redirected to is gone.
    pub(crate) fn lose_redirect_of(&mut self, id: u64) {
        let found = self.clients.iter().find(|(_, client)| client.session.id == id);
        if let Some(key) = found.map(|(key, _)| key) {
            self.lose_redirect(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_read_and_written_alike() {
        for raw in [
            ">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$2\r\n\r\n\r\n",
            ">2\r\n$10\r\ninvalidate\r\n_\r\n",
        ] {
            let notice = Notice::read(raw.as_bytes()).unwrap();
            assert_eq!(notice.encoded(Protocol::Resp3), raw.as_bytes());
        }
        assert_eq!(
            Notice::read(b">2\r\n$10\r\ninvalidate\r\n*-1\r\n"),
            Some(Notice::All)
        );
        assert_eq!(
            Notice::read(b">2\r\n$21\r\ntracking-redir-broken\r\n:7\r\n"),
            None
        );
        assert_eq!(
            Notice::read(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"),
            None
        );
    }

    #[test]
    fn a_message_has_its_channel_and_its_null() {
        let written = |notice: &Notice| String::from_utf8(notice.encoded(Protocol::Resp2)).unwrap();
        let start = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
        let one = Notice::Keys(vec![Bytes::from_static(b"k")]);
        assert_eq!(written(&one), format!("{start}*1\r\n$1\r\nk\r\n"));
        assert_eq!(written(&Notice::All), format!("{start}$-1\r\n"));
    }
}
