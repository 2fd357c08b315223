//! Servers that are to stop for a while, as CLIENT PAUSE asks: when everything sent before is answered, and which of them may
//! be told.
//!
//! A server that pauses writes stops a connection at the first one, with all that others have sent behind it. So it is told
//! only when nothing of its clients is on the way any more, and when nobody but they goes there through this process.

use redplane_config::listener::Terminal;
use redplane_config::redis_proxy::RedisProxy;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::connection::Carries;
use redplane_redis_core::filter::{ChainName, Filter};
use redplane_redis_core::pending::Purpose;

use crate::core::Core;
use crate::send::{Payload, Sending};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

impl Core {
    /// Puts a PING with this ticket behind all that clients of a chain have on its way to servers; says how many.
    pub fn fence_chain(&mut self, chain: &ChainName, ticket: u32) -> usize {
        let own = self.filters.iter().map(|(_, filter)| filter);
        let pools: Vec<usize> = own
            .filter(|filter| filter.is_of(chain))
            .flat_map(Filter::pools)
            .collect();
        let mut busy = Vec::new();
        for (key, connection) in self.connections.iter() {
            let front = connection.pending.front();
            // One that blocks is answered when it is; servers let it wait on.
            let waits = front.is_some_and(|pending| pending.purpose != Purpose::Block);
            if waits
                && !matches!(connection.carries, Carries::Subscriptions(_))
                && pools.contains(&connection.pool)
            {
                busy.push(key as u32);
            }
        }
        let command =
            redplane_command::lookup(b"PING").map_or(redplane_command::CommandId(0), |ping| ping.id);
        for connection in &busy {
            let sending = Sending {
                waiter: Waiter {
                    sequence: ticket,
                    ..Waiter::NOBODY
                },
                command,
                purpose: Purpose::Quiet,
            };
            self.send(*connection, sending, Payload::Copied(PING));
        }
        busy.len()
    }

    /// Whether no other chain of this process leads to the clusters of this one.
    pub fn has_clusters_alone(&self, chain: &ChainName) -> bool {
        let snapshot = &self.shared.snapshot;
        let Some(own) = snapshot
            .listener(&chain.listener)
            .and_then(|own| own.chain(&chain.chain))
        else {
            return false;
        };
        let Some(proxy) = own.redis() else {
            return false;
        };
        let own_clusters: Vec<&str> = clusters(proxy).collect();
        let mut others = snapshot
            .listeners()
            .flat_map(|listener| listener.chains.iter().chain(&listener.default))
            .filter(|other| !std::sync::Arc::ptr_eq(other, own));
        !others.any(|other| match &other.config.terminal {
            Terminal::Redis(proxy) => clusters(proxy).any(|cluster| own_clusters.contains(&cluster)),
            // Whoever comes past the engine has a connection of its own, as at the server itself.
            _ => false,
        })
    }

    /// Tells the primaries that a client's commands without keys would visit: a setting of the server, whose answer says
    /// nothing to anybody.
    pub fn tell_primaries(&mut self, key: usize, command: &redplane_command::Command, words: &[&[u8]]) {
        for server in self.servers_of_all_routes(key, command) {
            let access = redplane_redis_core::pool::Access::Primary;
            if let Ok(connection) = self.connection_for(server.pool, server.target, access) {
                self.setup(connection, Purpose::Setup, words);
            }
        }
    }
}

/// Every cluster that a filter sends to, mirrors among them.
fn clusters(proxy: &RedisProxy) -> impl Iterator<Item = &str> {
    let routes = proxy.routes.prefixes.iter().chain(&proxy.routes.catch_all);
    routes.flat_map(|route| {
        let mirrors = route.mirrors.iter().map(|mirror| &mirror.cluster);
        let own = std::iter::once(&route.cluster).chain(&route.read_cluster);
        own.chain(mirrors).map(String::as_str)
    })
}
