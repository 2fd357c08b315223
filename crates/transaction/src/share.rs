//! The proxy's share of a transaction: commands that no server runs, and what replies of the block mean here.
//!
//! They run when EXEC's reply has come, so that a transaction that is not executed leaves nothing behind. An array is its
//! header and its elements one behind the other: the header goes out as EXEC's reply, then each element in its turn,
//! the server's as they came, the others as the command itself answers (`Engine::serve`). One that waits for servers or
//! workers is waited for. Meanwhile the client's input rests (`redplane_redis_flow::rest`) and messages for it are kept until the
//! array is whole.
//!
//! Redis: `execCommand` in `src/multi.c`.

use std::ops::Range;

use redplane_command::{Command, Pubsub};
use redplane_merge::Answer;
use redplane_redis_core::client::Client;
use redplane_redis_core::client::muting::ReplyMode;
use redplane_redis_core::pending::Pending;
use redplane_redis_flow::core::{Core, Event};
use redplane_resp::encode;
use redplane_resp::reply::{self, Scan, Scanner};

use crate::Transactions;

/// What happens at one place of a transaction, besides passing on what the server answered.
#[derive(Debug)]
pub(super) enum Step {
    /// A command that runs here; where its request is.
    Run(&'static Command, Range<usize>),
    /// SELECT of this database in the block: the client follows.
    Select(u32),
    /// PUBLISH in the block, to this channel: its count is put right.
    Publish(Pubsub, Vec<u8>),
}

/// What of a transaction is done here.
#[derive(Debug, Default)]
pub struct Share {
    /// By place in the transaction.
    steps: Vec<(u32, Step)>,
    /// The requests of those that run here.
    requests: Vec<u8>,
    /// Replies are not wanted: EXEC stood behind CLIENT REPLY SKIP.
    muted: bool,
    reply: Option<Box<Given>>,
}

/// EXEC's reply as far as it was not passed on.
#[derive(Debug, Default)]
struct Given {
    /// The server's elements.
    elements: Vec<u8>,
    /// Where the next one is.
    element: usize,
    /// All elements, and how many are out.
    total: u32,
    at: u32,
    /// How many of `steps` are done.
    done: usize,
    /// The cluster and the host that ran the block.
    cluster: String,
    host: u64,
    /// CLIENT REPLY SKIP was among the commands: it holds behind EXEC.
    skips: bool,
}

impl Given {
    /// The server's next elements.
    fn take(&mut self, count: u32) -> Range<usize> {
        let from = self.element;
        for _ in 0..count {
            let rest = self.elements.get(self.element..).unwrap_or_default();
            let Ok(Scan::Whole(end)) = Scanner::default().scan(rest) else {
                break;
            };
            self.element += end;
        }
        from..self.element
    }
}

impl Share {
    /// Bytes of the requests that run here.
    pub(super) fn size(&self) -> usize {
        self.requests.len()
    }

    /// How many commands run here.
    pub(super) fn count(&self) -> u32 {
        let runs = |(_, step): &&(u32, Step)| matches!(step, Step::Run(..));
        self.steps.iter().filter(runs).count() as u32
    }

    pub(super) fn add(&mut self, at: u32, step: Step) {
        self.steps.push((at, step));
    }

    pub(super) fn add_request(&mut self, at: u32, command: &'static Command, frame: &[u8]) {
        let start = self.requests.len();
        self.requests.extend_from_slice(frame);
        self.add(at, Step::Run(command, start..self.requests.len()));
    }

    /// How far it has come.
    pub fn standing(&self) -> Standing {
        match &self.reply {
            None => Standing::Nothing,
            Some(given) if given.at == given.total => Standing::Whole,
            Some(_) => Standing::Open,
        }
    }

    /// The next element, or all up to the next that means something here.
    pub fn next_piece(&mut self) -> Option<Piece<'_>> {
        let given = self.reply.as_mut()?;
        let next = self.steps.get(given.done);
        let at = next.map_or(given.total, |(at, _)| *at);
        if given.at < at {
            let own = given.take(at - given.at);
            given.at = at;
            return Some(Piece::Elements(given.elements.get(own).unwrap_or_default()));
        }
        given.at += 1;
        given.done += 1;
        let (_, step) = next?;
        if let Step::Run(command, request) = step {
            let request = self.requests.get(request.clone()).unwrap_or_default();
            return Some(Piece::Run(command, request));
        }
        let own = given.take(1);
        let element = given.elements.get(own).unwrap_or_default();
        Some(match step {
            Step::Run(command, _) => Piece::Run(command, element),
            Step::Select(database) => Piece::Select(*database, element),
            Step::Publish(step, channel) => Piece::Publish {
                step: *step,
                channel,
                element,
                ran_at: (&given.cluster, given.host),
            },
        })
    }

    /// CLIENT REPLY SKIP was among the commands. Redis: it is for the reply behind EXEC's.
    pub fn note_skip(&mut self) {
        if let Some(given) = &mut self.reply {
            given.skips = true;
        }
    }

    /// The array is whole: replies are wanted again as they were, or as its commands said.
    pub fn end(self, client: &mut Client) {
        let skips = self.reply.is_some_and(|given| given.skips);
        if self.muted {
            client.replies.set_mode(ReplyMode::On);
        }
        if skips {
            client.replies.set_mode(ReplyMode::Skip);
        }
    }
}

impl Transactions {
    /// What is to be done here once EXEC, which has just been sent, is answered. Nothing behind it is looked at before.
    pub(super) fn await_share(&mut self, core: &mut Core, key: usize, share: Share, muted: bool) {
        if !share.steps.is_empty() {
            let share = Box::new(Share { muted, ..share });
            self.shares.put(key, &mut core.clients[key], share);
            core.rest_behind(key);
        }
    }

    /// A transaction without a block: no server has to be asked.
    pub(super) fn begin_share_alone(&mut self, core: &mut Core, key: usize, mut share: Share) {
        let total = share.count();
        share.reply = Some(Box::new(Given {
            total,
            ..Given::default()
        }));
        let muted = core.clients[key].replies.skips_next();
        share.muted = muted;
        self.shares.put(key, &mut core.clients[key], Box::new(share));
        core.clients[key].replies.begin_pieces();
        core.answer_with(key, |out| encode::array(out, total as usize));
        if muted {
            core.clients[key].replies.set_mode(ReplyMode::Off);
        }
        core.rest_a_turn(key);
        core.out.events.push_back(Event::Share(key as u32));
    }

    /// EXEC's reply: the rest of the transaction is done. False when there is none, or nothing was executed.
    pub(super) fn begin_share(
        &mut self,
        core: &mut Core,
        connection: usize,
        pending: &Pending,
        raw: &[u8],
    ) -> bool {
        let key = pending.waiter.client as usize;
        if core.clients.of(pending.waiter).is_none() {
            return false;
        }
        let share = self.shares.get_mut(key);
        let (Some(share), Some((count, start))) = (share, reply::array_header(raw)) else {
            return false;
        };
        let connection = &core.connections[connection];
        let total = pending.waiter.part + share.count();
        let mut given = Given {
            total,
            cluster: core.pools[connection.pool].key.cluster.clone(),
            host: connection.server.host.id,
            ..Given::default()
        };
        given.elements.extend_from_slice(&raw[start..]);
        // Behind the last one stands that of the SELECT that leads back.
        let extra = share
            .steps
            .iter()
            .any(|(_, step)| matches!(step, Step::Select(_)));
        if count != u64::from(pending.waiter.part) {
            return false;
        }
        given.total -= u32::from(extra);
        let total = given.total;
        share.reply = Some(Box::new(given));
        let muted = share.muted;
        core.clients[key].replies.begin_pieces();
        let mut header = Vec::new();
        encode::array(&mut header, total as usize);
        core.settle(
            pending.waiter,
            pending.command,
            pending.since,
            Answer::Raw(&header),
        );
        if muted {
            core.clients[key].replies.set_mode(ReplyMode::Off);
        }
        core.out.events.push_back(Event::Share(key as u32));
        true
    }
}

/// How far a share has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// EXEC was answered with an error or with null: nothing was executed.
    Nothing,
    /// Something is left to be answered.
    Open,
    /// All elements of the array are out.
    Whole,
}

/// What comes next in EXEC's array.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Elements that the server gave, as they came.
    Elements(&'a [u8]),
    /// A command that runs here, and its request.
    Run(&'static Command, &'a [u8]),
    /// What the server said to SELECT of this database.
    Select(u32, &'a [u8]),
    /// What the server said to a PUBLISH.
    Publish {
        /// PUBLISH or SPUBLISH.
        step: Pubsub,
        /// The channel.
        channel: &'a [u8],
        /// The server's count.
        element: &'a [u8],
        /// The cluster and the host that ran it.
        ran_at: (&'a str, u64),
    },
}
