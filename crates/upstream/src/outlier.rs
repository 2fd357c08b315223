//! What is remembered of a host that fails: written by workers, read where ejections are decided.

use std::sync::atomic::{AtomicBool, AtomicU32};

/// What is remembered of a host.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Failures in a row, of each kind.
    pub(crate) runs: [AtomicU32; 3],
    /// Ejections that are not forgiven yet.
    pub(crate) times: AtomicU32,
    /// It is out.
    pub(crate) out: AtomicBool,
}
