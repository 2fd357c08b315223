//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! Commands are queued here and leave with EXEC as one block in one write, on the shared connection to the slot's
//! primary: nothing of a half-built transaction ever sits on a connection that others use. WATCH needs a connection of
//! its own from then to EXEC, since it is the connection that the server guards; everything the client sends to that
//! node in between takes the same way.

use redplane_command::{
    Command, CommandId, Flags, Local, Pubsub, RequestPolicy, SlotOf, Transaction as Step, error,
};
use redplane_config::redis_proxy::Protocol;
use redplane_resp::encode;

use crate::ConnId;
use crate::client::{Slot, Waiter};
use crate::connection::{Pending, Purpose};
use crate::dispatch::{Request, Served, error_line};
use crate::engine::{Action, Engine};
use crate::failure::Failure;
use crate::filter::RouteTo;
use crate::forward::{Payload, Sending};
use crate::pool::{Access, Target};
use crate::redirect;
use crate::settle::Answer;
use crate::upstream::Gone;

const QUEUED: &[u8] = b"+QUEUED\r\n";
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
/// Bytes above which nothing more is queued.
const MAX_BLOCK: usize = 512 * 1024 * 1024;
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

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
        if let Err(refusal) = may_be_queued(served) {
            if let Some(transaction) = &mut self.clients[key].transaction {
                transaction.spoiled = true;
            }
            return self.answer(key, &refusal);
        }
        if let Some(transaction) = &mut self.clients[key].transaction
            && transaction.frames.len() > MAX_BLOCK
        {
            transaction.spoiled = true;
            return self.answer(key, b"-ERR the transaction is too large\r\n");
        }
        let at = match served {
            Served::Custom(_) => Some((1, false)),
            Served::Known(command) => {
                let slots = redplane_command::slots(command, request.len(), |i| request.arg(i));
                redplane_command::first_key(command, request.len(), |i| request.arg(i))
                    .map(|first| (first, matches!(slots, SlotOf::Cross)))
            }
        };
        let placed = at.and_then(|(at, _)| self.place_queued(key, request.arg(at)));
        let renamed = at
            .zip(placed.as_ref())
            .filter(|(_, p)| !p.2.keeps_key)
            .map(|((at, _), placed)| (at, self.rename(key, &placed.2, request.arg(at))));
        let first_name = match (at, &renamed) {
            (_, Some((_, name))) => name.clone(),
            (Some((at, _)), None) => request.arg(at).to_vec(),
            (None, None) => Vec::new(),
        };
        let writes =
            matches!(served, Served::Custom(_)) || matches!(served, Served::Known(c) if !c.is_read());
        let client = &mut self.clients[key];
        let Some(transaction) = &mut client.transaction else {
            return;
        };
        transaction.count += 1;
        transaction.writes |= writes;
        match renamed {
            None => transaction.frames.extend_from_slice(request.frame),
            Some((at, name)) => {
                encode::array(&mut transaction.frames, request.len());
                for i in 0..request.len() {
                    encode::bulk(
                        &mut transaction.frames,
                        if i == at { &name } else { request.arg(i) },
                    );
                }
            }
        }
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
        if let Some(transaction) = &mut self.clients[key].transaction {
            let by_slot = matches!(transaction.target, Some((_, Target::Slot(_))));
            transaction.cross |= at.is_some_and(|(_, cross)| cross) && by_slot;
        }
        self.answer(key, QUEUED);
    }

    fn place_queued(&mut self, key: usize, name: &[u8]) -> Option<(usize, Target, std::rc::Rc<RouteTo>)> {
        let route = self.filters[self.clients[key].filter].route(name)?.clone();
        self.refresh_pool(route.pool);
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

    fn exec(&mut self, key: usize, command: &'static Command) {
        let Some(mut transaction) = self.clients[key].transaction.take() else {
            return self.answer(key, error::EXEC_WITHOUT_MULTI);
        };
        let held = std::mem::take(&mut transaction.held);
        self.exec_taken(key, command, &transaction);
        self.release_pools(&held);
    }

    fn exec_taken(&mut self, key: usize, command: &'static Command, transaction: &Transaction) {
        let lost = transaction.lost || transaction.watch.is_some_and(|watch| self.has_moved(watch));
        if transaction.spoiled
            || transaction.cross
            || lost
            || (transaction.count == 0 && transaction.watch.is_none())
        {
            self.end_lease(transaction.lease());
            let resp3 = self.is_resp3(key);
            return match (transaction.spoiled, transaction.cross, lost) {
                (true, ..) => self.answer(key, error::EXECABORT),
                (_, true, _) => self.answer(key, error::CROSSSLOT),
                // The guard is gone with its connection: the client has to begin again, as after a failed WATCH.
                (.., true) => self.answer(key, null_array(resp3)),
                _ => self.answer(key, b"*0\r\n"),
            };
        }
        if transaction.nowhere {
            self.end_lease(transaction.lease());
            return self.fail_now(key, command.id, Failure::NoHost);
        }
        match self.exec_connection(key, transaction) {
            Ok(connection) => self.send_block(key, command, transaction, connection),
            Err(failure) => {
                self.end_lease(transaction.lease());
                self.fail_now(key, command.id, failure);
            }
        }
    }

    /// The connection EXEC goes to: the leased one, which must lead to the node of the keys.
    fn exec_connection(&mut self, key: usize, transaction: &Transaction) -> Result<u32, Failure> {
        let (pool, target) = match (transaction.target, transaction.watch) {
            // Placed anew: hosts may have changed since the first command was queued.
            (Some((pool, _)), _) => {
                self.refresh_pool(pool);
                let entry = &self.pools[pool];
                let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
                (pool, live.target(&transaction.name, &entry.key.settings))
            }
            (None, Some(watch)) => return Ok(watch.connection),
            (None, _) => {
                let route = self.keyless_route(key).ok_or(Failure::NoHost)?;
                (route.pool, Target::Any)
            }
        };
        self.refresh_pool(pool);
        match transaction.watch {
            Some(watch) => {
                let entry = &self.pools[pool];
                let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
                let at = live.pick(target, Access::Primary, entry.key.settings.read_policy, "", 0)?;
                let host = live.topology.hosts.get(at).map(|to| to.id);
                match watch.pool == pool && host == Some(watch.host) {
                    true => Ok(watch.connection),
                    false => Err(Failure::CrossSlot),
                }
            }
            None => self.connection_for(pool, target, Access::Primary),
        }
    }

    /// Whether the slot of a guarded key is served elsewhere by now.
    fn has_moved(&self, watch: Watch) -> bool {
        let Target::Slot(_) = watch.target else {
            return false;
        };
        let entry = &self.pools[watch.pool];
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
        &mut self,
        key: usize,
        command: &'static Command,
        transaction: &Transaction,
        connection: u32,
    ) {
        let mut block = self.buffers.take_empty();
        block.extend_from_slice(MULTI);
        block.extend_from_slice(&transaction.frames);
        block.extend_from_slice(EXEC);
        let waiter = self.expect_reply(key, Slot::Waiting);
        let exec = Pending {
            waiter: Waiter {
                part: transaction.count,
                ..waiter
            },
            since: self.now,
            at: 0,
            len: block.len() as u32,
            command: command.id,
            purpose: Purpose::Exec,
            hops: 0,
        };
        self.append_block(connection, &block, exec);
        self.mirror_block(transaction, command.id, &block);
        self.buffers.give(block);
    }

    /// All parts of the block refer to its beginning, so that it is kept as a whole until EXEC is answered.
    fn append_block(&mut self, connection: u32, block: &[u8], exec: Pending) {
        let at = self.begin_send(connection);
        self.connections[connection as usize].out.append(block);
        for _ in 0..=exec.waiter.part {
            self.note_sent(
                connection,
                Pending {
                    at,
                    purpose: Purpose::Queued,
                    ..exec
                },
            );
        }
        self.note_sent(connection, Pending { at, ..exec });
    }

    fn mirror_block(&mut self, transaction: &Transaction, command: CommandId, block: &[u8]) {
        let Some(route) = &transaction.route else {
            return;
        };
        for mirror in route.mirrors.iter() {
            if mirror.writes_only && !transaction.writes || !self.chance(mirror.parts_per_million) {
                continue;
            }
            let found = self.connection_for_key(mirror.pool, &transaction.name, Access::Primary);
            let Some(connection) = found.ok().filter(|id| !self.is_full_mirror(*id)) else {
                self.count_lost_mirror(mirror.pool);
                continue;
            };
            let waiter = Waiter {
                client: u32::MAX,
                generation: 0,
                sequence: 0,
                part: transaction.count,
            };
            let at = self.begin_send(connection);
            self.connections[connection as usize].out.append(block);
            let pending = Pending {
                waiter,
                since: self.now,
                at,
                len: 0,
                command,
                purpose: Purpose::Mirror,
                hops: 0,
            };
            (0..transaction.count + 2).for_each(|_| self.note_sent(connection, pending));
        }
    }

    /// The reply of MULTI or of a queued command: only a redirection matters.
    pub(crate) fn queued_reply(&mut self, key: usize, raw: &[u8], is_error: bool) {
        if is_error && redirect::parse(raw).is_some() {
            self.connections[key]
                .moved_in_transaction
                .get_or_insert_with(|| raw.to_vec());
        }
    }

    /// EXEC's reply. When the slot had moved nothing was executed, and the whole block goes to its new owner, unless
    /// a WATCH guarded it: then the client is told to begin again.
    pub(crate) fn exec_reply(&mut self, key: usize, pending: &Pending, raw: &[u8]) {
        let connection = &mut self.connections[key];
        let moved = connection.moved_in_transaction.take();
        let moved = match redirect::parse(raw) {
            // The slot went between the commands and EXEC.
            Some(_) => Some(raw.to_vec()),
            None => moved.filter(|_| raw.starts_with(b"-EXECABORT")),
        };
        let leased = connection.lease.take().is_some();
        let (pool, follows) = (
            connection.pool,
            self.pools[connection.pool].key.settings.enable_redirection,
        );
        let resp3 = self.pools[pool].key.protocol == Protocol::Resp3;
        let answer = match moved {
            Some(_) if leased => Answer::Raw(null_array(resp3)),
            Some(moved)
                if follows
                    && pending.hops < redirect::MAX_HOPS
                    && self.move_block(key, pool, pending, &moved) =>
            {
                return;
            }
            Some(_) if follows && redirect::parse(raw).is_some() => Answer::Failed(Failure::Upstream),
            _ => Answer::Raw(raw),
        };
        self.settle(pending.waiter, pending.command, pending.since, answer);
        if leased {
            self.end_lease(Some(key as u32));
        }
    }

    fn move_block(&mut self, key: usize, pool: usize, pending: &Pending, moved: &[u8]) -> bool {
        let block = self.connections[key]
            .out
            .range(pending.at, pending.len as usize)
            .map(<[u8]>::to_vec);
        let (Some(block), Some(to)) = (block, redirect::parse(moved)) else {
            return false;
        };
        let Some(address) = self.target_of(key, to) else {
            return false;
        };
        self.tell_redirected(pool, to, address);
        match self.connection_to(pool, address, "") {
            Ok(target) => {
                // Between MULTI and EXEC the word holds for every command.
                if to.ask {
                    self.setup(target, Purpose::Setup, &[b"asking"]);
                }
                self.append_block(
                    target,
                    &block,
                    Pending {
                        hops: pending.hops + 1,
                        ..*pending
                    },
                );
                true
            }
            Err(_) => false,
        }
    }

    fn watch(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let first = request.arg(1);
        let Some((pool, target, route)) = self.place_queued(key, first) else {
            return self.fail_now(key, command.id, Failure::NoHost);
        };
        let cross = matches!(
            redplane_command::slots(command, request.len(), |i| request.arg(i)),
            SlotOf::Cross
        );
        if cross && matches!(target, Target::Slot(_)) {
            return self.answer(key, error::CROSSSLOT);
        }
        let leased = match self.lease(key, pool, target) {
            Ok(leased) => leased,
            Err(failure) => return self.fail_now(key, command.id, failure),
        };
        let mut frame = self.buffers.take_empty();
        encode::array(&mut frame, request.len());
        encode::bulk(&mut frame, b"WATCH");
        for i in 1..request.len() {
            encode::bulk(&mut frame, &self.rename(key, &route, request.arg(i)));
        }
        let waiter = self.expect_reply(key, Slot::Waiting);
        let sending = Sending {
            waiter,
            command: command.id,
            purpose: Purpose::Pinned,
        };
        self.send(leased, sending, Payload::Copied(&frame));
        self.buffers.give(frame);
    }

    /// The client's own connection to the node of a key; one node only.
    fn lease(&mut self, key: usize, pool: usize, target: Target) -> Result<u32, Failure> {
        let entry = &self.pools[pool];
        let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
        let at = live.pick(target, Access::Primary, entry.key.settings.read_policy, "", 0)?;
        let host = live.topology.hosts.get(at).cloned().ok_or(Failure::NoHost)?;
        let client = &self.clients[key];
        if let Some(watch) = client.transaction.as_ref().and_then(|t| t.watch) {
            return match watch.pool == pool && watch.host == host.id {
                true => Ok(watch.connection),
                false => Err(Failure::CrossSlot),
            };
        }
        let generation = client.generation;
        let id = host.id;
        let connection = self.connect(pool, host, false)?;
        self.connections[connection as usize].lease = Some((key as u32, generation));
        self.hold_pools(&[pool]);
        let transaction = self.clients[key].transaction.get_or_insert_default();
        transaction.held.push(pool);
        transaction.watch = Some(Watch {
            pool,
            connection,
            host: id,
            target,
        });
        Ok(connection)
    }

    /// The leased connection, for a request that goes to its node.
    #[cold]
    pub(crate) fn leased_for(&self, key: usize, pool: usize, name: &[u8]) -> Option<u32> {
        let watch = self.clients[key].transaction.as_ref()?.watch?;
        let entry = &self.pools[pool];
        let live = entry.live.as_ref()?;
        let target = live.target(name, &entry.key.settings);
        let at = live
            .pick(target, Access::Primary, entry.key.settings.read_policy, "", 0)
            .ok()?;
        let same = watch.pool == pool && live.topology.hosts.get(at)?.id == watch.host;
        same.then_some(watch.connection)
    }

    /// Forgets what was begun; the server forgets what it guarded when the lease ends.
    pub(crate) fn drop_transaction(&mut self, key: usize) {
        if let Some(transaction) = self.clients[key].transaction.take() {
            self.end_transaction(&transaction);
        }
    }

    /// Lets go of what a transaction held.
    pub(crate) fn end_transaction(&mut self, transaction: &Transaction) {
        self.end_lease(transaction.lease());
        self.release_pools(&transaction.held);
    }

    /// Gives a leased connection up. Replies still to come on it are waited for first.
    pub(crate) fn end_lease(&mut self, lease: Option<u32>) {
        let Some(connection) = lease.and_then(|id| self.connections.get_mut(id as usize)) else {
            return;
        };
        connection.lease = None;
        connection.draining = true;
        if connection.is_idle() {
            let id = ConnId(lease.unwrap_or_default());
            self.actions.push(Action::CloseUpstream(id));
            self.upstream_gone(id, Gone::Local);
        }
    }

    /// The leased connection broke: what it guarded is guarded no more.
    pub(crate) fn lease_lost(&mut self, lease: u32, client: u32, generation: u32) {
        let Some(client) = self
            .clients
            .get_mut(client as usize)
            .filter(|c| c.generation == generation)
        else {
            return;
        };
        // Behind EXEC the client may have begun anew, on another connection.
        let transaction = client.transaction.as_mut();
        if let Some(transaction) = transaction.filter(|transaction| transaction.lease() == Some(lease)) {
            transaction.watch = None;
            transaction.lost = true;
        }
    }
}

/// What EXEC answers when a watched key has changed.
fn null_array(resp3: bool) -> &'static [u8] {
    if resp3 { b"_\r\n" } else { b"*-1\r\n" }
}

fn same_place(a: Target, b: Target) -> bool {
    match (a, b) {
        (Target::Slot(a), Target::Slot(b)) => a == b,
        (Target::Host(a), Target::Host(b)) => a == b,
        _ => false,
    }
}

/// Commands that concern every shard, or this connection, have no place in a block that one server runs.
fn may_be_queued(served: Served) -> Result<(), Vec<u8>> {
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
        | RequestPolicy::Local(Local::Ping | Local::Echo | Local::Time | Local::Select) => Ok(()),
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
