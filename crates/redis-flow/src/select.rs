//! SELECT: a client's database, on upstreams that are no Redis Cluster.
//!
//! Connections are shared, so a database is a matter of the variant of the filter, as RESP3 is: its connections begin with
//! SELECT, and nothing else is written to them before that is granted. A connection that is refused its database is
//! closed: whatever it were sent would land in another one.
//!
//! The client's own SELECT goes through the variant as well, so that an index out of range gets the server's words. Its
//! input rests until all earlier replies have come, and again until this one has. In a transaction it stands in the block,
//! which ends with another one that leads the shared connection back; the client follows when EXEC is answered.

use redplane_command::{Command, error};
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_core::pool::{Access, Greeting, Live, Target};
use redplane_resp::number::integer;

use crate::core::Core;
use crate::request::Request;
use crate::send::{Payload, Sending};

const OUT_OF_RANGE: &[u8] = b"-ERR DB index is out of range\r\n";

impl Core {
    /// A connection to any primary of the catch-all route, else of the first one.
    pub fn any_connection(&mut self, key: usize) -> Result<u32, Failure> {
        let filter = &self.filters[self.clients[key].filter];
        let pool = filter.any_route().ok_or(Failure::NoHost)?.pool;
        self.connection_for(pool, Target::Any, Access::Primary)
    }

    /// Whether any route leads to a Redis Cluster, which has one database only.
    pub fn has_cluster(&self, key: usize) -> bool {
        let is_cluster = |pool: usize| self.pools[pool].live.as_ref().is_some_and(Live::is_redis);
        let pools = self.filters[self.clients[key].filter].pools();
        pools.into_iter().any(is_cluster)
    }

    /// SELECT.
    pub fn select(&mut self, key: usize, command: &'static Command, request: &Request<'_>) {
        let Some(index) = integer(request.arg(1)) else {
            return self.answer(key, error::NOT_AN_INTEGER);
        };
        let former = self.filters[self.clients[key].filter].greeting;
        if index != 0 && self.has_cluster(key) {
            return self.answer(key, error::SELECT_IN_CLUSTER);
        }
        let Ok(database) = u32::try_from(index) else {
            return self.answer(key, OUT_OF_RANGE);
        };
        if database == former.database {
            return self.answer(key, b"+OK\r\n");
        }
        if database == 0 {
            self.greet_with(key, Greeting { database, ..former });
            return self.answer(key, b"+OK\r\n");
        }
        self.greet_with(key, Greeting { database, ..former });
        match self.any_connection(key) {
            Ok(connection) => {
                let waiter = Waiter {
                    part: former.database,
                    ..self.expect_reply(key, Slot::Waiting)
                };
                let sending = Sending {
                    waiter,
                    command: command.id,
                    purpose: Purpose::Select,
                };
                self.send(connection, sending, Payload::of(request));
                self.rest_behind(key);
            }
            Err(failure) => {
                self.greet_with(key, former);
                self.fail_now(key, command.id, failure);
            }
        }
    }

    /// A server has answered a client's SELECT.
    pub fn selected(&mut self, pending: &Pending, raw: &[u8], is_error: bool) {
        if is_error {
            self.unselect(pending);
        }
        self.settle(pending.waiter, pending.command, pending.since, Answer::Raw(raw));
    }

    /// A client's SELECT came to nothing: it is where it was.
    pub fn unselect(&mut self, pending: &Pending) {
        if let Some(client) = self.clients.of(pending.waiter) {
            let greeting = self.filters[client.filter].greeting;
            let database = pending.waiter.part;
            self.greet_with(pending.waiter.client as usize, Greeting { database, ..greeting });
        }
    }
}
