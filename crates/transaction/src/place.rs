//! Where a queued command runs: in the block that one server executes, or here, when EXEC's reply has come.
//!
//! A block cannot hold what the proxy answers itself, nor what all servers are asked. The first kind does not care about
//! keys, so that it may stand anywhere. The second kind does: it runs behind the block, and so nothing that belongs
//! into the block may stand behind it in the transaction. Where there is one server, it is all servers.

use redplane_command::{Command, Effect, Flags, Local, Pubsub, Refusal, ReplyPolicy, RequestPolicy, error};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::{Request, Served};
use redplane_resp::encode;
use redplane_resp::number::integer;

use crate::Transactions;
use crate::queue::script_effect_queued;
use crate::share::Step;

/// Where a queued command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunsIn {
    /// With the keys, on their server.
    Block,
    /// Here, at its place among the others.
    Here,
    /// Here, and no server's command may follow.
    Last,
}

/// The place by the table's policy. `behind`: a command that must come last is queued already.
fn place_by_policy(
    core: &Core,
    key: usize,
    command: &'static Command,
    behind: bool,
    request: &Request<'_>,
) -> Result<RunsIn, Vec<u8>> {
    if command.flags.contains(Flags::NO_MULTI) {
        return Err(error::NOT_IN_TRANSACTION.to_vec());
    }
    let of_all = |one: bool| {
        if one && !behind {
            RunsIn::Block
        } else {
            RunsIn::Last
        }
    };
    Ok(match command.request {
        RequestPolicy::ByKey
        | RequestPolicy::Sort
        | RequestPolicy::Script(_)
        | RequestPolicy::MultiShard
        | RequestPolicy::Blocking(_)
        | RequestPolicy::Transaction(_)
        | RequestPolicy::Local(Local::Select) => RunsIn::Block,
        RequestPolicy::AnyNode => of_all(true),
        // Replies to what follows have the new form.
        RequestPolicy::Local(Local::Hello) => RunsIn::Last,
        // What follows is another user's, and the block has the connection of one.
        RequestPolicy::Local(Local::Auth) if core.passes_logins(key) => RunsIn::Last,
        // What follows in the block would be read before it is remembered.
        RequestPolicy::Local(Local::ClientTracking | Local::ClientCaching) => RunsIn::Last,
        RequestPolicy::Local(_) => RunsIn::Here,
        RequestPolicy::AllShards if command.reply == ReplyPolicy::Info => RunsIn::Here,
        // What the block runs by its SHA1 is given to its server in front of it.
        RequestPolicy::AllNodes if command.effect == Effect::LoadScript => RunsIn::Here,
        RequestPolicy::AllShards
        | RequestPolicy::AllNodes
        | RequestPolicy::RandomShards
        | RequestPolicy::SlotArgument => of_all(has_one_shard(core, key)),
        RequestPolicy::Scan | RequestPolicy::ShardIndex => RunsIn::Last,
        RequestPolicy::Pubsub(Pubsub::Publish | Pubsub::SPublish) => {
            // Elsewhere a message reaches only those that asked the server that it goes to.
            match reaches_all(core, key, request.arg(1)) {
                true => RunsIn::Block,
                false => RunsIn::Here,
            }
        }
        RequestPolicy::Pubsub(_) => RunsIn::Here,
        RequestPolicy::Refuse(Refusal::OneDatabase) => {
            match may_change_databases(core, key, command, request) {
                true => of_all(true),
                false => RunsIn::Here,
            }
        }
        RequestPolicy::Refuse(_) => return Err(core.refusal(key, command, request)),
        RequestPolicy::Container => {
            let mut line = Vec::new();
            error::wrong_arity(&mut line, command);
            return Err(line);
        }
    })
}

/// Whether MOVE or SWAPDB can be left to the one server of a block.
fn may_change_databases(core: &Core, key: usize, command: &'static Command, request: &Request<'_>) -> bool {
    match redplane_command::first_key(command, request.len(), |i| request.arg(i)) {
        Some(at) => !core.is_cluster(key, request.arg(at)),
        None => !core.has_cluster(key) && has_one_shard(core, key),
    }
}

/// Whether commands for all servers have one to go to, which is the one for commands without keys.
fn has_one_shard(core: &Core, key: usize) -> bool {
    let filter = &core.filters[core.clients[key].filter];
    let Some(pool) = filter.catch_all.as_ref().map(|route| route.pool) else {
        return false;
    };
    let live = core.pools[pool].live.as_ref();
    filter.prefixes.iter().all(|route| route.pool == pool)
        && live.is_some_and(|live| live.topology.shard_count() == 1)
}

/// Whether what one server of a channel's cluster publishes reaches all that are subscribed there.
fn reaches_all(core: &Core, key: usize, channel: &[u8]) -> bool {
    let route = core.filters[core.clients[key].filter].route(channel);
    let live = route.and_then(|route| core.pools[route.pool].live.as_ref());
    live.is_some_and(|live| live.is_redis() || live.topology.shard_count() == 1)
}

impl Transactions {
    /// Puts a command aside until EXEC.
    pub fn queue_command(
        &mut self,
        core: &mut Core,
        key: usize,
        served: Served,
        request: &Request<'_>,
        corrects: bool,
    ) {
        let place = match self.place_in_transaction(core, key, served, request) {
            Ok(place) => place,
            Err(refusal) => return self.spoil_transaction(core, key, &refusal),
        };
        match (place, served) {
            (RunsIn::Here | RunsIn::Last, Served::Known(command)) => {
                self.queue_here(core, key, command, place == RunsIn::Last, request);
            }
            _ => self.queue_in_block(core, key, served, request, corrects),
        }
    }

    /// A command's place; the words of its refusal where it has none.
    fn place_in_transaction(
        &self,
        core: &Core,
        key: usize,
        served: Served,
        request: &Request<'_>,
    ) -> Result<RunsIn, Vec<u8>> {
        let behind = self
            .open
            .get(key)
            .and_then(|transaction| transaction.block.behind);
        let name = match served {
            Served::Known(command) => command.name,
            Served::Custom(_) => "this command",
        };
        let place = match served {
            Served::Known(command) => place_by_policy(core, key, command, behind.is_some(), request)?,
            Served::Custom(_) => RunsIn::Block,
        };
        match behind.filter(|_| place == RunsIn::Block) {
            None => Ok(place),
            Some(last) => Err(out_of_order(name, last)),
        }
    }

    /// Puts a command aside that runs here.
    fn queue_here(
        &mut self,
        core: &mut Core,
        key: usize,
        command: &'static Command,
        last: bool,
        request: &Request<'_>,
    ) {
        let pausable = core.may_replicate(Served::Known(command), request);
        let Some(transaction) = self.open.get_mut(key) else {
            return;
        };
        if transaction.is_too_large() {
            return self.spoil_transaction(core, key, crate::queue::TOO_LARGE);
        }
        transaction.block.pausable |= pausable;
        if last {
            transaction.block.behind.get_or_insert(command.name);
        }
        let at = transaction.queued();
        transaction.share.add_request(at, command, request.frame);
        script_effect_queued(core, Served::Known(command), request);
        core.answer(key, crate::queue::QUEUED);
    }

    /// What an element of the block means here, besides being passed on.
    pub(super) fn meaning_in_block(
        &self,
        core: &Core,
        key: usize,
        served: Served,
        request: &Request<'_>,
        corrects: bool,
    ) -> Option<Step> {
        let Served::Known(command) = served else {
            return None;
        };
        match command.request {
            RequestPolicy::Local(Local::Select) => {
                let database = u32::try_from(integer(request.arg(1))?).ok()?;
                let wanders = self
                    .open
                    .get(key)
                    .is_some_and(|transaction| transaction.block.wanders);
                (wanders || database != core.database(key)).then_some(Step::Select(database))
            }
            RequestPolicy::Pubsub(step) if corrects => Some(Step::Publish(step, request.arg(1).to_vec())),
            _ => None,
        }
    }
}

fn out_of_order(name: &str, last: &str) -> Vec<u8> {
    let mut line = Vec::new();
    let text = format!("ERR '{name}' cannot follow '{last}' in a transaction: the proxy runs '{last}' last");
    encode::error(&mut line, text.as_bytes());
    line
}
