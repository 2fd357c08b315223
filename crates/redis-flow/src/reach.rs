//! From a key to a host and its connection, opened when there is none.
//!
//! What the server must hear first (login, READONLY, a PING of a host that was dead) stands in front of all requests.

use std::sync::Arc;

use redplane_command::CommandId;
use redplane_config::redis_proxy::{Protocol, ReadPolicy};
use redplane_merge::Failure;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::connection::{Connection, State};
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::{Access, LoginId, Target};
use redplane_resp::encode;
use redplane_telemetry::stats::{cluster, redis_cluster};
use redplane_upstream::{Host, Login};

use crate::action::Action;
use crate::core::Core;
use crate::send::{Payload, Sending};

/// Draws of a host for a read whose host cannot be reached.
const DRAWS: usize = 3;

impl Core {
    /// The connection that a key leads to.
    #[inline]
    pub fn connection_for_key(&mut self, pool: usize, name: &[u8], access: Access) -> Result<u32, Failure> {
        let entry = &self.pools[pool];
        let Some(live) = &entry.live else {
            return Err(Failure::NoHost);
        };
        let settings = &entry.key.settings;
        let target = live.target(name, settings);
        // Nearly always: the primary's connection is open. Whatever else may be is looked at below.
        if access == Access::Primary || settings.read_policy == ReadPolicy::Master {
            let open = live.open_primary(target);
            if let Some(open) = open.filter(|_| !settings.op_timeout.is_zero())
                && self.connections[open as usize].life.state != State::Probing
            {
                return Ok(open);
            }
        }
        self.connection_for(pool, target, access)
    }

    /// The connection to the host of a target, opened if there is none.
    #[inline]
    pub fn connection_for(&mut self, pool: usize, target: Target, access: Access) -> Result<u32, Failure> {
        let policy = self.pools[pool].key.settings.read_policy;
        match self.connection_by(pool, target, access, policy) {
            Err(Failure::Upstream) if access == Access::Read && policy != ReadPolicy::Master => self
                .draw_for_read(policy, |engine, access| {
                    engine.connection_by(pool, target, access, policy)
                }),
            found => found,
        }
    }

    /// Draws hosts for a read until one can be reached, and at last the primary, unless the policy wants replicas only.
    /// The dead are tried in the background all the same.
    #[cold]
    pub(crate) fn draw_for_read(
        &mut self,
        policy: ReadPolicy,
        mut reach: impl FnMut(&mut Self, Access) -> Result<u32, Failure>,
    ) -> Result<u32, Failure> {
        for _ in 0..DRAWS {
            let drawn = reach(self, Access::Read);
            if drawn != Err(Failure::Upstream) {
                return drawn;
            }
        }
        match policy {
            ReadPolicy::Replica => Err(Failure::Upstream),
            _ => reach(self, Access::Primary),
        }
    }

    #[inline]
    fn connection_by(
        &mut self,
        pool: usize,
        target: Target,
        access: Access,
        policy: ReadPolicy,
    ) -> Result<u32, Failure> {
        let random = self.shared.random.u64(..);
        let entry = &mut self.pools[pool];
        let Some(live) = &mut entry.live else {
            return Err(Failure::NoHost);
        };
        let host = live.pick(target, access, policy, &self.shared.zone, random)?;
        if entry.key.settings.op_timeout.is_zero() {
            live.stats.inc(cluster::UPSTREAM_RQ_TIMEOUT);
            return Err(Failure::Upstream);
        }
        let Some(link) = live.links.get(host) else {
            return Err(Failure::NoHost);
        };
        match link.connection {
            Some(open) if self.connections[open as usize].life.state != State::Probing => Ok(open),
            Some(_) => Err(Failure::Upstream),
            None => self.open(pool, host),
        }
    }

    /// Opens a connection to a host of the topology.
    #[cold]
    pub(crate) fn open(&mut self, pool: usize, host: usize) -> Result<u32, Failure> {
        let now = self.now;
        let entry = &mut self.pools[pool];
        let Some(live) = &mut entry.live else {
            return Err(Failure::NoHost);
        };
        let (Some(to), Some(link)) = (live.topology.hosts.get(host).cloned(), live.links.get_mut(host))
        else {
            return Err(Failure::NoHost);
        };
        if link.failing && now < link.retry_at {
            return Err(Failure::Upstream);
        }
        if !link.may_connect(entry.key.settings.connection_rate_limit, now) {
            live.redis_stats.inc(redis_cluster::CONNECTION_RATE_LIMITED);
            return Err(Failure::NoHost);
        }
        let failing = link.failing;
        let opened = self.connect(pool, to, failing)?;
        if let Some(live) = &mut self.pools[pool].live {
            live.links[host].connection = Some(opened);
        }
        // A host that was dead gets no requests before it has shown that it lives.
        if failing {
            Err(Failure::Upstream)
        } else {
            Ok(opened)
        }
    }

    /// Makes a connection and puts in front of all requests what the server must hear first.
    pub fn connect(&mut self, pool: usize, host: Arc<Host>, probe: bool) -> Result<u32, Failure> {
        let entry = &self.pools[pool];
        let Some(live) = &entry.live else {
            return Err(Failure::NoHost);
        };
        let own = entry.key.greeting.login;
        let (user, password, purpose) = match live.cluster.login(&host.address) {
            Login::None if own != LoginId::NONE && live.cluster.takes_logins() => {
                // One that is forgotten must not become nobody's.
                let words = self.shared.logins.words(own).ok_or(Failure::Upstream)?;
                (words.0.to_vec(), words.1.to_vec(), Purpose::Greeting)
            }
            Login::None => (Vec::new(), Vec::new(), Purpose::Auth),
            Login::Password(user, password) => {
                (user.as_bytes().to_vec(), password.into_owned(), Purpose::Auth)
            }
            Login::Unavailable => {
                live.redis_stats.inc(redis_cluster::UPSTREAM_AUTH_FAILURE);
                return Err(Failure::Upstream);
            }
        };
        let readonly = entry.key.settings.read_policy != ReadPolicy::Master;
        let cluster = live.cluster.clone();
        let mut connection = Connection::new(pool, cluster.clone(), host.clone(), self.now);
        if probe {
            connection.life.state = State::Probing;
        }
        let id = self.connections.insert(connection) as u32;
        self.authenticate(id, (&user, &password), purpose);
        if readonly {
            self.setup(id, Purpose::Setup, &[b"readonly"]);
        }
        if probe {
            self.setup(id, Purpose::Probe, &[b"PING"]);
        }
        self.begin_as_greeted(id);
        self.out.actions.push(Action::Connect(
            redplane_redis_core::connection::ConnId(id),
            cluster,
            host,
        ));
        Ok(id)
    }

    /// Login and protocol, in front of everything else. A client's login is a [`Purpose::Greeting`]: nothing else is written
    /// before it is granted.
    fn authenticate(&mut self, id: u32, (user, password): (&[u8], &[u8]), purpose: Purpose) {
        let connection = &self.connections[id as usize];
        let named = if user.is_empty() { b"default" } else { user };
        let greets = purpose == Purpose::Greeting;
        if self.pools[connection.pool].key.greeting.protocol == Protocol::Resp3 {
            let purpose = if greets { purpose } else { Purpose::Hello };
            return match password.is_empty() && !greets {
                true => self.setup(id, purpose, &[b"HELLO", b"3"]),
                false => self.setup(id, purpose, &[b"HELLO", b"3", b"AUTH", named, password]),
            };
        }
        match (
            user.is_empty() || !greets && user == b"default",
            password.is_empty(),
        ) {
            (_, true) if !greets => {}
            (true, _) => self.setup(id, purpose, &[b"auth", password]),
            (false, _) => self.setup(id, purpose, &[b"auth", user, password]),
        }
    }

    /// A command that no client asked for.
    pub fn setup(&mut self, id: u32, purpose: Purpose, args: &[&[u8]]) {
        let mut frame = self.buffers.take_empty();
        encode::request(&mut frame, args);
        let command = redplane_command::lookup(args[0]).map_or(CommandId(0), |command| command.id);
        self.send(
            id,
            Sending {
                waiter: Waiter::NOBODY,
                command,
                purpose,
            },
            Payload::Copied(&frame),
        );
        self.buffers.give(frame);
    }
}
