//! Waits that have to go elsewhere: the slot has moved, the node is a replica now, or it is gone.
//!
//! The request is asked again at the node that serves its key now, for the time that its client has left. A client that
//! waits notices nothing of a failover but that its element comes later. What has begun to be answered is not asked
//! again, and attempts end after [`PATIENCE`] without a server.

use redplane_command::{Patience, patience, timeout_at};
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::ClientId;
use redplane_redis_core::connection::Connection;
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::Access;
use redplane_redis_flow::action::Gone;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::redirect::{self, MAX_HOPS, Redirection};
use redplane_resp::encode;
use redplane_resp::request::{self, Args};
use redplane_upstream::Signal;

use crate::{Blocking, SLACK, Wait, lease_for};

/// Microseconds without a server that would take the wait in: longer than a failover takes.
const PATIENCE: u64 = 30_000_000;

/// Attempts in that time.
const MAX_TRIES: u32 = 64;

/// Microseconds between attempts: the first pause and the longest.
const FIRST_PAUSE: u64 = 10_000;

const MAX_PAUSE: u64 = 1_000_000;

/// A wait that stood so long, in microseconds, has found its place: what comes then is another story.
const SETTLED: u64 = 1_000_000;

/// The microseconds that a request is willing to wait; `None` for ever, or when they cannot be read.
pub(super) fn time_of(command: &redplane_command::Command, frame: &[u8]) -> Option<u64> {
    let mut args = Args::default();
    request::decode(frame, &mut args, &mut None, true).ok()?;
    match patience(command, args.len(), |i| args.arg(frame, i))? {
        Patience::Forever => None,
        Patience::For(time) => Some(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
    }
}

impl Wait {
    /// The request for the time that is left: in seconds with a fraction, or in milliseconds, as the command has it.
    fn remaining(&self, now: u64) -> Vec<u8> {
        let rewrite = || {
            let left = self.until?.saturating_sub(now).max(1000);
            let mut args = Args::default();
            request::decode(&self.frame, &mut args, &mut None, true).ok()?;
            let at = timeout_at(self.command, args.len(), |i| args.arg(&self.frame, i))?;
            let in_seconds = matches!(
                self.command.request,
                redplane_command::RequestPolicy::Blocking(
                    redplane_command::Blocking::LastArgument | redplane_command::Blocking::FirstArgument
                )
            );
            let millis = left.div_ceil(1000);
            let text = match in_seconds {
                true => format!("{}.{:03}", millis / 1000, millis % 1000),
                false => millis.to_string(),
            };
            let mut frame = Vec::new();
            encode::array(&mut frame, args.len());
            for i in 0..args.len() {
                let arg = if i == at {
                    text.as_bytes()
                } else {
                    args.arg(&self.frame, i)
                };
                encode::bulk(&mut frame, arg);
            }
            Some(frame)
        };
        rewrite().unwrap_or_else(|| self.frame.clone())
    }

    /// It has no place any more. One that it had for a while was a good one.
    fn lose_place(&mut self, now: u64) {
        if self.attempt.connection.take().is_some() && now >= self.attempt.sent + SETTLED {
            (self.attempt.tries, self.attempt.hops, self.attempt.broken_since) = (0, 0, None);
        }
    }
}

/// Whether a connection's cluster still has this topology.
fn stands_at(core: &Core, connection: u32, version: u64) -> bool {
    let connection = &core.connections[connection as usize];
    let live = core.pools[connection.pool].live.as_ref();
    live.is_some_and(|live| {
        live.topology.version == version && std::sync::Arc::ptr_eq(&live.cluster, &connection.server.cluster)
    })
}

/// Whether a key is served elsewhere by now, or its host has left.
fn is_out_of_place(core: &Core, wait: &Wait, connection: u32) -> bool {
    let entry = &core.pools[wait.pool];
    let connection = &core.connections[connection as usize];
    let Some(live) = &entry.live else {
        return true;
    };
    if !std::sync::Arc::ptr_eq(&live.cluster, &connection.server.cluster) {
        return true;
    }
    let primary = wait
        .name
        .as_ref()
        .filter(|_| live.is_redis() && wait.access == Access::Primary);
    let Some(name) = primary else {
        return !live.knows(connection.server.host.id);
    };
    let policy = entry.key.settings.read_policy;
    let target = live.target(name, &entry.key.settings);
    // While a slot has no owner, the wait stands where it is.
    live.pick(target, Access::Primary, policy, "", 0).is_ok_and(|at| {
        live.topology
            .hosts
            .get(at)
            .is_some_and(|host| host.id != connection.server.host.id)
    })
}

impl Blocking {
    /// Looks at an error before the client does. True when the wait goes on elsewhere, or ended otherwise.
    pub(super) fn ask_elsewhere(
        &mut self,
        core: &mut Core,
        key: usize,
        connection: usize,
        raw: &[u8],
    ) -> bool {
        let (pool, now) = (core.connections[connection].pool, core.now);
        let settings = &core.pools[pool].key.settings;
        let (follows, op_timeout) = (
            settings.enable_redirection,
            settings.op_timeout.as_micros() as u64,
        );
        let Some(wait) = self.waits.get_mut(&(key as u32)) else {
            return false;
        };
        let moved = redirect::parse(raw).filter(|_| follows);
        let demoted = raw.starts_with(b"-UNBLOCKED force");
        let down =
            follows && raw.starts_with(b"-CLUSTERDOWN") || wait.attempt.stood && raw.starts_with(b"-LOADING");
        let torn = follows && raw.starts_with(b"-TRYAGAIN");
        if !demoted && !down && !torn && moved.is_none() {
            return false;
        }
        wait.lose_place(now);
        if torn && now >= *wait.attempt.broken_since.get_or_insert(now) + op_timeout {
            wait.attempt.connection = Some(connection as u32);
            return false;
        }
        wait.attempt.stood |= demoted;
        let first = !wait.attempt.stood && wait.attempt.tries == 0;
        let address = moved.and_then(|to| core.target_of(connection, to));
        if moved.is_none() {
            core.connections[connection].server.cluster.signal(Signal::Failed);
        }
        core.return_lease(connection as u32);
        match (moved, address) {
            (Some(to), Some(address)) => self.follow_wait(core, key, pool, to, address),
            _ if down && first => self.end_wait(core, key, Answer::Failed(Failure::Upstream)),
            _ => self.try_later(core, key, Failure::Upstream),
        }
        true
    }

    fn follow_wait(
        &mut self,
        core: &mut Core,
        key: usize,
        pool: usize,
        to: Redirection<'_>,
        address: std::net::SocketAddr,
    ) {
        core.tell_redirected(pool, to, address);
        let Some(wait) = self.waits.get_mut(&(key as u32)) else {
            return;
        };
        wait.attempt.hops += 1;
        if wait.attempt.hops > MAX_HOPS {
            core.count_redirect(pool, false);
            return self.end_wait(core, key, Answer::Failed(Failure::Upstream));
        }
        let leased = core.lease_at(pool, address, to.host, key);
        core.count_redirect(pool, leased.is_ok());
        match leased {
            Ok(leased) => {
                if to.ask {
                    core.setup(leased, Purpose::Setup, &[b"asking"]);
                }
                self.wait_again_on(core, key, leased);
            }
            Err(failure) => self.try_later(core, key, failure),
        }
    }

    fn wait_again_on(&mut self, core: &mut Core, key: usize, connection: u32) {
        if let Some(wait) = self.waits.get(&(key as u32)) {
            let frame = wait.remaining(core.now);
            self.wait_on(core, key, connection, &frame);
        }
    }

    /// The connection that a client waited on is gone.
    pub fn wait_lost(&mut self, core: &mut Core, id: u32, connection: &Connection, why: Gone) {
        let now = core.now;
        let Some((key, generation)) = connection.lease.holder else {
            return;
        };
        let own = |wait: &&mut Box<Wait>| {
            wait.attempt.connection == Some(id) && wait.waiter.generation == generation
        };
        let Some(wait) = self.waits.get_mut(&key).filter(own) else {
            return;
        };
        let key = key as usize;
        wait.attempt.stood |= connection.life.connected;
        let answered = !connection.incoming.carry.is_empty() || matches!(why, Gone::Protocol | Gone::Timeout);
        wait.lose_place(now);
        match wait.attempt.stood && !answered {
            true => self.try_later(core, key, Failure::Upstream),
            false => self.end_wait(core, key, Answer::Failed(Failure::Upstream)),
        }
    }

    /// Another attempt after a pause; the failure is the client's answer when there have been enough.
    fn try_later(&mut self, core: &mut Core, key: usize, failure: Failure) {
        let now = core.now;
        let Some(wait) = self.waits.get_mut(&(key as u32)) else {
            return;
        };
        let since = *wait.attempt.broken_since.get_or_insert(now);
        if now >= since + PATIENCE || wait.attempt.tries >= MAX_TRIES || failure == Failure::TooManyLeases {
            return self.end_wait(core, key, Answer::Failed(failure));
        }
        wait.attempt.resume = now + (FIRST_PAUSE << wait.attempt.tries.min(10)).min(MAX_PAUSE);
        wait.attempt.tries += 1;
    }

    /// What is due by time among those that wait.
    pub fn tick_waits(&mut self, core: &mut Core) {
        if self.waits.is_empty() {
            return;
        }
        let due = self
            .waits
            .keys()
            .copied()
            .filter(|key| self.is_due(core, *key as usize));
        for key in due.collect::<Vec<u32>>() {
            self.attend(core, key as usize);
        }
    }

    fn is_due(&self, core: &Core, key: usize) -> bool {
        let now = core.now;
        let Some(wait) = self.waits.get(&(key as u32)) else {
            return false;
        };
        let over = wait.until.is_some_and(|until| now >= until);
        wait.last.is_some_and(|last| now >= last)
            || match wait.attempt.connection {
                None => over || now >= wait.attempt.resume,
                Some(at) => over || !stands_at(core, at, wait.attempt.version),
            }
    }

    fn attend(&mut self, core: &mut Core, key: usize) {
        let now = core.now;
        let Some(wait) = self.waits.get(&(key as u32)) else {
            return;
        };
        if wait.last.is_some_and(|last| now >= last) {
            return core.close_client(ClientId(key as u32));
        }
        let Some(connection) = wait.attempt.connection else {
            return match wait.until.is_some_and(|until| now >= until) {
                true => self.time_out(core, key),
                false => self.ask_again(core, key),
            };
        };
        let slack = core.pools[wait.pool].key.settings.op_timeout.as_micros() as u64;
        if wait
            .until
            .is_some_and(|until| now >= until.saturating_add(slack.max(SLACK)))
        {
            return core.lose(redplane_redis_core::connection::ConnId(connection), Gone::Timeout);
        }
        if is_out_of_place(core, wait, connection) {
            core.break_lease(connection);
            if let Some(wait) = self.waits.get_mut(&(key as u32)) {
                wait.attempt.stood = true;
                wait.lose_place(now);
            }
            return self.ask_again(core, key);
        }
        let version = core.pools[wait.pool]
            .live
            .as_ref()
            .map(|live| live.topology.version);
        if let (Some(wait), Some(version)) = (self.waits.get_mut(&(key as u32)), version) {
            wait.attempt.version = version;
        }
    }

    fn ask_again(&mut self, core: &mut Core, key: usize) {
        let Some(wait) = self.waits.get(&(key as u32)) else {
            return;
        };
        let (pool, access, name) = (wait.pool, wait.access, wait.name.clone());
        match lease_for(core, pool, name.as_deref(), access, key) {
            Ok(leased) => self.wait_again_on(core, key, leased),
            Err(failure) => self.try_later(core, key, failure),
        }
    }
}
