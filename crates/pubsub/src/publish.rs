//! PUBLISH and SPUBLISH: to the host that the channel's hash names, as subscriptions are, and the count that comes
//! back put right.
//!
//! A server counts the connections that subscribed to it: of this proxy's clients it sees a connection for each worker
//! at most. What a publisher is told is that count without those connections and with the clients behind them. Clients
//! of other proxies and of other nodes are not known here, nor is what a script publishes corrected.

use redplane_command::{Command, Pubsub as Step, RequestPolicy};
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::Slot;
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::{Access, Live, Target};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::{Request, Served, is_mirrored_write};
use redplane_redis_flow::send::{Outgoing, Payload, Scripts, Sending};
use redplane_resp::request::{self, Args};
use redplane_resp::{encode, reply};

use crate::{Kind, PubSub};

/// By hash; where the bus takes a message to all nodes, any other primary will do when that one is away.
fn publishing_connection(core: &mut Core, pool: usize, kind: Kind, name: &[u8]) -> Result<u32, Failure> {
    let found = core.connection_for_key(pool, name, Access::Primary);
    let live = core.pools[pool].live.as_ref();
    if found.is_ok() || kind == Kind::Shard || !live.is_some_and(Live::is_redis) {
        return found;
    }
    let shards = live.map_or(0, |live| live.topology.shard_count());
    let mut others = (0..shards).map(Target::Shard);
    others
        .find_map(|target| core.connection_for(pool, target, Access::Primary).ok())
        .map_or(found, Ok)
}

impl PubSub {
    /// Channels keep their names: prefixes choose the route and are not taken away.
    pub(super) fn publish(
        &self,
        core: &mut Core,
        key: usize,
        kind: Kind,
        command: &'static Command,
        request: &Request<'_>,
    ) {
        let name = request.arg(1);
        let Some(route) = core.filters[core.clients[key].filter].route(name).cloned() else {
            return core.fail_now(key, command.id, Failure::NoHost);
        };
        let connection = match publishing_connection(core, route.pool, kind, name) {
            Ok(connection) => connection,
            Err(failure) => return core.fail_now(key, command.id, failure),
        };
        let purpose = match self.ledger.is_anybody_there() {
            true => Purpose::Published,
            false => Purpose::Reply,
        };
        let waiter = core.expect_reply(key, Slot::Waiting);
        let sending = Sending {
            waiter,
            command: command.id,
            purpose,
        };
        let outgoing = Outgoing {
            sending,
            payload: Payload::of(request),
            route: &route,
            name,
            changes: is_mirrored_write(Served::Known(command)),
            queued: 0,
            scripts: Scripts::None,
        };
        core.send_by_route(connection, &outgoing);
    }

    /// Whether servers' counts have to be put right: clients are subscribed to something.
    pub fn corrects_publications(&self) -> bool {
        self.ledger.is_anybody_there()
    }

    /// What must be added to the count of a cluster's host that has published.
    pub fn clients_beyond(&self, step: Step, channel: &[u8], (cluster, host): (&str, u64)) -> i64 {
        let kind = match step {
            Step::SPublish => Kind::Shard,
            _ => Kind::Channel,
        };
        self.ledger.correction(cluster, kind, channel, host)
    }

    /// The reply of a publication while clients are subscribed to something.
    #[cold]
    pub fn published(&self, core: &mut Core, key: usize, pending: &Pending, raw: &[u8]) {
        let corrected = reply::integer(raw).and_then(|count| {
            let connection = &core.connections[key];
            let frame = connection.out.range(pending.at, pending.len as usize)?;
            let mut args = Args::default();
            request::decode(frame, &mut args, &mut None, true).ok()?;
            let command = redplane_command::all().get(pending.command.index())?;
            let RequestPolicy::Pubsub(step) = command.request else {
                return None;
            };
            let by = (
                &*core.pools[connection.pool].key.cluster,
                connection.server.host.id,
            );
            Some(count + self.clients_beyond(step, args.arg(frame, 1), by))
        });
        let mut own = Vec::new();
        let answer = match corrected {
            Some(count) => {
                encode::integer(&mut own, count.max(0));
                Answer::Raw(&own)
            }
            None => Answer::Raw(raw),
        };
        core.settle(pending.waiter, pending.command, pending.since, answer);
    }
}
