//! Invalidations on their way to clients: whom a push concerns, when it may go out, and to whom instead.
//!
//! A push goes out at once, between two replies, unless the reply that it speaks of is here but not out yet (it came
//! early, or is a part of a larger one): then it follows that reply. It never comes before: the client would keep what
//! it reads afterwards. Redis: `tracking.c`, `sendTrackingMessage`.

use std::collections::VecDeque;

use bytes::Bytes;
use redplane_config::redis_proxy::Protocol;
use redplane_redis_core::client::Client;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::connection::Carries;
use redplane_redis_core::filter::Filter;
use redplane_redis_core::pool::Tracking;
use redplane_redis_flow::core::{Core, Event, Forward, mark_dirty};
use redplane_redis_flow::notice::{Notice, Redirect};
use redplane_resp::encode;

use crate::TrackingState;
use crate::table::Reader;

/// Notices that wait for replies of one client, above which it is told to drop everything instead.
pub(super) const MAX_LATE: usize = 1024;

/// Whether requests of a client go to a pool.
pub(super) fn reads_through(core: &Core, key: usize, pool: usize) -> bool {
    let filter = core.clients.get(key).map(|client| &core.filters[client.filter]);
    let mut routes = filter.into_iter().flat_map(Filter::routes);
    routes.any(|route| route.pool == pool || route.read_pool == Some(pool))
}

impl TrackingState {
    /// A push frame: what a server says unasked.
    #[cold]
    pub fn pushed(&mut self, core: &mut Core, key: usize, raw: &[u8]) {
        if core.connections[key].carries != Carries::Invalidations {
            return;
        }
        let via = key as u32;
        self.heard.insert(via, core.now);
        let (Some(notice), Some(origin)) = (Notice::read(raw), self.origin_of(core, key)) else {
            return;
        };
        let pool = core.connections[origin].pool;
        if core.pools[pool].key.greeting.tracking == Tracking::Broadcast {
            return self.broadcast(core, origin, via, &notice);
        }
        self.note_overtaken(core, via, origin, &notice);
        match &notice {
            Notice::Keys(keys) => keys.iter().for_each(|name| self.changed(core, via, name)),
            Notice::All => self.emptied(core, via, pool),
        }
    }

    /// A server says that a key has changed that was read through this connection.
    fn changed(&mut self, core: &mut Core, via: u32, name: &Bytes) {
        let readers = self.table.take(name, via);
        let told: Vec<Reader> = readers
            .into_iter()
            .filter(|reader| !self.is_own_write(core, via, reader.client, name))
            .collect();
        self.tell_readers(core, name, &told);
    }

    /// Tells clients of a key that they read.
    pub(super) fn tell_readers(&mut self, core: &mut Core, name: &Bytes, readers: &[Reader]) {
        if readers.is_empty() {
            return;
        }
        let notice = Notice::Keys(vec![name.clone()]);
        for reader in readers {
            if core.clients.known(reader.client, reader.generation).is_some() {
                self.tell(core, reader.client as usize, Some(reader.sequence), &notice);
            }
        }
    }

    /// Whether a push behind a client's own write is about that very write, and not for it.
    pub(super) fn take_own_write(&mut self, connection: u32, client: u32, name: &[u8]) -> bool {
        let own = &mut self.own;
        let found = own
            .iter()
            .position(|own| own.connection == connection && own.client == client && own.key == name);
        if let Some(found) = found {
            own.swap_remove(found);
        }
        found.is_some()
    }

    /// A server says that it has dropped all keys.
    fn emptied(&mut self, core: &mut Core, via: u32, pool: usize) {
        self.table.take_all(|_, reader| reader.via == via);
        let concerned: Vec<usize> = core
            .clients
            .iter()
            .filter(|(key, _)| {
                let own = self.trackers.get(*key);
                own.is_some_and(|own| !own.is_broadcast())
            })
            .filter(|(key, _)| reads_through(core, *key, pool))
            .map(|(key, _)| key)
            .collect();
        concerned.into_iter().for_each(|key| self.tell_all(core, key));
    }

    /// Tells a client to drop everything that it has been sent.
    pub(crate) fn tell_all(&mut self, core: &mut Core, key: usize) {
        let behind = core.clients.get(key).and_then(Client::last_answered);
        self.tell(core, key, behind, &Notice::All);
    }

    /// Tells a client something, as soon as the reply to request `behind` is out.
    pub(super) fn tell(&mut self, core: &mut Core, key: usize, behind: Option<u32>, notice: &Notice) {
        let Some(client) = core.clients.get(key) else {
            return;
        };
        let behind = behind.filter(|sequence| client.replies.owes(*sequence));
        let Some(tracker) = self.trackers.get_mut(key) else {
            return;
        };
        let Some(sequence) = behind else {
            return self.tell_now(core, key, notice);
        };
        if tracker.late.len() < MAX_LATE {
            tracker.late.push_back((sequence, notice.clone()));
        } else {
            let next = client.replies.next_sequence();
            tracker.late.clear();
            tracker.late.push_back((next.wrapping_sub(1), Notice::All));
        }
    }

    fn tell_now(&mut self, core: &mut Core, key: usize, notice: &Notice) {
        let resp3 = core.is_resp3(key);
        let client = &mut core.clients[key];
        let Some(tracker) = self.trackers.get_mut(key) else {
            return;
        };
        let all = *notice == Notice::All;
        if all && tracker.emptied == Some(client.replies.out.end()) {
            // It has had nothing since: as if there were one server.
            return;
        }
        let redirect = tracker.redirect;
        if redirect.is_none() && resp3 {
            client.replies.out.lend(|| core.buffers.take_empty());
            client.replies.interject(&notice.encoded(Protocol::Resp3));
        }
        tracker.emptied = all.then(|| client.replies.out.end());
        match redirect {
            Some(redirect) => self.tell_other(core, key, redirect, notice),
            None => mark_dirty(client, key, &mut core.due.clients),
        }
    }

    /// Tells clients what they could not be told before, now that they are written to.
    #[cold]
    pub fn release_late(&mut self, core: &mut Core, key: usize) {
        let client = &core.clients[key];
        let (head, owed) = (client.replies.head(), client.replies.len());
        let tracker = self.trackers.get_mut(key);
        let Some(tracker) = tracker.filter(|own| !own.late.is_empty()) else {
            return;
        };
        let late = std::mem::take(&mut tracker.late);
        let (waiting, ready): (VecDeque<_>, VecDeque<_>) = late
            .into_iter()
            .partition(|(sequence, _)| (sequence.wrapping_sub(head) as usize) < owed);
        tracker.late = waiting;
        ready
            .iter()
            .for_each(|(_, notice)| self.tell_now(core, key, notice));
    }

    fn tell_other(&mut self, core: &mut Core, key: usize, redirect: Redirect, notice: &Notice) {
        if redirect.worker != core.shared.worker {
            let forward = Forward {
                client: key as u32,
                generation: core.clients[key].generation,
                to: redirect,
                notice: notice.clone(),
            };
            return core.out.events.push_back(Event::Forward(forward));
        }
        if !self.hear_for_other(core, redirect.id, notice) {
            self.lose_redirect(core, key);
        }
    }

    /// A client of this worker is told what another one asked to be sent here; false when it is gone.
    pub fn hear_for_other(&mut self, core: &mut Core, id: u64, notice: &Notice) -> bool {
        let Some(key) = self.client_with(core, id) else {
            return false;
        };
        let resp3 = core.is_resp3(key);
        let client = &mut core.clients[key];
        if !resp3 && !client.features.has(Feature::Subscriptions) {
            // Redis: it could not tell such a message from a reply, and gets none.
            return true;
        }
        client.replies.out.lend(|| core.buffers.take_empty());
        let protocol = if resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
        client.replies.interject(&notice.encoded(protocol));
        mark_dirty(client, key, &mut core.due.clients);
        core.out.events.push_back(Event::Told(key as u32));
        true
    }

    /// The client with this id. Found once by looking at all of them.
    fn client_with(&mut self, core: &Core, id: u64) -> Option<usize> {
        let is = |core: &Core, key: usize| {
            let client = core.clients.get(key);
            client.is_some_and(|client| client.session.id == id)
        };
        let known = self.redirected_to.get(&id).map(|key| *key as usize);
        if let Some(key) = known.filter(|key| is(core, *key)) {
            return Some(key);
        }
        let found = core.clients.iter().find(|(_, client)| client.session.id == id);
        let found = found.map(|(key, _)| key);
        match found {
            Some(key) => self.redirected_to.insert(id, key as u32),
            None => self.redirected_to.remove(&id),
        };
        found
    }

    /// Whom a client redirected to is gone.
    pub fn lose_redirect(&mut self, core: &mut Core, key: usize) {
        let resp3 = core.is_resp3(key);
        let client = &mut core.clients[key];
        let Some(tracker) = self.trackers.get_mut(key) else {
            return;
        };
        tracker.broken = true;
        if let Some(redirect) = tracker.redirect.filter(|_| resp3) {
            client.replies.out.lend(|| core.buffers.take_empty());
            let mut push = b">2\r\n$21\r\ntracking-redir-broken\r\n".to_vec();
            encode::integer(&mut push, redirect.id as i64);
            client.replies.interject(&push);
            mark_dirty(client, key, &mut core.due.clients);
        }
    }

    /// Another worker says that whom a client redirected to is gone.
    pub fn lose_redirect_of(&mut self, core: &mut Core, id: u64) {
        let found = core.clients.iter().find(|(_, client)| client.session.id == id);
        if let Some(key) = found.map(|(key, _)| key) {
            self.lose_redirect(core, key);
        }
    }
}
