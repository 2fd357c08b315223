//! What has no room in a client's cursor: bounded, and shared by all workers, since the next call may come to another one.
//!
//! A server's cursor has as many bits as its hash table's size, which fits. From 7.4 on a node of a cluster puts the slot
//! into it as well, other servers put there what they like, and a filter may have more clusters than a cursor can
//! number. Such a place is kept here and the cursor names it. One that was driven out, or came before a restart, begins
//! its cluster again: keys come twice, but none is lost.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places that are kept at most; each is the end of a page.
const MAX_KEPT: usize = 65_536;

/// A place in a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScanPlace {
    pub(super) cluster: usize,
    pub(super) cursor: u64,
}

/// The places that are kept, by consecutive numbers.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// A std mutex: taken for a page whose end has no room in its cursor, and held for a look or a push.
    shelf: Mutex<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    /// Oldest first.
    places: VecDeque<ScanPlace>,
    /// The number of the oldest.
    first: u64,
}

impl Default for Shelf {
    /// Numbers begin anywhere, so that those of a former process are not taken for this one's.
    fn default() -> Self {
        Self {
            places: VecDeque::new(),
            first: RandomState::new().build_hasher().finish(),
        }
    }
}

impl Kept {
    /// Keeps a place; says its number modulo 2 to the power of `bits`.
    pub(super) fn keep(&self, place: ScanPlace, bits: u32) -> u64 {
        let mut shelf = self.shelf();
        if shelf.places.len() >= MAX_KEPT {
            shelf.places.pop_front();
            shelf.first = shelf.first.wrapping_add(1);
        }
        let number = shelf.first.wrapping_add(shelf.places.len() as u64);
        shelf.places.push_back(place);
        number & ((1 << bits) - 1)
    }

    /// The place of that number.
    pub(super) fn find(&self, number: u64, bits: u32) -> Option<ScanPlace> {
        let shelf = self.shelf();
        let at = number.wrapping_sub(shelf.first) & ((1 << bits) - 1);
        shelf.places.get(usize::try_from(at).ok()?).copied()
    }

    /// Nothing that runs under the lock can leave the shelf half changed.
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let kept = Kept::default();
        let place = |cursor| ScanPlace { cluster: 3, cursor };
        let numbers: Vec<u64> = (0..MAX_KEPT as u64 + 2)
            .map(|at| kept.keep(place(at), 34))
            .collect();
        assert_eq!(kept.find(numbers[1], 34), None);
        for at in [2, 3, numbers.len() - 1] {
            assert_eq!(kept.find(numbers[at], 34), Some(place(at as u64)));
        }
        assert_eq!(kept.find(numbers[numbers.len() - 1] + 1, 34), None);
    }

    #[test]
    fn numbers_go_round() {
        let kept = Kept::default();
        kept.shelf().first = u64::MAX;
        let place = |cursor| ScanPlace { cluster: 0, cursor };
        let numbers: Vec<u64> = (0..3).map(|at| kept.keep(place(at), 34)).collect();
        assert_eq!(numbers, [(1 << 34) - 1, 0, 1]);
        for (at, number) in (0..).zip(numbers) {
            assert_eq!(kept.find(number, 34), Some(place(at)));
        }
    }
}
