//! Questions that every worker must be asked: which clients there are, which of them are to be closed.
//!
//! The asking client has its place in the order of replies meanwhile, as if a server had been asked. The own engine
//! answers at once, the others in their next turn; the last answer completes the reply. An engine that is gone has
//! nothing to say, which [`crate::peers`] says for it.

use redplane_command::Command;
use redplane_merge::Answer;
use redplane_redis_core::client::Slot;
use redplane_resp::encode;
use redplane_tracking::Joining;

use crate::client_command::listing::kill_clients;
use crate::engine::Engine;
use crate::peers::settling::Asker;
use crate::peers::{Forwarded, Message};
use crate::question::{Finding, Inquiry, Question};

impl Engine {
    /// Asks every engine, this one too, and answers the client when all have answered.
    pub(crate) fn ask_all(&mut self, key: usize, command: &'static Command, question: Question) {
        let waiter = self.core.expect_reply(key, Slot::Waiting);
        let (others, ticket) = self.peer.ask(&question);
        let found = self.find_out(&question, Some(key));
        let own = match &question {
            Question::Pause(chain, ..) => self
                .peer
                .settling
                .begin(&mut self.core, chain, Asker::Here(ticket))
                .is_none(),
            _ => false,
        };
        let missing = others + usize::from(own);
        let inquiry = Inquiry {
            waiter,
            command,
            since: self.core.now,
            resp3: self.core.is_resp3(key),
            missing,
            found,
            question,
        };
        if missing == 0 {
            self.conclude(inquiry);
        } else {
            self.peer.inquiries.insert(ticket, inquiry);
        }
        self.core.rest_until_written(key);
    }

    /// What the other engines wrote.
    #[cold]
    pub(crate) fn read_messages(&mut self) {
        for message in self.peer.messages() {
            match message {
                Message::Question(question, address) => {
                    let finding = self.find_out(&question, None);
                    let mut asker = Some(Asker::There(address));
                    if let Question::Pause(chain, ..) = &question {
                        asker =
                            asker.and_then(|asker| self.peer.settling.begin(&mut self.core, chain, asker));
                    }
                    if let Some(Asker::There(address)) = asker {
                        address.answer(finding);
                    }
                }
                Message::Answer(ticket, finding) => self.hear(ticket, finding),
                Message::Forwarded(Forwarded { to, notice, from }) => {
                    if !self.tracking.hear_for_other(&mut self.core, to, &notice) {
                        self.peer.return_unheard(from);
                    }
                }
                Message::Unheard(id) => self.tracking.lose_redirect_of(&mut self.core, id),
                // Whoever asked may have given up.
                Message::Look(answer) => drop(answer.send(self.waiting())),
            }
        }
        self.pauses.resume_paused(&mut self.core);
    }

    pub(crate) fn hear(&mut self, ticket: u64, finding: Finding) {
        let Some(inquiry) = self.peer.inquiries.get_mut(&ticket) else {
            return;
        };
        inquiry.found = std::mem::take(&mut inquiry.found).and(finding);
        inquiry.missing -= 1;
        if inquiry.missing == 0
            && let Some(inquiry) = self.peer.inquiries.remove(&ticket)
        {
            self.conclude(inquiry);
        }
    }

    /// This engine's own answer. `asker` is the client that asks, if it is one of this engine's.
    fn find_out(&mut self, question: &Question, asker: Option<usize>) -> Finding {
        match question {
            Question::List(selection) => Finding::Lines(self.list_clients(selection)),
            Question::Kill(selection) => Finding::Count(kill_clients(&mut self.core, selection, asker)),
            Question::Pause(chain, what, milliseconds) => {
                self.pauses.pause(&self.core, chain, *what, *milliseconds);
                Finding::Count(0)
            }
            Question::Unpause(chain) => {
                self.pauses.unpause(chain);
                self.peer.remind();
                Finding::Count(0)
            }
            Question::Unblock(chain, id, with_error) => {
                Finding::Count(
                    self.blocking
                        .unblock_session(&mut self.core, chain, *id, *with_error),
                )
            }
            Question::Whereabouts(wanted) => Finding::Count(self.tracking.has_client(&self.core, wanted)),
        }
    }

    /// All have answered.
    fn conclude(&mut self, inquiry: Inquiry) {
        let mut reply = self.core.buffers.take_empty();
        self.pause_servers(inquiry.waiter, inquiry.command, &inquiry.question);
        match (inquiry.question, inquiry.found) {
            (Question::List(selection), Finding::Lines(lines)) => {
                encode::text(&mut reply, &selection.in_order(lines), inquiry.resp3);
            }
            (Question::Kill(selection), Finding::Count(count)) => selection.killed(&mut reply, count),
            (Question::Pause(..) | Question::Unpause(_), _) => reply.extend_from_slice(b"+OK\r\n"),
            (Question::Unblock(..), Finding::Count(count)) => encode::integer(&mut reply, count as i64),
            (Question::Whereabouts(wanted), Finding::Count(found)) => {
                let joining = Joining::new(inquiry.waiter, inquiry.command.id, inquiry.since);
                self.tracking
                    .redirect_found(&mut self.core, joining, &wanted, found);
                return self.core.buffers.give(reply);
            }
            (_, _) => reply.extend_from_slice(b"-ERR the worker ended\r\n"),
        }
        self.core.settle(
            inquiry.waiter,
            inquiry.command.id,
            inquiry.since,
            Answer::Raw(&reply),
        );
        self.core.buffers.give(reply);
    }
}
