//! CLIENT PAUSE and UNPAUSE: the commands of all clients of a filter chain wait, on all workers, or only those that may
//! write.
//!
//! A command that has to wait is put back undecoded, as at any barrier (`order`); what its client sends behind
//! it stays undecoded too. The pause ends by the engine's clock. Redis: `CLIENT PAUSE`; a pause within a pause can make
//! it longer and stricter, not shorter. Servers are told of it too (`quiet`).

use std::sync::Arc;

use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::filter::ChainName;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::{Request, Served};

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Paused {
    /// Commands that may write, and EXEC of a transaction with one.
    Writes,
    /// Everything.
    All,
}

/// A pause under way.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    chain: Arc<ChainName>,
    what: Paused,
    /// In microseconds of the turn's clock.
    pub(crate) end: u64,
}

/// The pauses of one worker's clients.
#[derive(Default)]
pub(crate) struct Pauses {
    pub(crate) list: Vec<Pause>,
}

impl Pauses {
    /// Clients of a chain pause on this worker.
    pub(crate) fn pause(&mut self, core: &Core, chain: &Arc<ChainName>, what: Paused, milliseconds: u64) {
        let end = core.now.saturating_add(milliseconds.saturating_mul(1000));
        match self.list.iter_mut().find(|pause| pause.chain == *chain) {
            Some(pause) if pause.end > core.now => {
                (pause.what, pause.end) = (pause.what.max(what), pause.end.max(end));
            }
            Some(over) => (over.what, over.end) = (what, end),
            None => self.list.push(Pause {
                chain: Arc::clone(chain),
                what,
                end,
            }),
        }
    }

    /// Milliseconds of a chain's pause that are left.
    pub(crate) fn left(&self, core: &Core, chain: &ChainName) -> u64 {
        let mut pauses = self.list.iter();
        let own = pauses.find(|pause| *pause.chain == *chain);
        own.map_or(0, |pause| pause.end.saturating_sub(core.now) / 1000)
    }

    /// They go on in the next turn: this one may be in the middle of a client's input.
    pub(crate) fn unpause(&mut self, chain: &Arc<ChainName>) {
        self.list.retain(|pause| pause.chain != *chain);
    }

    fn pause_of(&self, core: &Core, key: usize) -> Option<&Pause> {
        let filter = &core.filters[core.clients[key].filter];
        let mut pauses = self.list.iter();
        pauses.find(|pause| filter.is_of(&pause.chain) && core.now < pause.end)
    }

    /// Whether only what may write waits now.
    pub(crate) fn holds_writes(&self, core: &Core, key: usize) -> bool {
        self.pause_of(core, key)
            .is_some_and(|pause| pause.what == Paused::Writes)
    }

    /// Whether a command has to wait for the end of a pause; if so it is to be put back. `executes` is an EXEC of a
    /// transaction that may write, `reads` a call of a function that does not.
    #[cold]
    pub(crate) fn must_pause(
        &self,
        core: &mut Core,
        key: usize,
        served: Served,
        request: &Request<'_>,
        executes: bool,
        reads: bool,
    ) -> bool {
        let Some(what) = self.pause_of(core, key).map(|pause| pause.what) else {
            return false;
        };
        // A client that has not logged in is told so at once.
        let waits = core.clients[key].authenticated
            && (what == Paused::All || executes || !reads && core.may_replicate(served, request));
        if waits {
            core.clients[key].inlet.rest(Rest::Pause);
            core.shared.heads.client_blocked();
        }
        waits
    }

    /// Ends pauses whose time is over.
    pub(crate) fn end_pauses(&mut self, core: &mut Core) {
        let now = core.now;
        if self.list.iter().any(|pause| pause.end <= now) {
            self.list.retain(|pause| pause.end > now);
            self.resume_paused(core);
        }
    }

    /// The input of those that wait for nothing goes on. One of them may begin another pause, or close another client.
    pub(crate) fn resume_paused(&self, core: &mut Core) {
        let waiting = core
            .clients
            .iter()
            .filter(|(_, client)| client.inlet.rests_for(Rest::Pause));
        let waiting: Vec<usize> = waiting.map(|(key, _)| key).collect();
        for key in waiting {
            let waits = core
                .clients
                .get(key)
                .is_some_and(|client| client.inlet.rests_for(Rest::Pause));
            if waits && self.pause_of(core, key).is_none() {
                core.shared.heads.client_unblocked();
                core.lift(key, Rest::Pause);
            }
        }
    }
}
