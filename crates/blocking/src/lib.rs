//! Blocking commands: each on a leased connection, while its client's input rests.
//!
//! 1. The request waits until its client is owed nothing (`hold`), then goes out on a connection of its own: on a
//!    shared one it would hold up everybody behind it.
//! 2. The server keeps the time. The proxy's own is only for servers that do not, with some slack.
//! 3. The reply ends the lease. A client that goes ends the wait: its connection closes at once, so that the server
//!    gives nothing to nobody.
//! 4. When the node loses its role, its slot or its life, the request is asked again for the time that is left
//!    (`again`), unless its reply had begun. A reply that was lost as a whole cannot be told from a wait that stood.
//!
//! Redis: `src/blocked.c`; inside MULTI these commands do not block and are queued as any other.

mod acknowledged;
mod again;

pub(crate) use acknowledged::Acknowledged;

use std::collections::BTreeMap;
use std::time::Duration;

use redplane_command::{Command, Flags, error, may_block};
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::{ClientId, Slot, Waiter};
use redplane_redis_core::filter::{ChainName, RouteTo};
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::{Request, access_of};
use redplane_redis_flow::send::{Payload, Sending};
use redplane_redis_flow::settle::null_array;
use rustc_hash::FxHashMap;

/// Microseconds, from when a request went out, that it gets although its client has said that it sends nothing more:
/// enough for what is there already, which a server answers before it reads the end.
const LAST_REPLY: u64 = 100_000;

/// Microseconds that a server may take to notice that a wait is over, at least.
const SLACK: u64 = 1_000_000;

/// A client that waits.
#[derive(Debug)]
pub(crate) struct Wait {
    command: &'static Command,
    waiter: Waiter,
    since: u64,
    pool: usize,
    /// The key it goes by, as it is forwarded; `None`: it has none, or makes no sense, and any primary says so.
    name: Option<Vec<u8>>,
    access: Access,
    frame: Vec<u8>,
    /// When the client's own time is over; `None`: never, or nobody knows.
    until: Option<u64>,
    /// Its place at a server, or the search for one.
    attempt: Attempt,
    /// When the last reply to a client that has hung up is given up.
    last: Option<u64>,
}

/// The place of a wait at a server, or the search for one.
#[derive(Debug, Default)]
struct Attempt {
    /// Where it waits; `None` between two attempts.
    connection: Option<u32>,
    /// The topology that named this place.
    version: u64,
    /// When it came there.
    sent: u64,
    /// The next attempt.
    resume: u64,
    /// Attempts since it last stood for a while.
    tries: u32,
    /// Redirections since then.
    hops: u8,
    /// When the search began.
    broken_since: Option<u64>,
    /// It has stood at a server: what breaks it now is not the client's concern.
    stood: bool,
}

/// The clients of one worker that wait in blocking commands, or for replicas.
#[derive(Default)]
pub struct Blocking {
    pub(crate) waits: FxHashMap<u32, Box<Wait>>,
    pub(crate) acknowledged: BTreeMap<u32, Acknowledged>,
}

fn lease_for(
    core: &mut Core,
    pool: usize,
    name: Option<&[u8]>,
    access: Access,
    client: usize,
) -> Result<u32, Failure> {
    let entry = &core.pools[pool];
    let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
    let target = name.map_or(Target::Any, |name| live.target(name, &entry.key.settings));
    core.lease(pool, target, access, client)
}

impl Blocking {
    /// A command that might block and has no keys goes to any primary, as all commands do.
    pub fn block_anywhere(&mut self, core: &mut Core, key: usize, command: &'static Command, frame: &[u8]) {
        match core.keyless_route(key) {
            Some(route) => self.block_at(core, key, command, (&route, route.pool), None, frame),
            None => core.fail_now(key, command.id, Failure::NoHost),
        }
    }

    /// Whether a request is to have a connection of its own.
    #[inline]
    pub fn might_block(command: &Command, request: &Request<'_>) -> bool {
        if !command.flags.contains(Flags::BLOCKING) {
            return false;
        }
        may_block(command, request.len(), |i| request.arg(i))
    }

    /// Leases a connection and waits there.
    pub fn block_at(
        &mut self,
        core: &mut Core,
        key: usize,
        command: &'static Command,
        (route, pool): (&RouteTo, usize),
        name: Option<&[u8]>,
        frame: &[u8],
    ) {
        let (now, access) = (core.now, access_of(command));
        let leased = match lease_for(core, pool, name, access, key) {
            Ok(leased) => leased,
            Err(failure) => return core.fail_now(key, command.id, failure),
        };
        core.skip_mirrors(route, command);
        core.hold_pools(&[pool]);
        let waiter = core.expect_reply(key, Slot::Waiting);
        core.rest_behind(key);
        core.shared.heads.client_blocked();
        let hung_up = core.clients[key].session.hung_up;
        let wait = Wait {
            command,
            waiter,
            since: now,
            pool,
            name: name.map(<[u8]>::to_vec),
            access,
            frame: frame.to_vec(),
            until: again::time_of(command, frame).map(|time| now.saturating_add(time)),
            attempt: Attempt {
                sent: now,
                resume: now,
                ..Attempt::default()
            },
            last: hung_up.then_some(now + LAST_REPLY),
        };
        self.waits.insert(key as u32, Box::new(wait));
        self.wait_on(core, key, leased, frame);
    }

    /// Sends the request on a connection that is leased for it.
    fn wait_on(&mut self, core: &mut Core, key: usize, connection: u32, frame: &[u8]) {
        let now = core.now;
        let Some(wait) = self.waits.get_mut(&(key as u32)) else {
            return;
        };
        wait.attempt.connection = Some(connection);
        wait.attempt.sent = now;
        let sending = Sending {
            waiter: wait.waiter,
            command: wait.command.id,
            purpose: Purpose::Block,
        };
        if let Some(live) = &core.pools[wait.pool].live {
            wait.attempt.version = live.topology.version;
        }
        core.send(connection, sending, Payload::Copied(frame));
    }

    /// What a server answered to a request that blocked.
    pub fn block_reply(&mut self, core: &mut Core, connection: usize, pending: &Pending, answer: Answer<'_>) {
        let key = pending.waiter.client as usize;
        let own = self.waits.get(&pending.waiter.client);
        let own = own.filter(|wait| wait.waiter.generation == pending.waiter.generation);
        if own.is_none_or(|wait| wait.attempt.connection != Some(connection as u32)) {
            return core.end_lease(Some(connection as u32));
        }
        if answer.bytes().first() == Some(&b'-') && self.ask_elsewhere(core, key, connection, answer.bytes())
        {
            return;
        }
        self.end_wait(core, key, answer);
        core.return_lease(connection as u32);
    }

    /// The wait is over: its client goes on.
    fn end_wait(&mut self, core: &mut Core, key: usize, answer: Answer<'_>) {
        let Some(wait) = self.waits.remove(&(key as u32)) else {
            return;
        };
        core.shared.heads.client_unblocked();
        core.settle(wait.waiter, wait.command.id, wait.since, answer);
        core.release_pools(&[wait.pool]);
    }

    /// The client is gone: so is its wait, at once.
    pub fn abandon_wait(&mut self, core: &mut Core, key: u32) {
        let Some(wait) = self.waits.remove(&key) else {
            return;
        };
        core.shared.heads.client_unblocked();
        if let Some(connection) = wait.attempt.connection {
            core.break_lease(connection);
        }
        core.release_pools(&[wait.pool]);
    }

    /// Ends the wait of a client (CLIENT UNBLOCK): with an error, or as if its time were over. False when it does not
    /// wait.
    pub fn unblock(&mut self, core: &mut Core, id: ClientId, with_error: bool) -> bool {
        let key = id.0 as usize;
        if self.acknowledged.contains_key(&id.0) {
            self.stop_acknowledged(core, key, with_error);
            return true;
        }
        let Some(wait) = self.waits.get(&id.0) else {
            return false;
        };
        if let Some(connection) = wait.attempt.connection {
            core.break_lease(connection);
        }
        match with_error {
            true => self.end_wait(core, key, Answer::Raw(error::UNBLOCKED)),
            false => self.time_out(core, key),
        }
        true
    }

    /// The same by the id that clients know, for every worker's inquiry: how many it was.
    pub fn unblock_session(&mut self, core: &mut Core, chain: &ChainName, id: u64, with_error: bool) -> u64 {
        let named = |key: &&u32| {
            let client = &core.clients[**key as usize];
            client.session.id == id && core.filters[client.filter].is_of(chain)
        };
        let found = self
            .waits
            .keys()
            .chain(self.acknowledged.keys())
            .find(named)
            .copied();
        found.map_or(0, |key| u64::from(self.unblock(core, ClientId(key), with_error)))
    }

    /// What the server says when the time is over.
    fn time_out(&mut self, core: &mut Core, key: usize) {
        self.end_wait(core, key, Answer::Raw(null_array(core.is_resp3(key))));
    }

    /// Whether a client waits in a blocking command.
    pub fn is_blocked(&self, key: usize) -> bool {
        let key = key as u32;
        self.waits.contains_key(&key) || self.acknowledged.contains_key(&key)
    }

    /// How long a turn may be away: clients that wait for replicas are looked at more often.
    pub fn longest_step(&self) -> Duration {
        Duration::from_millis(if self.acknowledged.is_empty() { 50 } else { 10 })
    }

    /// Clients of this worker that wait in a blocking command.
    pub fn blocked_clients(&self) -> usize {
        self.waits.len() + self.acknowledged.len()
    }

    /// The other side of a client's connection is closed, perhaps with bytes before the end that are not read yet. One
    /// that waits is gone, as it is for Redis, which reads from clients that wait.
    pub fn client_hung_up(&mut self, core: &mut Core, id: ClientId) {
        let now = core.now;
        let Some(client) = core.clients.get_mut(id.0 as usize) else {
            return;
        };
        // A socket tells of it again with every event.
        if std::mem::replace(&mut client.session.hung_up, true) {
            return;
        }
        let paused = client.inlet.rests_for(Rest::Pause);
        if let Some(wait) = self.waits.get_mut(&id.0) {
            wait.last = Some(wait.since + LAST_REPLY);
            if wait.last <= Some(now) {
                core.close_client(id);
            }
        } else if let Some(own) = self.acknowledged.get_mut(&id.0) {
            if !own.hurry(now) {
                core.close_client(id);
            }
        } else if paused {
            core.close_client(id);
        }
    }
}
