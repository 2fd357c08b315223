//! Answers that need no server, and the places that replies to come are given.

use redplane_command::{Command, error};
use redplane_redis_core::client::queue::MAX_ANSWERED;
use redplane_redis_core::client::{Slot, Waiter};
use redplane_resp::encode;
use redplane_telemetry::stats::redis_proxy;

use crate::core::Core;
use crate::request::Request;

impl Core {
    /// Answers a command that is not served, with why.
    #[cold]
    pub fn refuse(&mut self, key: usize, command: &Command, request: &Request<'_>) {
        let refusal = self.refusal(key, command, request);
        self.answer(key, &refusal);
    }

    /// What a client is told that uses a command that is not offered; counted.
    pub fn refusal(&self, key: usize, command: &Command, request: &Request<'_>) -> Vec<u8> {
        let client = &self.clients[key];
        self.filters[client.filter]
            .stats
            .inc(redis_proxy::SPLITTER_UNSUPPORTED_COMMAND);
        let mut line = Vec::new();
        let arguments = (1..request.len()).map(|i| request.arg(i));
        error::refused(&mut line, command, request.arg(0), arguments);
        line
    }

    /// An answer that needs no server.
    pub fn answer(&mut self, key: usize, reply: &[u8]) {
        self.answer_with(key, |out| out.extend_from_slice(reply));
    }

    /// The same, written in place.
    pub fn answer_with(&mut self, key: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let client = &mut self.clients[key];
        client.replies.out.lend(|| self.buffers.take_empty());
        client.replies.reply(write);
        if client.replies.backlog() > MAX_ANSWERED {
            self.rest_until_written(key);
        }
    }

    /// Takes a place in the client's order for a reply that servers will give.
    #[inline]
    pub fn expect_reply(&mut self, key: usize, slot: Slot) -> Waiter {
        let client = &mut self.clients[key];
        let sequence = client.replies.expect(slot);
        self.tally.begun(client.filter, &self.filters);
        Waiter {
            client: key as u32,
            generation: client.generation,
            sequence,
            part: 0,
        }
    }
}

/// Appends `ERR` and a text as an error line.
pub fn error_line(out: &mut Vec<u8>, text: &str) {
    encode::error(out, text.as_bytes());
}
