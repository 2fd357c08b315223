//! Commands of clients that wait for servers: SUBSCRIBE until nothing that is published from then on can be missed,
//! UNSUBSCRIBE of the last client until the server counts no more.
//!
//! What was asked for either comes about as a whole or is undone with an error.

use bytes::Bytes;
use redplane_command::{Command, CommandId};
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_flow::core::Core;

use crate::{Kind, PubSub};

/// A command that waits.
pub(super) struct Join {
    waiter: Waiter,
    command: CommandId,
    since: u64,
    deadline: u64,
    /// Topics, or servers, that it waits for.
    left: usize,
    /// Its confirmations.
    reply: Vec<u8>,
    /// Messages that came while it waited, to follow them.
    pub(super) early: Vec<u8>,
    kind: Kind,
    /// What it subscribed to; nothing for UNSUBSCRIBE.
    added: Vec<Bytes>,
    /// CLIENT REPLY drops its error, if there is one.
    muted: bool,
}

/// What a client's command waits for.
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) left: usize,
    pub(super) kind: Kind,
    pub(super) added: Vec<Bytes>,
}

impl PubSub {
    /// Answers a command as soon as what it waits for is there.
    pub(super) fn answer_joined(
        &mut self,
        core: &mut Core,
        key: usize,
        command: &'static Command,
        waiting: Waiting,
        reply: Vec<u8>,
    ) {
        // Confirmations are messages: CLIENT REPLY drops none of them, although SKIP ends with one.
        let client = &mut core.clients[key];
        let muted = client.replies.is_muting() && client.replies.drops_next();
        let muting = client.replies.suspend_muting();
        if waiting.left == 0 {
            core.answer(key, &reply);
            core.clients[key].replies.resume_muting(muting);
            return core.buffers.give(reply);
        }
        let waiter = core.expect_reply(key, Slot::Waiting);
        core.clients[key].replies.resume_muting(muting);
        let settings = &core.filters[core.clients[key].filter].proxy.settings;
        let deadline = core.now + settings.op_timeout.as_micros() as u64;
        let join = Join {
            waiter,
            command: command.id,
            since: core.now,
            deadline,
            left: waiting.left,
            reply,
            early: Vec::new(),
            kind: waiting.kind,
            added: waiting.added,
            muted,
        };
        self.joins.insert(waiting.id, join);
    }

    /// One of the things that a command waits for has come.
    pub(super) fn step_join(&mut self, core: &mut Core, id: u64) {
        let Some(join) = self.joins.get_mut(&id) else {
            return;
        };
        join.left -= 1;
        if join.left == 0 {
            self.finish_join(core, id);
        }
    }

    fn finish_join(&mut self, core: &mut Core, id: u64) {
        let Some(mut join) = self.joins.remove(&id) else {
            return;
        };
        for name in &join.added {
            for topic in self.joined_topics(core, &join, id, name) {
                let subscribers = &mut self.topics[topic].subscribers;
                if let Some(subscription) = subscribers.get_mut(&join.waiter.client) {
                    subscription.join = None;
                }
            }
        }
        // What came meanwhile follows the confirmation, but no message stands inside an array of replies.
        let client = core.clients.of_mut(join.waiter);
        let kept = client.filter(|_| !join.early.is_empty());
        let kept = kept.is_some_and(|client| client.replies.keep(&join.early));
        if !kept {
            join.reply.append(&mut join.early);
        }
        core.settle(join.waiter, join.command, join.since, Answer::Raw(&join.reply));
        core.buffers.give(join.reply);
    }

    /// The topics of a name that a client holds because of this command.
    fn joined_topics(&self, core: &Core, join: &Join, id: u64, name: &[u8]) -> Vec<usize> {
        let key = join.waiter.client;
        let own = core.clients.of(join.waiter);
        let own = own.and_then(|_| self.subscribers.get(key as usize));
        let held = own.and_then(|subscriber| subscriber.names_held[join.kind as usize].get(name));
        let topics = held.into_iter().flatten().copied();
        let joined = |topic: &usize| {
            let subscription = self.topics[*topic].subscribers.get(&key);
            subscription.is_some_and(|subscription| subscription.join == Some(id))
        };
        topics.filter(joined).collect()
    }

    /// Commands that wait for a topic get this answer, and nothing of what they asked for.
    pub(super) fn fail_joins(&mut self, core: &mut Core, topic: usize, answer: &Answer<'_>) {
        let Some(entry) = self.topics.get_mut(topic) else {
            return;
        };
        for join in std::mem::take(&mut entry.joins) {
            self.fail_join(core, join, answer);
        }
    }

    fn fail_join(&mut self, core: &mut Core, id: u64, answer: &Answer<'_>) {
        let Some(join) = self.joins.remove(&id) else {
            return;
        };
        for name in &join.added {
            if !self.joined_topics(core, &join, id, name).is_empty() {
                self.leave(core, join.waiter.client as usize, join.kind, name, None);
            }
        }
        let answer = match join.muted {
            true => Answer::Raw(b""),
            false => answer.again(),
        };
        core.settle(join.waiter, join.command, join.since, answer);
    }

    /// Commands whose time is over. That a server does not answer an UNSUBSCRIBE is not the client's trouble.
    pub(super) fn expire_joins(&mut self, core: &mut Core) {
        let now = core.now;
        let late = self.joins.iter().filter(|(_, join)| now >= join.deadline);
        let late: Vec<(u64, bool)> = late.map(|(id, join)| (*id, join.added.is_empty())).collect();
        for (id, leaves) in late {
            match leaves {
                true => self.finish_join(core, id),
                false => self.fail_join(core, id, &Answer::Failed(Failure::Upstream)),
            }
        }
    }
}
