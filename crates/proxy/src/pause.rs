//! CLIENT PAUSE and UNPAUSE: the commands of all clients of all workers wait, or only those that may write.
//!
//! A command that has to wait is put back undecoded, as at any barrier ([`crate::hold`]); what its client sends behind
//! it stays undecoded too. The pause ends by the engine's clock. Redis: `CLIENT PAUSE`; a pause within a pause can make
//! it longer and stricter, not shorter.

use redplane_command::{Flags, RequestPolicy, Transaction as Step};

use crate::dispatch::Served;
use crate::engine::Engine;
use crate::hold::Hold;

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Paused {
    /// Commands that may write, and EXEC of a transaction with one.
    Writes,
    /// Everything.
    All,
}

/// A pause under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    what: Paused,
    /// In microseconds of the turn's clock.
    pub(crate) end: u64,
}

impl Engine {
    /// Clients of this worker pause.
    pub(crate) fn pause(&mut self, what: Paused, milliseconds: u64) {
        let end = self.now.saturating_add(milliseconds.saturating_mul(1000));
        let former = self.pause.filter(|pause| pause.end > self.now);
        self.pause = Some(former.map_or(Pause { what, end }, |pause| Pause {
            what: pause.what.max(what),
            end: pause.end.max(end),
        }));
    }

    /// They go on in the next turn: this one may be in the middle of a client's input.
    pub(crate) fn unpause(&mut self) {
        if self.pause.take().is_some() {
            self.seat.remind();
        }
    }

    /// Whether a command has to wait for the end of the pause; if so it is to be put back.
    #[cold]
    pub(crate) fn must_pause(&mut self, key: usize, served: Served) -> bool {
        let Some(pause) = self.pause.filter(|pause| self.now < pause.end) else {
            return false;
        };
        let client = &self.clients[key];
        // Who has not logged in is told so at once.
        let waits = client.authenticated && (pause.what == Paused::All || self.may_write(key, served));
        if waits {
            self.clients[key].hold = Hold::Paused;
            self.seat.client_blocked();
        }
        waits
    }

    fn may_write(&self, key: usize, served: Served) -> bool {
        let executes = matches!(served, Served::Known(command)
            if matches!(command.request, RequestPolicy::Transaction(Step::Exec)));
        let transaction = self.clients[key].transaction.as_ref();
        is_write(served) || executes && transaction.is_some_and(|transaction| transaction.may_write())
    }

    /// Ends a pause whose time is over.
    pub(crate) fn end_pause(&mut self) {
        if self.pause.is_some_and(|pause| pause.end <= self.now) {
            self.pause = None;
            self.resume_paused();
        }
    }

    /// The input of those who waited goes on, unless one of them has begun another pause.
    pub(crate) fn resume_paused(&mut self) {
        if self.pause.is_some() {
            return;
        }
        let waiting = self
            .clients
            .iter()
            .filter(|(_, client)| client.hold == Hold::Paused);
        let waiting: Vec<usize> = waiting.map(|(key, _)| key).collect();
        for key in waiting {
            // One may have closed another.
            if self
                .clients
                .get(key)
                .is_some_and(|client| client.hold == Hold::Paused)
            {
                self.seat.client_unblocked();
                self.go_on(key);
            }
        }
    }
}

/// Whether a command waits while writes are paused. Of custom ones nothing is known.
pub(crate) fn is_write(served: Served) -> bool {
    match served {
        Served::Known(command) => command.is_write() || command.flags.contains(Flags::MAY_REPLICATE),
        Served::Custom(_) => true,
    }
}
