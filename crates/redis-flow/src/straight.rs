//! The straight way: what nearly all requests take, decided in one look.
//!
//! A command of one key, from a client in no special state, over a route that forwards as it is, to a primary whose
//! connection is open. `dispatch` and `forward` decide the same step by step; whatever is not plain is left to them,
//! untouched. So this must never decide anything in another way than they do: a state that changes how requests are
//! served belongs into [`Client::is_plain`](redplane_redis_core::client::Client::is_plain), a setting that does into
//! [`RouteTo::is_plain`](redplane_redis_core::filter::RouteTo).

use redplane_command::Command;
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::connection::{MAX_HELD, State};
use redplane_redis_core::pending::{Pending, Purpose, Travel};

use crate::core::Core;
use crate::request::Request;

impl Core {
    /// Sends a request on if it is plain. False if it is not: then nothing was done.
    #[inline]
    pub fn send_straight(&mut self, key: usize, command: &Command, request: &Request<'_>) -> bool {
        if !command.is_plain() || request.shared.is_some() {
            return false;
        }
        let client = &mut self.clients[key];
        let filter = &self.filters[client.filter];
        if !client.is_plain() || !filter.proxy.faults.is_empty() {
            return false;
        }
        let name = request.arg(1);
        let Some(route) = filter.route(name).filter(|route| route.is_plain) else {
            return false;
        };
        if command.may_use_replica() && !route.reads_primary {
            return false;
        }
        let Some(live) = &mut self.pools[route.pool].live else {
            return false;
        };
        let Some(id) = live.primary_for(name) else {
            return false;
        };
        let connection = &mut self.connections[id as usize];
        if connection.life.state == State::Probing || connection.out.held() > MAX_HELD {
            return false;
        }
        client.inlet.last = Some(command.id);
        if !command.is_read() {
            client.wrote |= connection.server.mark;
        }
        let sequence = client.replies.expect_unmuted(Slot::Waiting);
        self.tally.sent_on(client.filter, &self.filters, command.id);
        let at = connection.begin_send(self.now, &mut self.buffers);
        connection.out.append(request.frame);
        connection.pending.push_back(Pending {
            waiter: Waiter {
                client: key as u32,
                generation: client.generation,
                sequence,
                part: 0,
            },
            since: self.now,
            at,
            len: request.frame.len() as u32,
            command: command.id,
            purpose: Purpose::Reply,
            travel: Travel::default(),
        });
        connection.tally.sent(Some(command.id), Some(live));
        self.in_flight += 1;
        if !connection.flush.dirty {
            connection.flush.dirty = true;
            self.due.connections.push(id);
        }
        true
    }
}
