//! RANDOMKEY: shards are asked one after the other, in random order, until one has a key.

use redplane_command::Command;
use redplane_merge::{Failure, Parts};
use redplane_redis_core::client::Slot;
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_core::split::Split;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;
use redplane_redis_flow::send::Payload;

use crate::scan::{Scans, Walk};

impl Scans {
    /// RANDOMKEY.
    pub(crate) fn seek(
        &mut self,
        core: &mut Core,
        key: usize,
        command: &'static Command,
        request: Request<'_>,
    ) {
        let servers = core.servers_of_all_routes(key, command);
        let there = servers
            .iter()
            .filter(|server| !matches!(server.target, Target::Any));
        let mut places: Vec<(usize, Target)> = there.map(|server| (server.cluster, server.target)).collect();
        core.shared.random.shuffle(&mut places);
        let pools = core.pools_of_all_routes(key, command);
        let Some((cluster, target)) = places.pop() else {
            return core.fail_now(key, command.id, Failure::NoHost);
        };
        let split = Split::walking(Parts::new(command, 1, Vec::new()), core.now);
        let waiter = core.expect_reply(key, Slot::Split(Box::new(split)));
        let walk = Walk::Seek {
            places,
            frame: request.frame.to_vec(),
        };
        self.keep_walk(core, key, waiter.sequence, walk);
        core.send_to(
            pools[cluster],
            target,
            Access::Primary,
            command,
            waiter,
            Payload::Copied(request.frame),
        );
    }
}
