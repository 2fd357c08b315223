//! The one way out: every request that leaves for a server is put into its connection's output here.
//!
//! So what has to be done for each of them is done once: it is noted who waits, a client that wrote is marked for WAIT,
//! one that sends more than its servers take has to wait, and mirrors get their copies.

use std::rc::Rc;

use bytes::Bytes;
use redplane_command::{CommandId, RequestPolicy, Script};
use redplane_redis_core::client::Waiter;
use redplane_redis_core::connection::MAX_HELD;
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pending::{Pending, Purpose, Travel};
use redplane_redis_core::scripts::parse_sha;

use crate::core::{Core, Event};
use crate::request::{Request, Served};

/// The script that a request names by its SHA1.
#[inline]
pub fn scripts_in(served: Served, request: &Request<'_>) -> Scripts {
    match served {
        Served::Known(command) if command.request == RequestPolicy::Script(Script::Sha) => {
            parse_sha(request.arg(1)).map_or(Scripts::None, Scripts::One)
        }
        _ => Scripts::None,
    }
}

/// What is sent on a connection, and for whom.
#[derive(Clone, Copy)]
pub struct Sending {
    /// The place that its reply is for.
    pub waiter: Waiter,
    /// What it is counted as.
    pub command: CommandId,
    /// What its reply means.
    pub purpose: Purpose,
}

/// Bytes of a request, as they are.
#[derive(Clone)]
pub enum Payload<'a> {
    /// Bytes that are copied into the output.
    Copied(&'a [u8]),
    /// A large buffer that is kept instead.
    Shared(Bytes),
}

impl<'a> Payload<'a> {
    /// Those of a request, shared where they are many.
    #[inline]
    pub fn of(request: &Request<'a>) -> Self {
        match request.large() {
            Some(shared) => Payload::Shared(shared),
            None => Payload::Copied(request.frame),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Which scripts a request names by their SHA1: servers that may lack them are given them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripts {
    /// It names none.
    None,
    /// The one with this SHA1.
    One(redplane_redis_core::scripts::Sha),
    /// Those in the commands of a block.
    OfBlock,
}

/// A client's request that leaves by a route.
pub struct Outgoing<'a> {
    /// Which reply is waited for.
    pub sending: Sending,
    /// The bytes.
    pub payload: Payload<'a>,
    /// The route whose mirrors get a copy.
    pub route: &'a Rc<RouteTo>,
    /// The key that it goes by, under the name that servers know.
    pub name: &'a [u8],
    /// It changes something, so that mirrors of writes want it.
    pub changes: bool,
    /// A block has as many replies, those of MULTI and of its commands, in front of EXEC's.
    pub queued: u32,
    /// Scripts that it needs.
    pub scripts: Scripts,
}

impl Core {
    /// Sends a client's request, and a copy to each mirror of its route that wants one.
    #[inline]
    pub fn send_by_route(&mut self, id: u32, outgoing: &Outgoing<'_>) {
        if outgoing.scripts == Scripts::OfBlock {
            self.load_for_block(id, outgoing.payload.bytes());
        }
        let leading = (Purpose::Queued, outgoing.queued);
        self.send_behind(id, outgoing.sending, outgoing.payload.clone(), leading);
        if !outgoing.route.mirrors.is_empty() {
            self.mirror(outgoing);
        }
    }

    /// Sends a request that has no route, or whose copies are sent apart.
    #[inline]
    pub fn send(&mut self, id: u32, sending: Sending, payload: Payload<'_>) {
        self.send_behind(id, sending, payload, (Purpose::Queued, 0));
    }

    /// Sends what has so many replies of another purpose in front of its own.
    #[inline]
    pub fn send_behind(&mut self, id: u32, sending: Sending, payload: Payload<'_>, leading: (Purpose, u32)) {
        let pending = Pending {
            waiter: sending.waiter,
            since: self.now,
            at: 0,
            len: 0,
            command: sending.command,
            purpose: sending.purpose,
            travel: Travel::default(),
        };
        self.put(id, pending, payload, leading);
    }

    /// Sends a request that was sent before. It has a new place in time: what it has waited elsewhere says nothing about
    /// this server, and its own deadline condemns nothing but itself.
    pub fn send_once_more(
        &mut self,
        id: u32,
        pending: Pending,
        payload: Payload<'_>,
        leading: (Purpose, u32),
    ) {
        let Some(connection) = self.connections.get_mut(id as usize) else {
            return self.unsent(pending);
        };
        let op_timeout = self.pools[connection.pool].key.settings.op_timeout.as_micros() as u64;
        connection.overdue_at = connection.overdue_at.min(pending.late_at(op_timeout));
        let travel = pending.travel.again();
        self.put(id, Pending { travel, ..pending }, payload, leading);
    }

    /// All replies to what is put into the output refer to its beginning, so that it is kept as a whole until the last
    /// of them has come.
    #[inline]
    fn put(&mut self, id: u32, mut pending: Pending, payload: Payload<'_>, (purpose, count): (Purpose, u32)) {
        let Some(connection) = self.connections.get_mut(id as usize) else {
            return self.unsent(pending);
        };
        pending.at = connection.begin_send(self.now, &mut self.buffers);
        match payload {
            Payload::Copied(bytes) => connection.out.append(bytes),
            Payload::Shared(bytes) => connection.out.append_shared(bytes),
        }
        pending.len = (connection.out.end() - pending.at) as u32;
        for _ in 0..count {
            self.note_sent(id, Pending { purpose, ..pending });
        }
        self.note_sent(id, pending);
        if pending.purpose.row().bounded {
            self.account(id, &pending);
        }
    }

    /// It was lost a moment ago, and whoever knew its number has not heard of that.
    #[cold]
    fn unsent(&mut self, pending: Pending) {
        self.out.events.push_back(Event::Unsent(Box::new(pending)));
    }

    /// A request stands in the output and waits.
    #[inline(always)]
    pub(crate) fn note_sent(&mut self, id: u32, pending: Pending) {
        let connection = &mut self.connections[id as usize];
        connection.pending.push_back(pending);
        self.in_flight += 1;
        let live = self.pools[connection.pool].live.as_mut();
        connection.tally.sent(pending.counted(), live);
        if !connection.flush.dirty {
            connection.flush.dirty = true;
            self.due.connections.push(id);
        }
    }

    /// What a request means to its client: which host it wrote to, and that it has to wait where too much waits already.
    #[inline]
    fn account(&mut self, id: u32, pending: &Pending) {
        let connection = &mut self.connections[id as usize];
        let waiter = pending.waiter;
        let Some(client) = self.clients.of_mut(waiter) else {
            return;
        };
        if pending.purpose.row().marks && pending.writes() {
            // One store; with more than 64 hosts rather one asked too many.
            client.wrote |= connection.server.mark;
        }
        if connection.out.held() > MAX_HELD {
            let choked = (waiter.client, waiter.generation);
            if connection.flush.choked.last() != Some(&choked) {
                connection.flush.choked.push(choked);
                client.inlet.choke();
            }
        }
    }
}
