//! Where requests go: from a key to a route, a host and its connection, whose output gets the request's bytes.
//!
//! Mirrors get the same bytes, and answers that nobody waits for.

use std::rc::Rc;
use std::sync::Arc;

use redplane_command::{Command, CommandId, Flags};
use redplane_config::redis_proxy::{KeyFormatter, KeyPiece, Protocol, ReadPolicy};
use redplane_resp::encode;
use redplane_telemetry::stats::{cluster, redis_cluster, upstream_command};
use redplane_upstream::Host;

use crate::client::{Slot, Waiter};
use crate::connection::{Connection, MAX_HELD, MAX_MIRROR_HELD, Pending, Purpose, State};
use crate::dispatch::{Request, Served};
use crate::engine::{Action, Engine};
use crate::failure::Failure;
use crate::filter::RouteTo;
use crate::pool::{Access, Live, Target};

/// Further draws for a read whose host cannot be reached.
const DRAWS: usize = 3;

/// What is sent on a connection, and for whom.
#[derive(Clone, Copy)]
pub(crate) struct Sending {
    pub(crate) waiter: Waiter,
    pub(crate) command: CommandId,
    pub(crate) purpose: Purpose,
}

/// Bytes of a request, as they are.
pub(crate) enum Payload<'a> {
    Copied(&'a [u8]),
    Shared(bytes::Bytes),
}

impl Engine {
    /// Forwards a request whose keys, if there are several, go where argument `at` goes.
    #[inline]
    pub(crate) fn forward_by_key(&mut self, key: usize, served: Served, request: Request<'_>, at: usize) {
        let name = request.arg(at);
        let client = &self.clients[key];
        let Some(route) = self.filters[client.filter].route(name).cloned() else {
            return self.fail_now(key, served.id(), Failure::NoHost);
        };
        if route.keeps_key {
            return self.forward_on(key, served, &route, name, &request);
        }
        let renamed = self.rename(key, &route, name);
        let mut frame = self.buffers.take_empty();
        encode::array(&mut frame, request.len());
        for i in 0..request.len() {
            encode::bulk(&mut frame, if i == at { &renamed } else { request.arg(i) });
        }
        let rewritten = Request {
            frame: &frame,
            args: request.args,
            shared: None,
        };
        self.forward_on(key, served, &route, &renamed, &rewritten);
        self.buffers.give(frame);
    }

    /// Forwards a request as it is.
    #[inline]
    fn forward_on(
        &mut self,
        key: usize,
        served: Served,
        route: &Rc<RouteTo>,
        name: &[u8],
        request: &Request<'_>,
    ) {
        let (reads, access) = match served {
            Served::Known(command) => (command.is_read(), access_of(command)),
            Served::Custom(_) => (false, Access::Primary),
        };
        let pool = match route.read_pool {
            Some(read_pool) if reads => read_pool,
            _ => route.pool,
        };
        let leased = match self.clients[key].transaction {
            None => None,
            Some(_) => self.leased_for(key, pool, name),
        };
        let found = leased.map_or_else(|| self.connection_for_key(pool, name, access), Ok);
        let connection = match found {
            Ok(connection) => connection,
            Err(failure) => return self.fail_now(key, served.id(), failure),
        };
        let waiter = self.expect_reply(key, Slot::Waiting);
        self.send(
            connection,
            Sending {
                waiter,
                command: served.id(),
                purpose: Purpose::Reply,
            },
            payload(request),
        );
        self.choke(connection, key);
        if !route.mirrors.is_empty() {
            self.mirror(route, served, name, request);
        }
    }

    /// The connection that a key leads to.
    #[inline]
    pub(crate) fn connection_for_key(
        &mut self,
        pool: usize,
        name: &[u8],
        access: Access,
    ) -> Result<u32, Failure> {
        self.refresh_pool(pool);
        let entry = &self.pools[pool];
        let Some(live) = &entry.live else {
            return Err(Failure::NoHost);
        };
        let target = live.target(name, &entry.key.settings);
        self.connection_for(pool, target, access)
    }

    /// The connection to the host of a target, opened if there is none.
    #[inline]
    pub(crate) fn connection_for(
        &mut self,
        pool: usize,
        target: Target,
        access: Access,
    ) -> Result<u32, Failure> {
        let policy = self.pools[pool].key.settings.read_policy;
        match self.connection_by(pool, target, access, policy) {
            Err(Failure::Upstream) if access == Access::Read && policy != ReadPolicy::Master => {
                self.another_for_read(pool, target, policy)
            }
            found => found,
        }
    }

    /// The host that was drawn for a read cannot be reached: another draw, and at last the primary, unless the policy
    /// wants replicas only. The dead host is tried in the background all the same.
    #[cold]
    fn another_for_read(&mut self, pool: usize, target: Target, policy: ReadPolicy) -> Result<u32, Failure> {
        for _ in 0..DRAWS {
            let drawn = self.connection_by(pool, target, Access::Read, policy);
            if drawn != Err(Failure::Upstream) {
                return drawn;
            }
        }
        match policy {
            ReadPolicy::Replica => Err(Failure::Upstream),
            _ => self.connection_by(pool, target, Access::Primary, policy),
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
        let random = self.random.u64(..);
        let entry = &mut self.pools[pool];
        let Some(live) = &mut entry.live else {
            return Err(Failure::NoHost);
        };
        let host = live.pick(target, access, policy, &self.context.zone, random)?;
        if entry.key.settings.op_timeout.is_zero() {
            live.stats.inc(cluster::UPSTREAM_RQ_TIMEOUT);
            return Err(Failure::Upstream);
        }
        let Some(link) = live.links.get(host) else {
            return Err(Failure::NoHost);
        };
        match link.connection {
            Some(open) if self.connections[open as usize].state != State::Probing => Ok(open),
            Some(_) => Err(Failure::Upstream),
            None => self.open(pool, host),
        }
    }

    /// Takes over the cluster's latest topology.
    #[inline]
    pub(crate) fn refresh_pool(&mut self, pool: usize) {
        if let Some(live) = &mut self.pools[pool].live {
            let gone = live.refresh();
            if !gone.is_empty() {
                self.drain_connections(&gone);
            }
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
    pub(crate) fn connect(&mut self, pool: usize, host: Arc<Host>, probe: bool) -> Result<u32, Failure> {
        let entry = &self.pools[pool];
        let Some(live) = &entry.live else {
            return Err(Failure::NoHost);
        };
        let readonly = entry.key.settings.read_policy != ReadPolicy::Master;
        let cluster = live.cluster.clone();
        let mut connection = Connection::new(pool, cluster.clone(), host.clone(), self.now);
        if probe {
            connection.state = State::Probing;
        }
        let id = self.connections.insert(connection) as u32;
        self.authenticate(id, &cluster);
        if readonly {
            self.setup(id, Purpose::Setup, &[b"readonly"]);
        }
        if probe {
            self.setup(id, Purpose::Probe, &[b"PING"]);
        }
        self.actions
            .push(Action::Connect(crate::ConnId(id), cluster, host));
        Ok(id)
    }

    fn authenticate(&mut self, id: u32, cluster: &redplane_upstream::Cluster) {
        let auth = &cluster.config().redis_auth;
        let own = self.connections[id as usize]
            .host
            .address
            .ip()
            .and_then(|address| {
                auth.hosts
                    .iter()
                    .find(|(host, ..)| *host == address)
                    .map(|(_, user, password)| (user, password))
            });
        let (user, password) = own.unwrap_or((&auth.username, &auth.password));
        let user = if user.is_empty() { "default" } else { user };
        if self.pools[self.connections[id as usize].pool].key.protocol == Protocol::Resp3 {
            return match password.is_empty() {
                true => self.setup(id, Purpose::Hello, &[b"HELLO", b"3"]),
                false => {
                    let args: [&[u8]; 5] = [b"HELLO", b"3", b"AUTH", user.as_bytes(), password];
                    self.setup(id, Purpose::Hello, &args);
                }
            };
        }
        match (user == "default", password.is_empty()) {
            (_, true) => {}
            (true, false) => self.setup(id, Purpose::Auth, &[b"auth", password]),
            (false, false) => self.setup(id, Purpose::Auth, &[b"auth", user.as_bytes(), password]),
        }
    }

    /// A command that no client asked for.
    pub(crate) fn setup(&mut self, id: u32, purpose: Purpose, args: &[&[u8]]) {
        let mut frame = self.buffers.take_empty();
        encode::request(&mut frame, args);
        let nobody = Waiter {
            client: u32::MAX,
            generation: 0,
            sequence: 0,
            part: 0,
        };
        let command = redplane_command::lookup(args[0]).map_or(CommandId(0), |command| command.id);
        self.send(
            id,
            Sending {
                waiter: nobody,
                command,
                purpose,
            },
            Payload::Copied(&frame),
        );
        self.buffers.give(frame);
    }

    /// Puts a request into a connection's output and notes who waits.
    #[inline]
    pub(crate) fn send(&mut self, id: u32, sending: Sending, payload: Payload<'_>) {
        let at = self.begin_send(id);
        let connection = &mut self.connections[id as usize];
        match payload {
            Payload::Copied(bytes) => connection.out.append(bytes),
            Payload::Shared(bytes) => connection.out.append_shared(bytes),
        }
        self.end_send(id, sending, at);
    }

    /// Before bytes are appended to a connection's output.
    #[inline]
    pub(crate) fn begin_send(&mut self, id: u32) -> u64 {
        let connection = &mut self.connections[id as usize];
        connection.out.lend(|| self.buffers.take_large_empty());
        if connection.out.unwritten() == 0 {
            connection.held_since = self.now;
        }
        connection.out.end()
    }

    /// After they were: what stands from `at` to the end is one request.
    #[inline]
    pub(crate) fn end_send(&mut self, id: u32, sending: Sending, at: u64) {
        let len = (self.connections[id as usize].out.end() - at) as u32;
        self.note_sent(
            id,
            Pending {
                waiter: sending.waiter,
                since: self.now,
                at,
                len,
                command: sending.command,
                purpose: sending.purpose,
                hops: 0,
            },
        );
    }

    /// A request stands in the output and waits.
    #[inline]
    pub(crate) fn note_sent(&mut self, id: u32, pending: Pending) {
        let connection = &mut self.connections[id as usize];
        connection.pending.push_back(pending);
        connection.requests += 1;
        self.in_flight += 1;
        if let Some(live) = &mut self.pools[connection.pool].live {
            live.stats.inc(cluster::UPSTREAM_RQ_TOTAL);
            live.stats.inc(cluster::UPSTREAM_RQ_ACTIVE);
            if let Some(commands) = live.commands.as_mut().filter(|_| counts_upstream(pending)) {
                commands.row(pending.command).inc(upstream_command::TOTAL);
            }
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty_connections.push(id);
        }
    }

    /// Stops reading from a client that sends to a connection on which too much waits already.
    #[inline]
    pub(crate) fn choke(&mut self, id: u32, key: usize) {
        let connection = &mut self.connections[id as usize];
        if connection.out.held() > MAX_HELD {
            let client = &mut self.clients[key];
            client.paused = true;
            let choked = (key as u32, client.generation);
            if connection.choked.last() != Some(&choked) {
                connection.choked.push(choked);
            }
        }
    }

    /// Sends a copy to each mirror that wants it. A mirror that is slow, full or gone costs the client nothing.
    pub(crate) fn mirror(&mut self, route: &Rc<RouteTo>, served: Served, name: &[u8], request: &Request<'_>) {
        for mirror in route.mirrors.iter() {
            if mirror.writes_only && !is_mirrored_write(served) || !self.chance(mirror.parts_per_million) {
                continue;
            }
            match self.connection_for_key(mirror.pool, name, Access::Primary) {
                Ok(connection) => self.send_mirrored(mirror.pool, connection, served.id(), payload(request)),
                Err(_) => self.count_lost_mirror(mirror.pool),
            }
        }
    }

    /// One copy; dropped and counted when too much waits there already.
    pub(crate) fn send_mirrored(
        &mut self,
        pool: usize,
        connection: u32,
        command: CommandId,
        payload: Payload<'_>,
    ) {
        if self.is_full_mirror(connection) {
            return self.count_lost_mirror(pool);
        }
        let waiter = Waiter {
            client: u32::MAX,
            generation: 0,
            sequence: 0,
            part: 0,
        };
        self.send(
            connection,
            Sending {
                waiter,
                command,
                purpose: Purpose::Mirror,
            },
            payload,
        );
    }

    /// Whether so much waits there already that copies are dropped.
    pub(crate) fn is_full_mirror(&self, connection: u32) -> bool {
        self.connections[connection as usize].out.held() > MAX_MIRROR_HELD
    }

    pub(crate) fn count_lost_mirror(&self, pool: usize) {
        if let Some(live) = &self.pools[pool].live {
            live.stats.inc(cluster::UPSTREAM_RQ_PENDING_OVERFLOW);
        }
    }

    /// True for so many parts of a million.
    pub(crate) fn chance(&mut self, parts_per_million: u32) -> bool {
        parts_per_million >= 1_000_000 || self.random.u32(..1_000_000) < parts_per_million
    }

    /// The key as it is forwarded.
    pub(crate) fn rename(&self, key: usize, route: &RouteTo, name: &[u8]) -> Vec<u8> {
        let cut = if route.remove_prefix {
            route.prefix.len().min(name.len())
        } else {
            0
        };
        let name = &name[cut..];
        let Some(formatter) = &route.formatter else {
            return name.to_vec();
        };
        let renamed = self.format_key(key, formatter, name);
        if renamed.is_empty() {
            name.to_vec()
        } else {
            renamed
        }
    }

    fn format_key(&self, key: usize, formatter: &KeyFormatter, name: &[u8]) -> Vec<u8> {
        let session = &self.clients[key].session;
        let mut renamed = Vec::new();
        for piece in &formatter.0 {
            let text = match piece {
                KeyPiece::Literal(text) => {
                    renamed.extend_from_slice(text);
                    continue;
                }
                KeyPiece::Key => {
                    renamed.extend_from_slice(name);
                    continue;
                }
                KeyPiece::RemoteAddress => session.remote.map(|a| a.to_string()),
                KeyPiece::RemoteAddressWithoutPort => session.remote.map(|a| a.ip().to_string()),
                KeyPiece::LocalAddress => session.local.map(|a| a.to_string()),
                KeyPiece::LocalAddressWithoutPort => session.local.map(|a| a.ip().to_string()),
                KeyPiece::LocalPort => session.local.map(|a| a.port().to_string()),
            };
            renamed.extend_from_slice(text.as_deref().unwrap_or("-").as_bytes());
        }
        renamed
    }

    /// Whether a key's cluster spreads keys by slot, so that keys in several slots cannot be served as one.
    pub(crate) fn is_cluster(&self, key: usize, name: &[u8]) -> bool {
        let route = self.filters[self.clients[key].filter].route(name);
        let live = route.and_then(|route| self.pools[route.pool].live.as_ref());
        live.is_some_and(Live::is_redis)
    }
}

/// The bytes of a request, shared where they are many.
#[inline]
pub(crate) fn payload<'a>(request: &Request<'a>) -> Payload<'a> {
    match request.large() {
        Some(shared) => Payload::Shared(shared),
        None => Payload::Copied(request.frame),
    }
}

/// Whom the read policy may choose from for a command.
#[inline]
pub(crate) fn access_of(command: &Command) -> Access {
    if command.may_use_replica() {
        Access::Read
    } else {
        Access::Primary
    }
}

/// Whether a command changes something, so that a mirror of writes wants it.
fn is_mirrored_write(served: Served) -> bool {
    match served {
        Served::Known(command) => {
            command.is_write() || command.flags.contains(Flags::MAY_REPLICATE) && !command.is_read()
        }
        Served::Custom(_) => true,
    }
}

/// Envoy counts what clients sent, by its verb, and nothing that it sends itself.
#[inline]
pub(crate) fn counts_upstream(pending: Pending) -> bool {
    matches!(
        pending.purpose,
        Purpose::Reply | Purpose::Mirror | Purpose::Pinned | Purpose::Exec
    ) && pending.command.index() < redplane_command::all().len()
}
