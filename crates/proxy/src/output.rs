//! What was written to clients, and what goes on when all of it was.

use redplane_redis_core::client::ClientId;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::client::queue::MAX_OUTPUT;

use crate::engine::Engine;

impl Engine {
    /// The driver wrote `count` bytes to a client. Says whether more waits.
    pub fn client_wrote(&mut self, id: ClientId, count: usize) -> bool {
        let key = id.0 as usize;
        let Some(client) = self.core.clients.get_mut(key) else {
            return false;
        };
        client.dirty = false;
        client.replies.out.wrote_for_good(count);
        client.replies.sent += count as u64;
        self.core.tally.sent(client.filter, &self.core.filters, count);
        if client.replies.out.unwritten() > 0 {
            if client.replies.backlog() > MAX_OUTPUT {
                self.core.watch_reader(key);
            }
            return true;
        }
        if let Some(buffer) = client.replies.out.take_idle_buffer() {
            self.core.buffers.give(buffer);
        }
        client.replies.shrink(&mut self.core.buffers);
        if client.awaits_output() {
            self.after_output(key);
        }
        false
    }

    /// All that was to be written is: connections that end, end here, and paused ones go on.
    fn after_output(&mut self, key: usize) {
        let client = &mut self.core.clients[key];
        let id = ClientId(key as u32);
        if client.inlet.is_closed() {
            return;
        }
        if client.replies.is_empty() {
            if client.inlet.is_ending() {
                // Half an array is no reply.
                if !client.features.has(Feature::Share) || self.go_on_with_share(key) {
                    self.core.close_client(id);
                }
                return;
            }
            if client.inlet.rests_for(Rest::Order) {
                self.go_on_in_order(key);
            }
            // What was read is served before the client is sent away.
            let client = self.core.clients.get(key);
            if client.is_some_and(|client| client.session.draining && client.is_between_requests()) {
                return self.core.drain_close(id);
            }
        }
        let client = self.core.clients.get(key);
        if client.is_some_and(|client| client.inlet.rests_for(Rest::Output) && client.replies.has_room()) {
            self.core.lift(key, Rest::Output);
        }
    }

    /// The client will send nothing more: what it asked for is answered, then its connection closes.
    pub fn client_finished(&mut self, id: ClientId) {
        let key = id.0 as usize;
        let Some(client) = self.core.clients.get_mut(key) else {
            return;
        };
        client.inlet.rest(Rest::End);
        if client.replies.is_empty() && client.replies.out.unwritten() == 0 {
            self.core.close_client(id);
        }
    }
}
