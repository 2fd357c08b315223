//! Start-up: which answers it waits for, and in which order.
//!
//! First the clusters of CDS and what they need, then the listeners of LDS, then live. An answer that was refused is an
//! answer; none at all is waited for as long as `initial_fetch_timeout` says. Envoy: `InitManager`,
//! `ClusterManagerInitHelper`.

use std::time::Duration;

use redplane_admin::ServerState;
use redplane_config::cluster::ConfigSource;
use redplane_telemetry::Registry;
use redplane_telemetry::stats::server;
use redplane_xds::Names;
use redplane_xds::type_url::CLUSTER;

use crate::feeds::Feeds;
use crate::incoming::Incoming;
use crate::owner::Reconcile;
use crate::stats::Subscription;
use crate::world::World;

/// How far start-up is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Clusters,
    Listeners,
    Live,
}

/// CDS or LDS: the subscriptions to everything of a type.
pub(crate) struct Watch {
    pub(crate) type_url: &'static str,
    /// For people, and for `/init_dump`.
    word: &'static str,
    pub(crate) source: Option<ConfigSource>,
    patience: Option<Duration>,
    pub(crate) stats: Subscription,
    pub(crate) answered: bool,
}

impl Watch {
    pub(crate) fn new(
        registry: &Registry,
        type_url: &'static str,
        source: Option<&ConfigSource>,
        patience: Option<Duration>,
    ) -> Self {
        let (word, prefix) = match type_url {
            CLUSTER => ("CDS", "cluster_manager.cds."),
            _ => ("LDS", "listener_manager.lds."),
        };
        Self {
            type_url,
            word,
            source: source.cloned(),
            patience,
            stats: Subscription::new(registry, prefix),
            answered: source.is_none(),
        }
    }

    /// Subscribes, with the clock of the first answer.
    pub(crate) fn ask(&self, feeds: &mut Feeds, world: &World) -> Result<(), String> {
        let Some(source) = &self.source else { return Ok(()) };
        self.stats.asked();
        world.book.pages().waiting.insert(self.word);
        feeds
            .subscribe(source, self.type_url, Names::Wildcard)
            .map_err(|reason| format!("dynamic_resources: {}: {reason}", self.word))?;
        if let Some(patience) = self.patience {
            let (queue, type_url) = (feeds.queue().clone(), self.type_url);
            tokio::spawn(async move {
                tokio::time::sleep(patience).await;
                // Nobody left to tell is as good.
                let _ = queue.send(Incoming::Overdue(type_url)).await;
            });
        }
        Ok(())
    }

    /// Waits no longer for the first answer.
    pub(crate) fn give_up(&mut self) {
        if !self.answered {
            tracing::warn!(subscription = self.word, "initial fetch timed out");
            self.stats.timed_out();
            self.answered = true;
        }
    }
}

impl Reconcile {
    pub(crate) fn watch(&mut self, type_url: &str) -> Option<&mut Watch> {
        let watches = [&mut self.cds, &mut self.lds];
        watches.into_iter().find(|watch| watch.type_url == type_url)
    }

    /// Goes to the next phase when nothing is waited for any more.
    pub(crate) fn advance(&mut self) -> Result<(), String> {
        if self.phase == Phase::Live {
            return Ok(());
        }
        if self.phase == Phase::Clusters && self.cds.answered && self.clusters.are_settled() {
            self.phase = Phase::Listeners;
            self.world.set_state(ServerState::Initializing);
            self.lds.ask(&mut self.feeds, &self.world)?;
        }
        if self.phase == Phase::Listeners && self.lds.answered {
            self.phase = Phase::Live;
            self.world.set_state(ServerState::Live);
            let took = u64::try_from(self.world.uptime().as_millis()).unwrap_or(u64::MAX);
            let block = self.world.server.block();
            block.record(server::INITIALIZATION_TIME_MS, took);
            tracing::info!(took_ms = took, "all dependencies initialized, live");
        }
        let watches = [&self.cds, &self.lds].into_iter().filter(|watch| !watch.answered);
        self.world.book.pages().waiting = watches.map(|watch| watch.word).collect();
        Ok(())
    }
}
