//! CLIENT REPLY: replies that their client does not want.
//!
//! Servers always reply. What comes for a muted request is dropped at its place, so that the order of the others is
//! kept. A reply that needs no server is never written. Nothing here concerns a client that has not asked for it, nor what
//! is no reply: messages and confirmations of subscriptions.

use std::collections::VecDeque;

use super::queue::ReplyQueue;

/// Which replies come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// All but the next one.
    Skip,
}

/// What is muted.
#[derive(Debug, Default)]
pub struct Muting {
    mode: ReplyMode,
    /// Requests in flight whose replies are dropped: the first one's sequence, and how many. Oldest first.
    runs: VecDeque<(u32, u32)>,
}

impl Muting {
    pub(super) fn new(mode: ReplyMode) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    pub(super) fn set_mode(&mut self, mode: ReplyMode) {
        self.mode = mode;
    }

    /// Whether the next reply is muted; SKIP is used up by it.
    fn next(&mut self) -> bool {
        match self.mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::Skip => {
                self.mode = ReplyMode::On;
                true
            }
        }
    }

    fn note(&mut self, sequence: u32) {
        match self.runs.back_mut() {
            Some((first, count)) if first.wrapping_add(*count) == sequence => *count += 1,
            _ => self.runs.push_back((sequence, 1)),
        }
    }

    /// Whether a request that stands `offset` behind `head` is muted; what lies before `head` is forgotten.
    fn covers(&mut self, head: u32, offset: usize) -> bool {
        let behind = |sequence: u32| sequence.wrapping_sub(head) as i32;
        while let Some((first, count)) = self.runs.front()
            && behind(first.wrapping_add(*count)) <= 0
        {
            self.runs.pop_front();
        }
        let offset = offset as i32;
        let at = self.runs.partition_point(|(first, _)| behind(*first) <= offset);
        let run = at.checked_sub(1).and_then(|at| self.runs.get(at));
        run.is_some_and(|(first, count)| offset < behind(first.wrapping_add(*count)))
    }
}

impl ReplyQueue {
    /// Whether all replies are dropped.
    pub fn is_mute(&self) -> bool {
        self.muting
            .as_ref()
            .is_some_and(|muting| muting.mode == ReplyMode::Off)
    }

    /// Whether the reply of the next request is dropped, and no other.
    pub fn skips_next(&self) -> bool {
        self.muting
            .as_ref()
            .is_some_and(|muting| muting.mode == ReplyMode::Skip)
    }

    /// Takes CLIENT REPLY SKIP back; true when there was one.
    pub fn take_skip(&mut self) -> bool {
        let skips = self.skips_next();
        if skips {
            self.set_mode(ReplyMode::On);
        }
        skips
    }

    /// Whether the reply that would be written now is dropped.
    #[cold]
    pub fn drops_next(&mut self) -> bool {
        self.muting.as_mut().is_some_and(|muting| muting.next())
    }

    /// A request takes the next place in the order; its reply may have to be dropped when it comes.
    #[cold]
    pub(super) fn note_muted(&mut self) {
        let sequence = self.next_sequence();
        if let Some(muting) = &mut self.muting
            && muting.next()
        {
            muting.note(sequence);
        }
    }

    /// Whether the reply that has come is dropped.
    #[cold]
    pub(super) fn drops(&mut self, offset: usize) -> bool {
        let head = self.head();
        let Some(muting) = &mut self.muting else {
            return false;
        };
        let drops = muting.covers(head, offset);
        if muting.mode == ReplyMode::On && muting.runs.is_empty() {
            self.muting = None;
        }
        drops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_across_the_end_of_numbers() {
        let head = u32::MAX - 1;
        let mut muting = Muting::default();
        for offset in [1, 2, 3, 6] {
            muting.note(head.wrapping_add(offset));
        }
        assert_eq!(muting.runs.len(), 2);
        let covered: Vec<usize> = (0..9).filter(|offset| muting.covers(head, *offset)).collect();
        assert_eq!(covered, [1, 2, 3, 6]);
        assert!(muting.covers(head.wrapping_add(6), 0));
        assert_eq!(muting.runs.len(), 1, "what is answered is forgotten");
        assert!(!muting.covers(head.wrapping_add(7), 0));
        assert!(muting.runs.is_empty());
    }
}
