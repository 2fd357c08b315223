//! Watching a descriptor that has no tokio type of its own.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers something that owns its descriptor, for reading.
///
/// # Errors
///
/// The runtime cannot watch it.
// The constructor is deprecated for types that could close their descriptor while it is watched; its successor is
// unsafe. `AsFd` is the promise that this type does not.
#[allow(deprecated)]
pub(crate) fn watch<T: AsFd + AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, Interest::READABLE)
}
