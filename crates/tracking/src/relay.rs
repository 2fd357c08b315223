//! Tracking for clients of RESP2: a connection of RESP2 cannot be pushed to, so each has a feed beside it.
//!
//! The feed is a connection of RESP3 to the same host that carries nothing else; the other one (its *origin*) redirects
//! to it, before anything is written to it but its login. What a push and a reply have in common has then two ways here,
//! and either may be the faster one: a push concerns as well what was asked before it and is answered after it, and
//! whether a write is the client's own may be known only when its reply has come. Neither lives without the other.

use bytes::Bytes;
use redplane_config::redis_proxy::Protocol;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::connection::ConnId;
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::{Greeting, PoolKey, Tracking};
use redplane_redis_flow::action::{Action, Gone};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::notice::Notice;
use redplane_resp::request::{Args, Decoded, decode};
use redplane_resp::{encode, reply};

use crate::TrackingState;
use crate::deliver::MAX_LATE;

/// Requests on their way that are looked at for each push to a client that does not want to hear of its own writes. Where
/// there are more it hears of some of them.
const MAX_LOOKED_AT: usize = 64;

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

/// The request on its way by which a client may change a key, among the first few: others look no further for each
/// push, and who writes much hears of its own writes.
fn own_write_underway(core: &Core, origin: usize, client: u32, name: &[u8]) -> Option<Waiter> {
    let connection = core.connections.get(origin)?;
    let mut left = MAX_LOOKED_AT;
    let own = |pending: &&Pending| {
        pending.waiter.client == client && pending.purpose != Purpose::Queued && pending.writes()
    };
    let found = connection.pending.iter().take(MAX_LOOKED_AT).filter(own);
    let found = found.into_iter().find(|pending| {
        let frames = connection.out.range(pending.at, pending.len as usize);
        changes(frames.unwrap_or_default(), name, &mut left)
    });
    found.map(|pending| pending.waiter)
}

impl TrackingState {
    /// Opens the feed of a connection that is being opened, whose greeting ends with what is not known yet.
    pub fn open_relay(&mut self, core: &mut Core, origin: u32) {
        let Some(connection) = core.connections.get(origin as usize) else {
            return;
        };
        let (host, pool) = (connection.server.host.clone(), connection.pool);
        let greeting = Greeting {
            protocol: Protocol::Resp3,
            login: core.pools[pool].key.greeting.login,
            ..Greeting::default()
        };
        let former = core.pools[pool].key.clone();
        let pool = core.acquire_pool(PoolKey { greeting, ..former });
        // Without a feed the origin's greeting stays unanswered, and it is late.
        let Ok(feed) = core.connect(pool, host, false) else {
            return core.release_pools(&[pool]);
        };
        core.connections[feed as usize].carries = redplane_redis_core::connection::Carries::Invalidations;
        core.setup(feed, Purpose::Relay, &[b"CLIENT", b"ID"]);
        self.feeds.insert(origin, feed);
        let relay = Relay {
            origin,
            pool,
            late: Vec::new(),
            undecided: Vec::new(),
            fencing: false,
        };
        self.relays.insert(feed, relay);
    }

    /// The reply to that: requests go on, or the connection goes. Clients that asked for this very database, or for
    /// tracking, hear why.
    pub fn greeting_reply(&mut self, core: &mut Core, key: usize, raw: &[u8], is_error: bool) {
        let connection = &mut core.connections[key];
        if !is_error {
            let unanswered = |pending: &Pending| pending.purpose == Purpose::Greeting;
            if connection.pending.iter().any(unanswered) {
                return;
            }
            connection.flush.greeting = None;
            if connection.out.unwritten() > 0 && !connection.flush.dirty {
                connection.flush.dirty = true;
                core.due.connections.push(key as u32);
            }
            return self.tracking_granted(core, key);
        }
        if core.login_was_refused(key, raw) {
            return;
        }
        let connection = &core.connections[key];
        let host = connection.server.host.address.clone();
        tracing::debug!(target: "redis", cluster = connection.server.cluster.name(), %host, reply = %String::from_utf8_lossy(raw).trim_end(), "upstream refused SELECT or CLIENT TRACKING");
        let asked: Vec<Pending> = connection
            .pending
            .iter()
            .filter(|pending| matches!(pending.purpose, Purpose::Select | Purpose::Track))
            .copied()
            .collect();
        for pending in &asked {
            match pending.purpose {
                Purpose::Track => self.refuse_joining(core, pending, raw),
                _ => core.selected(pending, raw, true),
            }
        }
        core.lose(ConnId(key as u32), Gone::Protocol);
    }

    /// A feed knows its own number: its origin asks the server to tell it instead.
    pub fn relay_named(&mut self, core: &mut Core, feed: usize, raw: &[u8], is_error: bool) {
        let Some(relay) = self.relays.get(&(feed as u32)) else {
            return;
        };
        let origin = relay.origin as usize;
        let Some(id) = reply::integer(raw).filter(|_| !is_error) else {
            return self.greeting_reply(core, origin, raw, true);
        };
        let Some(connection) = core.connections.get_mut(origin) else {
            return;
        };
        let id = id.to_string();
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", id.as_bytes()];
        if core.pools[connection.pool].key.greeting.tracking == Tracking::Broadcast {
            words.push(b"BCAST");
        }
        if let Some(greeting) = &mut connection.flush.greeting {
            encode::request(greeting.tail(), &words);
        }
        if !connection.flush.dirty {
            connection.flush.dirty = true;
            core.due.connections.push(origin as u32);
        }
    }

    /// The connection that a push on this one is about: the feed's origin, or itself. `None` when that is gone.
    pub(super) fn origin_of(&self, core: &Core, key: usize) -> Option<usize> {
        let relay = self.relays.get(&(key as u32));
        let origin = relay.map_or(key, |relay| relay.origin as usize);
        core.connections.get(origin).map(|_| origin)
    }

    /// The connection that pushes come on about what was read through this one; `None` when there is none any more.
    pub(super) fn pushed_on(&self, core: &Core, key: usize) -> Option<u32> {
        let connection = &core.connections[key];
        match core.pools[connection.pool].key.greeting.protocol {
            Protocol::Resp3 => Some(key as u32),
            Protocol::Resp2 => self.feeds.get(&(key as u32)).copied(),
        }
    }

    /// A push overtakes replies, or is overtaken.
    pub(super) fn note_overtaken(&mut self, core: &Core, feed: u32, origin: usize, notice: &Notice) {
        let connection = &core.connections[origin];
        let end = connection.out.end();
        let waits = !connection.is_idle();
        if let Some(relay) = self.relays.get_mut(&feed).filter(|_| waits) {
            relay.note_late(end, notice);
        }
    }

    /// A request is answered: what was told before it was sent does not concern those behind it.
    pub(super) fn forget_overtaken(&mut self, feed: u32, at: u64) {
        if let Some(relay) = self.relays.get_mut(&feed) {
            relay.late.retain(|(end, _)| *end > at);
        }
    }

    /// Whether a push on this connection is about a client's own write, and not for it: one that was answered, or one
    /// whose answer will tell.
    pub(super) fn is_own_write(&mut self, core: &Core, via: u32, client: u32, name: &Bytes) -> bool {
        let own = self.trackers.get(client as usize);
        if !own.is_some_and(|tracker| tracker.noloop) {
            return false;
        }
        if self.take_own_write(via, client, name) {
            return true;
        }
        let Some(relay) = self.relays.get(&via) else {
            return false;
        };
        let writing = own_write_underway(core, relay.origin as usize, client, name);
        let relay = self.relays.get_mut(&via);
        if let (Some(relay), Some(waiter)) = (relay, writing) {
            relay.undecided.push((waiter, name.clone()));
        }
        writing.is_some()
    }

    /// A client's request is answered: what was held back because of it is told, unless it was its own doing.
    pub(super) fn release_held_keys(&mut self, core: &mut Core, feed: u32, waiter: Waiter) {
        let Some(relay) = self.relays.get_mut(&feed).filter(|own| !own.undecided.is_empty()) else {
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
                self.tell(core, waiter.client as usize, Some(waiter.sequence), &notice);
            }
        }
    }

    /// What was read at once from a connection is done with: pushes behind own writes have come, or come behind a PING
    /// on the feed.
    pub fn end_own_writes(&mut self, core: &mut Core, key: u32) {
        if self.own.is_empty() || self.relays.contains_key(&key) {
            return;
        }
        match self.feeds.get(&key).copied() {
            Some(feed) => self.fence(core, feed),
            None => self.own.retain(|own| own.connection != key),
        }
    }

    fn fence(&mut self, core: &mut Core, feed: u32) {
        let Self { relays, own, .. } = self;
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
            core.setup(feed, Purpose::Fence, &[b"PING"]);
        }
    }

    /// The reply to that PING.
    pub fn fenced(&mut self, core: &mut Core, feed: u32) {
        self.own.retain(|own| own.connection != feed || !own.fenced);
        if let Some(relay) = self.relays.get_mut(&feed) {
            relay.fencing = false;
        }
        self.fence(core, feed);
    }

    /// One half is gone, and the other goes.
    pub(super) fn part_relay(&mut self, core: &mut Core, id: u32) {
        if let Some(feed) = self.feeds.remove(&id) {
            core.out.actions.push(Action::CloseUpstream(ConnId(feed)));
            core.lose(ConnId(feed), Gone::Local);
        }
        let Some(relay) = self.relays.remove(&id) else {
            return;
        };
        self.feeds.remove(&relay.origin);
        core.release_pools(&[relay.pool]);
        let Some(origin) = core.connections.get(relay.origin as usize) else {
            return;
        };
        let pool = origin.pool;
        if origin.flush.greeting.is_some() {
            core.out.actions.push(Action::CloseUpstream(ConnId(relay.origin)));
            return core.lose(ConnId(relay.origin), Gone::Remote);
        }
        if core.pools[pool].key.greeting.tracking == Tracking::Broadcast {
            self.empty_listeners(core, pool);
        }
        let live = core.pools[pool].live.as_mut();
        if let Some(link) = live.and_then(|live| live.link_with(relay.origin)) {
            link.connection = None;
        }
        core.drain_connections(&[relay.origin]);
    }
}

/// Whether commands may change a key: at most as many of them as are `left` to look at.
fn changes(frames: &[u8], name: &[u8], left: &mut usize) -> bool {
    let mut args = Args::default();
    let mut rest = frames;
    while *left > 0
        && let Ok(Decoded::Frame(end)) = decode(rest, &mut args, &mut None, true)
    {
        *left -= 1;
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
}
