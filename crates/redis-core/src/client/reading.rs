//! Whether a client takes what waits for it: one that reads gets everything, whatever its size; one that does not is
//! closed.
//!
//! Looked at only while more than [`MAX_OUTPUT`] waits. Time alone would let a client that reads nothing gather whatever
//! servers send meanwhile; bytes alone would close one that reads, but not while the next large reply came in. And a
//! client that reads a little, for ever, would gather without a bound what it asked for at once: above `EXCESS` what
//! waits may grow only as far as it goes out again in `DRAIN`, at the pace at which its client reads.

use super::Client;
use super::queue::{MAX_OUTPUT, ReplyQueue};

/// Microseconds in which [`TAKEN`] must be taken, and where as much again as [`MAX_OUTPUT`] has come meanwhile.
const PATIENCE: u64 = 10_000_000;
const SHORT_PATIENCE: u64 = 500_000;
/// Bytes that show that a client reads.
const TAKEN: u64 = 64 * 1024;
/// Bytes above which what waits must not grow faster than its client's pace allows.
const EXCESS: usize = 4 * MAX_OUTPUT;
/// Microseconds in which a client must be able to take what waits above that.
const DRAIN: u64 = 20 * 60 * 1_000_000;
/// Microseconds over which a client's pace is measured.
const WINDOW: u64 = 1_000_000;

/// How a client takes what waits for it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Whose it is.
    pub client: u32,
    /// So that no other one is taken for it.
    pub generation: u32,
    /// What there was when it had last shown that it reads.
    shown: Mark,
    /// What there was when its pace was last measured.
    measured: Mark,
}

/// What a client had been sent at a time, and what waited for it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: u64,
    sent: u64,
    owed: usize,
}

impl Mark {
    fn of(replies: &ReplyQueue, now: u64) -> Self {
        Self {
            at: now,
            sent: replies.sent,
            owed: replies.backlog(),
        }
    }

    /// Whether what waits now goes out in time, or does not grow.
    fn keeps_pace(&self, now: &Self) -> bool {
        let taken = now.sent.saturating_sub(self.sent);
        let windows = DRAIN / now.at.saturating_sub(self.at).max(1);
        let excess = now.owed.saturating_sub(EXCESS) as u64;
        now.owed <= self.owed || excess <= taken.saturating_mul(windows)
    }
}

impl Reading {
    /// From now on it is looked at.
    pub fn begun(key: usize, client: &Client, now: u64) -> Self {
        Self::of(key as u32, client.generation, &client.replies, now)
    }

    fn of(client: u32, generation: u32, replies: &ReplyQueue, now: u64) -> Self {
        let mark = Mark::of(replies, now);
        Self {
            client,
            generation,
            shown: mark,
            measured: mark,
        }
    }

    /// Whether its client reads, or has not had time enough to show it.
    pub fn goes_on(&mut self, client: &Client, now: u64) -> bool {
        self.is_taken(&client.replies, now)
    }

    fn is_taken(&mut self, replies: &ReplyQueue, now: u64) -> bool {
        let mark = Mark::of(replies, now);
        if mark.sent >= self.shown.sent + TAKEN {
            self.shown = mark;
        }
        if now >= self.measured.at + WINDOW {
            let former = std::mem::replace(&mut self.measured, mark);
            if !former.keeps_pace(&mark) {
                return false;
            }
        }
        let waited = now.saturating_sub(self.shown.at);
        let grows = mark.owed > self.shown.owed + MAX_OUTPUT;
        waited < PATIENCE && !(grows && waited >= SHORT_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Slot;
    use super::*;
    use bytes::Bytes;

    /// Seconds for which a client is kept that takes `pace` bytes in each, while a large reply comes `every` second, and
    /// the most that waited for it. The replies share their bytes.
    fn kept(pace: usize, every: u64, seconds: u64) -> (u64, usize) {
        let reply = Bytes::from(vec![0; 32 * 1024 * 1024]);
        let mut replies = ReplyQueue::default();
        let mut most = 0;
        let come = |replies: &mut ReplyQueue| {
            replies.expect(Slot::Waiting);
            replies.finish_shared(0, reply.clone());
        };
        while replies.backlog() <= MAX_OUTPUT {
            come(&mut replies);
        }
        let mut reading = Reading::of(0, 0, &replies, 0);
        for second in 1..=seconds {
            if second % every == 0 {
                come(&mut replies);
            }
            let mut left = pace.min(replies.backlog());
            while left > 0 {
                let count = left.min(replies.out.next_slice().len());
                replies.out.wrote_for_good(count);
                replies.sent += count as u64;
                left -= count;
            }
            most = most.max(replies.backlog());
            if !reading.is_taken(&replies, second * 1_000_000) {
                return (second, most);
            }
            if replies.backlog() <= MAX_OUTPUT {
                break;
            }
        }
        (seconds, most)
    }

    #[test]
    fn what_waits_for_a_slow_reader_follows_its_pace() {
        const SECONDS: u64 = 400;
        for pace in [TAKEN as usize, 512 * 1024, 1024 * 1024] {
            let (seconds, most) = kept(pace, 1, SECONDS);
            let bound = EXCESS + pace * (DRAIN / WINDOW) as usize + 32 * 1024 * 1024;
            assert!(
                seconds < SECONDS && most <= bound,
                "{pace}: {most} bytes after {seconds} s"
            );
        }
    }

    #[test]
    fn who_takes_what_has_come_is_kept_however_slow() {
        // Nothing more comes.
        assert_eq!(kept(TAKEN as usize, u64::MAX, 1_000).0, 1_000);
        // As much goes as comes.
        assert_eq!(kept(32 * 1024 * 1024, 1, 1_000).0, 1_000);
    }
}
