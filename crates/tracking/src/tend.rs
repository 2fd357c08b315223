//! Looking after connections with tracking: what a server may not be able to tell any more is told here.
//!
//! A lost connection takes along what its server remembered for it: whoever read through it drops everything. A key
//! whose slot (or place on the ring) is another host's now is told as changed, since writes go there. Connections that
//! are silent for long are asked whether they live, for nothing would tell of a push that never comes.

use std::time::Duration;

use redplane_config::redis_proxy::Settings;
use redplane_redis_core::client::ClientId;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::connection::{Carries, Connection};
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::{Live, Target, Tracking};
use redplane_redis_flow::core::Core;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::TrackingState;

/// How often topologies and connections are looked at while anybody tracks.
const LOOK: Duration = Duration::from_millis(100);

/// Silence after which a connection is asked whether it lives, in microseconds.
const SILENCE: u64 = 10_000_000;

impl TrackingState {
    /// When [`Self::tick_tracking`] has something to do.
    pub fn next_tracking_tick(&self) -> Option<Duration> {
        (self.clients > 0).then_some(LOOK)
    }

    /// What is due by time.
    pub fn tick_tracking(&mut self, core: &mut Core) {
        if self.clients == 0 || core.now < self.looked + LOOK.as_micros() as u64 {
            return;
        }
        self.looked = core.now;
        self.tend_broadcasts(core);
        let now = core.now;
        let silent = |id: &u32| {
            let connection = core.connections.get(*id as usize);
            connection.is_some_and(|connection| connection.life.connected && connection.is_idle())
        };
        let heard = self.heard.iter();
        let asked: Vec<u32> = heard
            .filter(|(_, heard)| now.saturating_sub(**heard) >= SILENCE)
            .map(|(id, _)| *id)
            .filter(silent)
            .collect();
        for id in asked {
            self.heard.insert(id, now);
            core.setup(id, Purpose::Setup, &[b"PING"]);
        }
    }

    /// A server tells from now on.
    pub(crate) fn tracking_granted(&mut self, core: &mut Core, key: usize) {
        let connection = &core.connections[key];
        if connection.carries != Carries::Invalidations {
            return;
        }
        let pool = connection.pool;
        self.heard.insert(key as u32, core.now);
        if core.pools[pool].key.greeting.tracking == Tracking::Broadcast {
            self.empty_listeners(core, pool);
        }
    }

    /// A connection is gone, and with it what its server remembered.
    #[cold]
    pub fn tracking_lost(&mut self, core: &mut Core, id: u32, connection: &Connection) {
        self.heard.remove(&id);
        self.own.retain(|own| own.connection != id);
        let broadcasts = core.pools[connection.pool].key.greeting.tracking == Tracking::Broadcast;
        // A feed's pool may go with it.
        self.part_relay(core, id);
        let read = self.table.take_all(|_, reader| reader.via == id);
        let readers: FxHashSet<(u32, u32)> = read
            .into_iter()
            .map(|(_, reader)| (reader.client, reader.generation))
            .collect();
        for (client, generation) in readers {
            if core.clients.known(client, generation).is_some() {
                self.tell_all(core, client as usize);
            }
        }
        let granted = connection.flush.greeting.is_none();
        if granted && broadcasts {
            self.empty_listeners(core, connection.pool);
        }
    }

    /// These filters are other ones: what their clients have read may be found elsewhere by now. Where names of keys are
    /// changed from now on, clients that track have to come again, and hear that this is not offered.
    pub fn adopt_tracking(&mut self, core: &mut Core, filters: &[usize]) {
        if self.clients == 0 {
            return;
        }
        let concerned: Vec<usize> = core
            .clients
            .iter()
            .filter(|(_, client)| client.features.has(Feature::Tracking) && filters.contains(&client.filter))
            .map(|(key, _)| key)
            .collect();
        for key in concerned {
            match core.filters[core.clients[key].filter].keeps_keys() {
                true => self.tell_all(core, key),
                false => core.close_client(ClientId(key as u32)),
            }
        }
    }

    /// A pool's topology has changed: keys that other hosts answer for by now are told as changed.
    #[cold]
    pub fn tracking_moved(&mut self, core: &mut Core, pool: usize) {
        if self.table.keys() == 0 {
            return;
        }
        let entry = &core.pools[pool];
        let Some(live) = &entry.live else {
            return;
        };
        let hosts = live.topology.hosts.iter().enumerate();
        let places: FxHashMap<u64, usize> = hosts.map(|(at, host)| (host.id, at)).collect();
        let connections = &core.connections;
        let moved = self.table.take_all(|name, reader| {
            let Some(connection) = connections.get(reader.via as usize) else {
                return true;
            };
            let at = places.get(&connection.server.host.id).copied();
            connection.pool == pool && !at.is_some_and(|at| answers_for(live, &entry.key.settings, at, name))
        });
        for (name, reader) in moved {
            self.tell_readers(core, &name, &[reader]);
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
