//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! Commands are queued here and leave with EXEC as one block in one write, on the shared connection to the slot's
//! primary: nothing of a half-built transaction ever sits on a connection that others use. WATCH needs a connection of
//! its own from then to EXEC, since it is the connection that the server guards; everything the client sends to that
//! node in between takes the same way.

mod exec;
mod watch;

use redplane_command::{Command, Flags, Local, Pubsub, RequestPolicy, Transaction as Step, error};

use crate::dispatch::{Request, Served, error_line};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::filter::RouteTo;
use crate::forward::rename::{Renamed, TOO_LONG};
use crate::pool::Target;

const QUEUED: &[u8] = b"+QUEUED\r\n";
/// Bytes above which nothing more is queued.
const MAX_BLOCK: usize = 512 * 1024 * 1024;

/// What a client has begun.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// Between MULTI and EXEC.
    open: bool,
    /// A command was refused while queueing: EXEC will be too.
    spoiled: bool,
    /// Keys lie on several nodes: EXEC answers CROSSSLOT.
    cross: bool,
    /// The pool and place of the first key, and the key as it is forwarded.
    target: Option<(usize, Target)>,
    name: Vec<u8>,
    /// A key has no host: EXEC has none either.
    nowhere: bool,
    /// Pools it refers to, which must not go before it does.
    held: Vec<usize>,
    route: Option<std::rc::Rc<RouteTo>>,
    writes: bool,
    /// A command in it waits while writes are paused.
    pausable: bool,
    /// A script is named by its SHA1.
    scripts: bool,
    frames: Vec<u8>,
    count: u32,
    watch: Option<Watch>,
    /// What a lost connection guarded is guarded no more: EXEC tells the client to begin again.
    lost: bool,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    pool: usize,
    connection: u32,
    host: u64,
    target: Target,
}

impl Transaction {
    /// Whether commands are queued.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// What it guarded is guarded no more.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether EXEC waits while writes are paused.
    pub(crate) fn may_write(&self) -> bool {
        self.pausable
    }

    /// Commands queued so far.
    pub(crate) fn queued(&self) -> u32 {
        self.count
    }

    /// Bytes of them.
    pub(crate) fn size(&self) -> usize {
        self.frames.capacity()
    }

    /// A command could not be queued.
    pub(crate) fn spoil(&mut self) {
        self.spoiled |= self.open;
    }

    /// The leased connection.
    pub(crate) fn lease(&self) -> Option<u32> {
        self.watch.map(|watch| watch.connection)
    }
}

impl Engine {
    /// Whether a command is dealt with at once inside a transaction.
    pub(crate) fn steers_transaction(&self, served: Served) -> bool {
        match served {
            Served::Known(command) => matches!(
                command.request,
                RequestPolicy::Transaction(_) | RequestPolicy::Local(Local::Quit | Local::Reset)
            ),
            Served::Custom(_) => false,
        }
    }

    pub(crate) fn steer_transaction(
        &mut self,
        key: usize,
        step: Step,
        command: &'static Command,
        request: Request<'_>,
    ) {
        let open = self.clients[key].transaction.as_ref().is_some_and(|t| t.open);
        match step {
            Step::Multi if open => self.answer(key, error::NESTED_MULTI),
            Step::Multi => {
                self.clients[key].transaction.get_or_insert_default().open = true;
                self.answer(key, b"+OK\r\n");
            }
            Step::Exec if !open => self.answer(key, error::EXEC_WITHOUT_MULTI),
            Step::Exec => self.exec(key, command),
            Step::Discard if !open => self.answer(key, error::DISCARD_WITHOUT_MULTI),
            Step::Discard => {
                self.drop_transaction(key);
                self.answer(key, b"+OK\r\n");
            }
            Step::Watch if open => self.answer(key, error::WATCH_INSIDE_MULTI),
            Step::Watch => self.watch(key, command, request),
            Step::Unwatch if open => self.queue_command(key, Served::Known(command), &request),
            Step::Unwatch => {
                self.drop_transaction(key);
                self.answer(key, b"+OK\r\n");
            }
        }
    }

    /// EXEC itself is malformed: Redis discards the transaction with the reason.
    pub(crate) fn abort_transaction(&mut self, key: usize, command: &'static Command) {
        self.drop_transaction(key);
        self.answer_with(key, |out| {
            let mut reason = Vec::new();
            error::wrong_arity(&mut reason, command);
            let reason = reason.strip_prefix(b"-ERR ").unwrap_or(&reason);
            out.extend_from_slice(b"-EXECABORT Transaction discarded because of: ");
            out.extend_from_slice(reason);
        });
    }

    /// Puts a command aside until EXEC.
    pub(crate) fn queue_command(&mut self, key: usize, served: Served, request: &Request<'_>) {
        let allowed = may_be_queued(served, || self.has_one_shard(key));
        if let Err(refusal) = allowed.and_then(|()| self.stays_in_database(key, served, request)) {
            return self.spoil_transaction(key, &refusal);
        }
        let queued = self.clients[key].transaction.as_ref();
        if queued.is_some_and(|transaction| transaction.frames.len() > MAX_BLOCK) {
            return self.spoil_transaction(key, b"-ERR the transaction is too large\r\n");
        }
        let at = match served {
            Served::Custom(_) => Some(1),
            Served::Known(command) => redplane_command::first_key(command, request.len(), |i| request.arg(i)),
        };
        let placed = at.and_then(|at| self.place_queued(key, request.arg(at)));
        if self.share_a_place(key, served, request, false) == Err(Failure::CrossSlot) {
            // Redis: keys of one command are judged at once, those of several at EXEC.
            return self.spoil_transaction(key, error::CROSSSLOT);
        }
        let renamed = at
            .zip(placed.as_ref())
            .filter(|(_, (_, _, route))| !route.keeps_key)
            .map(|(at, _)| self.renamed(key, served, request, at));
        if matches!(renamed, Some(None)) {
            return self.spoil_transaction(key, TOO_LONG);
        }
        let renamed = renamed.flatten();
        let queued = renamed.as_ref().map_or(*request, Renamed::request);
        let first_name = at.map_or_else(Vec::new, |at| queued.arg(at).to_vec());
        let writes =
            matches!(served, Served::Custom(_)) || matches!(served, Served::Known(c) if !c.is_read());
        let pausable = crate::pause::is_write(served);
        let scripts = matches!(served, Served::Known(c) if self.script_queued(c, request));
        let client = &mut self.clients[key];
        let Some(transaction) = &mut client.transaction else {
            return;
        };
        transaction.count += 1;
        transaction.scripts |= scripts;
        transaction.writes |= writes;
        transaction.pausable |= pausable;
        transaction.frames.extend_from_slice(queued.frame);
        transaction.nowhere |= at.is_some() && placed.is_none();
        if let Some((pool, target, route)) = placed {
            match transaction.target {
                None => {
                    transaction.target = Some((pool, target));
                    transaction.name = first_name;
                    let held: Vec<usize> = route.pools().collect();
                    transaction.held.extend_from_slice(&held);
                    transaction.route = Some(route);
                    self.hold_pools(&held);
                }
                // A push may have replaced the pool, but not the cluster.
                Some((known, place)) => {
                    let same = self.pools[known].key.cluster == self.pools[pool].key.cluster;
                    transaction.cross |= !same || !same_place(place, target);
                }
            }
        }
        self.answer(key, QUEUED);
    }

    /// Refuses a command, and with it the EXEC to come.
    fn spoil_transaction(&mut self, key: usize, reply: &[u8]) {
        if let Some(transaction) = &mut self.clients[key].transaction {
            transaction.spoiled = true;
        }
        self.answer(key, reply);
    }

    /// Whether commands for all servers have one to go to, which is the one for commands without keys.
    fn has_one_shard(&self, key: usize) -> bool {
        let filter = &self.filters[self.clients[key].filter];
        let Some(pool) = filter.catch_all.as_ref().map(|route| route.pool) else {
            return false;
        };
        let live = self.pools[pool].live.as_ref();
        filter.prefixes.iter().all(|route| route.pool == pool)
            && live.is_some_and(|live| live.topology.shard_count() == 1)
    }

    fn place_queued(&mut self, key: usize, name: &[u8]) -> Option<(usize, Target, std::rc::Rc<RouteTo>)> {
        let route = self.filters[self.clients[key].filter].route(name)?.clone();
        let renamed = self.rename(key, &route, name);
        let random = self.random.u64(..);
        let entry = &self.pools[route.pool];
        let live = entry.live.as_ref()?;
        let target = match live.target(&renamed, &entry.key.settings) {
            Target::Hash(hash) => Target::Host(live.topology.by_hash(hash, random)?),
            slot => slot,
        };
        Some((route.pool, target, route))
    }
}

fn same_place(a: Target, b: Target) -> bool {
    match (a, b) {
        (Target::Slot(a), Target::Slot(b)) => a == b,
        (Target::Host(a), Target::Host(b)) | (Target::Shard(a), Target::Shard(b)) => a == b,
        _ => false,
    }
}

/// Commands that concern every shard, or this connection, have no place in a block that one server runs. Where there
/// is only one, it is every shard.
fn may_be_queued(served: Served, has_one_shard: impl Fn() -> bool) -> Result<(), Vec<u8>> {
    let Served::Known(command) = served else {
        return Ok(());
    };
    if command.flags.contains(Flags::NO_MULTI) {
        return Err(error::NOT_IN_TRANSACTION.to_vec());
    }
    match command.request {
        RequestPolicy::ByKey
        | RequestPolicy::Script(_)
        | RequestPolicy::MultiShard
        | RequestPolicy::Blocking(_)
        | RequestPolicy::AnyNode
        | RequestPolicy::Transaction(Step::Unwatch)
        | RequestPolicy::Pubsub(Pubsub::Publish | Pubsub::SPublish)
        | RequestPolicy::Local(
            Local::Ping
            | Local::Echo
            | Local::Time
            | Local::Select
            | Local::Command
            | Local::CommandCount
            | Local::CommandDocs
            | Local::CommandGetKeys
            | Local::CommandGetKeysAndFlags
            | Local::CommandInfo
            | Local::CommandList,
        ) => Ok(()),
        RequestPolicy::AllShards | RequestPolicy::AllNodes | RequestPolicy::RandomShards
            if has_one_shard() =>
        {
            Ok(())
        }
        _ => {
            let mut line = Vec::new();
            error_line(
                &mut line,
                &format!(
                    "ERR '{}' is not supported inside a transaction by the proxy",
                    command.name
                ),
            );
            Err(line)
        }
    }
}
