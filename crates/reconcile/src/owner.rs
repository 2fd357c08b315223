//! The one road to live: an update goes in, is validated, warms, is published as one snapshot, and what left is drained.
//!
//! Runs on the control thread alone and never waits: whatever takes time comes back through the queue. Bad resources
//! are named in the verdict, the good ones of the same update live. Start-up waits for the first clusters (their
//! endpoints as long as `initial_fetch_timeout` says; Redis topologies and DNS answers a moment only), then asks for
//! listeners, then is live. Envoy: `ClusterManagerInitHelper`, `CdsApiImpl`, `LdsApiImpl`; xDS warming rules.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use redplane_admin::FailedUpdate;
use redplane_config::cluster::ConfigSource;
use redplane_proto::Json;
use redplane_telemetry::Block;
use redplane_telemetry::stats::{cluster as cluster_stats, control_plane, server};
use redplane_upstream::Context;
use redplane_world::Snapshot;
use redplane_xds::type_url::{CLUSTER, ENDPOINT, LISTENER};
use redplane_xds::{Event, Rejected, Resource, Update, Verdict};

use crate::bootstrap::Bootstrap;
use crate::clusters::Clusters;
use crate::endpoints::Endpoints;
use crate::feeds::{self, Feeds};
use crate::handover::Handover;
use crate::incoming::{From, Incoming};
use crate::listeners::Listeners;
use crate::start_up::{Phase, Watch};
use crate::world::World;

/// The owner of everything that is configured.
pub struct Reconcile {
    pub(crate) world: Arc<World>,
    pub(crate) context: Context,
    pub(crate) feeds: Feeds,
    /// The next snapshot in the making.
    pub(crate) draft: Snapshot,
    pub(crate) clusters: Clusters,
    pub(crate) endpoints: Endpoints,
    pub(crate) listeners: Listeners,
    pub(crate) handover: Handover,
    pub(crate) cds: Watch,
    pub(crate) lds: Watch,
    control_plane: Block,
    /// `cluster.<ads>.`: the ADS stream is a connection of its cluster as well.
    ads_stats: Option<Block>,
    pub(crate) phase: Phase,
}

impl Reconcile {
    /// Ready to start; nothing is configured yet.
    pub fn new(world: Arc<World>, context: Context, feeds: Feeds, bootstrap: &Bootstrap) -> Self {
        let registry = &world.registry;
        let config = &bootstrap.config;
        let cds = Watch::new(registry, CLUSTER, config.cds.as_ref(), bootstrap.cds_patience);
        let lds = Watch::new(registry, LISTENER, config.lds.as_ref(), bootstrap.lds_patience);
        Self {
            cds,
            lds,
            clusters: Clusters::new(registry),
            endpoints: Endpoints::default(),
            listeners: Listeners::new(registry),
            handover: Handover::default(),
            control_plane: registry.scope("control_plane.", &control_plane::SCHEMA).block(),
            ads_stats: None,
            phase: Phase::Clusters,
            draft: Snapshot::default(),
            world,
            context,
            feeds,
        }
    }

    /// Brings up what the bootstrap says, and asks for what it does not.
    ///
    /// # Errors
    /// One line: the resource at fault and the reason.
    pub fn start(&mut self, bootstrap: &Bootstrap) -> Result<(), String> {
        let resources = bootstrap.message.static_resources.clone().unwrap_or_default();
        let config = &bootstrap.config;
        if let Some(ads) = &config.ads {
            let node = bootstrap.message.node.clone().unwrap_or_default();
            self.feeds
                .start_ads(feeds::ads_config(ads, &config.clusters, node)?)?;
        }
        for (config, message) in config.clusters.iter().zip(&resources.clusters) {
            self.add_static_cluster(config, message)?;
        }
        self.ask_endpoints();
        self.publish();
        for (config, message) in config.listeners.iter().zip(&resources.listeners) {
            self.add_static_listener(config, message)?;
        }
        if let Some(cluster) = config
            .ads
            .as_ref()
            .and_then(|ads| self.draft.cluster(&ads.cluster))
        {
            self.ads_stats = Some(cluster.stats().block());
        }
        self.cds.ask(&mut self.feeds, &self.world)?;
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
                    let verdict = self.apply(&update);
                    handle.verdict(verdict);
                }
                event => self.note(from, &event),
            },
            Incoming::Warm { name, id, timed_out } => self.warmed(&name, id, timed_out),
            Incoming::Overdue(type_url) => {
                if let Some(watch) = self.watch(type_url) {
                    watch.give_up();
                }
            }
            Incoming::OutOfPatience(wait) => self.out_of_patience(wait),
        }
        self.advance()
    }

    /// Applies one update: what is good in it lives when this returns, or warms.
    fn apply(&mut self, update: &Update) -> Verdict {
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
            ENDPOINT => self.apply_endpoints(update),
            LISTENER => self.apply_listeners(update),
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
        self.record_failures(update, &rejected);
        let good = rejected.is_empty() && update.refused.is_empty();
        let took = Instant::now().duration_since(begun);
        log(update, rejected.len(), took);
        if let Some(watch) = self.watch(&update.type_url) {
            watch.answered = true;
            match good {
                true => {
                    let changed = !update.resources.is_empty() || !update.removed.is_empty();
                    watch.stats.accepted(&update.version, changed, took);
                }
                false => watch.stats.rejected(took),
            }
        }
        if good && let Some(section) = self.world.book.pages().section(&update.type_url) {
            section.version.clone_from(&update.version);
        }
        Verdict::reject(update, rejected)
    }

    /// Keeps what was refused for `/config_dump`.
    fn record_failures(&self, update: &Update, rejected: &[Rejected]) {
        let mut pages = self.world.book.pages();
        let Some(section) = pages.section(&update.type_url) else {
            return;
        };
        section.forget_failures();
        for refused in rejected
            .iter()
            .chain(&update.refused)
            .filter(|refused| !refused.name.is_empty())
        {
            let same = |resource: &&Resource| resource.name == refused.name;
            let failed = FailedUpdate {
                resource: update
                    .resources
                    .iter()
                    .find(same)
                    .map(|resource| Arc::new(resource.body.clone())),
                version_info: update.version.clone(),
                last_update_attempt: SystemTime::now(),
                details: refused.reason.clone(),
            };
            section.set_failed(&refused.name, failed);
        }
    }

    /// Connections of the sources, for stats and log.
    fn note(&mut self, from: From, event: &Event) {
        match event {
            Event::Connected { .. } => {
                self.control_plane.set(control_plane::CONNECTED_STATE, 1);
                self.count_ads(|block| {
                    block.inc(cluster_stats::UPSTREAM_CX_TOTAL);
                    block.inc(cluster_stats::UPSTREAM_RQ_TOTAL);
                    block.set(cluster_stats::UPSTREAM_CX_ACTIVE, 1);
                    block.set(cluster_stats::UPSTREAM_RQ_ACTIVE, 1);
                });
            }
            Event::Disconnected {
                reason,
                established,
                retry_in,
            } => {
                tracing::warn!(
                    reason,
                    ?retry_in,
                    "no stream to the control plane; the last good configuration stays"
                );
                self.control_plane.set(control_plane::CONNECTED_STATE, 0);
                self.count_ads(|block| {
                    block.set(cluster_stats::UPSTREAM_CX_ACTIVE, 0);
                    block.set(cluster_stats::UPSTREAM_RQ_ACTIVE, 0);
                    if !established {
                        block.inc(cluster_stats::UPSTREAM_CX_CONNECT_FAIL);
                    }
                });
                for watch in [&self.cds, &self.lds] {
                    if watch.source == Some(ConfigSource::Ads) {
                        watch.stats.failed();
                    }
                }
            }
            Event::Unreadable { .. } => {
                // The source has logged it. An unreadable file is an answer: waiting would not make it better.
                if let From::File(type_url) = from
                    && let Some(watch) = self.watch(type_url)
                {
                    watch.stats.failed();
                    watch.answered = true;
                }
            }
            Event::Update(_) => {}
        }
    }

    fn count_ads(&self, count: impl FnOnce(&Block)) {
        if let Some(block) = &self.ads_stats {
            count(block);
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

/// Endpoints move too often to be told at `info`, as in Envoy.
fn log(update: &Update, rejected: usize, took: Duration) {
    let counts = (update.resources.len(), update.removed.len(), update.unchanged);
    let (changed, removed, unchanged) = counts;
    let (type_url, version) = (&update.type_url, &update.version);
    let rejected = rejected + update.refused.len();
    if update.type_url == ENDPOINT {
        tracing::debug!(
            type_url,
            version,
            changed,
            removed,
            unchanged,
            rejected,
            ?took,
            "update"
        );
    } else {
        tracing::info!(
            type_url,
            version,
            changed,
            removed,
            unchanged,
            rejected,
            ?took,
            "update"
        );
    }
}
