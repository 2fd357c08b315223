//! Commands between MULTI and EXEC: each gets its place, in the block that a server runs or beside it.

use redplane_command::{Effect, RequestPolicy, Script, error};
use redplane_merge::Failure;
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pool::Target;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::rename::{Renamed, TOO_LONG};
use redplane_redis_flow::request::{Request, Served};

use crate::{Transaction, Transactions};

/// What SCRIPT LOAD and FLUSH mean to what is queued behind them.
pub(super) fn script_effect_queued(core: &mut Core, served: Served, request: &Request<'_>) {
    if let Served::Known(command) = served
        && matches!(command.effect, Effect::LoadScript | Effect::FlushScripts)
    {
        core.script_effect(command, request);
    }
}

pub(crate) const QUEUED: &[u8] = b"+QUEUED\r\n";

pub(crate) const TOO_LARGE: &[u8] = b"-ERR the transaction is too large\r\n";

/// Bytes above which nothing more is queued.
pub(crate) const MAX_BLOCK: usize = 512 * 1024 * 1024;

/// Functions of one block that are remembered by their names; with more it counts as writing.
const MOST_CALLS: usize = 64;

pub(crate) fn place_queued(
    core: &mut Core,
    key: usize,
    name: &[u8],
) -> Option<(usize, Target, std::rc::Rc<RouteTo>)> {
    let route = core.filters[core.clients[key].filter].route(name)?.clone();
    let renamed = core.rename(key, &route, name);
    let random = core.shared.random.u64(..);
    let entry = &core.pools[route.pool];
    let live = entry.live.as_ref()?;
    let target = match live.target(&renamed, &entry.key.settings) {
        Target::Hash(hash) => Target::Host(live.topology.by_hash(hash, random)?),
        slot => slot,
    };
    Some((route.pool, target, route))
}

impl Transactions {
    /// Puts a command aside that the keys' server runs.
    pub(crate) fn queue_in_block(
        &mut self,
        core: &mut Core,
        key: usize,
        served: Served,
        request: &Request<'_>,
        corrects: bool,
    ) {
        let queued = self.open.get(key);
        if queued.is_some_and(Transaction::is_too_large) {
            return self.spoil_transaction(core, key, TOO_LARGE);
        }
        let at = match served {
            Served::Custom(_) => Some(1),
            Served::Known(command) => redplane_command::first_key(command, request.len(), |i| request.arg(i)),
        };
        let placed = at.and_then(|at| place_queued(core, key, request.arg(at)));
        if core.share_a_place(key, served, request, false) == Err(Failure::CrossSlot) {
            // Redis: keys of one command are judged at once, those of several at EXEC.
            return self.spoil_transaction(core, key, error::CROSSSLOT);
        }
        let renamed = at
            .zip(placed.as_ref())
            .filter(|(_, (_, _, route))| !route.keeps_key)
            .map(|(at, _)| core.renamed(key, served, request, at));
        if matches!(renamed, Some(None)) {
            return self.spoil_transaction(core, key, TOO_LONG);
        }
        let renamed = renamed.flatten();
        let queued = renamed.as_ref().map_or(*request, Renamed::request);
        let first_name = at.map_or_else(Vec::new, |at| queued.arg(at).to_vec());
        let writes =
            matches!(served, Served::Custom(_)) || matches!(served, Served::Known(c) if !c.is_read());
        let called = function_called(served, request);
        let pausable = called.is_none() && core.may_replicate(served, request);
        let scripts = matches!(served, Served::Known(c) if core.script_queued(c, request));
        script_effect_queued(core, served, request);
        let meaning = self.meaning_in_block(core, key, served, request, corrects);
        let Some(transaction) = self.open.get_mut(key) else {
            return;
        };
        if let Some(meaning) = meaning {
            transaction.note_meaning(meaning);
        }
        transaction.block.count += 1;
        transaction.block.scripts |= scripts;
        transaction.block.writes |= writes;
        transaction.block.pausable |= pausable || transaction.block.calls.len() == MOST_CALLS;
        let room = MOST_CALLS - transaction.block.calls.len();
        transaction.block.calls.extend(called.into_iter().take(room));
        transaction.block.frames.extend_from_slice(queued.frame);
        transaction.destination.nowhere |= at.is_some() && placed.is_none();
        if let Some((pool, target, route)) = placed {
            match transaction.destination.target {
                None => {
                    transaction.destination.target = Some((pool, target));
                    transaction.destination.name = first_name;
                    let held: Vec<usize> = route.pools().collect();
                    transaction.pools.extend_from_slice(&held);
                    transaction.destination.route = Some(route);
                    core.hold_pools(&held);
                }
                // A push may have replaced the pool, but not the cluster.
                Some((known, place)) => {
                    let same = core.pools[known].key.cluster == core.pools[pool].key.cluster;
                    transaction.destination.cross |= !same || !same_place(place, target);
                }
            }
        }
        core.answer(key, QUEUED);
    }

    /// Refuses a command, and with it the EXEC to come.
    pub(crate) fn spoil_transaction(&mut self, core: &mut Core, key: usize, reply: &[u8]) {
        if let Some(transaction) = self.open.get_mut(key) {
            transaction.spoiled = true;
        }
        core.answer(key, reply);
    }
}

/// The function that a command calls and that may write, by its name.
fn function_called(served: Served, request: &Request<'_>) -> Option<Vec<u8>> {
    let calls = matches!(served, Served::Known(command)
        if command.request == RequestPolicy::Script(Script::Function) && !command.is_read());
    calls.then(|| request.arg(1).to_vec())
}

pub(crate) fn same_place(a: Target, b: Target) -> bool {
    match (a, b) {
        (Target::Slot(a), Target::Slot(b)) => a == b,
        (Target::Host(a), Target::Host(b)) | (Target::Shard(a), Target::Shard(b)) => a == b,
        _ => false,
    }
}
