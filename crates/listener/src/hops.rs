//! Connections that this process makes to itself, so that one that goes round and round comes to an end.
//!
//! A redirection of the kernel's can bring what tcp_proxy dials back to a listener of ours, and from there out again,
//! until no descriptor is left. Whatever the configuration says, a connection passes through a process a few times at
//! most: each one that is dialled is known by its own address, with the number of passes that led to it, and a listener
//! that accepts it finds it there.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use redplane_upstream::ConnectingSocket;

use crate::stream::canonical;

/// So often may a connection pass through. Once is the rule; an application that calls itself by the address of its pod
/// passes twice.
pub(crate) const MOST: u8 = 8;

/// Passes behind each connection that is open, by its address on our side.
static DIALLED: LazyLock<Mutex<HashMap<SocketAddr, u8>>> = LazyLock::new(Mutex::default);
/// How many there are: where nothing is proxied by TCP, accepting takes no lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A connection that was dialled; known until it is dropped.
pub(crate) struct Hop(Option<SocketAddr>);

/// Starts a connection on behalf of one that had passed so often before. Nobody can look for it before it is known.
///
/// # Errors
///
/// It could not be started.
pub(crate) fn start(
    passes: u8,
    connect: impl FnOnce() -> io::Result<ConnectingSocket>,
) -> io::Result<(ConnectingSocket, Hop)> {
    COUNT.fetch_add(1, SeqCst);
    // From here on it is counted down with the hop.
    let mut hop = Hop(None);
    let mut dialled = dialled();
    let socket = connect();
    if let Some(local) = socket.as_ref().ok().and_then(ConnectingSocket::local_address) {
        let local = canonical(local);
        dialled.insert(local, passes.saturating_add(1));
        hop.0 = Some(local);
    }
    drop(dialled);
    socket.map(|socket| (socket, hop))
}

impl Drop for Hop {
    fn drop(&mut self) {
        if let Some(local) = &self.0 {
            dialled().remove(local);
        }
        COUNT.fetch_sub(1, SeqCst);
    }
}

/// How often a connection from this address has passed through before.
pub(crate) fn passes(source: Option<SocketAddr>) -> u8 {
    if COUNT.load(SeqCst) == 0 {
        return 0;
    }
    let known = |source| dialled().get(&source).copied();
    source.and_then(known).unwrap_or(0)
}

fn dialled() -> MutexGuard<'static, HashMap<SocketAddr, u8>> {
    // An insertion or a removal leaves nothing half done.
    DIALLED.lock().unwrap_or_else(PoisonError::into_inner)
}
