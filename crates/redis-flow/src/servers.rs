//! Which servers a command for all of them visits: those of all routes' clusters, each once.
//!
//! Envoy sends such commands to the catch-all's cluster alone. To a client the routes' clusters are one Redis, so that
//! KEYS must see and FLUSHALL must empty what any route leads to.

use redplane_command::{Command, ReplyPolicy, RequestPolicy};
use redplane_config::redis_proxy::ReadPolicy;
use redplane_redis_core::pool::{Access, Target};
use redplane_upstream::{HostAddress, Role};
use rustc_hash::FxHashSet;

use crate::core::Core;

/// A server to be visited.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Which of [`Core::pools_of_all_routes`] has it.
    pub cluster: usize,
    pub(crate) pool: usize,
    /// [`Target::Any`] where its cluster has no host at present.
    pub target: Target,
}

impl Core {
    /// The pools of a command without keys, one for each cluster of the routes; the catch-all's first.
    pub fn pools_of_all_routes(&self, key: usize, command: &Command) -> Vec<usize> {
        self.filters[self.clients[key].filter].pools_for(command.is_read())
    }

    /// The servers of all routes' clusters. One that several clusters know is visited once. A cluster that does not
    /// exist holds nothing; one that has no host at present may, and must not be left out in silence.
    pub fn servers_of_all_routes(&self, key: usize, command: &Command) -> Vec<Server> {
        let pools = self.pools_of_all_routes(key, command);
        let mut visited = FxHashSet::default();
        let mut servers = Vec::new();
        for (cluster, pool) in pools.into_iter().enumerate() {
            for target in self.targets(pool, command) {
                let address = self.address_of(pool, target);
                if address.is_none_or(|address| visited.insert(address)) {
                    servers.push(Server {
                        cluster,
                        pool,
                        target,
                    });
                }
            }
        }
        servers
    }

    /// The mirrors of all routes that want a command, each once, and none that is visited anyway.
    pub(super) fn mirrors_of_all_routes(
        &self,
        key: usize,
        command: &Command,
        servers: &[Server],
    ) -> Vec<usize> {
        let filter = &self.filters[self.clients[key].filter];
        let mut pools = Vec::new();
        for mirror in filter.routes().flat_map(|route| route.mirrors.iter()) {
            let wanted = command.is_write() || !mirror.writes_only;
            let visited = servers.iter().any(|server| server.pool == mirror.pool);
            if wanted && !visited && !pools.contains(&mirror.pool) {
                pools.push(mirror.pool);
            }
        }
        pools
    }

    /// The places of one cluster that a command visits.
    pub(super) fn targets(&self, pool: usize, command: &Command) -> Vec<Target> {
        let Some(live) = &self.pools[pool].live else {
            return Vec::new();
        };
        let targets: Vec<Target> = match command.request {
            RequestPolicy::AllNodes if live.is_redis() || live.is_replicated() => {
                // What all must obey need not wait for a replica that is known to be dead: it will begin anew.
                let lenient = command.reply == ReplyPolicy::AllSucceeded;
                let counts = |host: &usize| {
                    let dead = live.links.get(*host).is_some_and(|link| link.failing);
                    !(lenient && dead && live.topology.role(*host) == Some(Role::Replica))
                };
                (0..live.topology.hosts.len())
                    .filter(counts)
                    .map(Target::Host)
                    .collect()
            }
            _ => (0..live.topology.shard_count()).map(Target::Shard).collect(),
        };
        match targets.is_empty() {
            true => vec![Target::Any],
            false => targets,
        }
    }

    /// The address of a target's host or primary, if it has one.
    pub(super) fn address_of(&self, pool: usize, target: Target) -> Option<&HostAddress> {
        let live = self.pools[pool].live.as_ref()?;
        let at = live
            .pick(target, Access::Primary, ReadPolicy::Master, "", 0)
            .ok()?;
        Some(&live.topology.hosts.get(at)?.address)
    }
}
