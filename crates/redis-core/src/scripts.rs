//! Bodies of scripts under their SHA1: one bounded store for all workers, and each worker's own view of it.
//!
//! The store is behind a lock, because a script that one worker saw must be known to all. It is taken for bodies and
//! digests that are new to a worker; a body that the worker knows costs a hash and a comparison. What was not used for
//! the longest time goes first (by second chance: a mark is set at each use and taken away when it spares its script).

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER_PERMISSIVE;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

/// Scripts that are remembered at most.
const MAX_SCRIPTS: usize = 4096;
/// Bytes of all remembered bodies at most.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// A longer body is not remembered: few of its kind would drive out all others.
const MAX_BODY: usize = MAX_BYTES / 16;
/// Bodies that a worker recognises without the lock.
const MAX_KNOWN: usize = 1024;
/// Digests that are noted for one connection.
const MAX_SEEN: usize = 4096;

/// The SHA1 of a script's body, by which servers know it.
pub type Sha = [u8; 20];

/// A remembered script.
#[derive(Debug)]
pub struct Script {
    /// Its name.
    pub sha: Sha,
    /// Its text.
    pub body: Box<[u8]>,
    /// Used since it was last spared.
    used: AtomicBool,
    /// It is not in the store any more.
    gone: AtomicBool,
}

impl Script {
    /// Read before written: the mark is shared between workers and nearly always set.
    #[inline]
    fn mark_used(&self) {
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }
}

/// The scripts that clients loaded or ran, for all workers of the process.
#[derive(Debug, Default)]
pub struct Scripts {
    shelf: Mutex<Shelf>,
    flushes: AtomicU64,
}

#[derive(Debug, Default)]
struct Shelf {
    by_sha: FxHashMap<Sha, Arc<Script>>,
    /// Oldest first.
    order: VecDeque<Arc<Script>>,
    bytes: usize,
}

impl Scripts {
    /// Grows with every SCRIPT FLUSH: what was noted before does not count any more.
    #[inline]
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Relaxed)
    }

    /// The script with this digest.
    pub fn with_sha(&self, sha: &Sha) -> Option<Arc<Script>> {
        let script = self.shelf().by_sha.get(sha).cloned()?;
        script.mark_used();
        Some(script)
    }

    /// Remembers a body; `None` when it is too long for that.
    pub fn remember(&self, body: &[u8]) -> Option<Arc<Script>> {
        if body.len() > MAX_BODY {
            return None;
        }
        let sha = sha_of(body);
        let mut shelf = self.shelf();
        if let Some(known) = shelf.by_sha.get(&sha) {
            return Some(Arc::clone(known));
        }
        let script = Arc::new(Script {
            sha,
            body: body.into(),
            used: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        shelf.insert(&script);
        Some(script)
    }

    /// Forgets one script.
    pub fn forget(&self, sha: &Sha) {
        let mut shelf = self.shelf();
        if let Some(script) = shelf.by_sha.remove(sha) {
            script.gone.store(true, Relaxed);
            shelf.bytes -= script.body.len();
            shelf.order.retain(|kept| kept.sha != *sha);
        }
    }

    /// Forgets all scripts.
    pub fn flush(&self) {
        let mut shelf = self.shelf();
        let former = std::mem::take(&mut *shelf);
        former
            .order
            .iter()
            .for_each(|script| script.gone.store(true, Relaxed));
        self.flushes.fetch_add(1, Relaxed);
    }

    /// Nothing that runs under the lock can leave the shelf half changed.
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn insert(&mut self, script: &Arc<Script>) {
        while self.order.len() >= MAX_SCRIPTS || self.bytes + script.body.len() > MAX_BYTES {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if oldest.used.swap(false, Relaxed) {
                self.order.push_back(oldest);
                continue;
            }
            oldest.gone.store(true, Relaxed);
            self.bytes -= oldest.body.len();
            self.by_sha.remove(&oldest.sha);
        }
        self.bytes += script.body.len();
        self.by_sha.insert(script.sha, Arc::clone(script));
        self.order.push_back(Arc::clone(script));
    }
}

/// The bodies that one worker recognises by themselves, without their digest and without the lock.
#[derive(Debug, Default)]
pub struct Known {
    by_hash: FxHashMap<u64, Arc<Script>>,
}

impl Known {
    /// The digest of a body, which is remembered in the store; `None` when it is too long for that.
    #[inline]
    pub fn remember(&mut self, store: &Scripts, body: &[u8]) -> Option<Sha> {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(body);
        if let Some(script) = self.by_hash.get(&hash)
            && *script.body == *body
            && !script.gone.load(Relaxed)
        {
            script.mark_used();
            return Some(script.sha);
        }
        self.learn(store, hash, body)
    }

    #[cold]
    fn learn(&mut self, store: &Scripts, hash: u64, body: &[u8]) -> Option<Sha> {
        let script = store.remember(body)?;
        if self.by_hash.len() >= MAX_KNOWN {
            self.by_hash.clear();
        }
        // What the store has dropped must not live on here.
        self.by_hash.retain(|_, known| !known.gone.load(Relaxed));
        let sha = script.sha;
        self.by_hash.insert(hash, script);
        Some(sha)
    }
}

/// The digests that were already asked for on one connection: the server has these scripts, or it was given them.
#[derive(Debug, Default)]
pub struct Seen {
    flushes: u64,
    shas: FxHashSet<Sha>,
}

impl Seen {
    /// Notes a digest; true when it is new here.
    #[inline]
    pub fn is_new(&mut self, sha: &Sha, flushes: u64) -> bool {
        if self.flushes != flushes || self.shas.len() >= MAX_SEEN {
            self.flushes = flushes;
            self.shas.clear();
        }
        !self.shas.contains(sha) && self.shas.insert(*sha)
    }

    /// The digest counts as new again.
    pub fn forget(&mut self, sha: &Sha) {
        self.shas.remove(sha);
    }
}

/// SHA1 is what servers name scripts by; nothing is secured with it.
fn sha_of(body: &[u8]) -> Sha {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, body);
    let mut sha = [0; 20];
    sha.copy_from_slice(digest.as_ref());
    sha
}

/// Reads forty hexadecimal digits, in any case.
pub fn parse_sha(text: &[u8]) -> Option<Sha> {
    let mut sha = [0; 20];
    if text.len() != 2 * sha.len() {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode_mut(text, &mut sha).ok()?;
    Some(sha)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(n: usize) -> Vec<u8> {
        format!("return {n}").into_bytes()
    }

    #[test]
    fn digests_are_those_of_servers() {
        let known = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(Some(sha_of(b"return 1")), parse_sha(known));
        assert_eq!(parse_sha(&known.to_ascii_uppercase()), parse_sha(known));
        for bad in [&known[1..], b"", b"g0e1f9fabfc9d4800c877a703b823ac0578ff8db"] {
            assert_eq!(parse_sha(bad), None);
        }
    }

    #[test]
    fn what_one_worker_learnt_all_have_until_it_is_flushed() {
        let store = Scripts::default();
        let (mut one, mut two) = (Known::default(), Known::default());
        let sha = one.remember(&store, b"return 1").unwrap();
        assert_eq!(*store.with_sha(&sha).unwrap().body, *b"return 1");
        assert_eq!(two.remember(&store, b"return 1"), Some(sha));
        let before = store.flushes();
        store.flush();
        assert!(store.with_sha(&sha).is_none() && store.flushes() > before);
        // A worker that knew it does not take its word for granted.
        one.remember(&store, b"return 1");
        assert!(store.with_sha(&sha).is_some());
        store.forget(&sha);
        assert!(store.with_sha(&sha).is_none());
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let store = Scripts::default();
        let mut known = Known::default();
        let first = known.remember(&store, &body(0)).unwrap();
        for n in 1..=2 * MAX_SCRIPTS {
            known.remember(&store, &body(n));
            known.remember(&store, &body(0));
        }
        assert!(store.with_sha(&first).is_some(), "it was used all the time");
        assert!(store.with_sha(&sha_of(&body(1))).is_none());
        assert_eq!(store.shelf().by_sha.len(), MAX_SCRIPTS);
        assert!(known.by_hash.len() <= MAX_KNOWN);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let store = Scripts::default();
        let mut known = Known::default();
        assert_eq!(known.remember(&store, &vec![b' '; MAX_BODY + 1]), None);
        for n in 0..40 {
            let mut long = vec![b' '; MAX_BODY - 10];
            long.extend(body(n));
            known.remember(&store, &long);
        }
        let shelf = store.shelf();
        assert!(shelf.bytes <= MAX_BYTES && shelf.by_sha.len() >= 15);
        assert_eq!(
            shelf.bytes,
            shelf.order.iter().map(|s| s.body.len()).sum::<usize>()
        );
    }

    #[test]
    fn a_connection_notes_each_digest_once_until_a_flush() {
        let mut seen = Seen::default();
        let sha = sha_of(b"return 1");
        assert!(seen.is_new(&sha, 0) && !seen.is_new(&sha, 0));
        assert!(seen.is_new(&sha, 1));
    }
}
