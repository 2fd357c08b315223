//! The primaries whose replicas a client waits for: those that it wrote to.

use redplane_merge::Failure;
use redplane_redis_core::connection::mark_of;
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_flow::core::Core;

use crate::acknowledged::answers::Count;

/// A primary that is asked.
#[derive(Debug)]
pub(super) struct Primary {
    pub(super) pool: usize,
    pub(super) host: u64,
    /// The replication offset that replicas must reach.
    pub(super) needed: Option<u64>,
    pub(super) count: Count,
    pub(super) nudged: u64,
}

/// The primaries that a client wrote to; all when none of those is one any more; any one, with nothing to be reached,
/// when it wrote nothing.
pub(super) fn written_primaries(core: &Core, key: usize) -> Vec<Primary> {
    let client = &core.clients[key];
    let (wrote, filter) = (client.wrote, &core.filters[client.filter]);
    let mut primaries = Vec::new();
    for pool in filter.pools_for(false) {
        let entry = &core.pools[pool];
        let Some(live) = &entry.live else {
            continue;
        };
        let policy = entry.key.settings.read_policy;
        let shards = 0..live.topology.shard_count();
        let hosts = shards.filter_map(|shard| {
            live.pick(Target::Shard(shard), Access::Primary, policy, "", 0)
                .ok()
        });
        let hosts = hosts.filter_map(|at| live.topology.hosts.get(at));
        primaries.extend(hosts.map(|host| Primary {
            pool,
            host: host.id,
            needed: None,
            count: Count {
                local: 0,
                replicas: 0,
            },
            nudged: 0,
        }));
    }
    let written = primaries
        .iter()
        .position(|primary| wrote & mark_of(primary.host) != 0);
    match written {
        Some(_) => primaries.retain(|primary| wrote & mark_of(primary.host) != 0),
        None if wrote != 0 => {}
        None => {
            primaries.truncate(1);
            primaries.iter_mut().for_each(|primary| primary.needed = Some(0));
        }
    }
    primaries
}

/// Where a primary stands among the hosts of its pool.
pub(super) fn host_place(core: &Core, primary: &Primary) -> Result<usize, Failure> {
    let live = core.pools.get(primary.pool).and_then(|pool| pool.live.as_ref());
    let place = live.and_then(|live| {
        live.topology
            .hosts
            .iter()
            .position(|host| host.id == primary.host)
    });
    place.ok_or(Failure::NoHost)
}
