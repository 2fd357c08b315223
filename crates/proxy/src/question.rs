//! What engines ask each other, and what they answer.

use std::sync::Arc;

use redplane_command::Command;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::filter::ChainName;
use redplane_tracking::Wanted;

use crate::pause::Paused;
use crate::selection::Selection;

/// What is asked. The answers to one question are all of one kind.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// CLIENT LIST: the lines of these clients.
    List(Arc<Selection>),
    /// CLIENT KILL: close these clients and say how many they were.
    Kill(Arc<Selection>),
    /// CLIENT PAUSE, for so many milliseconds.
    Pause(Arc<ChainName>, Paused, u64),
    /// CLIENT UNPAUSE.
    Unpause(Arc<ChainName>),
    /// CLIENT UNBLOCK: end the wait of the client with this id, with an error or as if its time were over.
    Unblock(Arc<ChainName>, u64, bool),
    /// CLIENT TRACKING … REDIRECT: whose client that is.
    Whereabouts(Arc<Wanted>),
}

/// What one engine answers.
#[derive(Debug, Default)]
pub(crate) enum Finding {
    /// There is no engine any more, and nothing that it could say.
    #[default]
    Nobody,
    /// So many.
    Count(u64),
    /// Clients by id, each with its line.
    Lines(Vec<(u64, Vec<u8>)>),
}

/// A question on its way.
#[derive(Debug)]
pub(crate) struct Inquiry {
    pub(crate) question: Question,
    pub(crate) waiter: Waiter,
    pub(crate) command: &'static Command,
    pub(crate) since: u64,
    pub(crate) resp3: bool,
    pub(crate) missing: usize,
    pub(crate) found: Finding,
}

impl Finding {
    /// Two answers made into one.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) => Self::Count(a + b),
            (Self::Lines(mut a), Self::Lines(b)) => {
                a.extend(b);
                Self::Lines(a)
            }
            (Self::Nobody, other) | (other, _) => other,
        }
    }
}
