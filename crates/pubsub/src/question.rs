//! PUBSUB CHANNELS, NUMSUB, NUMPAT, SHARDCHANNELS and SHARDNUMSUB: what all primaries say, put together, and the
//! counts put right as those of PUBLISH are.
//!
//! The correction takes part in the merging as if it were the answer of one more server.

use redplane_command::{Command, Pubsub as Step};
use redplane_merge::{Answer, Failure, Parts};
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_core::split::Split;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;
use redplane_redis_flow::send::Payload;
use redplane_resp::encode;
use redplane_upstream::{Pick, Want};
use rustc_hash::FxHashSet;

use crate::{Kind, PubSub};

/// One pool for each cluster that routes lead to.
fn subscribed_pools(core: &Core, key: usize) -> Vec<usize> {
    let filter = &core.filters[core.clients[key].filter];
    let mut pools: Vec<usize> = Vec::new();
    for route in filter.routes() {
        let cluster = &core.pools[route.pool].key.cluster;
        if !pools.iter().any(|pool| core.pools[*pool].key.cluster == *cluster) {
            pools.push(route.pool);
        }
    }
    pools
}

impl PubSub {
    /// Asks every primary of every cluster that the client's channels may be in.
    pub(super) fn ask_about(
        &self,
        core: &mut Core,
        key: usize,
        step: Step,
        command: &'static Command,
        request: &Request<'_>,
    ) {
        if matches!(step, Step::Channels | Step::ShardChannels) && request.len() > 3 {
            return core.answer_with(key, |out| {
                let text = "ERR unknown subcommand or wrong number of arguments for '";
                let name = String::from_utf8_lossy(request.arg(1));
                encode::error(out, format!("{text}{name}'. Try PUBSUB HELP.").as_bytes());
            });
        }
        let pools = subscribed_pools(core, key);
        let mut asked: Vec<(usize, Target)> = Vec::new();
        let mut hosts = Vec::new();
        // A server that several clusters know counts once.
        let mut visited = FxHashSet::default();
        for pool in &pools {
            let Some(live) = &core.pools[*pool].live else {
                continue;
            };
            for shard in 0..live.topology.shard_count() {
                if let Pick::Host(host) = live.topology.by_shard(shard, Want::Primary)
                    && visited.insert(&live.topology.hosts[host].address)
                {
                    asked.push((*pool, Target::Shard(shard)));
                    hosts.push(live.topology.hosts[host].id);
                }
            }
        }
        if asked.is_empty() {
            return core.fail_now(key, command.id, Failure::NoHost);
        }
        let own = self.own_answer(core, step, request, &pools, &hosts);
        let parts = Parts::new(command, asked.len() + 1, Vec::new());
        let split = Split::new(parts, core.now);
        let waiter = core.expect_reply(key, Slot::Split(Box::new(split)));
        let last = asked.len() as u32;
        for (part, (pool, target)) in asked.into_iter().enumerate() {
            let waiter = Waiter {
                part: part as u32,
                ..waiter
            };
            core.send_to(
                pool,
                target,
                Access::Primary,
                command,
                waiter,
                Payload::of(request),
            );
        }
        let waiter = Waiter { part: last, ..waiter };
        core.settle(waiter, command.id, core.now, Answer::Raw(&own));
    }

    /// What is added to the servers' answers.
    fn own_answer(
        &self,
        core: &Core,
        step: Step,
        request: &Request<'_>,
        pools: &[usize],
        hosts: &[u64],
    ) -> Vec<u8> {
        let clusters: Vec<&str> = pools.iter().map(|pool| &*core.pools[*pool].key.cluster).collect();
        let ledger = &self.ledger;
        let mut own = Vec::new();
        let kind = match step {
            Step::NumSub => Kind::Channel,
            Step::ShardNumSub => Kind::Shard,
            Step::NumPat => {
                encode::integer(&mut own, ledger.patterns_beyond(&clusters, hosts));
                return own;
            }
            _ => {
                encode::array(&mut own, 0);
                return own;
            }
        };
        encode::array(&mut own, (request.len() - 2) * 2);
        for name in (2..request.len()).map(|at| request.arg(at)) {
            encode::bulk(&mut own, name);
            encode::integer(&mut own, ledger.subscribers_beyond(&clusters, kind, name, hosts));
        }
        own
    }
}
