//! BCAST: clients that hear of all keys with certain beginnings, whether they read them or not.
//!
//! Every primary is listened to for as long as anybody wants to hear. The servers tell of all keys, and what concerns
//! whom is found out here: prefixes come and go with clients, and a server forgets one only with all the others. Redis
//! writes one push for each prefix of a client, in their order.

use bytes::Bytes;
use redplane_config::redis_proxy::ReadPolicy;
use redplane_redis_core::pool::Tracking;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::notice::Notice;
use redplane_upstream::Role;

use crate::ask::open_primaries;
use crate::deliver::reads_through;
use crate::{Mode, TrackingState};

/// Whether a push comes from a replica that nobody reads from: its primary tells the same.
fn is_echo(core: &Core, key: usize) -> bool {
    let connection = &core.connections[key];
    let entry = &core.pools[connection.pool];
    let Some(live) = entry
        .live
        .as_ref()
        .filter(|_| entry.key.settings.read_policy == ReadPolicy::Master)
    else {
        return false;
    };
    let mut hosts = live.topology.hosts.iter();
    let at = hosts.position(|host| host.id == connection.server.host.id);
    at.and_then(|at| live.topology.role(at)) == Some(Role::Replica)
}

impl TrackingState {
    /// A server tells of keys that have changed.
    pub(super) fn broadcast(&mut self, core: &mut Core, key: usize, via: u32, notice: &Notice) {
        if is_echo(core, key) {
            return;
        }
        let pool = core.connections[key].pool;
        for client in self.broadcast.clone() {
            if !self.listens_on(core, client as usize, pool) {
                continue;
            }
            match notice {
                Notice::All => self.tell_all(core, client as usize),
                Notice::Keys(keys) => self.tell_prefixed(core, client, via, keys),
            }
        }
    }

    fn tell_prefixed(&mut self, core: &mut Core, client: u32, via: u32, keys: &[Bytes]) {
        let Some(entry) = core.clients.get(client as usize) else {
            return;
        };
        let behind = entry.last_answered();
        let own = self.trackers.get(client as usize);
        let mode = own.map(|tracker| tracker.mode.clone());
        let Some(Mode::Broadcast(prefixes)) = mode else {
            return;
        };
        for prefix in prefixes {
            let concerned = keys.iter().filter(|name| name.starts_with(&prefix));
            let told: Vec<Bytes> = concerned
                .filter(|name| !self.is_own_write(core, via, client, name))
                .cloned()
                .collect();
            if !told.is_empty() {
                self.tell(core, client as usize, behind, &Notice::Keys(told));
            }
        }
    }

    /// Whether a client hears through a pool.
    fn listens_on(&self, core: &Core, key: usize, pool: usize) -> bool {
        let own = self.trackers.get(key);
        match own.map(|tracker| &tracker.pools).filter(|held| !held.is_empty()) {
            Some(held) => held.contains(&pool),
            None => reads_through(core, key, pool),
        }
    }

    /// Looks for primaries that are not listened to.
    pub(super) fn tend_broadcasts(&self, core: &mut Core) {
        if self.broadcast.is_empty() {
            return;
        }
        let listens = |pool: &redplane_redis_core::pool::Pool| pool.users > 0;
        let pools: Vec<usize> = core
            .pools
            .iter()
            .filter(|(_, pool)| pool.key.greeting.tracking == Tracking::Broadcast && listens(pool))
            .map(|(pool, _)| pool)
            .collect();
        for pool in pools {
            open_primaries(core, pool);
        }
    }

    /// Clients that listen through a pool may have missed something; those whose CLIENT TRACKING is not answered yet
    /// have nothing that could be outdated.
    pub(super) fn empty_listeners(&mut self, core: &mut Core, pool: usize) {
        for client in self.broadcast.clone() {
            let joins = self.joining.contains_key(&client);
            if !joins && self.listens_on(core, client as usize, pool) {
                self.tell_all(core, client as usize);
            }
        }
    }
}
