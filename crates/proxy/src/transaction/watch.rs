//! WATCH: a connection of the client's own, from then to EXEC, DISCARD or UNWATCH.
//!
//! It is the connection that the server guards. When it is lost, or its node is no longer the keys', the guard is gone
//! and EXEC answers as after a failed WATCH. Where the map of slots is behind, WATCH follows the server's redirection.

use redplane_command::Command;
use redplane_resp::encode;
use redplane_upstream::Signal;

use super::{Transaction, Watch};
use crate::dispatch::{Request, Served};
use crate::engine::Engine;
use crate::redirect;
use crate::send::{Payload, Sending};
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::Slot;
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::{Access, Target};

impl Engine {
    pub(super) fn watch(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let shared = self.share_a_place(key, Served::Known(command), &request, false);
        if let Err(failure) = shared {
            return self.fail_now(key, command.id, failure);
        }
        let Some((pool, target, _)) = self.place_queued(key, request.arg(1)) else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let leased = match self.lease_for_watch(key, pool, target) {
            Ok(leased) => leased,
            Err(failure) => return self.fail_now(key, command.id, failure),
        };
        let mut frame = self.buffers.take_empty();
        encode::array(&mut frame, request.len());
        encode::bulk(&mut frame, b"WATCH");
        for i in 1..request.len() {
            self.append_key(key, request.arg(i), &mut frame);
        }
        let waiter = self.expect_reply(key, Slot::Waiting);
        let sending = Sending {
            waiter,
            command: command.id,
            purpose: Purpose::Pinned,
        };
        if self.transactions.open.get(key).is_some_and(Transaction::asks) {
            self.setup(leased, Purpose::Setup, &[b"asking"]);
        }
        self.send(leased, sending, Payload::Copied(&frame));
        self.buffers.give(frame);
    }

    /// The client's own connection to the node of a key; one node only.
    fn lease_for_watch(&mut self, key: usize, pool: usize, target: Target) -> Result<u32, Failure> {
        if let Some(watch) = self.transactions.open.get(key).and_then(|t| t.watch) {
            if watch.leads(pool, target) {
                return Ok(watch.connection);
            }
            let entry = &self.pools[pool];
            let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
            let at = live.pick(target, Access::Primary, entry.key.settings.read_policy, "", 0)?;
            let host = live.topology.hosts.get(at).ok_or(Failure::NoHost)?;
            return match watch.pool == pool && watch.host == host.id {
                true => Ok(watch.connection),
                false => Err(Failure::CrossSlot),
            };
        }
        let connection = self.lease(pool, target, Access::Primary, key)?;
        self.hold_pools(&[pool]);
        let host = self.connections[connection as usize].server.host.id;
        let transaction = self
            .transactions
            .open
            .of(key, &mut self.clients[key], Default::default);
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
    pub(crate) fn watch_reply(&mut self, key: usize, pending: &Pending, raw: &[u8], is_error: bool) {
        if is_error && self.follow_watch(key, pending, raw) {
            return;
        }
        let known = self.clients.of(pending.waiter).is_some();
        let transaction = self.transactions.open.get_mut(pending.waiter.client as usize);
        let transaction = transaction.filter(|_| known);
        if let Some(watch) = transaction.and_then(|transaction| transaction.watch.as_mut()) {
            watch.holds |= !is_error && watch.connection == key as u32;
        }
        self.settle(pending.waiter, pending.command, pending.since, Answer::Raw(raw));
    }

    /// A WATCH whose slot has moved, or is moving, is sent to its new owner; true when that was done. What was guarded
    /// before at the former one is guarded no more then: EXEC tells the client to begin again.
    #[cold]
    fn follow_watch(&mut self, key: usize, pending: &Pending, raw: &[u8]) -> bool {
        let pool = self.connections[key].pool;
        let settings = &self.pools[pool].key.settings;
        let (follows, op_timeout) = (
            settings.enable_redirection,
            settings.op_timeout.as_micros() as u64,
        );
        let Some(to) = redirect::parse(raw).filter(|_| follows) else {
            return false;
        };
        let Some(address) = self.target_of(key, to) else {
            // Whose name it is the map will say.
            self.connections[key].server.cluster.signal(Signal::Redirected);
            return false;
        };
        self.tell_redirected(pool, to, address);
        let late = pending.travel.hops() >= redirect::MAX_HOPS || self.now >= pending.since + op_timeout;
        let frame = self.connections[key].frame_of(pending).filter(|_| !late);
        let known = self.clients.of(pending.waiter).is_some();
        let transaction = self.transactions.open.get(pending.waiter.client as usize);
        let watch = transaction
            .filter(|_| known)
            .and_then(|transaction| transaction.watch);
        let (Some(frame), Some(watch)) = (frame, watch.filter(|watch| watch.connection == key as u32)) else {
            return false;
        };
        let client = pending.waiter.client as usize;
        let leased = self.lease_at(pool, address, to.host, client);
        self.count_redirect(pool, leased.is_ok());
        let leased = match leased {
            Ok(leased) => leased,
            Err(failure) => {
                let failed = Answer::Failed(failure);
                self.settle(pending.waiter, pending.command, pending.since, failed);
                return true;
            }
        };
        let host = self.connections[leased as usize].server.host.id;
        if let Some(transaction) = self.transactions.open.get_mut(client) {
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
            self.setup(leased, Purpose::Setup, &[b"asking"]);
        }
        let again = Pending {
            travel: pending.travel.hop(),
            ..*pending
        };
        self.send_once_more(leased, again, Payload::Copied(&frame), (Purpose::Queued, 0));
        self.end_lease(Some(key as u32));
        true
    }

    /// Forgets what was begun; the server forgets what it guarded when the lease ends.
    pub(crate) fn drop_transaction(&mut self, key: usize) {
        if let Some(transaction) = self.transactions.open.take(key, &mut self.clients[key]) {
            self.end_transaction(&transaction);
        }
    }

    /// Lets go of what a transaction held.
    pub(crate) fn end_transaction(&mut self, transaction: &Transaction) {
        self.end_lease(transaction.lease());
        self.release_pools(&transaction.pools);
    }

    /// The leased connection broke: what it guarded is guarded no more.
    pub(crate) fn lease_lost(&mut self, lease: u32, client: u32, generation: u32) {
        if self.clients.known(client, generation).is_none() {
            return;
        }
        // Behind EXEC the client may have begun anew, on another connection.
        let transaction = self.transactions.open.get_mut(client as usize);
        if let Some(transaction) = transaction.filter(|transaction| transaction.lease() == Some(lease)) {
            transaction.watch = None;
            transaction.lost = true;
        }
    }
}
