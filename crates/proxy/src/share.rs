//! EXEC's array: the server's elements one behind the other, and in their places what commands answer that no server runs.
//!
//! They run when EXEC's reply has come (`redplane_transaction` keeps what is left). A command that waits for servers or
//! workers is waited for. Meanwhile the client's input rests, and messages for it are kept until the array is whole.

use redplane_command::{Command, Pubsub, RequestPolicy, error};
use redplane_redis_core::client::queue::MAX_ANSWERED;
use redplane_redis_core::pool::Greeting;
use redplane_redis_flow::core::mark_dirty;
use redplane_redis_flow::request::{Request, Served};
use redplane_resp::request::{Args, decode};
use redplane_resp::{encode, reply};
use redplane_transaction::{Piece, Share, Standing};

use crate::engine::Engine;

/// Elements after which the others get their turn: not every one leaves bytes to be written.
const AT_ONCE: usize = 256;

impl Engine {
    /// Does what is left, until a command has to be waited for. True when nothing is left and the client's input may be
    /// looked at.
    pub(crate) fn go_on_with_share(&mut self, key: usize) -> bool {
        for count in 0.. {
            if self.core.clients.get(key).is_none() {
                return false;
            }
            let Some(mut share) = self.transactions.take_share(&mut self.core, key) else {
                return true;
            };
            let standing = share.standing();
            if standing == Standing::Nothing {
                return true;
            }
            let client = &self.core.clients[key];
            let much = count == AT_ONCE || client.replies.out.unwritten() > MAX_ANSWERED;
            if !client.replies.is_empty() || much {
                self.transactions.put_share(&mut self.core, key, share);
                self.core.rest_a_turn(key);
                return false;
            }
            if standing == Standing::Whole {
                return self.end_share(key, *share);
            }
            self.next_of_share(key, &mut share);
            if self.core.clients.get(key).is_some() {
                self.transactions.put_share(&mut self.core, key, share);
            }
        }
        false
    }

    /// The next element, or all up to the next that means something here.
    fn next_of_share(&mut self, key: usize, share: &mut Share) {
        match share.next_piece() {
            None => {}
            Some(Piece::Elements(elements)) => self.core.answer(key, elements),
            Some(Piece::Run(command, request)) => {
                self.run_here(key, command, request);
                let client = self.core.clients.get_mut(key);
                if client.is_some_and(|client| client.replies.take_skip()) {
                    share.note_skip();
                }
            }
            Some(Piece::Select(database, element)) => {
                if element == b"+OK\r\n" {
                    let greeting = self.core.filters[self.core.clients[key].filter].greeting;
                    self.core.greet_with(key, Greeting { database, ..greeting });
                }
                self.core.answer(key, element);
            }
            Some(Piece::Publish {
                step,
                channel,
                element,
                ran_at,
            }) => {
                let beyond = self.pubsub.clients_beyond(step, channel, ran_at);
                match reply::integer(element) {
                    Some(count) => self
                        .core
                        .answer_with(key, |out| encode::integer(out, (count + beyond).max(0))),
                    None => self.core.answer(key, element),
                }
            }
        }
    }

    fn run_here(&mut self, key: usize, command: &'static Command, frame: &[u8]) {
        if command.request == RequestPolicy::Pubsub(Pubsub::SSubscribe) {
            return self.core.answer(key, error::SSUBSCRIBE_IN_TRANSACTION);
        }
        let mut args = Args::default();
        // It was decoded once when it was queued.
        if decode(frame, &mut args, &mut None, true).is_err() || args.is_empty() {
            return;
        }
        let request = Request {
            frame,
            args: &args,
            shared: None,
        };
        self.serve(key, Served::Known(command), request);
    }

    /// The array is whole.
    fn end_share(&mut self, key: usize, share: Share) -> bool {
        share.end(&mut self.core.clients[key]);
        self.tracking.forget_caching(key);
        let client = &mut self.core.clients[key];
        client.replies.end_pieces();
        if client.replies.out.unwritten() > 0 {
            mark_dirty(client, key, &mut self.core.due.clients);
        }
        // A pipeline of such transactions is written one by one: replies may be long, and requests for them short.
        self.core.rest_until_written(key);
        self.core.clients[key].replies.is_quiet()
    }
}
