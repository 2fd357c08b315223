//! `envoy.clusters.redis`: the slot map of a Redis Cluster, kept up to date.
//!
//! A refresh asks one known host for `CLUSTER SLOTS`; nothing more happens as long as that is what is known already.
//! In doubt (a signal from a worker since the last refresh, a host that is not healthy, another answer, no answer) up to
//! three nodes are asked for all they know, known hosts first, the seeds when none of them answers. What a node says
//! becomes an [`answer::Answer`], several answers become one [`decide::View`] (both pure), names in it are resolved, and
//! the result is published. A refresh follows the previous one after `cluster_refresh_rate`, give or take a tenth, or
//! sooner when redirections, failures or degraded hosts ask for it. `-MOVED` changes the topology at once. A refresh
//! that fails leaves the topology as it is.
//!
//! Envoy: `source/extensions/clusters/redis`. Unlike Envoy, nothing waits for the first answer.

pub mod answer;
mod ask;
mod counts;
pub mod decide;
mod moved;
mod outline;
mod refresh;
mod triggers;
mod zones;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redplane_config::cluster::RedisCluster;
use redplane_upstream::cluster::{Cluster, Events, Moves};

use refresh::Refresher;
use triggers::Triggers;

pub(super) fn start(cluster: &Arc<Cluster>, settings: &RedisCluster, moves: Moves) {
    cluster.set_warm();
    let refresher = Refresher::new(cluster, settings);
    let events = Arc::clone(cluster.events());
    let task = Watch {
        cluster: Arc::downgrade(cluster),
        events,
        settings: settings.clone(),
        moves,
        in_doubt: true,
    };
    cluster.adopt(
        cluster
            .context()
            .runtime
            .spawn(task.run(refresher))
            .abort_handle(),
    );
}

/// The task of one cluster.
struct Watch {
    cluster: Weak<Cluster>,
    events: Arc<Events>,
    settings: RedisCluster,
    moves: Moves,
    /// What is known may have changed: one node's word is not enough.
    in_doubt: bool,
}

/// What ended a pause.
enum Woken {
    Refresh,
    Moved,
    Gone,
}

impl Watch {
    async fn run(mut self, mut refresher: Refresher) {
        let mut triggers = Triggers::new(&self.settings);
        loop {
            let Some(cluster) = self.cluster.upgrade() else {
                return;
            };
            self.refresh(&cluster, &mut refresher).await;
            drop(cluster);
            let next = Instant::now() + spread(self.settings.refresh_rate);
            loop {
                match self.pause(next, &mut triggers).await {
                    Woken::Refresh => break,
                    Woken::Moved => {}
                    Woken::Gone => return,
                }
            }
        }
    }

    /// One refresh. Moves that come meanwhile are applied at once, and again on its result, which may be older.
    async fn refresh(&mut self, cluster: &Arc<Cluster>, refresher: &mut Refresher) {
        let in_doubt = std::mem::take(&mut self.in_doubt);
        let refresh = refresher.refresh(cluster, in_doubt);
        tokio::pin!(refresh);
        let mut meanwhile = Vec::new();
        let succeeded = loop {
            tokio::select! {
                succeeded = &mut refresh => break succeeded,
                Some(first) = self.moves.recv() => {
                    let burst = moved::burst(first, &mut self.moves);
                    moved::apply(cluster, &burst);
                    meanwhile.extend(burst);
                }
            }
        };
        self.in_doubt = !succeeded || !meanwhile.is_empty();
        if !meanwhile.is_empty() {
            moved::apply(cluster, &meanwhile);
        }
    }

    /// Waits for the time of the next refresh, for a reason to have it sooner, or for a move, which it applies.
    async fn pause(&mut self, next: Instant, triggers: &mut Triggers) -> Woken {
        let next = triggers.due().map_or(next, |due| due.min(next));
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {
                triggers.refreshed(Instant::now());
                Woken::Refresh
            }
            () = self.events.told() => {
                let now = Instant::now();
                self.in_doubt = true;
                if triggers.note(self.events.take(), now) { Woken::Refresh } else { Woken::Moved }
            }
            Some(first) = self.moves.recv() => {
                let Some(cluster) = self.cluster.upgrade() else { return Woken::Gone };
                moved::apply(&cluster, &moved::burst(first, &mut self.moves));
                triggers.moved(Instant::now());
                self.in_doubt = true;
                Woken::Moved
            }
        }
    }
}

/// A time of up to a tenth more or less, so that many proxies that started together do not ask together.
fn spread(time: Duration) -> Duration {
    let tenth = time / 10;
    time - tenth + tenth / 1000 * fastrand::u32(0..=2000)
}
