//! WAIT and WAITAOF: until replicas (or disks) have what this client wrote.
//!
//! A server answers for the writes of the connection it is asked on. A leased connection has written nothing, and on a
//! shared one the question would hold everybody up; so the proxy asks what can be answered at once, and asks again
//! until it is enough or the time is over.
//!
//! - WAIT: `INFO replication` of every primary that the client wrote to. The first answer's `master_repl_offset` lies
//!   at or behind all its writes, since its input rests until they are answered; a replica counts when its offset has
//!   got there. That is right however the writes travelled. Others' writes before it count as well, as they do for
//!   Redis 7.0, where any command moves a client's offset.
//! - WAITAOF: itself, inside a transaction on the shared connection, where it does not block.
//!
//! Replicas tell their offset once a second, or when a client waits for it. So where it matters one does, for a
//! millisecond and for more replicas than there are, on a leased connection.

mod answers;
mod nudge;
mod primaries;

use redplane_command::{Command, error};
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_flow::answer::error_line;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;
use redplane_redis_flow::send::{Payload, Sending};
use redplane_resp::encode;
use redplane_resp::number::integer;

use crate::Blocking;
use crate::acknowledged::answers::{Count, replicated, synced, transaction};
use crate::acknowledged::nudge::NUDGE;
use crate::acknowledged::primaries::{Primary, host_place, written_primaries};

/// Rounds that follow each other as fast as servers answer; then they are paced.
const QUICK_ROUNDS: u32 = 8;

/// Microseconds between two later rounds.
const PAUSE: u64 = 10_000;

/// Replicas that no primary has.
const BEYOND: &[u8] = b"2147483647";

/// A client that waits for replicas.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    command: &'static Command,
    waiter: Waiter,
    since: u64,
    question: ReplicaQuestion,
    wanted: Count,
    until: Option<u64>,
    primaries: Vec<Primary>,
    /// Answers of this round that are still to come.
    open: usize,
    rounds: u32,
    next: u64,
}

/// What primaries are asked.
#[derive(Debug)]
enum ReplicaQuestion {
    Offsets,
    /// A whole transaction.
    Synced(Vec<u8>),
}

impl Acknowledged {
    /// What holds for every primary.
    fn least(&self) -> Count {
        let least = |of: fn(&Primary) -> i64| self.primaries.iter().map(of).min().unwrap_or(0);
        Count {
            local: least(|primary| primary.count.local),
            replicas: least(|primary| primary.count.replicas),
        }
    }

    /// Its client sends nothing more: it gets what there is by then. False when that is past.
    pub(super) fn hurry(&mut self, now: u64) -> bool {
        let last = self.since + crate::LAST_REPLY;
        self.until = self.until.into_iter().chain([last]).min();
        now < last
    }

    fn is_enough(&self, count: Count) -> bool {
        count.local >= self.wanted.local && count.replicas >= self.wanted.replicas
    }
}

impl Blocking {
    /// WAIT and WAITAOF.
    pub fn wait_for_replicas(
        &mut self,
        core: &mut Core,
        key: usize,
        command: &'static Command,
        request: &Request<'_>,
    ) {
        let asks_disks = request.len() > 3;
        let number = |at: usize| integer(request.arg(at));
        let wanted = match (asks_disks, number(1), number(2)) {
            (false, Some(replicas), _) => Count { local: 0, replicas },
            (false, None, _) => return core.answer(key, error::NOT_AN_INTEGER),
            // The server says what is wrong with them, and then there is nothing to wait for.
            (true, local, replicas) => Count {
                local: local.unwrap_or(i64::MIN),
                replicas: replicas.unwrap_or(i64::MIN),
            },
        };
        let time = match number(request.len() - 1) {
            None => {
                return core.answer_with(key, |out| {
                    error_line(out, "ERR timeout is not an integer or out of range");
                });
            }
            Some(..0) => {
                return core.answer_with(key, |out| error_line(out, "ERR timeout is negative"));
            }
            Some(millis) => millis.unsigned_abs().saturating_mul(1000),
        };
        let primaries = written_primaries(core, key);
        if primaries.is_empty() {
            return core.fail_now(key, command.id, Failure::NoHost);
        }
        let question = match asks_disks {
            false => ReplicaQuestion::Offsets,
            true => ReplicaQuestion::Synced(transaction(request)),
        };
        let waiter = core.expect_reply(key, Slot::Waiting);
        core.rest_behind(key);
        let hung_up = core.clients[key].session.hung_up;
        let until = (time > 0).then(|| core.now.saturating_add(time));
        let last = hung_up.then_some(core.now + crate::LAST_REPLY);
        let acknowledged = Acknowledged {
            command,
            waiter,
            since: core.now,
            question,
            wanted,
            until: until.into_iter().chain(last).min(),
            primaries,
            open: 0,
            rounds: 0,
            next: 0,
        };
        self.acknowledged.insert(key as u32, acknowledged);
        core.shared.heads.client_blocked();
        self.ask_primaries(core, key);
    }

    /// One round of questions.
    fn ask_primaries(&mut self, core: &mut Core, key: usize) {
        let Some(mut acknowledged) = self.acknowledged.remove(&(key as u32)) else {
            return;
        };
        let mut failed = None;
        for (part, primary) in acknowledged.primaries.iter().enumerate() {
            let found = host_place(core, primary)
                .and_then(|at| core.connection_for(primary.pool, Target::Host(at), Access::Primary));
            let connection = match found {
                Ok(connection) => connection,
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            };
            let sending = Sending {
                waiter: Waiter {
                    part: part as u32,
                    ..acknowledged.waiter
                },
                command: acknowledged.command.id,
                purpose: Purpose::Acknowledged,
            };
            match &acknowledged.question {
                ReplicaQuestion::Offsets => {
                    let mut frame = core.buffers.take_empty();
                    encode::request(&mut frame, &[b"INFO", b"replication"]);
                    core.send(connection, sending, Payload::Copied(&frame));
                    core.buffers.give(frame);
                }
                // MULTI, the question and EXEC: the last of the three replies says something.
                ReplicaQuestion::Synced(block) => {
                    let leading = (Purpose::Acknowledged, 2);
                    core.send_behind(connection, sending, Payload::Copied(block), leading);
                }
            }
            acknowledged.open += 1;
        }
        let (waiter, command, since) = (acknowledged.waiter, acknowledged.command.id, acknowledged.since);
        match failed {
            None => {
                self.acknowledged.insert(key as u32, acknowledged);
            }
            Some(failure) => {
                core.shared.heads.client_unblocked();
                core.settle(waiter, command, since, Answer::Failed(failure));
            }
        }
    }

    fn acknowledged_of(&mut self, waiter: Waiter) -> Option<&mut Acknowledged> {
        let own = self.acknowledged.get_mut(&waiter.client)?;
        let same = own.waiter.generation == waiter.generation && own.waiter.sequence == waiter.sequence;
        same.then_some(own)
    }

    /// What a primary answered.
    pub fn acknowledged_reply(&mut self, core: &mut Core, waiter: Waiter, raw: &[u8]) {
        // A server that answers MULTI as if it were EXEC has said more than it was asked.
        let Some(own) = self.acknowledged_of(waiter).filter(|own| own.open > 0) else {
            return;
        };
        let Some(primary) = own.primaries.get_mut(waiter.part as usize) else {
            return;
        };
        let count = match &own.question {
            _ if raw.starts_with(b"-") => Err(raw),
            ReplicaQuestion::Synced(_) if raw.starts_with(b"+") => return,
            ReplicaQuestion::Synced(_) => synced(raw),
            ReplicaQuestion::Offsets => replicated(raw, &mut primary.needed),
        };
        match count {
            Ok(count) => primary.count = count,
            Err(refusal) => return self.end_acknowledged(core, waiter, Answer::Raw(refusal)),
        }
        own.open -= 1;
        if own.open == 0 {
            self.judge_acknowledged(core, waiter.client as usize);
        }
    }

    /// All have answered: it is enough, too late, or asked again.
    fn judge_acknowledged(&mut self, core: &mut Core, key: usize) {
        let now = core.now;
        let Some(own) = self.acknowledged.get_mut(&(key as u32)) else {
            return;
        };
        if own.is_enough(own.least()) || own.until.is_some_and(|until| now >= until) {
            return self.answer_acknowledged(core, key);
        }
        own.rounds += 1;
        own.next = now + PAUSE;
        let quick = own.rounds < QUICK_ROUNDS;
        let wanted = own.wanted.replicas;
        let mut nudges = Vec::new();
        for (part, primary) in own.primaries.iter_mut().enumerate() {
            if primary.count.replicas < wanted && (primary.nudged == 0 || now >= primary.nudged + NUDGE) {
                primary.nudged = now;
                nudges.push(part);
            }
        }
        nudges.into_iter().for_each(|part| self.nudge(core, key, part));
        if quick {
            self.ask_primaries(core, key);
        }
    }

    /// A primary that was asked is gone.
    pub fn acknowledged_lost(&mut self, core: &mut Core, waiter: Waiter) {
        self.end_acknowledged(core, waiter, Answer::Failed(Failure::Upstream));
    }

    fn end_acknowledged(&mut self, core: &mut Core, waiter: Waiter, answer: Answer<'_>) {
        if self.acknowledged_of(waiter).is_some()
            && let Some(own) = self.acknowledged.remove(&waiter.client)
        {
            core.shared.heads.client_unblocked();
            core.settle(own.waiter, own.command.id, own.since, answer);
        }
    }

    /// CLIENT UNBLOCK.
    pub(super) fn stop_acknowledged(&mut self, core: &mut Core, key: usize, with_error: bool) {
        match self.acknowledged.get(&(key as u32)).map(|own| own.waiter) {
            Some(waiter) if with_error => self.end_acknowledged(core, waiter, Answer::Raw(error::UNBLOCKED)),
            _ => self.answer_acknowledged(core, key),
        }
    }

    /// Its client is gone.
    pub fn abandon_acknowledged(&mut self, core: &Core, key: u32) {
        if self.acknowledged.remove(&key).is_some() {
            core.shared.heads.client_unblocked();
        }
    }

    /// What there is, be it enough or not.
    fn answer_acknowledged(&mut self, core: &mut Core, key: usize) {
        let Some(own) = self.acknowledged.get(&(key as u32)) else {
            return;
        };
        let least = own.least();
        let mut out = Vec::new();
        if let ReplicaQuestion::Synced(_) = own.question {
            encode::array(&mut out, 2);
            encode::integer(&mut out, least.local);
        }
        encode::integer(&mut out, least.replicas);
        self.end_acknowledged(core, own.waiter, Answer::Raw(&out));
    }
}
