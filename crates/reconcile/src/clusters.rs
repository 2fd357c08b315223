//! CDS: clusters come, warm, replace their predecessors and go.
//!
//! A changed cluster serves only when it is warm; its predecessor serves until then. A new configuration that is equal to
//! the one that lives changes nothing but the dump. One that a listener still names goes when the listeners of the same
//! push are here.

mod removal;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redplane_admin::ResourceVersion;
use redplane_config::cluster::{Cluster as Config, Discovery};
use redplane_proto::pb::envoy::config::cluster::v3 as proto;
use redplane_proto::{Any, pack, unpack};
use redplane_telemetry::stats::{cluster_manager as names, server};
use redplane_upstream::Cluster;
use redplane_xds::{Rejected, Resource, Update};

use crate::book::{Origin, version};
use crate::incoming::Incoming;
use crate::needs::{MOMENT, Need, Needs, Waiter};
use crate::owner::Reconcile;
use crate::references;
use crate::state::clusters::{Warming, Watching};

/// How long the predecessor serves on when its successor finds no Redis topology.
const REPLACEMENT: Duration = Duration::from_secs(10);

impl Reconcile {
    pub(crate) fn add_static_cluster(
        &mut self,
        config: &Arc<Config>,
        message: &proto::Cluster,
    ) -> Result<(), String> {
        let refuse = |reason: String| format!("static_resources.clusters: '{}': {reason}", config.name);
        let cluster = redplane_discovery::start(Arc::clone(config), &self.context)
            .map_err(|invalid| refuse(invalid.to_string()))?;
        self.join(&cluster).map_err(refuse)?;
        let block = self.world.server.block();
        block.add(server::STATIC_UNKNOWN_FIELDS, config.ignored.0.len() as u64);
        drop(block);
        self.clusters.fixed.insert(config.name.clone());
        let assignment = message.load_assignment.as_ref().map(pack);
        self.enter(
            Arc::clone(&cluster),
            Origin::Static,
            version(pack(message), ""),
            assignment,
        );
        Ok(())
    }

    /// Lets those of the bootstrap wait for what they need. All of them have their place by then: one may be the way to
    /// the secrets of another.
    pub(crate) fn settle_static_clusters(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.clusters.fixed.iter().cloned().collect();
        for name in names {
            let Some(cluster) = self.draft.cluster(&name).cloned() else {
                continue;
            };
            let asked = self.join_secrets(&references::secrets_of_cluster(cluster.config()));
            let mut needs =
                asked.map_err(|reason| format!("static_resources.clusters: '{name}': {reason}"))?;
            let watching = self.discovery_needs(&cluster, None, &mut needs);
            if !needs.is_empty() {
                self.wait(Waiter::Cluster(name.clone()), needs);
                self.clusters.settling.insert(name, watching);
            }
        }
        Ok(())
    }

    pub(crate) fn apply_clusters(&mut self, update: &Update) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        for resource in &update.resources {
            if let Err(reason) = self.add_cluster(resource) {
                rejected.push(Rejected::new(&resource.name, reason));
            }
        }
        self.release_clusters(&update.removed);
        rejected
    }

    fn add_cluster(&mut self, resource: &Resource) -> Result<(), String> {
        let message: proto::Cluster = unpack(&resource.body)?;
        let config = Arc::new(Config::from_proto(&message).map_err(|invalid| invalid.to_string())?);
        let name = config.name.clone();
        if self.clusters.fixed.contains(&name) {
            // Envoy: a cluster of the bootstrap is not replaced, and that is no error.
            tracing::warn!(
                name,
                "the bootstrap has a cluster of this name; the one from CDS is left out"
            );
            return Ok(());
        }
        if let Some(wait) = self.clusters.lingering.remove(&name) {
            self.ledger.close(wait);
        }
        let resource_version = version(resource.body.clone(), &resource.version);
        let assignment = message.load_assignment.as_ref().map(pack);
        let warming = self.clusters.warming.get_mut(&name);
        if let Some(warming) = warming.filter(|warming| *warming.cluster.config() == config) {
            warming.resource = resource_version;
            return Ok(());
        }
        let active = self.draft.cluster(&name).cloned();
        if let Some(active) = active.as_ref().filter(|active| *active.config() == config) {
            self.forget_warming(&name);
            self.dump(active, Origin::Dynamic, resource_version, assignment);
            return Ok(());
        }
        self.start_cluster(&config, active, resource_version, assignment)
    }

    /// Starts a cluster that is new or has changed; it takes its place when it has what it needs.
    fn start_cluster(
        &mut self,
        config: &Arc<Config>,
        active: Option<Arc<Cluster>>,
        resource: ResourceVersion,
        assignment: Option<Any>,
    ) -> Result<(), String> {
        let mut needs = self.join_secrets(&references::secrets_of_cluster(config))?;
        let started = redplane_discovery::start_after(Arc::clone(config), &self.context, active.as_deref())
            .map_err(|invalid| invalid.to_string())
            .and_then(|cluster| self.join(&cluster).map(|()| cluster));
        let cluster = match started {
            Ok(cluster) => cluster,
            Err(reason) => {
                self.leave_secrets(&references::secrets_of_cluster(config));
                return Err(reason);
            }
        };
        self.forget_warming(&config.name);
        self.count_ignored(&config.name, &config.ignored);
        self.clusters.stats.inc(match active {
            Some(_) => names::CLUSTER_MODIFIED,
            None => names::CLUSTER_ADDED,
        });
        let watching = self.discovery_needs(&cluster, active.as_ref(), &mut needs);
        if needs.is_empty() {
            self.enter(cluster, Origin::Dynamic, resource, assignment);
            return Ok(());
        }
        let name = config.name.clone();
        let mut pages = self.world.book.pages();
        pages.clusters.set_warming(&name, resource.clone());
        drop(pages);
        let warming = Warming {
            wait: self.wait(Waiter::Cluster(name.clone()), needs),
            cluster,
            resource,
            assignment,
            _watching: watching,
        };
        self.clusters.warming.insert(name, warming);
        Ok(())
    }

    /// What a cluster has to find out before it serves: its endpoints, or its first topology, DNS answer and token.
    fn discovery_needs(
        &mut self,
        cluster: &Arc<Cluster>,
        active: Option<&Arc<Cluster>>,
        needs: &mut Needs,
    ) -> Option<Watching> {
        let mut discovers = !cluster.can_log_in();
        if let (Discovery::Eds { source, .. }, Some(service)) = (
            &cluster.config().discovery,
            references::service_of(cluster.config()),
        ) {
            if !cluster.is_warm() && !self.endpoints.are_answered(&service) {
                needs.push((Need::Endpoints(service), source.initial_fetch_timeout));
            }
        } else {
            discovers |= !cluster.is_ready();
        }
        if !discovers {
            return None;
        }
        // A predecessor that serves may go on doing so; one that does not is not worth keeping.
        let patience = match active.is_some_and(|active| active.topology().shard_count() > 0) {
            true => REPLACEMENT,
            false => MOMENT,
        };
        self.clusters.discoveries += 1;
        let id = self.clusters.discoveries;
        needs.push((Need::Discovery(id), Some(patience)));
        let (cluster, queue) = (Arc::clone(cluster), self.feeds.queue().clone());
        let task = tokio::spawn(async move {
            cluster.ready().await;
            // Nobody left to tell is as good.
            let _ = queue.send(Incoming::Discovered(id)).await;
        });
        Some(Watching(task.abort_handle()))
    }

    /// A cluster has what it needs, or has waited long enough.
    pub(crate) fn cluster_is_warm(&mut self, name: &str) {
        if self.clusters.settling.remove(name).is_none() {
            let Some(warming) = self.clusters.warming.remove(name) else {
                return;
            };
            let Warming {
                cluster,
                resource,
                assignment,
                ..
            } = warming;
            self.enter(cluster, Origin::Dynamic, resource, assignment);
        }
        self.meet(&Need::Cluster(name.to_owned()));
    }

    /// Puts a cluster into the draft, in place of its predecessor.
    fn enter(
        &mut self,
        cluster: Arc<Cluster>,
        origin: Origin,
        resource: ResourceVersion,
        assignment: Option<Any>,
    ) {
        self.dump(&cluster, origin, resource, assignment);
        let name = cluster.name().to_owned();
        let old = self.draft.cluster(&name).cloned();
        self.draft.clusters.insert_mut(name, cluster);
        match old {
            Some(old) => self.retire(old),
            None => self.clusters.stats.inc(names::ACTIVE_CLUSTERS),
        }
    }

    fn dump(
        &self,
        cluster: &Arc<Cluster>,
        origin: Origin,
        resource: ResourceVersion,
        assignment: Option<Any>,
    ) {
        let mut pages = self.world.book.pages();
        let version_info = resource.version_info.clone();
        pages.clusters.set_active(origin, cluster.name(), resource);
        if matches!(cluster.config().discovery, Discovery::Eds { .. }) {
            return;
        }
        match assignment {
            Some(assignment) => {
                let endpoints = version(assignment, &version_info);
                pages.endpoints.set_active(origin, cluster.name(), endpoints);
            }
            None => pages.endpoints.remove(origin, cluster.name()),
        }
    }

    /// Whether a listener had better wait for a cluster: it is on its way, and nothing serves in its place.
    pub(crate) fn is_awaited(&self, name: &str) -> bool {
        self.clusters.settling.contains_key(name)
            || self.clusters.warming.contains_key(name) && self.draft.cluster(name).is_none()
    }

    /// Every cluster that a listener or a route configuration names.
    fn named_clusters(&self) -> HashSet<String> {
        let listeners = self.draft.listeners();
        let by_listeners = listeners.flat_map(|listener| references::clusters_of(&listener.config));
        by_listeners
            .chain(self.routes.clusters())
            .map(str::to_owned)
            .collect()
    }
}
