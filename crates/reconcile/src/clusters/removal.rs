//! How clusters go: at once, or when nothing names them any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redplane_telemetry::stats::cluster_manager as names;
use redplane_upstream::Cluster;

use crate::book::Origin;
use crate::needs::{Need, Needs, Waiter};
use crate::owner::Reconcile;
use crate::references;

/// How long a removed cluster serves on while a listener names it. Clusters come before listeners on the stream, and
/// what was configured must come to pass.
const LINGER: Duration = Duration::from_secs(5);

impl Reconcile {
    /// Takes clusters away, those that a listener still names a little later.
    pub(super) fn release_clusters(&mut self, removed: &[String]) {
        if removed.is_empty() {
            return;
        }
        let used = self.named_clusters();
        for name in removed {
            let lives = !self.clusters.fixed.contains(name) && self.draft.cluster(name).is_some();
            if lives && used.contains(name) {
                let need = (Need::Release(name.clone()), Some(LINGER));
                let wait = self.wait(Waiter::Removed(name.clone()), vec![need]);
                self.clusters.lingering.insert(name.clone(), wait);
            } else {
                self.remove_cluster(name);
            }
        }
    }

    /// Lets removed clusters go that no listener names any more.
    pub(crate) fn release_unnamed(&mut self) {
        if self.clusters.lingering.is_empty() {
            return;
        }
        let used = self.named_clusters();
        let lingering = self.clusters.lingering.keys();
        let over: Vec<String> = lingering.filter(|name| !used.contains(*name)).cloned().collect();
        if over.is_empty() {
            return;
        }
        // The listeners that no longer name them must be out before they go.
        self.publish();
        for name in over {
            self.meet(&Need::Release(name));
        }
    }

    pub(crate) fn remove_cluster(&mut self, name: &str) {
        self.clusters.lingering.remove(name);
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

    pub(super) fn forget_warming(&mut self, name: &str) {
        if let Some(warming) = self.clusters.warming.remove(name) {
            self.ledger.close(warming.wait);
            self.retire(warming.cluster);
        }
    }

    pub(super) fn retire(&mut self, cluster: Arc<Cluster>) {
        self.leave(&cluster);
        self.leave_secrets(&references::secrets_of_cluster(cluster.config()));
        self.clusters.retired.push(cluster);
    }

    pub(super) fn wait(&mut self, waiter: Waiter, needs: Needs) -> u64 {
        self.ledger.open(waiter, needs, Instant::now())
    }
}
