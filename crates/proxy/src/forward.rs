//! Where requests go: from a key to a route, a host and its connection, whose output gets the request's bytes.
//!
//! Mirrors get the same bytes, and answers that nobody waits for.

mod mirror;
mod reach;
pub(crate) mod rename;
mod straight;

use std::rc::Rc;

use redplane_command::{Command, CommandId};

use crate::client::{Slot, Waiter};
use crate::connection::{MAX_HELD, Pending, Purpose};
use crate::dispatch::{Request, Served};
use crate::engine::Engine;
use crate::filter::RouteTo;
use crate::pool::Access;
use redplane_merge::Failure;

/// What is sent on a connection, and for whom.
#[derive(Clone, Copy)]
pub(crate) struct Sending {
    pub(crate) waiter: Waiter,
    pub(crate) command: CommandId,
    pub(crate) purpose: Purpose,
}

/// Bytes of a request, as they are.
pub(crate) enum Payload<'a> {
    Copied(&'a [u8]),
    Shared(bytes::Bytes),
}

impl Engine {
    /// Forwards a request whose keys, if there are several, all go where argument `at` goes.
    #[inline]
    pub(crate) fn forward_by_key(&mut self, key: usize, served: Served, request: Request<'_>, at: usize) {
        let name = request.arg(at);
        let client = &self.clients[key];
        let Some(route) = self.filters[client.filter].route(name).cloned() else {
            return self.fail_now(key, served.id(), Failure::NoHost);
        };
        if route.keeps_key {
            return self.forward_on(key, served, &route, name, &request);
        }
        let Some(renamed) = self.renamed(key, served, &request, at) else {
            return self.answer(key, rename::TOO_LONG);
        };
        let request = renamed.request();
        self.forward_on(key, served, &route, request.arg(at), &request);
    }

    /// Forwards a request as it is.
    #[inline]
    fn forward_on(
        &mut self,
        key: usize,
        served: Served,
        route: &Rc<RouteTo>,
        name: &[u8],
        request: &Request<'_>,
    ) {
        let (reads, access) = match served {
            Served::Known(command) => (command.is_read(), access_of(command)),
            Served::Custom(_) => (false, Access::Primary),
        };
        let pool = route.pool_for(reads);
        if let Served::Known(command) = served
            && self.might_block(key, command, request)
        {
            return self.block_at(key, command, (route, pool), Some(name), request.frame);
        }
        let connection = match self.connection_for_key(pool, name, access) {
            Ok(connection) => connection,
            Err(failure) => return self.fail_now(key, served.id(), failure),
        };
        let sending = Sending {
            waiter: self.expect_reply(key, Slot::Waiting),
            command: served.id(),
            purpose: Purpose::Reply,
        };
        self.send(connection, sending, payload(request));
        if !reads {
            self.note_write(key, connection);
        }
        self.choke(connection, key);
        if !route.mirrors.is_empty() {
            self.mirror(route, served, name, request);
        }
    }

    /// Puts a request into a connection's output and notes who waits.
    #[inline]
    pub(crate) fn send(&mut self, id: u32, sending: Sending, payload: Payload<'_>) {
        let connection = &mut self.connections[id as usize];
        let at = connection.begin_send(self.now, &mut self.buffers);
        match payload {
            Payload::Copied(bytes) => connection.out.append(bytes),
            Payload::Shared(bytes) => connection.out.append_shared(bytes),
        }
        let pending = Pending {
            waiter: sending.waiter,
            since: self.now,
            at,
            len: (connection.out.end() - at) as u32,
            command: sending.command,
            purpose: sending.purpose,
            hops: 0,
        };
        self.note_sent(id, pending);
    }

    /// Before bytes are appended to a connection's output.
    #[inline]
    pub(crate) fn begin_send(&mut self, id: u32) -> u64 {
        self.connections[id as usize].begin_send(self.now, &mut self.buffers)
    }

    /// A request stands in the output and waits.
    #[inline(always)]
    pub(crate) fn note_sent(&mut self, id: u32, pending: Pending) {
        let connection = &mut self.connections[id as usize];
        connection.pending.push_back(pending);
        self.in_flight += 1;
        let counted = counts_upstream(&pending).then_some(pending.command);
        connection
            .tally
            .sent(counted, self.pools[connection.pool].live.as_mut());
        if !connection.dirty {
            connection.dirty = true;
            self.dirty_connections.push(id);
        }
    }

    /// Stops reading from a client that sends to a connection on which too much waits already.
    #[inline]
    pub(crate) fn choke(&mut self, id: u32, key: usize) {
        let connection = &mut self.connections[id as usize];
        if connection.out.held() > MAX_HELD {
            let client = &mut self.clients[key];
            let choked = (key as u32, client.generation);
            if connection.choked.last() != Some(&choked) {
                connection.choked.push(choked);
                client.inlet.choke();
            }
        }
    }
}

/// The bytes of a request, shared where they are many.
#[inline]
pub(crate) fn payload<'a>(request: &Request<'a>) -> Payload<'a> {
    match request.large() {
        Some(shared) => Payload::Shared(shared),
        None => Payload::Copied(request.frame),
    }
}

/// Whom the read policy may choose from for a command.
#[inline]
pub(crate) fn access_of(command: &Command) -> Access {
    if command.may_use_replica() {
        Access::Read
    } else {
        Access::Primary
    }
}

/// Envoy counts what clients sent, by its verb, and nothing that it sends itself.
#[inline]
pub(crate) fn counts_upstream(pending: &Pending) -> bool {
    matches!(
        pending.purpose,
        Purpose::Reply
            | Purpose::Loaded
            | Purpose::Mirror
            | Purpose::Pinned
            | Purpose::Exec
            | Purpose::Block
            | Purpose::Published
    ) && pending.command.index() < redplane_command::all().len()
}
