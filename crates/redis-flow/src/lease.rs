//! Leased connections: a client's own for a while, where a shared one would not do.
//!
//! WATCH needs one because the server guards what a connection watched; a blocking command because it would hold up
//! everybody behind it. They are opened as all others are (login, HELLO 3, READONLY), and what blocked goes back to a
//! small set of its host, for the next one. There are at most `max_connections` of the cluster's circuit breaker for
//! each host and worker, since each of them costs its server a client.

use std::net::SocketAddr;
use std::sync::Arc;

use redplane_config::redis_proxy::ReadPolicy;
use redplane_merge::Failure;
use redplane_redis_core::connection::{ConnId, Connection};
use redplane_redis_core::pool::{Access, Target};
use redplane_telemetry::stats::{cluster, redis_cluster};
use redplane_upstream::Host;

use crate::action::{Action, Gone};
use crate::core::Core;

/// Idle ones that are kept for each host.
const KEPT: usize = 32;

impl Core {
    /// Leases a connection to the host of a target.
    pub fn lease(
        &mut self,
        pool: usize,
        target: Target,
        access: Access,
        client: usize,
    ) -> Result<u32, Failure> {
        let policy = self.pools[pool].key.settings.read_policy;
        if access == Access::Primary || policy == ReadPolicy::Master {
            return self.lease_drawn(pool, target, Access::Primary, client);
        }
        self.draw_for_read(policy, |engine, access| {
            engine.lease_drawn(pool, target, access, client)
        })
    }

    fn lease_drawn(
        &mut self,
        pool: usize,
        target: Target,
        access: Access,
        client: usize,
    ) -> Result<u32, Failure> {
        let random = self.shared.random.u64(..);
        let entry = &self.pools[pool];
        let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
        let settings = &entry.key.settings;
        let at = live.pick(target, access, settings.read_policy, &self.shared.zone, random)?;
        if settings.op_timeout.is_zero() {
            live.stats.inc(cluster::UPSTREAM_RQ_TIMEOUT);
            return Err(Failure::Upstream);
        }
        self.lease_host(pool, at, client)
    }

    /// Leases a connection to this host of the topology.
    pub fn lease_host(&mut self, pool: usize, at: usize, client: usize) -> Result<u32, Failure> {
        let now = self.now;
        let rate = self.pools[pool].key.settings.connection_rate_limit;
        let live = self.pools[pool].live.as_mut().ok_or(Failure::NoHost)?;
        let (Some(host), Some(link)) = (live.topology.hosts.get(at).cloned(), live.links.get_mut(at)) else {
            return Err(Failure::NoHost);
        };
        if link.failing {
            // It has to prove itself on the shared connection first.
            return match link.connection {
                Some(_) => Err(Failure::Upstream),
                None => self.open(pool, at).and(Err(Failure::Upstream)),
            };
        }
        if let Some(idle) = live.leases.0.get_mut(&host.id).and_then(|own| own.idle.pop()) {
            return Ok(self.give_lease(idle, client));
        }
        if !link.may_connect(rate, now) {
            live.redis_stats.inc(redis_cluster::CONNECTION_RATE_LIMITED);
            return Err(Failure::NoHost);
        }
        self.open_lease(pool, host, client)
    }

    /// Leases a connection to the target of a redirection, which may be a host that the topology does not know.
    pub fn lease_at(
        &mut self,
        pool: usize,
        address: SocketAddr,
        name: &str,
        client: usize,
    ) -> Result<u32, Failure> {
        let limit = self.pools[pool].key.settings.max_upstream_unknown_connections as usize;
        let live = self.pools[pool].live.as_mut().ok_or(Failure::NoHost)?;
        if let Some(at) = live.topology.host_by_address(address) {
            return self.lease_host(pool, at, client);
        }
        if !live.strangers.contains_key(&address) && live.strangers.len() >= limit {
            live.redis_stats
                .inc(redis_cluster::MAX_UPSTREAM_UNKNOWN_CONNECTIONS_REACHED);
            return Err(Failure::Upstream);
        }
        let cluster = live.cluster.clone();
        let stranger = live.strangers.entry(address);
        let (host, _) = stranger.or_insert_with(|| (cluster.stranger(address, name), Default::default()));
        let host = host.clone();
        self.open_lease(pool, host, client)
    }

    fn open_lease(&mut self, pool: usize, host: Arc<Host>, client: usize) -> Result<u32, Failure> {
        let live = self.pools[pool].live.as_mut().ok_or(Failure::NoHost)?;
        let open = live.leases.0.get(&host.id).map_or(0, |own| own.open);
        if open >= live.cluster.config().max_connections {
            live.stats.inc(cluster::UPSTREAM_CX_OVERFLOW);
            return Err(Failure::TooManyLeases);
        }
        let host_id = host.id;
        let id = self.connect(pool, host, false)?;
        if let Some(live) = &mut self.pools[pool].live {
            live.leases.0.entry(host_id).or_default().open += 1;
        }
        self.connections[id as usize].lease.exclusive = true;
        Ok(self.give_lease(id, client))
    }

    fn give_lease(&mut self, id: u32, client: usize) -> u32 {
        self.connections[id as usize].lease.holder = Some((client as u32, self.clients[client].generation));
        id
    }

    /// A lease ends with its last reply: the connection is kept for the next one, unless there are enough of them or
    /// its host is one no more.
    pub fn return_lease(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(id as usize) else {
            return;
        };
        connection.lease.holder = None;
        let keeps = connection.is_idle() && !connection.life.draining;
        let live = self.pools[connection.pool].live.as_mut();
        let same = live.filter(|live| keeps && Arc::ptr_eq(&live.cluster, &connection.server.cluster));
        let own = same.filter(|live| live.knows(connection.server.host.id));
        let own = own.and_then(|live| live.leases.0.get_mut(&connection.server.host.id));
        match own.filter(|own| own.idle.len() < KEPT) {
            Some(own) => own.idle.push(id),
            None => self.end_lease(Some(id)),
        }
    }

    /// Gives a leased connection up for good. Replies still to come on it are waited for first.
    pub fn end_lease(&mut self, lease: Option<u32>) {
        let Some(id) = lease else {
            return;
        };
        let Some(connection) = self.connections.get_mut(id as usize) else {
            return;
        };
        connection.lease.holder = None;
        connection.life.draining = true;
        if connection.is_idle() {
            self.break_lease(id);
        }
    }

    /// Closes a leased connection at once, whatever it waits for: nobody is left to whom it could matter.
    pub fn break_lease(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(id as usize) else {
            return;
        };
        connection.lease.holder = None;
        self.out.actions.push(Action::CloseUpstream(ConnId(id)));
        self.lose(ConnId(id), Gone::Local);
    }

    /// A leased connection is gone: its place among its host's is free.
    pub(crate) fn forget_lease(&mut self, id: u32, connection: &Connection) {
        let live = self.pools[connection.pool].live.as_mut();
        if let Some(live) = live.filter(|live| Arc::ptr_eq(&live.cluster, &connection.server.cluster)) {
            live.leases.forget(connection.server.host.id, id);
        }
    }
}
