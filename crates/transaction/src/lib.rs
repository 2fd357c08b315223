//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! Commands are queued here and leave with EXEC as one block in one write, on the shared connection to the slot's
//! primary: nothing of a half-built transaction ever sits on a connection that others use. WATCH needs a connection of
//! its own from then to EXEC, since it is the connection that the server guards; what the client sends meanwhile goes out
//! one request at a time, so that nothing overtakes on one way what is on the other.

mod exec;
mod place;
mod queue;
mod share;
mod watch;

use redplane_command::{Command, Transaction as Step, error};
use redplane_redis_core::client::features::{Feature, PerClient};
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pool::Target;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::{Request, Served};

use crate::queue::{MAX_BLOCK, same_place};
use crate::share::Step as Meaning;
use crate::watch::end_transaction;

pub use exec::queued_reply;
pub use share::{Piece, Share, Standing};

/// What a client has begun.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Between MULTI and EXEC.
    open: bool,
    /// A command was refused while queueing: EXEC will be too.
    spoiled: bool,
    /// Where it goes, by its keys.
    destination: Destination,
    /// Pools it refers to, which must not go before it does.
    pools: Vec<usize>,
    /// What the server runs.
    block: Block,
    /// What is done here when EXEC is answered.
    share: Share,
    watch: Option<Watch>,
    /// What a lost connection guarded is guarded no more: EXEC tells the client to begin again.
    lost: bool,
}

/// Where a transaction goes, by the keys of its commands.
#[derive(Debug, Default)]
struct Destination {
    /// The pool and place of the first key.
    target: Option<(usize, Target)>,
    /// That key as it is forwarded.
    name: Vec<u8>,
    /// The route of that key.
    route: Option<std::rc::Rc<RouteTo>>,
    /// Keys lie on several nodes: EXEC answers CROSSSLOT.
    cross: bool,
    /// A key has no host: EXEC has none either.
    nowhere: bool,
}

/// The commands of a transaction that its server runs.
#[derive(Debug, Default)]
struct Block {
    /// The requests, one behind the other.
    frames: Vec<u8>,
    /// How many they are.
    count: u32,
    writes: bool,
    /// A command waits while writes are paused.
    pausable: bool,
    /// Functions that are called, which may write.
    calls: Vec<Vec<u8>>,
    /// A script is named by its SHA1.
    scripts: bool,
    /// It leaves the client's database: the connection has to be led back.
    wanders: bool,
    /// A command that runs behind the block: no command of the block may follow.
    behind: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    pool: usize,
    connection: u32,
    host: u64,
    target: Target,
    /// A redirection led there, and the slot map may not say so yet: the server judges, not the map.
    redirected: bool,
    /// That was ASK: what goes there says ASKING first.
    asks: bool,
    /// Something is guarded.
    holds: bool,
}

impl Watch {
    /// Whether keys of this place are guarded where the map does not say.
    fn leads(&self, pool: usize, target: Target) -> bool {
        self.redirected && self.pool == pool && same_place(self.target, target)
    }
}

impl Transaction {
    /// Whether commands are queued.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What it guarded is guarded no more.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether EXEC waits while writes are paused.
    pub(crate) fn may_write(&self) -> bool {
        self.block.pausable
    }

    /// Commands queued so far.
    pub fn queued(&self) -> u32 {
        self.block.count + self.share.count()
    }

    /// Bytes of them.
    pub fn size(&self) -> usize {
        self.block.frames.capacity() + self.share.size()
    }

    fn is_too_large(&self) -> bool {
        self.block.frames.len() + self.share.size() > MAX_BLOCK
    }

    /// The next command of the block means something here, too.
    fn note_meaning(&mut self, meaning: Meaning) {
        self.block.wanders |= matches!(meaning, Meaning::Select(_));
        let at = self.queued();
        self.share.add(at, meaning);
    }

    /// Commands between MULTI and EXEC as the server gets them.
    fn sent(&self) -> u32 {
        self.block.count + u32::from(self.block.wanders)
    }

    /// A command could not be queued.
    pub fn spoil(&mut self) {
        self.spoiled |= self.open;
    }

    /// What goes out on the leased connection says ASKING first.
    fn asks(&self) -> bool {
        self.watch.is_some_and(|watch| watch.asks)
    }

    /// The leased connection.
    pub fn lease(&self) -> Option<u32> {
        self.watch.map(|watch| watch.connection)
    }
}

/// The transactions of one worker's clients.
#[derive(Debug)]
pub struct Transactions {
    /// What clients have begun with MULTI or WATCH.
    open: PerClient<Transaction>,
    /// What is done here of those whose EXEC was sent.
    shares: PerClient<Share>,
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            open: PerClient::new(Feature::Transaction),
            shares: PerClient::new(Feature::Share),
        }
    }
}

impl Transactions {
    /// What a client has begun.
    #[inline]
    pub fn of(&self, key: usize) -> Option<&Transaction> {
        self.open.get(key)
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, key: usize) -> Option<&mut Transaction> {
        self.open.get_mut(key)
    }

    /// A client is gone, and all that it had begun.
    pub fn forget(&mut self, core: &mut Core, key: usize) {
        if let Some(transaction) = self.open.forget(key) {
            end_transaction(core, &transaction);
        }
        self.shares.forget(key);
    }

    /// What is left to be done here of a client's transaction, lent until it is put back.
    pub fn take_share(&mut self, core: &mut Core, key: usize) -> Option<Box<Share>> {
        self.shares.take(key, &mut core.clients[key])
    }

    /// Puts it back.
    pub fn put_share(&mut self, core: &mut Core, key: usize, share: Box<Share>) {
        self.shares.put(key, &mut core.clients[key], share);
    }

    /// Whether a client's commands are queued.
    pub fn is_in_transaction(&self, key: usize) -> bool {
        self.open.get(key).is_some_and(Transaction::is_open)
    }

    /// MULTI, EXEC, DISCARD, WATCH and UNWATCH.
    pub fn steer_transaction(
        &mut self,
        core: &mut Core,
        key: usize,
        step: Step,
        command: &'static Command,
        request: Request<'_>,
    ) {
        let open = self.open.get(key).is_some_and(|t| t.open);
        match step {
            Step::Multi if open => core.answer(key, error::NESTED_MULTI),
            Step::Multi => {
                self.open.of(key, &mut core.clients[key], Default::default).open = true;
                core.answer(key, b"+OK\r\n");
            }
            Step::Exec if !open => core.answer(key, error::EXEC_WITHOUT_MULTI),
            Step::Exec => self.exec(core, key, command),
            Step::Discard if !open => core.answer(key, error::DISCARD_WITHOUT_MULTI),
            Step::Discard => {
                self.drop_transaction(core, key);
                core.answer(key, b"+OK\r\n");
            }
            Step::Watch if open => core.answer(key, error::WATCH_INSIDE_MULTI),
            Step::Watch => self.watch(core, key, command, request),
            Step::Unwatch if open => self.queue_command(core, key, Served::Known(command), &request, false),
            Step::Unwatch => {
                self.drop_transaction(core, key);
                core.answer(key, b"+OK\r\n");
            }
        }
    }

    /// EXEC itself cannot be: Redis discards the transaction with the reason.
    pub fn abort_transaction(&mut self, core: &mut Core, key: usize, reason_in: impl FnOnce(&mut Vec<u8>)) {
        self.drop_transaction(core, key);
        core.answer_with(key, |out| {
            let mut reason = Vec::new();
            reason_in(&mut reason);
            let words = reason
                .strip_prefix(b"-ERR ")
                .or_else(|| reason.strip_prefix(b"-"));
            let reason = words.unwrap_or(&reason);
            out.extend_from_slice(b"-EXECABORT Transaction discarded because of: ");
            out.extend_from_slice(reason);
        });
    }

    /// Of an EXEC: the functions that its block calls, which may write, and the pool that it goes to where that is known.
    pub fn executed_calls(&self, key: usize, served: Served) -> Option<(Option<usize>, &[Vec<u8>])> {
        let executes = matches!(served, Served::Known(command) if command.executes());
        let transaction = self.open.get(key).filter(|_| executes)?;
        let calls = &transaction.block.calls;
        let pool = transaction.destination.target.map(|(pool, _)| pool);
        (!calls.is_empty()).then_some((pool, calls))
    }

    /// Whether this is the EXEC of a transaction that may write.
    pub fn executes_writes(&self, key: usize, served: Served) -> bool {
        let executes = matches!(served, Served::Known(command) if command.executes());
        executes && self.open.get(key).is_some_and(Transaction::may_write)
    }
}

/// Whether a command is dealt with at once inside a transaction. Whose login has ended there may log in again.
pub fn steers_transaction(core: &Core, key: usize, served: Served) -> bool {
    match served {
        _ if !core.clients[key].authenticated => true,
        Served::Known(command) => command.steers_transaction(),
        Served::Custom(_) => false,
    }
}
