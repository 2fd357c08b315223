//! A command of which several servers were asked, at its place in its client's order.

use redplane_command::Command;
use redplane_merge::Parts;

/// A command of which several servers were asked.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) parts: Parts,
    pub(crate) since: u64,
    /// It goes on from one shard to the next: its answer is not the client's yet.
    pub(crate) walks: bool,
}

impl Split {
    pub(crate) fn new(parts: Parts, since: u64) -> Self {
        Self {
            parts,
            since,
            walks: false,
        }
    }

    /// The same for a command that walks from shard to shard.
    pub(crate) fn walking(parts: Parts, since: u64) -> Self {
        Self {
            walks: true,
            ..Self::new(parts, since)
        }
    }

    pub(crate) fn command(&self) -> &'static Command {
        self.parts.command()
    }
}
