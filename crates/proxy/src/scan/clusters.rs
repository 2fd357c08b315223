//! From cluster to cluster: a scan walks through those of all routes in the order of
//! `Core::pools_of_all_routes`.
//!
//! They are looked up anew at each step, since a push may change the routes meanwhile; pools are not held.

use std::sync::Arc;

use redplane_command::Command;
use redplane_merge::Parts;
use redplane_redis_core::pool::Target;
use redplane_redis_core::split::Split;
use redplane_redis_flow::core::Core;
use redplane_upstream::Topology;

use super::cursor::Position;
use super::{Scan, Walk, answer_page};
use crate::scan::Scans;
use crate::scan::page::scan_frame;

/// One of the routes' clusters.
pub(super) struct Cluster {
    /// Among them.
    pub(super) number: usize,
    pub(super) pool: usize,
    pub(super) topology: Arc<Topology>,
}

/// The cluster of that number among those of the routes.
pub(super) fn cluster_at(core: &Core, key: usize, command: &Command, number: usize) -> Option<Cluster> {
    let pool = *core.pools_of_all_routes(key, command).get(number)?;
    let topology = core.pools[pool].live.as_ref()?.topology.clone();
    Some(Cluster {
        number,
        pool,
        topology,
    })
}

/// The first of them, from that number on, that has a server which none before it has.
pub(super) fn cluster_from(core: &Core, key: usize, command: &Command, number: usize) -> Option<Cluster> {
    let servers = core.servers_of_all_routes(key, command);
    let next = servers.iter().find(|server| server.cluster >= number)?;
    cluster_at(core, key, command, next.cluster)
}

impl Scans {
    /// A cluster is done: on to the next one while there is room, else out with what was found.
    pub(super) fn end_cluster(
        &mut self,
        core: &mut Core,
        key: usize,
        offset: usize,
        split: &Split,
        mut scan: Scan,
    ) {
        let Some(next) = cluster_from(core, key, split.command(), scan.at.cluster + 1) else {
            return answer_page(core, key, offset, split, &scan, 0);
        };
        let begin = Position::begin(next.number, &next.topology);
        if scan.found >= scan.count || next.topology.shard_count() == 0 {
            let cursor = begin.pack(&next.topology, &self.kept);
            return answer_page(core, key, offset, split, &scan, cursor);
        }
        scan.at = begin;
        let frame = scan_frame(0, &scan.options);
        let split = Box::new(Split::new(
            Parts::new(split.command(), 1, Vec::new()),
            split.since,
        ));
        let place = (next.pool, Target::Shard(0));
        self.ask_next(core, (key, offset), split, Walk::Scan(scan), place, &frame);
    }
}
