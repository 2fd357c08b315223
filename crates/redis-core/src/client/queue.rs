//! The replies that a client is owed, in the order of its requests, and the bytes that go back to it.
//!
//! The reply at the head goes straight to the output; one that is early is parked until its turn. What a client does not
//! want (CLIENT REPLY) is dropped at its place. Messages go between replies. It knows no socket, no server and no
//! engine: a test fills it alone.

mod messages;

use std::collections::VecDeque;

use bytes::Bytes;
use redplane_merge::Answer;

use super::muting::Muting;
use crate::input::Buffers;
use crate::output::{LARGE, Output};
use crate::split::Split;

/// Unsent and parked bytes above which a client is not read from. Generous: clients that write a long pipeline before
/// they read would wait for us while we wait for them.
pub const MAX_BACKLOG: usize = 64 * 1024 * 1024;
/// Unsent and parked bytes above which a client is closed that does not read. Redis: `client-output-buffer-limit`.
pub const MAX_OUTPUT: usize = 256 * 1024 * 1024;
/// Bytes of answers that need no server above which a client's next request waits until they are written: answers may be
/// long, and requests for them short.
pub const MAX_ANSWERED: usize = 1024 * 1024;
/// Parked bytes above which early replies are kept one by one: their places are counted in 32 bits.
const MAX_PARKED: usize = 1024 * 1024 * 1024;
/// Bytes left behind by parked replies above which their buffer is made anew.
const COMPACT: usize = 256 * 1024;
/// Places in the order above which a client is not read from.
const MAX_QUEUE: usize = 1024 * 1024;

/// A place in the order of replies.
#[derive(Debug)]
pub enum Slot {
    /// A server was asked.
    Waiting,
    /// The reply came early and stands among the parked bytes: from where, and how many.
    Parked(u32, u32),
    /// A large reply came early. Boxed, so that an idle client's places are small.
    Shared(Box<Bytes>),
    /// Confirmations of subscriptions that came early, and the messages behind them.
    Followed(Box<Vec<u8>>),
    /// Several servers were asked.
    Split(Box<Split>),
}

/// What one client is owed and what goes back to it.
#[derive(Debug, Default)]
pub struct ReplyQueue {
    slots: VecDeque<Slot>,
    /// Sequence of the front.
    head: u32,
    parked: Vec<u8>,
    /// Bytes of `parked` that still wait for their turn.
    parked_live: u32,
    /// Bytes of large replies that came early, of parts, and of messages that are kept elsewhere.
    aside: usize,
    /// Messages that must not come before a reply that goes out in pieces is whole.
    between: Option<Vec<u8>>,
    /// CLIENT REPLY OFF or SKIP, and what is left of it.
    pub(super) muting: Option<Box<Muting>>,
    /// Bytes on their way to the client.
    pub out: Output,
    /// Plain-text bytes that went.
    pub sent: u64,
}

impl ReplyQueue {
    /// The sequence of the next request.
    #[inline]
    pub fn next_sequence(&self) -> u32 {
        self.head.wrapping_add(self.slots.len() as u32)
    }

    /// The sequence of the first request that is not answered.
    #[inline]
    pub fn head(&self) -> u32 {
        self.head
    }

    /// Nothing is owed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Replies that are owed, those included that came early.
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// A request takes the next place; says its sequence.
    #[inline]
    pub fn expect(&mut self, slot: Slot) -> u32 {
        if self.muting.is_some() {
            self.note_muted();
        }
        self.expect_unmuted(slot)
    }

    /// The same where nothing is muted.
    #[inline]
    pub fn expect_unmuted(&mut self, slot: Slot) -> u32 {
        let sequence = self.next_sequence();
        self.slots.push_back(slot);
        sequence
    }

    /// The place of a request; `None` once its reply is out.
    #[inline]
    pub fn slot(&mut self, sequence: u32) -> Option<(usize, &mut Slot)> {
        let offset = self.offset(sequence);
        self.slots.get_mut(offset).map(|slot| (offset, slot))
    }

    /// How far behind the front a request stands; beyond the end once its reply is out.
    #[inline]
    pub fn offset(&self, sequence: u32) -> usize {
        sequence.wrapping_sub(self.head) as usize
    }

    /// Whether the request at an offset waits for one server's reply.
    #[inline]
    pub fn waits_at(&self, offset: usize) -> bool {
        matches!(self.slots.get(offset), Some(Slot::Waiting))
    }

    /// Whether the reply to this request is not out yet.
    pub fn owes(&self, sequence: u32) -> bool {
        self.offset(sequence) < self.slots.len()
    }

    /// The last request whose reply has come, although it is not out yet. With `held`, any that waits may be it.
    pub fn last_answered(&self, held: bool) -> Option<u32> {
        let answered = |slot: &Slot| held || !matches!(slot, Slot::Waiting);
        let offset = self.slots.iter().rposition(answered)?;
        Some(self.head.wrapping_add(offset as u32))
    }

    /// Bytes that wait for the client, or for their turn.
    pub fn backlog(&self) -> usize {
        self.out.unwritten() + self.parked_live as usize + self.aside
    }

    /// Whether no more should be asked for.
    pub fn is_full(&self) -> bool {
        self.backlog() > MAX_BACKLOG || self.slots.len() > MAX_QUEUE
    }

    /// Whether there is room again.
    pub fn has_room(&self) -> bool {
        self.backlog() < MAX_BACKLOG / 2 && self.slots.len() <= MAX_QUEUE
    }

    /// Requests that servers were asked and that have no reply yet.
    pub fn open(&self) -> u64 {
        let open = |slot: &&Slot| matches!(slot, Slot::Waiting | Slot::Split(_));
        self.slots.iter().filter(open).count() as u64
    }

    /// Nothing is owed and nothing waits to be written.
    pub fn is_quiet(&self) -> bool {
        self.slots.is_empty() && self.out.unwritten() == 0
    }

    /// Puts a finished reply at its place: out if it is its turn, else aside.
    #[inline]
    pub fn finish(&mut self, offset: usize, reply: &[u8]) {
        let dropped = self.muting.is_some() && self.drops(offset);
        let reply = if dropped { b"" } else { reply };
        if offset == 0 {
            self.leave_front();
            self.out.append(reply);
            if !self.slots.is_empty() {
                self.release_early();
            }
            return;
        }
        if reply.len() >= LARGE || self.parked.len() > MAX_PARKED {
            return self.park_shared(offset, Bytes::copy_from_slice(reply));
        }
        let start = self.parked.len() as u32;
        self.parked.extend_from_slice(reply);
        self.parked_live += reply.len() as u32;
        let parked = Slot::Parked(start, reply.len() as u32);
        match self
            .slots
            .get_mut(offset)
            .map(|slot| std::mem::replace(slot, parked))
        {
            None | Some(Slot::Waiting) => {}
            Some(owner) => drop(owner),
        }
    }

    /// The same for a large reply.
    pub fn finish_shared(&mut self, offset: usize, reply: Bytes) {
        let dropped = self.muting.is_some() && self.drops(offset);
        let reply = if dropped { Bytes::new() } else { reply };
        if offset > 0 {
            return self.park_shared(offset, reply);
        }
        self.leave_front();
        self.out.append_shared(reply);
        self.release_early();
    }

    /// The place at the front is free. Nearly all places own nothing, and cost no look at what they might.
    #[inline]
    fn leave_front(&mut self) {
        self.head = self.head.wrapping_add(1);
        match self.slots.pop_front() {
            None | Some(Slot::Waiting | Slot::Parked(..)) => {}
            Some(owner) => drop(owner),
        }
    }

    fn park_shared(&mut self, offset: usize, reply: Bytes) {
        if let Some(slot) = self.slots.get_mut(offset) {
            self.aside += reply.len();
            *slot = Slot::Shared(Box::new(reply));
        }
    }

    /// Takes the reply of a part; gives the command back when that was the last one. Its place waits until then.
    pub fn take_part(&mut self, offset: usize, part: u32, answer: Answer<'_>) -> Option<Box<Split>> {
        let slot = self.slots.get_mut(offset)?;
        let Slot::Split(split) = slot else {
            return None;
        };
        let before = split.parts.size();
        let whole = split.parts.take(part, answer);
        self.aside += split.parts.size() - before;
        if !whole {
            return None;
        }
        let Slot::Split(split) = std::mem::replace(slot, Slot::Waiting) else {
            return None;
        };
        self.aside -= split.parts.size();
        Some(split)
    }

    /// More servers are asked before the reply at an offset is whole.
    pub fn ask_on(&mut self, offset: usize, split: Box<Split>) {
        if let Some(slot) = self.slots.get_mut(offset) {
            self.aside += split.parts.size();
            *slot = Slot::Split(split);
        }
    }

    /// A reply that needs no server, at the end of the order.
    #[inline]
    pub fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.muting.is_some() && self.drops_next() {
            return;
        }
        if self.slots.is_empty() {
            self.head = self.head.wrapping_add(1);
            write(self.out.tail());
            return;
        }
        let start = self.parked.len();
        write(&mut self.parked);
        self.parked_live += (self.parked.len() - start) as u32;
        self.slots
            .push_back(Slot::Parked(start as u32, (self.parked.len() - start) as u32));
    }

    /// Sends on what is complete at the front.
    fn release_early(&mut self) {
        loop {
            match self.slots.front_mut() {
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
                    self.aside -= reply.len();
                    self.out.append_shared(reply);
                }
                Some(Slot::Followed(whole)) => {
                    let whole = std::mem::take(&mut **whole);
                    self.aside -= whole.len();
                    self.out.append_shared(Bytes::from(whole));
                }
                _ => break,
            }
            self.leave_front();
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
        for slot in &mut self.slots {
            if let Slot::Parked(start, len) = slot {
                let from = *start as usize;
                *start = kept.len() as u32;
                let reply = self.parked.get(from..from + *len as usize);
                kept.extend_from_slice(reply.unwrap_or_default());
            }
        }
        self.parked = kept;
    }

    /// Memory that only a burst needed is given back.
    #[inline]
    pub fn shrink(&mut self, buffers: &mut Buffers) {
        if self.slots.capacity() > 64 && self.slots.is_empty() {
            self.slots = VecDeque::new();
        }
        if self.parked.capacity() > 0 && self.parked.is_empty() && self.slots.is_empty() {
            buffers.give(std::mem::take(&mut self.parked));
        }
    }

    /// Where replies may come early, there is room for them.
    #[inline]
    pub fn prepare_parking(&mut self, buffers: &mut Buffers) {
        if self.slots.len() > 1 && self.parked.capacity() == 0 {
            self.parked = buffers.take_empty();
        }
    }
}

#[cfg(test)]
mod tests;
