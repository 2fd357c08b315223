//! A command of which several servers were asked, at its place in its client's order.

use redplane_command::Command;
use redplane_merge::Parts;

/// A command of which several servers were asked.
#[derive(Debug)]
pub struct Split {
    /// Its parts and their replies.
    pub parts: Parts,
    /// When it was asked, in microseconds of the turn's clock.
    pub since: u64,
    /// It goes on from one shard to the next: its answer is not the client's yet.
    pub walks: bool,
}

impl Split {
    /// A command that is asked now.
    pub fn new(parts: Parts, since: u64) -> Self {
        Self {
            parts,
            since,
            walks: false,
        }
    }

    /// The same for a command that walks from shard to shard.
    pub fn walking(parts: Parts, since: u64) -> Self {
        Self {
            walks: true,
            ..Self::new(parts, since)
        }
    }

    /// The command.
    pub fn command(&self) -> &'static Command {
        self.parts.command()
    }
}
