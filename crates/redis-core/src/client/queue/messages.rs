//! What goes to a client between its replies: messages of subscriptions, and what CLIENT REPLY does to the replies.

use bytes::Bytes;

use super::{ReplyQueue, Slot};
use crate::client::muting::{Muting, ReplyMode};

impl ReplyQueue {
    /// A message, which is no reply: out at once, unless the confirmation of its subscription, the reply to the request
    /// of this sequence, still waits for its turn.
    pub fn message(&mut self, sequence: u32, message: &[u8]) {
        if !self.follow(sequence, message) {
            self.out.append(message);
        }
    }

    /// The same for a large one.
    pub fn message_shared(&mut self, sequence: u32, message: Bytes) {
        if !self.follow(sequence, &message) {
            self.out.append_shared(message);
        }
    }

    /// Puts a message behind a reply that came early; false when that reply is out.
    fn follow(&mut self, sequence: u32, message: &[u8]) -> bool {
        let offset = self.offset(sequence);
        let Some(slot) = self.slots.get_mut(offset) else {
            return false;
        };
        match slot {
            Slot::Parked(start, len) => {
                let (start, len) = (*start as usize, *len as usize);
                let reply = self.parked.get(start..start + len).unwrap_or_default();
                let whole = [reply, message].concat();
                self.parked_live -= len as u32;
                self.aside += whole.len();
                *slot = Slot::Followed(Box::new(whole));
            }
            Slot::Shared(reply) => {
                let whole = [&reply[..], message].concat();
                self.aside += message.len();
                *slot = Slot::Followed(Box::new(whole));
            }
            Slot::Followed(whole) => {
                whole.extend_from_slice(message);
                self.aside += message.len();
            }
            Slot::Waiting | Slot::Split(_) => return false,
        }
        true
    }

    /// A reply goes out in pieces from now on: no message may come between them.
    pub fn begin_pieces(&mut self) {
        self.between = Some(Vec::new());
    }

    /// Keeps a message back while a reply goes out in pieces; false when none does.
    pub fn keep(&mut self, message: &[u8]) -> bool {
        let Some(between) = &mut self.between else {
            return false;
        };
        between.extend_from_slice(message);
        self.aside += message.len();
        true
    }

    /// Puts a push between two replies.
    pub fn interject(&mut self, push: &[u8]) {
        if !self.keep(push) {
            self.out.append(push);
        }
    }

    /// The last piece is out: the messages that were kept back follow it.
    pub fn end_pieces(&mut self) {
        if let Some(between) = self.between.take() {
            self.aside -= between.len();
            self.out.append(&between);
        }
    }

    /// Replies are wanted until this is given back: confirmations of subscriptions are messages, and never dropped.
    pub fn suspend_muting(&mut self) -> Option<Box<Muting>> {
        self.muting.take()
    }

    /// What [`Self::suspend_muting`] gave.
    pub fn resume_muting(&mut self, muting: Option<Box<Muting>>) {
        self.muting = muting;
    }

    /// Whether CLIENT REPLY drops anything.
    #[inline]
    pub fn is_muting(&self) -> bool {
        self.muting.is_some()
    }

    /// `CLIENT REPLY`: what holds from the next request on.
    pub fn set_mode(&mut self, mode: ReplyMode) {
        match &mut self.muting {
            Some(muting) => muting.set_mode(mode),
            none if mode != ReplyMode::On => *none = Some(Box::new(Muting::new(mode))),
            _ => {}
        }
    }
}
