//! Looking after connections with tracking: what a server may not be able to tell any more is told here.
//!
//! A lost connection takes along what its server remembered for it: whoever read through it drops everything. A key
//! whose slot (or place on the ring) is another host's now is told as changed, since writes go there. Connections that
//! are silent for long are asked whether they live, for nothing would tell of a push that never comes.

use std::time::Duration;

use redplane_config::redis_proxy::Settings;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Tracking;
use crate::engine::Engine;
use redplane_redis_core::client::ClientId;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::connection::{Carries, Connection};
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::{Live, Target};

/// How often topologies and connections are looked at while anybody tracks.
const LOOK: Duration = Duration::from_millis(100);
/// Silence after which a connection is asked whether it lives, in microseconds.
const SILENCE: u64 = 10_000_000;

impl Engine {
    /// When [`Self::tick_tracking`] has something to do.
    pub(crate) fn next_tracking_tick(&self) -> Option<Duration> {
        (self.tracking.clients > 0).then_some(LOOK)
    }

    /// What is due by time.
    pub(crate) fn tick_tracking(&mut self) {
        if self.tracking.clients == 0 || self.now < self.tracking.looked + LOOK.as_micros() as u64 {
            return;
        }
        self.tracking.looked = self.now;
        self.tend_broadcasts();
        let now = self.now;
        let silent = |id: &u32| {
            let connection = self.connections.get(*id as usize);
            connection.is_some_and(|connection| connection.life.connected && connection.is_idle())
        };
        let heard = self.tracking.heard.iter();
        let asked: Vec<u32> = heard
            .filter(|(_, heard)| now.saturating_sub(**heard) >= SILENCE)
            .map(|(id, _)| *id)
            .filter(silent)
            .collect();
        for id in asked {
            self.tracking.heard.insert(id, now);
            self.setup(id, Purpose::Setup, &[b"PING"]);
        }
    }

    /// A server tells from now on.
    pub(crate) fn tracking_granted(&mut self, key: usize) {
        let connection = &self.connections[key];
        if connection.carries != Carries::Invalidations {
            return;
        }
        let pool = connection.pool;
        self.tracking.heard.insert(key as u32, self.now);
        if self.pools[pool].key.greeting.tracking == Tracking::Broadcast {
            self.empty_listeners(pool);
        }
    }

    /// A connection is gone, and with it what its server remembered.
    #[cold]
    pub(crate) fn tracking_lost(&mut self, id: u32, connection: &Connection) {
        self.tracking.heard.remove(&id);
        self.tracking.own.retain(|own| own.connection != id);
        let broadcasts = self.pools[connection.pool].key.greeting.tracking == Tracking::Broadcast;
        // A feed's pool may go with it.
        self.part_relay(id);
        let read = self.tracking.table.take_all(|_, reader| reader.via == id);
        let readers: FxHashSet<(u32, u32)> = read
            .into_iter()
            .map(|(_, reader)| (reader.client, reader.generation))
            .collect();
        for (client, generation) in readers {
            if self.clients.known(client, generation).is_some() {
                self.tell_all(client as usize);
            }
        }
        let granted = connection.flush.greeting.is_none();
        if granted && broadcasts {
            self.empty_listeners(connection.pool);
        }
    }

    /// These filters are other ones: what their clients have read may be found elsewhere by now. Where names of keys are
    /// changed from now on, clients that track have to come again, and hear that this is not offered.
    pub(crate) fn adopt_tracking(&mut self, filters: &[usize]) {
        if self.tracking.clients == 0 {
            return;
        }
        let concerned: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| client.features.has(Feature::Tracking) && filters.contains(&client.filter))
            .map(|(key, _)| key)
            .collect();
        for key in concerned {
            match self.filters[self.clients[key].filter].keeps_keys() {
                true => self.tell_all(key),
                false => self.close_client(ClientId(key as u32)),
            }
        }
    }

    /// A pool's topology has changed: keys that other hosts answer for by now are told as changed.
    #[cold]
    pub(crate) fn tracking_moved(&mut self, pool: usize) {
        if self.tracking.table.keys() == 0 {
            return;
        }
        let entry = &self.pools[pool];
        let Some(live) = &entry.live else {
            return;
        };
        let hosts = live.topology.hosts.iter().enumerate();
        let places: FxHashMap<u64, usize> = hosts.map(|(at, host)| (host.id, at)).collect();
        let connections = &self.connections;
        let moved = self.tracking.table.take_all(|name, reader| {
            let Some(connection) = connections.get(reader.via as usize) else {
                return true;
            };
            let at = places.get(&connection.server.host.id).copied();
            connection.pool == pool && !at.is_some_and(|at| answers_for(live, &entry.key.settings, at, name))
        });
        for (name, reader) in moved {
            self.tell_readers(&name, &[reader]);
        }
    }
}

/// Whether a host is where a key is, or a replica of that.
fn answers_for(live: &Live, settings: &Settings, host: usize, name: &[u8]) -> bool {
    let topology = &live.topology;
    let shard = match live.target(name, settings) {
        Target::Slot(slot) => topology.slots().and_then(|slots| slots.shard_of(slot)),
        Target::Hash(hash) => return topology.by_hash(hash, hash) == Some(host),
        _ => Some(0),
    };
    let shard = shard.and_then(|shard| topology.shards().get(shard));
    shard.is_some_and(|shard| shard.role(host).is_some())
}
