//! Start-up: which answers it waits for, and in which order.
//!
//! First the answer of CDS, then that of LDS, then the listeners that came with it and with the bootstrap, then live. A
//! cluster is waited for by the listeners that name it, and by nobody else. An answer that was refused is an answer; none at
//! all is waited for as long as `initial_fetch_timeout` says. Envoy: `InitManager`, `ClusterManagerInitHelper`.

use std::time::Instant;

use redplane_admin::ServerState;
use redplane_telemetry::stats::server;
use redplane_xds::Names;
use redplane_xds::type_url::LISTENER;

use crate::needs::{Need, Waiter};
use crate::owner::Reconcile;
use crate::state::start::Phase;

impl Reconcile {
    /// Subscribes to everything of a type, with the clock of the first answer.
    pub(crate) fn ask_for_all(&mut self, type_url: &'static str) -> Result<(), String> {
        let Some(watch) = self.start.watch(type_url) else {
            return Ok(());
        };
        let Some(source) = watch.source.clone() else {
            return Ok(());
        };
        let word = watch.word;
        watch.stats.asked();
        self.world.book.pages().waiting.insert(word);
        self.feeds
            .subscribe(&source.source, type_url, Names::Wildcard)
            .map_err(|reason| format!("dynamic_resources: {word}: {reason}"))?;
        let need = (Need::All(type_url), source.initial_fetch_timeout);
        self.ledger.open(Waiter::Start, vec![need], Instant::now());
        Ok(())
    }

    /// The first answer about a type has not come in time.
    pub(crate) fn give_up(&mut self, type_url: &str) {
        if let Some(watch) = self.start.watch(type_url)
            && !watch.answered
        {
            tracing::warn!(subscription = watch.word, "initial fetch timed out");
            watch.stats.timed_out();
            watch.answered = true;
        }
    }

    /// Goes to the next phase when nothing is waited for any more.
    pub(crate) fn advance(&mut self) -> Result<(), String> {
        if self.start.phase == Phase::Live {
            return Ok(());
        }
        if self.start.phase == Phase::Clusters && self.start.cds.answered {
            self.start.phase = Phase::Listeners;
            self.world.set_state(ServerState::Initializing);
            self.ask_for_all(LISTENER)?;
        }
        let listening = self.start.lds.answered && !self.listeners.are_first_ones_waiting();
        if self.start.phase == Phase::Listeners && listening {
            self.start.phase = Phase::Live;
            self.world.set_state(ServerState::Live);
            let took = u64::try_from(self.world.uptime().as_millis()).unwrap_or(u64::MAX);
            let block = self.world.server.block();
            block.record(server::INITIALIZATION_TIME_MS, took);
            tracing::info!(took_ms = took, "all dependencies initialized, live");
        }
        let watches = [&self.start.cds, &self.start.lds];
        let open = watches.into_iter().filter(|watch| !watch.answered);
        self.world.book.pages().waiting = open.map(|watch| watch.word).collect();
        Ok(())
    }
}
