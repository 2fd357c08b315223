//! Commands that the table lacks, as the servers of one cluster described them. All of it is bounded, since names come from
//! clients.

use redplane_command::{Command, Learnt};
use redplane_merge::Failure;
use rustc_hash::FxHashMap;

/// Names that one cluster's servers know.
const MAX_KNOWN: usize = 1024;
/// Names that they do not know.
const MAX_MISSING: usize = 1024;

/// What the servers of one cluster said.
#[derive(Default)]
pub struct Lessons {
    /// Names that they know.
    pub known: FxHashMap<Vec<u8>, &'static Learnt>,
    /// Names that they do not know.
    pub missing: FxHashMap<Vec<u8>, Missing>,
    /// The topology that `missing` is about.
    pub version: u64,
}

/// A name that they do not know.
#[derive(Clone, Copy)]
pub struct Missing {
    /// When it is asked for again, in microseconds of the turn's clock.
    pub until: u64,
    /// There was no answer; `None`: no server knows it.
    pub failure: Option<Failure>,
}

impl Lessons {
    /// The row of a request's command, if it was learnt.
    pub fn command<'a>(&self, count: usize, arg: impl Fn(usize) -> &'a [u8]) -> Option<&'static Command> {
        let name = arg(0).to_ascii_lowercase();
        let sub = if count > 1 { arg(1) } else { b"" };
        if let Some(learnt) = self.known.get(&name) {
            return Some(learnt.subcommand(sub).unwrap_or(&learnt.command));
        }
        let whole = [&name, &b"|"[..], &sub.to_ascii_lowercase()].concat();
        self.known.get(&whole).map(|learnt| &learnt.command)
    }

    /// The commands that were learnt.
    pub fn commands(&self) -> impl Iterator<Item = &'static Command> + '_ {
        self.known
            .values()
            .filter(|learnt| learnt.command.name == learnt.command.container)
            .map(|learnt| &learnt.command)
    }

    /// No server knows it, or none has answered.
    pub fn note_missing(&mut self, name: Vec<u8>, missing: Missing, now: u64) {
        if self.missing.len() >= MAX_MISSING {
            self.missing.retain(|_, missing| now < missing.until);
        }
        if self.missing.len() >= MAX_MISSING {
            self.missing.clear();
        }
        self.missing.insert(name, missing);
    }

    /// A server has described it.
    pub fn note_known(&mut self, name: Vec<u8>, learnt: &'static Learnt) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.missing.remove(&name);
        self.known.insert(name, learnt);
    }
}
