//! Connections that this process makes to itself, so that one that goes round and round comes to an end.
//!
//! A redirection of the kernel's can bring what tcp_proxy dials back to a listener of ours, and from there out again,
//! until no descriptor is left. Whatever the configuration says, a connection passes through a process a few times at
//! most: each one that is dialled is known by its own address, with the number of passes that led to it, and a listener
//! that accepts it finds it there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::stream::canonical;

/// So often may a connection pass through. Once is the rule; an application that calls itself by the address of its pod
/// passes twice.
pub(crate) const MOST: u8 = 8;

/// Passes behind each connection that is open, by its address on our side.
static DIALLED: LazyLock<Mutex<HashMap<SocketAddr, u8>>> = LazyLock::new(Mutex::default);
/// How many there are: where nothing is proxied by TCP, accepting takes no lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A connection that was dialled; known until it is dropped.
pub(crate) struct Hop(SocketAddr);

impl Hop {
    /// For a connection with this local address, on behalf of one that had passed so often before.
    pub(crate) fn new(local: SocketAddr, passes: u8) -> Self {
        let local = canonical(local);
        COUNT.fetch_add(1, Relaxed);
        dialled().insert(local, passes.saturating_add(1));
        Self(local)
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        dialled().remove(&self.0);
        COUNT.fetch_sub(1, Relaxed);
    }
}

/// How often a connection from this address has passed through before.
pub(crate) fn passes(source: Option<SocketAddr>) -> u8 {
    if COUNT.load(Relaxed) == 0 {
        return 0;
    }
    let known = |source| dialled().get(&source).copied();
    source.and_then(known).unwrap_or(0)
}

fn dialled() -> MutexGuard<'static, HashMap<SocketAddr, u8>> {
    // An insertion or a removal leaves nothing half done.
    DIALLED.lock().unwrap_or_else(PoisonError::into_inner)
}
