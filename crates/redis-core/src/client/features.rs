//! What features know of single clients: each keeps its own state, and the client only carries a mark that there is some.
//!
//! So a client knows no feature, and a client without marks is served without a look at any of them.

use rustc_hash::FxHashMap;

use super::Client;

/// A feature that has state of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// It has said MULTI or WATCH.
    Transaction,
    /// Something of a transaction is done here once EXEC is answered.
    Share,
    /// It is subscribed to something.
    Subscriptions,
    /// CLIENT TRACKING is on.
    Tracking,
    /// Faults hold some of its replies back.
    Delays,
    /// A command of it goes from shard to shard.
    Walks,
}

/// The features that have state of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u8);

impl Features {
    /// Whether none has.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one has.
    #[inline]
    pub fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }
}

/// One feature's state by client. It is told when a client goes ([`Self::forget`]).
#[derive(Debug)]
pub struct PerClient<T> {
    feature: Feature,
    states: FxHashMap<u32, Box<T>>,
}

impl<T> PerClient<T> {
    /// Of no client so far.
    pub fn new(feature: Feature) -> Self {
        Self {
            feature,
            states: FxHashMap::default(),
        }
    }

    /// What it knows of a client.
    #[inline]
    pub fn get(&self, key: usize) -> Option<&T> {
        self.states.get(&(key as u32)).map(|state| &**state)
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.states.get_mut(&(key as u32)).map(|state| &mut **state)
    }

    /// What it knows of a client; made where there is nothing.
    pub fn of(&mut self, key: usize, client: &mut Client, make: impl FnOnce() -> T) -> &mut T {
        client.features.0 |= 1 << self.feature as u8;
        self.states.entry(key as u32).or_insert_with(|| Box::new(make()))
    }

    /// Puts back what was taken out, or what is new.
    pub fn put(&mut self, key: usize, client: &mut Client, state: Box<T>) {
        client.features.0 |= 1 << self.feature as u8;
        self.states.insert(key as u32, state);
    }

    /// Takes out what it knows of a client.
    pub fn take(&mut self, key: usize, client: &mut Client) -> Option<Box<T>> {
        client.features.0 &= !(1 << self.feature as u8);
        self.states.remove(&(key as u32))
    }

    /// A client is gone: so is what was known of it.
    pub fn forget(&mut self, key: usize) -> Option<Box<T>> {
        self.states.remove(&(key as u32))
    }
}
