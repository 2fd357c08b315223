//! WATCH: a connection of the client's own, from then to EXEC, DISCARD or UNWATCH.
//!
//! It is the connection that the server guards. When it is lost, or its node is no longer the keys', the guard is gone
//! and EXEC answers as after a failed WATCH. Where the map of slots is behind, WATCH follows the server's redirection.

use redplane_command::Command;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::Slot;
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::redirect;
use redplane_redis_flow::request::{Request, Served};
use redplane_redis_flow::send::{Payload, Sending};
use redplane_resp::encode;
use redplane_upstream::Signal;

use crate::queue::place_queued;
use crate::{Transaction, Transactions, Watch};

/// Lets go of what a transaction held.
pub(crate) fn end_transaction(core: &mut Core, transaction: &Transaction) {
    core.end_lease(transaction.lease());
    core.release_pools(&transaction.pools);
}

impl Transactions {
    pub(super) fn watch(
        &mut self,
        core: &mut Core,
        key: usize,
        command: &'static Command,
        request: Request<'_>,
    ) {
        let shared = core.share_a_place(key, Served::Known(command), &request, false);
        if let Err(failure) = shared {
            return core.fail_now(key, command.id, failure);
        }
        let Some((pool, target, _)) = place_queued(core, key, request.arg(1)) else {
            return core.fail_now(key, command.id, Failure::NoHost);
        };
        let leased = match self.lease_for_watch(core, key, pool, target) {
            Ok(leased) => leased,
            Err(failure) => return core.fail_now(key, command.id, failure),
        };
        let mut frame = core.buffers.take_empty();
        encode::array(&mut frame, request.len());
        encode::bulk(&mut frame, b"WATCH");
        for i in 1..request.len() {
            core.append_key(key, request.arg(i), &mut frame);
        }
        let waiter = core.expect_reply(key, Slot::Waiting);
        let sending = Sending {
            waiter,
            command: command.id,
            purpose: Purpose::Pinned,
        };
        if self.open.get(key).is_some_and(Transaction::asks) {
            core.setup(leased, Purpose::Setup, &[b"asking"]);
        }
        core.send(leased, sending, Payload::Copied(&frame));
        core.buffers.give(frame);
    }

    /// The client's own connection to the node of a key; one node only.
    fn lease_for_watch(
        &mut self,
        core: &mut Core,
        key: usize,
        pool: usize,
        target: Target,
    ) -> Result<u32, Failure> {
        if let Some(watch) = self.open.get(key).and_then(|t| t.watch) {
            if watch.leads(pool, target) {
                return Ok(watch.connection);
            }
            let entry = &core.pools[pool];
            let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
            let at = live.pick(target, Access::Primary, entry.key.settings.read_policy, "", 0)?;
            let host = live.topology.hosts.get(at).ok_or(Failure::NoHost)?;
            return match watch.pool == pool && watch.host == host.id {
                true => Ok(watch.connection),
                false => Err(Failure::CrossSlot),
            };
        }
        let connection = core.lease(pool, target, Access::Primary, key)?;
        core.hold_pools(&[pool]);
        let host = core.connections[connection as usize].server.host.id;
        let transaction = self.open.of(key, &mut core.clients[key], Default::default);
        transaction.pools.push(pool);
        transaction.watch = Some(Watch {
            pool,
            connection,
            host,
            target,
            redirected: false,
            asks: false,
            holds: false,
        });
        Ok(connection)
    }

    /// WATCH's reply.
    pub fn watch_reply(
        &mut self,
        core: &mut Core,
        key: usize,
        pending: &Pending,
        raw: &[u8],
        is_error: bool,
    ) {
        if is_error && self.follow_watch(core, key, pending, raw) {
            return;
        }
        let known = core.clients.of(pending.waiter).is_some();
        let transaction = self.open.get_mut(pending.waiter.client as usize);
        let transaction = transaction.filter(|_| known);
        if let Some(watch) = transaction.and_then(|transaction| transaction.watch.as_mut()) {
            watch.holds |= !is_error && watch.connection == key as u32;
        }
        core.settle(pending.waiter, pending.command, pending.since, Answer::Raw(raw));
    }

    /// A WATCH whose slot has moved, or is moving, is sent to its new owner; true when that was done. What was guarded
    /// before at the former one is guarded no more then: EXEC tells the client to begin again.
    #[cold]
    fn follow_watch(&mut self, core: &mut Core, key: usize, pending: &Pending, raw: &[u8]) -> bool {
        let pool = core.connections[key].pool;
        let settings = &core.pools[pool].key.settings;
        let (follows, op_timeout) = (
            settings.enable_redirection,
            settings.op_timeout.as_micros() as u64,
        );
        let Some(to) = redirect::parse(raw).filter(|_| follows) else {
            return false;
        };
        let Some(address) = core.target_of(key, to) else {
            // Whose name it is the map will say.
            core.connections[key].server.cluster.signal(Signal::Redirected);
            return false;
        };
        core.tell_redirected(pool, to, address);
        let late = pending.travel.hops() >= redirect::MAX_HOPS || core.now >= pending.since + op_timeout;
        let frame = core.connections[key].frame_of(pending).filter(|_| !late);
        let known = core.clients.of(pending.waiter).is_some();
        let transaction = self.open.get(pending.waiter.client as usize);
        let watch = transaction
            .filter(|_| known)
            .and_then(|transaction| transaction.watch);
        let (Some(frame), Some(watch)) = (frame, watch.filter(|watch| watch.connection == key as u32)) else {
            return false;
        };
        let client = pending.waiter.client as usize;
        let leased = core.lease_at(pool, address, to.host, client);
        core.count_redirect(pool, leased.is_ok());
        let leased = match leased {
            Ok(leased) => leased,
            Err(failure) => {
                let failed = Answer::Failed(failure);
                core.settle(pending.waiter, pending.command, pending.since, failed);
                return true;
            }
        };
        let host = core.connections[leased as usize].server.host.id;
        if let Some(transaction) = self.open.get_mut(client) {
            transaction.lost |= watch.holds;
            transaction.watch = Some(Watch {
                connection: leased,
                host,
                redirected: true,
                asks: to.ask,
                holds: false,
                ..watch
            });
        }
        if to.ask {
            core.setup(leased, Purpose::Setup, &[b"asking"]);
        }
        let again = Pending {
            travel: pending.travel.hop(),
            ..*pending
        };
        core.send_once_more(leased, again, Payload::Copied(&frame), (Purpose::Queued, 0));
        core.end_lease(Some(key as u32));
        true
    }

    /// Forgets what was begun; the server forgets what it guarded when the lease ends.
    pub fn drop_transaction(&mut self, core: &mut Core, key: usize) {
        if let Some(transaction) = self.open.take(key, &mut core.clients[key]) {
            end_transaction(core, &transaction);
        }
    }

    /// The leased connection broke: what it guarded is guarded no more.
    pub fn lease_lost(&mut self, core: &Core, lease: u32, client: u32, generation: u32) {
        if core.clients.known(client, generation).is_none() {
            return;
        }
        // Behind EXEC the client may have begun anew, on another connection.
        let transaction = self.open.get_mut(client as usize);
        if let Some(transaction) = transaction.filter(|transaction| transaction.lease() == Some(lease)) {
            transaction.watch = None;
            transaction.lost = true;
        }
    }
}
