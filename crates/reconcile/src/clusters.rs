//! CDS: clusters come, warm, replace their predecessors and go.
//!
//! A changed cluster serves only when it is warm; its predecessor serves until then. A new configuration that is equal to
//! the one that lives changes nothing but the dump.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redplane_admin::ResourceVersion;
use redplane_config::cluster::{Cluster as Config, Discovery};
use redplane_proto::pb::envoy::config::cluster::v3 as proto;
use redplane_proto::{Any, pack, unpack};
use redplane_telemetry::stats::{cluster_manager as names, server};
use redplane_telemetry::{Block, Registry};
use redplane_upstream::Cluster;
use redplane_xds::{Rejected, Resource, Update};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::book::{Origin, version};
use crate::bootstrap::initial_fetch_timeout;
use crate::incoming::Incoming;
use crate::owner::Reconcile;
use crate::start_up::Phase;

/// How long a DNS answer, a Redis topology or a token is worth waiting for. A cluster without one goes on looking.
const MOMENT: Duration = Duration::from_secs(2);

/// How long the predecessor serves on when its successor finds no Redis topology.
const REPLACEMENT: Duration = Duration::from_secs(10);

/// How often a Redis cluster is looked at while its first topology is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is known of clusters beside the snapshot.
pub(crate) struct Clusters {
    /// Those of the bootstrap, which CDS cannot change.
    fixed: HashSet<String>,
    warming: HashMap<String, Warming>,
    /// Waits that start-up waits for.
    holding: HashSet<u64>,
    /// Replaced or removed, to be stopped when the next snapshot is out.
    retired: Vec<Arc<Cluster>>,
    waits: u64,
    stats: Block,
}

/// A cluster that does not serve yet.
struct Warming {
    id: u64,
    cluster: Arc<Cluster>,
    resource: ResourceVersion,
    assignment: Option<Any>,
    wait: AbortHandle,
}

impl Clusters {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            fixed: HashSet::new(),
            warming: HashMap::new(),
            holding: HashSet::new(),
            retired: Vec::new(),
            waits: 0,
            stats: registry.scope("cluster_manager.", &names::SCHEMA).block(),
        }
    }

    /// Whether start-up may go on.
    pub(crate) fn are_settled(&self) -> bool {
        self.holding.is_empty()
    }

    pub(crate) fn stop_retired(&mut self) {
        self.retired.drain(..).for_each(|cluster| cluster.stop());
    }
}

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
        if !is_ready(&cluster) {
            let (id, _) = self.wait(&cluster, patience(message, &cluster, None));
            self.clusters.holding.insert(id);
        }
        let block = self.world.server.block();
        block.add(server::STATIC_UNKNOWN_FIELDS, config.ignored.0.len() as u64);
        drop(block);
        self.clusters.fixed.insert(config.name.clone());
        let assignment = message.load_assignment.as_ref().map(pack);
        self.enter(cluster, Origin::Static, version(pack(message), ""), assignment);
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
        self.ask_endpoints();
        self.publish();
        self.gauge_warming();
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
        self.keep_cluster(&name);
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
        let cluster = redplane_discovery::start_after(Arc::clone(&config), &self.context, active.as_deref())
            .map_err(|invalid| invalid.to_string())?;
        self.join(&cluster)?;
        self.forget_warming(&name);
        self.count_ignored(&name, &config.ignored);
        let stats = &self.clusters.stats;
        match active {
            Some(_) => stats.inc(names::CLUSTER_MODIFIED),
            None => stats.inc(names::CLUSTER_ADDED),
        }
        if is_ready(&cluster) {
            self.enter(cluster, Origin::Dynamic, resource_version, assignment);
        } else {
            let patience = patience(&message, &cluster, active.as_ref());
            self.warm(cluster, patience, resource_version, assignment);
        }
        Ok(())
    }

    /// Lets a cluster wait for what it needs; start-up waits along.
    fn warm(
        &mut self,
        cluster: Arc<Cluster>,
        patience: Option<Duration>,
        resource: ResourceVersion,
        assignment: Option<Any>,
    ) {
        let (id, wait) = self.wait(&cluster, patience);
        if self.phase == Phase::Clusters {
            self.clusters.holding.insert(id);
        }
        let name = cluster.name().to_owned();
        let mut pages = self.world.book.pages();
        pages.clusters.set_warming(&name, resource.clone());
        let warming = Warming {
            id,
            cluster,
            resource,
            assignment,
            wait,
        };
        self.clusters.warming.insert(name, warming);
    }

    /// A wait is over.
    pub(crate) fn warmed(&mut self, name: &str, id: u64, timed_out: bool) {
        self.clusters.holding.remove(&id);
        if timed_out {
            tracing::warn!(
                name,
                "the cluster goes live without hosts; it goes on looking for them"
            );
        }
        let Some(warming) = self.clusters.warming.remove(name) else {
            return;
        };
        if warming.id != id {
            self.clusters.warming.insert(name.to_owned(), warming);
            return;
        }
        self.enter(
            warming.cluster,
            Origin::Dynamic,
            warming.resource,
            warming.assignment,
        );
        self.take_over();
        self.ask_endpoints();
        self.publish();
        self.gauge_warming();
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

    /// Whether a cluster is there and not the bootstrap's.
    pub(crate) fn is_removable(&self, name: &str) -> bool {
        !self.clusters.fixed.contains(name) && self.draft.cluster(name).is_some()
    }

    pub(crate) fn is_warming(&self, name: &str) -> bool {
        self.clusters.warming.contains_key(name)
    }

    pub(crate) fn remove_cluster(&mut self, name: &str) {
        self.forget_warming(name);
        if self.clusters.fixed.contains(name) {
            return;
        }
        {
            let mut pages = self.world.book.pages();
            pages.clusters.remove(Origin::Dynamic, name);
            pages.endpoints.remove(Origin::Dynamic, name);
        }
        if let Some(cluster) = self.draft.cluster(name).cloned() {
            self.draft.clusters.remove_mut(name);
            self.clusters.stats.dec(names::ACTIVE_CLUSTERS);
            self.clusters.stats.inc(names::CLUSTER_REMOVED);
            self.retire(cluster);
        }
    }

    fn forget_warming(&mut self, name: &str) {
        if let Some(warming) = self.clusters.warming.remove(name) {
            warming.wait.abort();
            self.clusters.holding.remove(&warming.id);
            self.retire(warming.cluster);
        }
    }

    fn retire(&mut self, cluster: Arc<Cluster>) {
        self.leave(&cluster);
        self.clusters.retired.push(cluster);
    }

    fn gauge_warming(&self) {
        let warming = self.clusters.warming.len() as u64;
        self.clusters.stats.set(names::WARMING_CLUSTERS, warming);
    }

    fn wait(&mut self, cluster: &Arc<Cluster>, patience: Option<Duration>) -> (u64, AbortHandle) {
        self.clusters.waits += 1;
        let id = self.clusters.waits;
        let waiting = until_ready(Arc::clone(cluster), id, patience, self.feeds.queue().clone());
        (id, tokio::spawn(waiting).abort_handle())
    }
}

/// Whether a cluster has what it needs. A Redis cluster, or one behind Sentinels, counts as warm from the start; here its
/// first topology counts, and for all the first IAM token where they are in use.
fn is_ready(cluster: &Cluster) -> bool {
    let discovers = matches!(
        cluster.config().discovery,
        Discovery::Redis(_) | Discovery::Sentinel(_)
    );
    cluster.is_warm() && cluster.can_log_in() && (!discovers || cluster.topology().shard_count() > 0)
}

/// How long a cluster may keep others waiting; `None` is for ever.
fn patience(message: &proto::Cluster, cluster: &Cluster, active: Option<&Arc<Cluster>>) -> Option<Duration> {
    match &cluster.config().discovery {
        Discovery::Eds { .. } => {
            let eds = message.eds_cluster_config.as_ref();
            initial_fetch_timeout(eds.and_then(|eds| eds.eds_config.as_ref()))
        }
        // A predecessor that serves may go on doing so; one that does not is not worth keeping.
        _ if active.is_some_and(|active| active.topology().shard_count() > 0) => Some(REPLACEMENT),
        _ => Some(MOMENT),
    }
}

async fn until_ready(
    cluster: Arc<Cluster>,
    id: u64,
    patience: Option<Duration>,
    queue: mpsc::Sender<Incoming>,
) {
    let ready = async {
        cluster.warmed().await;
        while !is_ready(&cluster) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let timed_out = match patience {
        Some(patience) => tokio::time::timeout(patience, ready).await.is_err(),
        None => {
            ready.await;
            false
        }
    };
    let name = cluster.name().to_owned();
    // Nobody left to tell is as good.
    let _ = queue.send(Incoming::Warm { name, id, timed_out }).await;
}
