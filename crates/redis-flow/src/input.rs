//! What a client sent: what is left of it for the next read, and what its end means.

use redplane_redis_core::client::ClientId;
use redplane_redis_core::client::inlet::Rest;
use redplane_resp::ProtocolError;
use redplane_telemetry::stats::redis_proxy;

use crate::core::{Core, mark_dirty};

impl Core {
    /// Gives a buffer back to the client whose it is, with what is left in it behind `used`.
    pub fn keep_rest(&mut self, key: usize, buffer: Vec<u8>, used: usize, filled: usize, need: usize) {
        match self.clients.get_mut(key) {
            Some(client) if !client.inlet.is_ending() => {
                client
                    .inlet
                    .carry
                    .put_back(buffer, used, filled, need, &mut self.buffers);
            }
            _ => self.buffers.give(buffer),
        }
    }

    /// Bytes that are no request: the client is told, and its connection ends.
    pub fn protocol_error(&mut self, key: usize, error: ProtocolError) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        self.filters[client.filter]
            .stats
            .inc(redis_proxy::DOWNSTREAM_CX_PROTOCOL_ERROR);
        client.replies.reply(|out| error.append_reply(out));
        client.inlet.rest(Rest::End);
    }

    /// The client is marked for writing, and not read from while too much waits for it.
    pub fn after_input(&mut self, key: usize) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if client.replies.out.unwritten() > 0 {
            mark_dirty(client, key, &mut self.due.clients);
        } else if client.inlet.is_ending() && client.replies.is_empty() {
            // It ends without a word.
            let id = ClientId(key as u32);
            self.close_client(id);
            return;
        }
        if client.replies.is_full() {
            client.inlet.rest(Rest::Output);
        }
        client.replies.prepare_parking(&mut self.buffers);
    }
}
