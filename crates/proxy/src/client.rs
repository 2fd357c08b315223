//! A downstream connection as the engine sees it: what has arrived, who waits for what, what goes back.
//!
//! Replies leave in request order. The one at the head goes straight to the output; one that is early is parked.

mod container;
mod listing;
pub(crate) mod muting;
pub(crate) mod selection;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use redplane_command::CommandId;
use redplane_resp::request::Partial;

use crate::fault::Delays;
use crate::hold::Hold;
use crate::input::{Buffers, Carry};
use crate::output::{LARGE, Output};
use crate::places::Places;
use crate::pubsub::Subscriber;
use crate::split::Split;
use crate::tracking::Tracker;
use crate::transaction::{Share, Transaction};
use muting::Muting;

/// Names a client for the driver. Reused after the client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub u32);

/// Names a client's request wherever its reply may come from. A reply whose generation has passed finds nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) client: u32,
    pub(crate) generation: u32,
    pub(crate) sequence: u32,
    /// Which part of a split command; 0 for all others.
    pub(crate) part: u32,
}

impl Waiter {
    /// For requests of the proxy's own.
    pub(crate) const NOBODY: Self = Self {
        client: u32::MAX,
        generation: 0,
        sequence: 0,
        part: 0,
    };
}

impl Places<Client> {
    /// A client, unless its place was given to another one since.
    #[inline]
    pub(crate) fn known(&self, client: u32, generation: u32) -> Option<&Client> {
        self.get(client as usize)
            .filter(|client| client.generation == generation)
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn known_mut(&mut self, client: u32, generation: u32) -> Option<&mut Client> {
        self.get_mut(client as usize)
            .filter(|client| client.generation == generation)
    }

    /// Whose request this is, if it is still there.
    #[inline]
    pub(crate) fn of(&self, waiter: Waiter) -> Option<&Client> {
        self.known(waiter.client, waiter.generation)
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn of_mut(&mut self, waiter: Waiter) -> Option<&mut Client> {
        self.known_mut(waiter.client, waiter.generation)
    }
}

/// What the driver knows of a new connection.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its listener: the filter's configuration is looked up through it.
    pub listener: Arc<str>,
    /// Its filter chain.
    pub chain: Arc<str>,
    /// The client's address; `None` on a Unix socket.
    pub remote: Option<SocketAddr>,
    /// The address it connected to; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// Its socket's number, for CLIENT LIST.
    pub fd: i32,
}

/// A place in the order of replies.
#[derive(Debug)]
pub(crate) enum Slot {
    /// A server was asked.
    Waiting,
    /// The reply came early and stands in [`Client::parked`].
    Parked(u32, u32),
    /// A large reply came early. Boxed, so that an idle client's places are small.
    Shared(Box<Bytes>),
    /// Confirmations of subscriptions that came early, and the messages behind them.
    #[expect(clippy::box_collection, reason = "an idle client's places are small")]
    Followed(Box<Vec<u8>>),
    /// Several servers were asked.
    Split(Box<Split>),
}

/// Why no more is read from a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is read from.
    #[default]
    No,
    /// What it was promised is answered, then the connection closes (QUIT, FIN, protocol error, drain).
    AfterReplies,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) generation: u32,
    pub(crate) filter: usize,
    pub(crate) carry: Carry,
    pub(crate) partial: Option<Box<Partial>>,
    pub(crate) out: Output,
    pub(crate) queue: VecDeque<Slot>,
    /// Sequence of the front of the queue.
    pub(crate) head: u32,
    pub(crate) parked: Vec<u8>,
    /// Bytes of `parked` that still wait for their turn.
    parked_live: u32,
    /// Bytes of large replies that came early.
    parked_shared: usize,
    pub(crate) dirty: bool,
    pub(crate) paused: bool,
    pub(crate) ending: Ending,
    /// Whether what it sends is looked at.
    pub(crate) hold: Hold,
    /// It may run commands: it has logged in where it must, and said HELLO 3 where it must.
    pub(crate) authenticated: bool,
    /// The command it sent last.
    pub(crate) last: Option<CommandId>,
    /// When something came from it, in microseconds of the turn's clock.
    pub(crate) heard: u64,
    /// Requests whose replies a fault holds back. Nearly always none.
    pub(crate) delays: Option<Box<Delays>>,
    /// CLIENT REPLY OFF or SKIP, and what is left of it.
    pub(crate) muting: Option<Box<Muting>>,
    pub(crate) session: Box<Session>,
    pub(crate) transaction: Option<Box<Transaction>>,
    /// Marks of the hosts that it wrote to: WAIT asks them.
    pub(crate) wrote: u64,
    /// There while it is subscribed to anything.
    pub(crate) subscriber: Option<Box<Subscriber>>,
    /// There while CLIENT TRACKING is on.
    pub(crate) tracker: Option<Box<Tracker>>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// What is seldom needed.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) name: Box<[u8]>,
    /// It has logged in, or need not.
    pub(crate) logged_in: bool,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) fd: i32,
    /// When it came, in microseconds of the turn's clock.
    pub(crate) opened: u64,
    /// The user that logged in; empty for the default user.
    pub(crate) user: Box<[u8]>,
    pub(crate) library: Library,
    /// CLIENT NO-EVICT and NO-TOUCH, kept to be shown: the proxy evicts nobody and keys are not its own.
    pub(crate) no_evict: bool,
    pub(crate) no_touch: bool,
    /// Set by a drain that started: the connection closes at its next quiet point.
    pub(crate) draining: bool,
    /// Its other side is closed: it sends nothing more.
    pub(crate) hung_up: bool,
    /// What is left of a transaction whose EXEC was sent.
    pub(crate) share: Option<Box<Share>>,
}

/// What CLIENT SETINFO said.
#[derive(Debug, Default)]
pub(crate) struct Library {
    pub(crate) name: Box<str>,
    pub(crate) version: Box<str>,
}

impl Session {
    /// Of a connection that has just come.
    pub(crate) fn new(id: u64, opened: &Opened, now: u64) -> Self {
        Self {
            id,
            name: Box::default(),
            logged_in: true,
            remote: opened.remote,
            local: opened.local,
            fd: opened.fd,
            opened: now,
            user: Box::default(),
            library: Library::default(),
            no_evict: false,
            no_touch: false,
            draining: false,
            hung_up: false,
            share: None,
        }
    }
}

/// Unsent and parked bytes above which a client is not read from. Generous: clients that write a long pipeline before
/// they read would wait for us while we wait for them.
pub(crate) const MAX_BACKLOG: usize = 64 * 1024 * 1024;
/// Unsent and parked bytes above which a client is closed: it has asked for much and reads nothing. Redis:
/// `client-output-buffer-limit`.
pub(crate) const MAX_OUTPUT: usize = 256 * 1024 * 1024;
/// Parked bytes above which early replies are kept one by one: their places are counted in 32 bits.
const MAX_PARKED: usize = 1024 * 1024 * 1024;
/// Bytes left behind by parked replies above which their buffer is made anew.
const COMPACT: usize = 256 * 1024;
/// Places in the order above which a client is not read from.
pub(crate) const MAX_QUEUE: usize = 1024 * 1024;

impl Client {
    pub(crate) fn new(generation: u32, filter: usize, session: Session, authenticated: bool) -> Self {
        Self {
            generation,
            filter,
            carry: Carry::default(),
            partial: None,
            out: Output::default(),
            queue: VecDeque::new(),
            head: 0,
            parked: Vec::new(),
            parked_live: 0,
            parked_shared: 0,
            dirty: false,
            paused: false,
            ending: Ending::No,
            hold: Hold::No,
            authenticated,
            last: None,
            heard: session.opened,
            delays: None,
            muting: None,
            session: Box::new(session),
            transaction: None,
            wrote: 0,
            subscriber: None,
            tracker: None,
            received: 0,
            sent: 0,
        }
    }

    /// Whether it is in none of the states that change how its requests are served: what it sends is forwarded as it
    /// comes, and replies go back as they come. (Whether it is read from at all is looked at before.)
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.authenticated
            && self.transaction.is_none()
            && self.subscriber.is_none()
            && self.muting.is_none()
            && self.delays.is_none()
            && self.tracker.is_none()
    }

    /// Whether something hangs on all replies being written: an end, or that it is read from again.
    #[inline]
    pub(crate) fn awaits_output(&self) -> bool {
        self.paused || self.ending != Ending::No || self.hold != Hold::No || self.session.draining
    }

    /// The sequence of the next request.
    #[inline]
    pub(crate) fn next_sequence(&self) -> u32 {
        self.head.wrapping_add(self.queue.len() as u32)
    }

    /// The place of a request; `None` once it is answered.
    #[inline]
    pub(crate) fn place(&mut self, sequence: u32) -> Option<(usize, &mut Slot)> {
        let offset = sequence.wrapping_sub(self.head) as usize;
        self.queue.get_mut(offset).map(|slot| (offset, slot))
    }

    /// Bytes that wait for the client, or for their turn.
    pub(crate) fn backlog(&self) -> usize {
        self.out.unwritten() + self.parked_live as usize + self.parked_shared
    }

    /// Whether more may be read.
    pub(crate) fn is_full(&self) -> bool {
        self.backlog() > MAX_BACKLOG || self.queue.len() > MAX_QUEUE
    }

    /// Puts a finished reply at its place: out if it is its turn, else aside.
    #[inline]
    pub(crate) fn finish(&mut self, offset: usize, reply: &[u8]) {
        let dropped = self.muting.is_some() && self.drops(offset);
        let reply = if dropped { b"" } else { reply };
        if offset == 0 {
            self.queue.pop_front();
            self.head = self.head.wrapping_add(1);
            self.out.append(reply);
            if !self.queue.is_empty() {
                self.release_early();
            }
            return;
        }
        if reply.len() >= LARGE || self.parked.len() > MAX_PARKED {
            return self.finish_shared(offset, Bytes::copy_from_slice(reply));
        }
        let start = self.parked.len() as u32;
        self.parked.extend_from_slice(reply);
        self.parked_live += reply.len() as u32;
        if let Some(slot) = self.queue.get_mut(offset) {
            *slot = Slot::Parked(start, reply.len() as u32);
        }
    }

    /// The same for a large reply.
    pub(crate) fn finish_shared(&mut self, offset: usize, reply: Bytes) {
        let dropped = self.muting.is_some() && self.drops(offset);
        let reply = if dropped { Bytes::new() } else { reply };
        if offset == 0 {
            self.queue.pop_front();
            self.head = self.head.wrapping_add(1);
            self.out.append_shared(reply);
            self.release_early();
        } else if let Some(slot) = self.queue.get_mut(offset) {
            self.parked_shared += reply.len();
            *slot = Slot::Shared(Box::new(reply));
        }
    }

    /// A reply that needs no server, at the end of the order.
    #[inline]
    pub(crate) fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.muting.is_some() && self.drops_next() {
            return;
        }
        if self.queue.is_empty() {
            self.head = self.head.wrapping_add(1);
            write(self.out.tail());
            return;
        }
        let start = self.parked.len();
        write(&mut self.parked);
        self.parked_live += (self.parked.len() - start) as u32;
        self.queue
            .push_back(Slot::Parked(start as u32, (self.parked.len() - start) as u32));
    }

    /// Sends on what is complete at the front.
    fn release_early(&mut self) {
        loop {
            match self.queue.front_mut() {
                Some(Slot::Parked(start, len)) => {
                    let (start, len) = (*start as usize, *len as usize);
                    // One without bytes may stand behind the end.
                    self.out
                        .append(self.parked.get(start..start + len).unwrap_or_default());
                    self.parked_live -= len as u32;
                    if self.parked_live == 0 {
                        self.parked.clear();
                    }
                }
                Some(Slot::Shared(reply)) => {
                    let reply = std::mem::take(&mut **reply);
                    self.parked_shared -= reply.len();
                    self.out.append_shared(reply);
                }
                Some(Slot::Followed(whole)) => {
                    let whole = std::mem::take(&mut **whole);
                    self.parked_shared -= whole.len();
                    self.out.append_shared(Bytes::from(whole));
                }
                _ => break,
            }
            self.queue.pop_front();
            self.head = self.head.wrapping_add(1);
        }
        let live = self.parked_live as usize;
        if self.parked.len() - live > live.max(COMPACT) {
            self.compact();
        }
    }

    /// Gives back what parked replies have left behind: while there is always one that is early, the buffer is never
    /// empty, and would grow for ever.
    #[cold]
    fn compact(&mut self) {
        let mut kept = Vec::with_capacity(self.parked_live as usize);
        for slot in &mut self.queue {
            if let Slot::Parked(start, len) = slot {
                let from = *start as usize;
                *start = kept.len() as u32;
                let reply = self.parked.get(from..from + *len as usize);
                kept.extend_from_slice(reply.unwrap_or_default());
            }
        }
        self.parked = kept;
    }

    /// A message, which is no reply: out at once, unless the confirmation of its subscription, the reply to the request
    /// of this sequence, still waits for its turn.
    pub(crate) fn push(&mut self, sequence: u32, message: &[u8]) {
        let kept = self.hold == Hold::UntilQuiet && self.keep_behind_array(message);
        if !kept && !self.push_behind(sequence, message) {
            self.out.append(message);
        }
    }

    /// The same for a large one.
    pub(crate) fn push_shared(&mut self, sequence: u32, message: Bytes) {
        let kept = self.hold == Hold::UntilQuiet && self.keep_behind_array(&message);
        if !kept && !self.push_behind(sequence, &message) {
            self.out.append_shared(message);
        }
    }

    /// Bytes are kept elsewhere for this client, or no more.
    pub(crate) fn keep_aside(&mut self, count: usize) {
        self.parked_shared += count;
    }

    /// The same bytes are on their way.
    pub(crate) fn release_kept(&mut self, count: usize) {
        self.parked_shared -= count;
    }

    /// False when that reply is out.
    fn push_behind(&mut self, sequence: u32, message: &[u8]) -> bool {
        let offset = sequence.wrapping_sub(self.head) as usize;
        let Some(slot) = self.queue.get_mut(offset) else {
            return false;
        };
        match slot {
            Slot::Parked(start, len) => {
                let (start, len) = (*start as usize, *len as usize);
                let reply = self.parked.get(start..start + len).unwrap_or_default();
                let whole = [reply, message].concat();
                self.parked_live -= len as u32;
                self.parked_shared += whole.len();
                *slot = Slot::Followed(Box::new(whole));
            }
            Slot::Shared(reply) => {
                let whole = [&reply[..], message].concat();
                self.parked_shared += message.len();
                *slot = Slot::Followed(Box::new(whole));
            }
            Slot::Followed(whole) => {
                whole.extend_from_slice(message);
                self.parked_shared += message.len();
            }
            Slot::Waiting | Slot::Split(_) => return false,
        }
        true
    }

    /// Requests that servers were asked and that have no reply yet.
    pub(crate) fn waits_for(&self) -> u64 {
        let open = |slot: &&Slot| matches!(slot, Slot::Waiting | Slot::Split(_));
        self.queue.iter().filter(open).count() as u64
    }

    /// Nothing is owed, nothing waits and nothing is begun: a good moment to go.
    pub(crate) fn is_between_requests(&self) -> bool {
        let begun = self.transaction.is_some() || self.session.share.is_some();
        self.is_quiet() && self.hold == Hold::No && !begun
    }

    /// Nothing is owed and nothing waits to be written.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.out.unwritten() == 0
    }

    /// Memory that only a burst needed is given back.
    #[inline]
    pub(crate) fn rest(&mut self, buffers: &mut Buffers) {
        if self.queue.capacity() > 64 && self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        if self.parked.capacity() > 0 && self.parked.is_empty() && self.queue.is_empty() {
            buffers.give(std::mem::take(&mut self.parked));
        }
    }

    /// Where replies may come early, there is room for them.
    #[inline]
    pub(crate) fn prepare_parking(&mut self, buffers: &mut Buffers) {
        if self.queue.len() > 1 && self.parked.capacity() == 0 {
            self.parked = buffers.take_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let opened = Opened {
            listener: "".into(),
            chain: "".into(),
            remote: None,
            local: None,
            fd: 0,
        };
        Client::new(0, 0, Session::new(1, &opened, 0), true)
    }

    #[test]
    fn early_replies_leave_nothing_behind() {
        let mut client = client();
        let early = |round: u32| format!("${round:0>1000}\r\n").into_bytes();
        client.queue.extend([Slot::Waiting, Slot::Waiting]);
        client.finish(1, &early(0));
        let mut expected = Vec::new();
        for round in 1..3000 {
            // The next one is early before the last one has gone: some reply is always parked.
            client.queue.extend([Slot::Waiting, Slot::Waiting]);
            client.finish(3, &early(round));
            client.finish(0, b"+late\r\n");
            expected.extend_from_slice(b"+late\r\n");
            expected.extend_from_slice(&early(round - 1));
            assert_eq!(client.queue.len(), 2);
            let held = client.parked.len();
            assert!(held <= 2 * COMPACT, "{held} bytes in round {round}");
        }
        assert_eq!(client.out.range(0, expected.len()), Some(&expected[..]));
    }

    #[test]
    fn resting_forgets_nobody_who_waits() {
        let mut client = client();
        client.queue.extend((0..100).map(|_| Slot::Waiting));
        client.finish(0, b"+OK\r\n");
        client.rest(&mut Buffers::default());
        assert_eq!(client.queue.len(), 99);
    }
}
