//! SELECT: a client's database, on upstreams that are no Redis Cluster.
//!
//! Connections are shared, so a database is a matter of the variant of the filter, as RESP3 is: its connections begin with
//! SELECT, and nothing else is written to them before that is granted. A connection that is refused its database is
//! closed: whatever it were sent would land in another one.
//!
//! The client's own SELECT goes through the variant as well, so that an index out of range gets the server's words. Its
//! input rests until all earlier replies have come, and again until this one has. In a transaction it stands in the block,
//! which ends with another one that leads the shared connection back; the client follows when EXEC is answered.

use redplane_command::{Command, CommandId, error};
use redplane_resp::number::integer;

use redplane_config::redis_proxy::Protocol;

use crate::core::{Core, Event};
use crate::dispatch::{Request, Served};
use crate::engine::Engine;
use crate::send::{Payload, Sending};
use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::connection::Carries;
use redplane_redis_core::pending::{Pending, Purpose, Travel};
use redplane_redis_core::pool::Tracking;
use redplane_redis_core::pool::{Access, Greeting, Live, Target};

const OUT_OF_RANGE: &[u8] = b"-ERR DB index is out of range\r\n";

impl Core {
    /// The database a client is in.
    pub(crate) fn database(&self, key: usize) -> u32 {
        self.filters[self.clients[key].filter].greeting.database
    }

    /// A connection to any primary of the catch-all route, else of the first one.
    pub(crate) fn any_connection(&mut self, key: usize) -> Result<u32, Failure> {
        let filter = &self.filters[self.clients[key].filter];
        let pool = filter.any_route().ok_or(Failure::NoHost)?.pool;
        self.connection_for(pool, Target::Any, Access::Primary)
    }

    /// Whether any route leads to a Redis Cluster, which has one database only.
    pub(crate) fn has_cluster(&self, key: usize) -> bool {
        let is_cluster = |pool: usize| self.pools[pool].live.as_ref().is_some_and(Live::is_redis);
        let pools = self.filters[self.clients[key].filter].pools();
        pools.into_iter().any(is_cluster)
    }

    /// Puts SELECT and CLIENT TRACKING behind what a new connection begins with, and keeps all requests back until they
    /// are granted.
    pub(crate) fn begin_as_greeted(&mut self, id: u32) {
        let greeting = self.pools[self.connections[id as usize].pool].key.greeting;
        if greeting.database == 0 && greeting.tracking == Tracking::Off {
            return;
        }
        if greeting.database != 0 {
            let database = greeting.database.to_string();
            self.setup(id, Purpose::Greeting, &[b"SELECT", database.as_bytes()]);
        }
        let relayed = greeting.tracking != Tracking::Off && greeting.protocol == Protocol::Resp2;
        match greeting.tracking {
            Tracking::Keys if !relayed => {
                self.setup(id, Purpose::Greeting, &[b"CLIENT", b"TRACKING", b"ON"]);
            }
            Tracking::Broadcast if !relayed => {
                self.setup(id, Purpose::Greeting, &[b"CLIENT", b"TRACKING", b"ON", b"BCAST"]);
            }
            _ => {}
        }
        let connection = &mut self.connections[id as usize];
        if greeting.tracking != Tracking::Off {
            connection.carries = Carries::Invalidations;
        }
        connection.flush.greeting = Some(Box::new(std::mem::take(&mut connection.out)));
        if relayed {
            // What its greeting ends with is known when its feed is.
            let unsaid = Pending {
                waiter: Waiter::NOBODY,
                since: self.now,
                at: 0,
                len: 0,
                command: CommandId(0),
                purpose: Purpose::Greeting,
                travel: Travel::default(),
            };
            self.note_sent(id, unsaid);
            self.out.events.push_back(Event::WantsFeed(id));
        }
    }

    /// SELECT.
    pub(crate) fn select(&mut self, key: usize, command: &'static Command, request: &Request<'_>) {
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
    pub(crate) fn selected(&mut self, pending: &Pending, raw: &[u8], is_error: bool) {
        if is_error {
            self.unselect(pending);
        }
        self.settle(pending.waiter, pending.command, pending.since, Answer::Raw(raw));
    }

    /// A client's SELECT came to nothing: it is where it was.
    pub(crate) fn unselect(&mut self, pending: &Pending) {
        if let Some(client) = self.clients.of(pending.waiter) {
            let greeting = self.filters[client.filter].greeting;
            let database = pending.waiter.part;
            self.greet_with(pending.waiter.client as usize, Greeting { database, ..greeting });
        }
    }
}

impl Engine {
    /// MOVE and SWAPDB: where there are several databases they are served, by the key or by every server.
    #[cold]
    pub(crate) fn between_databases(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let first = redplane_command::first_key(command, request.len(), |i| request.arg(i));
        match first {
            Some(at) if !self.core.is_cluster(key, request.arg(at)) => {
                self.forward_by_key(key, Served::Known(command), request, at);
            }
            None if !self.core.has_cluster(key) => self.core.fan_out(key, command, request),
            _ => self.core.refuse(key, command, &request),
        }
    }
}
