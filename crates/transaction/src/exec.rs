//! EXEC: the queue leaves as one block, and its replies come back as one.
//!
//! All parts of a block refer to its beginning, so that its bytes are kept until EXEC is answered: when the slot has
//! moved nothing was executed, and the whole block goes to the new owner.

use redplane_command::{Command, error};
use redplane_config::redis_proxy::Protocol;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::redirect;
use redplane_redis_flow::send::{Outgoing, Payload, Scripts, Sending};
use redplane_redis_flow::settle::null_array;
use redplane_resp::encode;

use crate::share::Share;
use crate::{Transaction, Transactions, Watch};

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";

const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// The connection EXEC goes to: the leased one, which must lead to the node of the keys.
fn exec_connection(core: &mut Core, key: usize, transaction: &Transaction) -> Result<u32, Failure> {
    let (pool, target) = match (transaction.destination.target, transaction.watch) {
        // Placed anew: hosts may have changed since the first command was queued.
        (Some((pool, _)), _) => {
            let entry = &core.pools[pool];
            let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
            (
                pool,
                live.target(&transaction.destination.name, &entry.key.settings),
            )
        }
        (None, Some(watch)) => return Ok(watch.connection),
        (None, _) => {
            let route = core.keyless_route(key).ok_or(Failure::NoHost)?;
            (route.pool, Target::Any)
        }
    };
    match transaction.watch {
        Some(watch) if watch.leads(pool, target) => Ok(watch.connection),
        Some(watch) => {
            let entry = &core.pools[pool];
            let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
            let at = live.pick(target, Access::Primary, entry.key.settings.read_policy, "", 0)?;
            let host = live.topology.hosts.get(at).map(|to| to.id);
            match watch.pool == pool && host == Some(watch.host) {
                true => Ok(watch.connection),
                false => Err(Failure::CrossSlot),
            }
        }
        None => core.connection_for(pool, target, Access::Primary),
    }
}

/// Whether a guarded key is served elsewhere by now.
fn has_moved(core: &Core, watch: Watch) -> bool {
    if watch.redirected || !matches!(watch.target, Target::Slot(_) | Target::Shard(_)) {
        return false;
    }
    let entry = &core.pools[watch.pool];
    let Some(live) = &entry.live else {
        return false;
    };
    let policy = entry.key.settings.read_policy;
    let now = live.pick(watch.target, Access::Primary, policy, "", 0);
    now.is_ok_and(|at| {
        live.topology
            .hosts
            .get(at)
            .is_some_and(|host| host.id != watch.host)
    })
}

fn send_block(
    core: &mut Core,
    key: usize,
    command: &'static Command,
    transaction: &Transaction,
    connection: u32,
) {
    let mut block = core.buffers.take_empty();
    block.extend_from_slice(MULTI);
    block.extend_from_slice(&transaction.block.frames);
    if transaction.block.wanders {
        let database = core.database(key).to_string();
        encode::request(&mut block, &[b"SELECT", database.as_bytes()]);
    }
    block.extend_from_slice(EXEC);
    let waiter = Waiter {
        part: transaction.sent(),
        ..core.expect_reply(key, Slot::Waiting)
    };
    let sending = Sending {
        waiter,
        command: command.id,
        purpose: Purpose::Exec,
    };
    let queued = transaction.sent() + 1;
    if transaction.asks() {
        core.setup(connection, Purpose::Setup, &[b"asking"]);
    }
    match &transaction.destination.route {
        Some(route) => {
            let outgoing = Outgoing {
                sending,
                payload: Payload::Copied(&block),
                route,
                name: &transaction.destination.name,
                changes: transaction.block.writes,
                queued,
                scripts: match transaction.block.scripts {
                    true => Scripts::OfBlock,
                    false => Scripts::None,
                },
            };
            core.send_by_route(connection, &outgoing);
        }
        None => {
            if transaction.block.scripts {
                core.load_for_block(connection, &block);
            }
            let leading = (Purpose::Queued, queued);
            core.send_behind(connection, sending, Payload::Copied(&block), leading);
        }
    }
    if transaction.watch.is_some() {
        // What follows goes on the shared connections, and must not get there first.
        core.rest_behind(key);
    }
    core.buffers.give(block);
}

/// The reply of MULTI or of a queued command: only a redirection matters.
pub fn queued_reply(core: &mut Core, key: usize, raw: &[u8], is_error: bool) {
    if is_error {
        core.note_demoted(key, raw);
    }
    if is_error && redirect::parse(raw).is_some() {
        core.connections[key]
            .learnt
            .moved_in_transaction
            .get_or_insert_with(|| raw.to_vec());
    }
}

fn move_block(core: &mut Core, key: usize, pool: usize, pending: &Pending, moved: &[u8]) -> bool {
    let block = core.connections[key]
        .out
        .range(pending.at, pending.len as usize)
        .map(<[u8]>::to_vec);
    let (Some(block), Some(to)) = (block, redirect::parse(moved)) else {
        return false;
    };
    let Some(address) = core.target_of(key, to) else {
        return false;
    };
    core.tell_redirected(pool, to, address);
    match core.connection_to(pool, address, "") {
        Ok(target) => {
            core.load_for_block(target, &block);
            core.rest_behind_redirected(pending.waiter);
            // Between MULTI and EXEC the word holds for every command.
            if to.ask {
                core.setup(target, Purpose::Setup, &[b"asking"]);
            }
            let travel = pending.travel.hop();
            let leading = (Purpose::Queued, pending.waiter.part + 1);
            let again = Pending { travel, ..*pending };
            core.send_once_more(target, again, Payload::Copied(&block), leading);
            true
        }
        Err(_) => false,
    }
}

impl Transactions {
    pub(super) fn exec(&mut self, core: &mut Core, key: usize, command: &'static Command) {
        let Some(mut transaction) = self.open.take(key, &mut core.clients[key]) else {
            return core.answer(key, error::EXEC_WITHOUT_MULTI);
        };
        let held = std::mem::take(&mut transaction.pools);
        let share = std::mem::take(&mut transaction.share);
        self.exec_taken(core, key, command, &transaction, share);
        core.release_pools(&held);
    }

    fn exec_taken(
        &mut self,
        core: &mut Core,
        key: usize,
        command: &'static Command,
        transaction: &Transaction,
        share: Share,
    ) {
        let lost = transaction.lost || transaction.watch.is_some_and(|watch| has_moved(core, watch));
        if transaction.spoiled
            || transaction.destination.cross
            || lost
            || (transaction.block.count == 0 && transaction.watch.is_none())
        {
            core.end_lease(transaction.lease());
            let resp3 = core.is_resp3(key);
            return match (transaction.spoiled, transaction.destination.cross, lost) {
                (true, ..) => core.answer(key, error::EXECABORT),
                (_, true, _) => core.answer(key, error::CROSSSLOT),
                // The guard is gone with its connection: the client has to begin again, as after a failed WATCH.
                (.., true) => core.answer(key, null_array(resp3)),
                _ => self.begin_share_alone(core, key, share),
            };
        }
        if transaction.destination.nowhere {
            core.end_lease(transaction.lease());
            return core.fail_now(key, command.id, Failure::NoHost);
        }
        match exec_connection(core, key, transaction) {
            Ok(connection) => {
                let muted = core.clients[key].replies.skips_next();
                send_block(core, key, command, transaction, connection);
                self.await_share(core, key, share, muted);
            }
            Err(failure) => {
                core.end_lease(transaction.lease());
                core.fail_now(key, command.id, failure);
            }
        }
    }

    /// EXEC's reply. When the slot had moved nothing was executed, and the whole block goes to its new owner, unless
    /// a WATCH guarded it: then the client is told to begin again.
    pub fn exec_reply(&mut self, core: &mut Core, key: usize, pending: &Pending, raw: &[u8]) {
        let connection = &mut core.connections[key];
        let moved = connection.learnt.moved_in_transaction.take();
        let moved = match redirect::parse(raw) {
            // The slot went between the commands and EXEC.
            Some(_) => Some(raw.to_vec()),
            None => moved.filter(|_| raw.starts_with(b"-EXECABORT")),
        };
        let leased = connection.lease.holder.take().is_some();
        let (pool, follows) = (
            connection.pool,
            core.pools[connection.pool].key.settings.enable_redirection,
        );
        let resp3 = core.pools[pool].key.greeting.protocol == Protocol::Resp3;
        let answer = match moved {
            Some(_) if leased => Answer::Raw(null_array(resp3)),
            Some(moved)
                if follows
                    && pending.travel.hops() < redirect::MAX_HOPS
                    && move_block(core, key, pool, pending, &moved) =>
            {
                return;
            }
            Some(_) if follows && redirect::parse(raw).is_some() => Answer::Failed(Failure::Upstream),
            _ => Answer::Raw(raw),
        };
        match answer {
            Answer::Raw(raw) if self.begin_share(core, key, pending, raw) => {}
            answer => core.settle(pending.waiter, pending.command, pending.since, answer),
        }
        if leased {
            core.end_lease(Some(key as u32));
        }
    }
}
