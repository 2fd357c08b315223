//! What waits for what, and until when.
//!
//! Each need of a wait has its own time limit, or none, and is over when it is met or its time has passed; a wait is over
//! with the last of its needs. Pure: time is handed in, and what to do next is the caller's business.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// All waits. `W` says what waits, `N` for what.
pub(crate) struct Ledger<W, N> {
    waits: HashMap<u64, Wait<W, N>>,
    by_need: HashMap<N, BTreeSet<u64>>,
    /// Ends of time, soonest first.
    due: BTreeSet<(Instant, u64)>,
    last: u64,
}

struct Wait<W, N> {
    waiter: W,
    open: Vec<(N, Option<Instant>)>,
}

/// A need whose time has passed.
pub(crate) struct Expired<W, N> {
    /// What waited.
    pub(crate) waiter: W,
    /// For what.
    pub(crate) need: N,
    /// Nothing else is waited for any more.
    pub(crate) over: bool,
}

impl<W, N> Default for Ledger<W, N> {
    fn default() -> Self {
        Self {
            waits: HashMap::new(),
            by_need: HashMap::new(),
            due: BTreeSet::new(),
            last: 0,
        }
    }
}

impl<W: Clone, N: Clone + Eq + Hash> Ledger<W, N> {
    /// Begins a wait for all of these, each with the time that it may take; `None` is for ever. Without needs it is over
    /// already, and nothing will be said of it.
    pub(crate) fn open(&mut self, waiter: W, needs: Vec<(N, Option<Duration>)>, now: Instant) -> u64 {
        self.last += 1;
        let id = self.last;
        let until = |patience: Option<Duration>| patience.and_then(|patience| now.checked_add(patience));
        let open: Vec<_> = needs
            .into_iter()
            .map(|(need, patience)| (need, until(patience)))
            .collect();
        for (need, end) in &open {
            self.by_need.entry(need.clone()).or_default().insert(id);
            self.due.extend(end.map(|end| (end, id)));
        }
        if !open.is_empty() {
            self.waits.insert(id, Wait { waiter, open });
        }
        id
    }

    /// A need is met, or will never be: answers what has nothing else to wait for.
    pub(crate) fn met(&mut self, need: &N) -> Vec<W> {
        let waiting = self.by_need.remove(need).unwrap_or_default();
        let mut over = Vec::new();
        for id in waiting {
            if let Some(wait) = self.waits.get_mut(&id) {
                wait.open.retain(|(open, _)| open != need);
            }
            over.extend(self.end_if_over(id));
        }
        over
    }

    /// Ends the needs whose time has passed.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Expired<W, N>> {
        let mut expired = Vec::new();
        while let Some((_, id)) = self.due.first().copied().filter(|(end, _)| *end <= now) {
            self.due.pop_first();
            let Some(wait) = self.waits.get_mut(&id) else {
                continue;
            };
            let passed = |(_, end): &(N, Option<Instant>)| end.is_some_and(|end| end <= now);
            let needs: Vec<N> = wait
                .open
                .extract_if(.., |open| passed(open))
                .map(|(need, _)| need)
                .collect();
            let waiter = wait.waiter.clone();
            for need in &needs {
                self.leave(id, need);
            }
            let over = self.end_if_over(id).is_some();
            let last = needs.len();
            let needs = needs.into_iter().enumerate();
            expired.extend(needs.map(|(at, need)| Expired {
                waiter: waiter.clone(),
                need,
                over: over && at + 1 == last,
            }));
        }
        expired
    }

    /// Nobody waits any more.
    pub(crate) fn close(&mut self, id: u64) {
        if let Some(wait) = self.waits.remove(&id) {
            for (need, _) in &wait.open {
                self.leave(id, need);
            }
        }
    }

    /// When the next time limit ends.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(end, _)| *end)
    }

    fn leave(&mut self, id: u64, need: &N) {
        if let Some(waiting) = self.by_need.get_mut(need) {
            waiting.remove(&id);
            if waiting.is_empty() {
                self.by_need.remove(need);
            }
        }
    }

    fn end_if_over(&mut self, id: u64) -> Option<W> {
        let wait = self.waits.get(&id)?;
        if !wait.open.is_empty() {
            return None;
        }
        self.waits.remove(&id).map(|wait| wait.waiter)
    }
}

#[cfg(test)]
mod tests;
