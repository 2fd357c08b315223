//! Tracking for clients of RESP2: a connection of RESP2 cannot be pushed to, so each has a feed beside it.
//!
//! The feed is a connection of RESP3 to the same host that carries nothing else; the other one (its *origin*) redirects
//! to it, before anything is written to it but its login. What a push and a reply have in common has then two ways here,
//! and either may be the faster one: a push concerns as well what was asked before it and is answered after it, and
//! whether a write is the client's own may be known only when its reply has come. Neither lives without the other.

use bytes::Bytes;
use redplane_config::redis_proxy::Protocol;
use redplane_resp::encode;
use redplane_resp::reply;
use redplane_resp::request::{Args, Decoded, decode};

use super::deliver::MAX_LATE;
use super::{Notice, Tracking, TrackingState};
use crate::ConnId;
use crate::engine::{Action, Engine};
use crate::upstream::Gone;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::pending::{Pending, Purpose, Travel};
use redplane_redis_core::pool::{Greeting, PoolKey};

/// A feed's other half.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) origin: u32,
    pool: usize,
    /// What was told while requests were on their way that end before these places of the origin's output.
    pub(super) late: Vec<(u64, Notice)>,
    /// Keys that were told to a client whose own write of them is on its way.
    undecided: Vec<(Waiter, Bytes)>,
    /// A PING is on its way behind which no push is about writes that are answered.
    fencing: bool,
}

impl Relay {
    /// Notes a push for requests that are on their way.
    fn note_late(&mut self, end: u64, notice: &Notice) {
        if self.late.len() >= MAX_LATE {
            self.late.clear();
            return self.late.push((end, Notice::All));
        }
        self.late.push((end, notice.clone()));
    }

    /// Whether a key that a request at this place has read was told as changed meanwhile.
    pub(super) fn was_told(&self, at: u64, name: &[u8]) -> bool {
        let about = |notice: &Notice| match notice {
            Notice::Keys(keys) => keys.iter().any(|key| key == name),
            Notice::All => true,
        };
        self.late.iter().any(|(end, notice)| *end > at && about(notice))
    }
}

impl Engine {
    /// Opens the feed of a connection that is being opened, whose greeting ends with what is not known yet.
    pub(crate) fn open_relay(&mut self, origin: u32) {
        let connection = &self.connections[origin as usize];
        let (host, pool) = (connection.server.host.clone(), connection.pool);
        let unsaid = Pending {
            waiter: Waiter::NOBODY,
            since: self.now,
            at: 0,
            len: 0,
            command: redplane_command::CommandId(0),
            purpose: Purpose::Greeting,
            travel: Travel::default(),
        };
        self.note_sent(origin, unsaid);
        let greeting = Greeting {
            protocol: Protocol::Resp3,
            ..Greeting::default()
        };
        let former = self.pools[pool].key.clone();
        let pool = self.acquire_pool(PoolKey { greeting, ..former });
        // Without a feed the origin's greeting stays unanswered, and it is late.
        let Ok(feed) = self.connect(pool, host, false) else {
            return self.release_pools(&[pool]);
        };
        self.connections[feed as usize].carries = redplane_redis_core::connection::Carries::Invalidations;
        self.setup(feed, Purpose::Relay, &[b"CLIENT", b"ID"]);
        self.tracking.feeds.insert(origin, feed);
        let relay = Relay {
            origin,
            pool,
            late: Vec::new(),
            undecided: Vec::new(),
            fencing: false,
        };
        self.tracking.relays.insert(feed, relay);
    }

    /// A feed knows its own number: its origin asks the server to tell it instead.
    pub(crate) fn relay_named(&mut self, feed: usize, raw: &[u8], is_error: bool) {
        let Some(relay) = self.tracking.relays.get(&(feed as u32)) else {
            return;
        };
        let origin = relay.origin as usize;
        let Some(id) = reply::integer(raw).filter(|_| !is_error) else {
            return self.greeting_reply(origin, raw, true);
        };
        let Some(connection) = self.connections.get_mut(origin) else {
            return;
        };
        let id = id.to_string();
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", id.as_bytes()];
        if self.pools[connection.pool].key.greeting.tracking == Tracking::Broadcast {
            words.push(b"BCAST");
        }
        if let Some(greeting) = &mut connection.flush.greeting {
            encode::request(greeting.tail(), &words);
        }
        if !connection.flush.dirty {
            connection.flush.dirty = true;
            self.dirty_connections.push(origin as u32);
        }
    }

    /// The connection that a push on this one is about: the feed's origin, or itself. `None` when that is gone.
    pub(super) fn origin_of(&self, key: usize) -> Option<usize> {
        let relay = self.tracking.relays.get(&(key as u32));
        let origin = relay.map_or(key, |relay| relay.origin as usize);
        self.connections.get(origin).map(|_| origin)
    }

    /// The connection that pushes come on about what was read through this one; `None` when there is none any more.
    pub(super) fn pushed_on(&self, key: usize) -> Option<u32> {
        let connection = &self.connections[key];
        match self.pools[connection.pool].key.greeting.protocol {
            Protocol::Resp3 => Some(key as u32),
            Protocol::Resp2 => self.tracking.feeds.get(&(key as u32)).copied(),
        }
    }

    /// A push overtakes replies, or is overtaken.
    pub(super) fn note_overtaken(&mut self, feed: u32, origin: usize, notice: &Notice) {
        let connection = &self.connections[origin];
        let end = connection.out.end();
        let waits = !connection.is_idle();
        if let Some(relay) = self.tracking.relays.get_mut(&feed).filter(|_| waits) {
            relay.note_late(end, notice);
        }
    }

    /// A request is answered: what was told before it was sent does not concern those behind it.
    pub(super) fn forget_overtaken(&mut self, feed: u32, at: u64) {
        if let Some(relay) = self.tracking.relays.get_mut(&feed) {
            relay.late.retain(|(end, _)| *end > at);
        }
    }

    /// Whether a push on this connection is about a client's own write, and not for it: one that was answered, or one
    /// whose answer will tell.
    pub(super) fn is_own_write(&mut self, via: u32, client: u32, name: &Bytes) -> bool {
        let own = self.tracking.trackers.get(client as usize);
        if !own.is_some_and(|tracker| tracker.noloop) {
            return false;
        }
        if self.take_own_write(via, client, name) {
            return true;
        }
        let Some(relay) = self.tracking.relays.get(&via) else {
            return false;
        };
        let writing = self.own_write_underway(relay.origin as usize, client, name);
        let relay = self.tracking.relays.get_mut(&via);
        if let (Some(relay), Some(waiter)) = (relay, writing) {
            relay.undecided.push((waiter, name.clone()));
        }
        writing.is_some()
    }

    /// The request on its way by which a client may change a key.
    fn own_write_underway(&self, origin: usize, client: u32, name: &[u8]) -> Option<Waiter> {
        let connection = self.connections.get(origin)?;
        let mut args = Args::default();
        let own = |pending: &&Pending| pending.waiter.client == client && pending.purpose != Purpose::Queued;
        let found = connection.pending.iter().filter(own).find(|pending| {
            let frames = connection.out.range(pending.at, pending.len as usize);
            let mut rest = frames.unwrap_or_default();
            while let Ok(Decoded::Frame(end)) = decode(rest, &mut args, &mut None, true) {
                let arg = |at: usize| args.arg(rest, at);
                let command = redplane_command::find(args.len(), arg);
                let command = command.ok().filter(|command| command.is_write());
                let mut keys = command
                    .into_iter()
                    .flat_map(|command| redplane_command::keys(command, args.len(), arg));
                if keys.any(|at| arg(at) == name) {
                    return true;
                }
                rest = rest.get(end..).unwrap_or_default();
            }
            false
        });
        found.map(|pending| pending.waiter)
    }

    /// A client's request is answered: what was held back because of it is told, unless it was its own doing.
    pub(super) fn release_held_keys(&mut self, feed: u32, waiter: Waiter) {
        let Some(relay) = self
            .tracking
            .relays
            .get_mut(&feed)
            .filter(|own| !own.undecided.is_empty())
        else {
            return;
        };
        let same =
            |(held, _): &(Waiter, Bytes)| held.client == waiter.client && held.sequence == waiter.sequence;
        let (judged, waiting) = std::mem::take(&mut relay.undecided).into_iter().partition(same);
        relay.undecided = waiting;
        let judged: Vec<(Waiter, Bytes)> = judged;
        for (_, name) in judged {
            if !self.take_own_write(feed, waiter.client, &name) {
                let notice = Notice::Keys(vec![name]);
                self.tell(waiter.client as usize, Some(waiter.sequence), &notice);
            }
        }
    }

    /// What was read at once from a connection is done with: pushes behind own writes have come, or come behind a PING
    /// on the feed.
    pub(crate) fn end_own_writes(&mut self, key: u32) {
        if self.tracking.own.is_empty() || self.tracking.relays.contains_key(&key) {
            return;
        }
        match self.tracking.feeds.get(&key).copied() {
            Some(feed) => self.fence(feed),
            None => self.tracking.own.retain(|own| own.connection != key),
        }
    }

    fn fence(&mut self, feed: u32) {
        let TrackingState { relays, own, .. } = &mut self.tracking;
        let Some(relay) = relays.get_mut(&feed).filter(|relay| !relay.fencing) else {
            return;
        };
        let fresh = own.iter_mut().filter(|own| own.connection == feed);
        let mut any = false;
        for write in fresh {
            write.fenced = true;
            any = true;
        }
        relay.fencing = any;
        if any {
            self.setup(feed, Purpose::Fence, &[b"PING"]);
        }
    }

    /// The reply to that PING.
    pub(crate) fn fenced(&mut self, feed: u32) {
        self.tracking
            .own
            .retain(|own| own.connection != feed || !own.fenced);
        if let Some(relay) = self.tracking.relays.get_mut(&feed) {
            relay.fencing = false;
        }
        self.fence(feed);
    }

    /// One half is gone, and the other goes.
    pub(super) fn part_relay(&mut self, id: u32) {
        if let Some(feed) = self.tracking.feeds.remove(&id) {
            self.actions.push(Action::CloseUpstream(ConnId(feed)));
            self.upstream_gone(ConnId(feed), Gone::Local);
        }
        let Some(relay) = self.tracking.relays.remove(&id) else {
            return;
        };
        self.tracking.feeds.remove(&relay.origin);
        self.release_pools(&[relay.pool]);
        let Some(origin) = self.connections.get(relay.origin as usize) else {
            return;
        };
        let pool = origin.pool;
        if origin.flush.greeting.is_some() {
            self.actions.push(Action::CloseUpstream(ConnId(relay.origin)));
            return self.upstream_gone(ConnId(relay.origin), Gone::Remote);
        }
        if self.pools[pool].key.greeting.tracking == Tracking::Broadcast {
            self.empty_listeners(pool);
        }
        let live = self.pools[pool].live.as_mut();
        if let Some(link) = live.and_then(|live| live.link_with(relay.origin)) {
            link.connection = None;
        }
        self.drain_connections(&[relay.origin]);
    }
}
