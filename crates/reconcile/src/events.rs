//! What happens: an update goes in, what is good in it lives when this returns, or waits in the ledger for what it needs.
//!
//! Runs on the control thread alone and never waits: whatever takes time comes back through the queue or as a time limit
//! of the ledger. Bad resources are named in the verdict, the good ones of the same update live.

use std::sync::Arc;
use std::time::Instant;

use redplane_config::cluster::Source;
use redplane_proto::Json;
use redplane_telemetry::stats::server;
use redplane_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};
use redplane_xds::{Event, Update, Verdict};

use crate::bootstrap::Bootstrap;
use crate::feeds;
use crate::incoming::{self, From, Incoming};
use crate::ledger::Expired;
use crate::needs::{Need, Waiter};
use crate::owner::Reconcile;

impl Reconcile {
    /// Brings up what the bootstrap says, and asks for what it does not.
    ///
    /// # Errors
    /// One line: the resource at fault and the reason.
    pub fn start(&mut self, bootstrap: &Bootstrap) -> Result<(), String> {
        let resources = bootstrap.message.static_resources.clone().unwrap_or_default();
        let config = &bootstrap.config;
        let unknown = config.unknown.len() as u64;
        self.world
            .server
            .block()
            .add(server::STATIC_UNKNOWN_FIELDS, unknown);
        self.feeds.node = bootstrap.message.node.clone().unwrap_or_default();
        self.add_static_secrets(&config.secrets, &resources.secrets)?;
        if let Some(ads) = &config.ads {
            let stream = feeds::ads_config(ads, &config.clusters, &self.feeds.node, &self.context.secrets)?;
            self.feeds.start_ads(stream)?;
        }
        for (config, message) in config.clusters.iter().zip(&resources.clusters) {
            self.add_static_cluster(config, message)?;
        }
        self.settle_static_clusters()?;
        self.ask_endpoints();
        self.publish();
        for (config, message) in config.listeners.iter().zip(&resources.listeners) {
            self.add_static_listener(config, message)?;
        }
        let ads = config.ads.as_ref();
        if let Some(cluster) = ads.and_then(|ads| self.draft.cluster(&ads.cluster)) {
            self.control_plane.cluster = Some(cluster.stats().block());
        }
        self.ask_for_all(CLUSTER)?;
        self.advance()
    }

    /// Takes in one event.
    ///
    /// # Errors
    /// Start-up cannot go on.
    pub fn take(&mut self, incoming: Incoming) -> Result<(), String> {
        match incoming {
            Incoming::Xds { from, handle, event } => match *event {
                Event::Update(update) => {
                    let verdict = self.apply(&from, &update);
                    // What is asked because of an update is asked before it is answered.
                    self.flush();
                    handle.verdict(verdict);
                }
                event => {
                    self.note(&from, &event);
                    self.flush();
                }
            },
            Incoming::Discovered(id) => {
                self.meet(&Need::Discovery(id));
                self.flush();
            }
        }
        self.go_on()
    }

    /// When [`expire`](Self::expire) is to be called next.
    pub fn due(&self) -> Option<Instant> {
        self.ledger.due()
    }

    /// Ends waits whose time has passed.
    ///
    /// # Errors
    /// Start-up cannot go on.
    pub fn expire(&mut self) -> Result<(), String> {
        for Expired { waiter, need, over } in self.ledger.expire(Instant::now()) {
            match &need {
                Need::All(type_url) => self.give_up(type_url),
                Need::Secret(key) => self.count_secret_timeout(key),
                Need::Route(named) => self.count_route_timeout(named),
                Need::Endpoints(_) | Need::Discovery(_) | Need::Cluster(_) | Need::Release(_) => {}
            }
            if matches!(
                waiter,
                Waiter::Cluster(_) | Waiter::Listener(_) | Waiter::Route(_)
            ) {
                tracing::warn!(?waiter, ?need, "waited long enough, it goes on without");
            }
            if over {
                self.finish(&waiter);
            }
        }
        self.flush();
        self.go_on()
    }

    /// A need is met, or will never be: what has nothing else to wait for goes on.
    pub(crate) fn meet(&mut self, need: &Need) {
        for waiter in self.ledger.met(need) {
            self.finish(&waiter);
        }
    }

    fn finish(&mut self, waiter: &Waiter) {
        match waiter {
            Waiter::Start => {}
            Waiter::Cluster(name) => self.cluster_is_warm(name),
            Waiter::Listener(name) => self.listener_is_ready(name),
            Waiter::Route(named) => self.route_is_ready(named),
            Waiter::Removed(name) => self.remove_cluster(name),
        }
    }

    /// Publishes and asks for what has changed.
    fn flush(&mut self) {
        self.release_unnamed();
        self.ask_endpoints();
        self.publish();
        self.clusters.gauge_warming();
    }

    fn go_on(&mut self) -> Result<(), String> {
        match self.start.fault.take() {
            Some(fault) => Err(fault),
            None => self.advance(),
        }
    }

    /// Applies one update: what is good in it lives when this returns, or warms.
    fn apply(&mut self, from: &From, update: &Update) -> Verdict {
        let begun = Instant::now();
        if !update.control_plane.is_empty() {
            self.world
                .registry
                .text("control_plane.identifier", &update.control_plane);
        }
        for error in &update.errors {
            tracing::warn!(
                name = error.name,
                reason = error.reason,
                "the control plane reports an error"
            );
        }
        // What wraps JSON needs the descriptors; held here they are decoded once for the whole update.
        let wraps = update.type_url == LISTENER || update.type_url == CLUSTER && update.resources.len() > 1;
        let _json = (wraps && !update.resources.is_empty()).then(Json::load);
        let rejected = match update.type_url.as_str() {
            CLUSTER => self.apply_clusters(update),
            ENDPOINT => self.apply_endpoints(from, update),
            LISTENER => self.apply_listeners(update),
            ROUTE => self.apply_routes(from, update),
            SECRET => self.apply_secrets(from, update),
            _ => Vec::new(),
        };
        for rejected in rejected.iter().chain(&update.refused) {
            tracing::warn!(
                type_url = update.type_url,
                name = rejected.name,
                reason = rejected.reason,
                "rejected"
            );
        }
        self.world.book.record_failures(update, &rejected);
        let good = rejected.is_empty() && update.refused.is_empty();
        let took = Instant::now().duration_since(begun);
        incoming::log(update, rejected.len(), took);
        if let Some(watch) = self.start.watch(&update.type_url) {
            watch.answered = true;
            match good {
                true => {
                    let changed = !update.resources.is_empty() || !update.removed.is_empty();
                    watch.stats.accepted(&update.version, changed, took);
                }
                false => watch.stats.rejected(took),
            }
            let all = watch.type_url;
            self.meet(&Need::All(all));
        }
        if good && let Some(section) = self.world.book.pages().section(&update.type_url) {
            section.version.clone_from(&update.version);
        }
        Verdict::reject(update, rejected)
    }

    /// Connections of the sources, for stats and log.
    fn note(&mut self, from: &From, event: &Event) {
        match (event, from) {
            (Event::Connected { .. }, From::Ads) => {
                self.control_plane.connected();
            }
            (
                Event::Disconnected {
                    reason,
                    established,
                    retry_in,
                },
                From::Stream(_, name),
            ) => {
                tracing::warn!(
                    name,
                    reason,
                    established,
                    ?retry_in,
                    "no stream for a secret; what came last stays"
                );
                self.count_secret_failure(name);
            }
            (
                Event::Disconnected {
                    reason,
                    established,
                    retry_in,
                },
                _,
            ) => {
                tracing::warn!(
                    reason,
                    ?retry_in,
                    "no stream to the control plane; the last good configuration stays"
                );
                self.lose_ads(*established);
            }
            // The source has logged it. An unreadable file is an answer: waiting would not make it better.
            (Event::Unreadable { .. }, From::File(_, type_url)) => {
                self.answer_unreadable(type_url, &from.source());
            }
            _ => {}
        }
    }

    fn lose_ads(&self, established: bool) {
        self.control_plane.lost(established);
        for watch in [&self.start.cds, &self.start.lds] {
            let source = watch.source.as_ref().map(|source| &source.source);
            if source == Some(&Source::Ads) {
                watch.stats.failed();
            }
        }
    }

    fn answer_unreadable(&mut self, type_url: &str, source: &Source) {
        match type_url {
            ENDPOINT => self.answer_endpoints_of(source),
            SECRET => self.answer_secrets_of(source),
            ROUTE => self.answer_routes_of(source),
            _ => {}
        }
        if let Some(watch) = self.start.watch(type_url) {
            watch.stats.failed();
            watch.answered = true;
        }
    }

    /// Makes the draft what workers see, then lets go of what it no longer holds.
    pub(crate) fn publish(&mut self) {
        self.draft.version += 1;
        self.world.store.publish(Arc::new(self.draft.clone()));
        self.world.workers.announce(self.world.drain_time);
        self.clusters.stop_retired();
    }

    /// Counts fields that are accepted without effect.
    pub(crate) fn count_ignored(&self, name: &str, ignored: &redplane_config::Ignored) {
        if !ignored.0.is_empty() {
            tracing::debug!(name, fields = ?ignored.0, "accepted without effect");
            let block = self.world.server.block();
            block.add(server::DYNAMIC_UNKNOWN_FIELDS, ignored.0.len() as u64);
        }
    }
}
