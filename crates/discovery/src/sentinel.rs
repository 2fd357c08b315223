//! `redplane.clusters.sentinel`: a master and its replicas, found and followed by their Redis Sentinels.
//!
//! Every refresh asks the Sentinels and has the master confirm its role. One follows the previous after `refresh_rate`,
//! and at once on news from the Sentinel that is subscribed to, or when requests fail or a server refuses a write
//! because it is a replica now. A refresh that fails leaves the topology as it is and is tried again soon.
//!
//! Redis: "Guidelines for Redis clients with support for Redis Sentinel". Configured as Envoy's `envoy.clusters.redis`.

mod answer;
mod ask;
mod contacts;
mod refresh;
mod subscription;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redplane_config::cluster::SentinelCluster;
use redplane_upstream::cluster::{Cluster, Events};
use redplane_upstream::host::{Health, Host};

use refresh::Refresher;
use subscription::{Subscription, next_event};

/// Shortest time between refreshes that events ask for.
const EVENTS: Duration = Duration::from_millis(200);

/// How long after a refresh that failed, or that found a server unwell, the next one follows, at first; doubled each
/// time, up to the refresh rate. That a server is well again is not always told.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// Times that one refresh may be begun anew because there was news meanwhile.
const RESTARTS: u32 = 8;

pub(super) fn start(cluster: &Arc<Cluster>, settings: &SentinelCluster) {
    cluster.set_warm();
    let watch = Watch {
        cluster: Arc::downgrade(cluster),
        events: Arc::clone(cluster.events()),
        settings: settings.clone(),
        subscription: None,
        retry: FIRST_RETRY,
    };
    let task = watch.run(Refresher::new(settings));
    cluster.adopt(cluster.context().runtime.spawn(task).abort_handle());
}

fn all_well(cluster: &Cluster) -> bool {
    let topology = cluster.topology();
    topology.hosts.iter().all(|host| host.health() == Health::Healthy)
}

/// The task of one cluster.
struct Watch {
    cluster: Weak<Cluster>,
    events: Arc<Events>,
    settings: SentinelCluster,
    subscription: Option<Subscription>,
    /// How long to wait after the next failure.
    retry: Duration,
}

impl Watch {
    async fn run(mut self, mut refresher: Refresher) {
        loop {
            let Some(cluster) = self.cluster.upgrade() else {
                return;
            };
            let settled = match self.refresh(&cluster, &mut refresher).await {
                // Events from before the subscription began were not received.
                Some(sentinel) => !self.listen(&cluster, &sentinel).await && all_well(&cluster),
                None => false,
            };
            let pause = if settled {
                self.retry = FIRST_RETRY;
                self.settings.refresh_rate
            } else {
                let pause = self.retry.min(self.settings.refresh_rate);
                self.retry = (self.retry * 2).min(self.settings.refresh_rate);
                pause
            };
            drop(cluster);
            self.pause(Instant::now() + pause).await;
        }
    }

    /// One refresh; begun anew when there is news, since it may be waiting for a master that is gone.
    async fn refresh(&mut self, cluster: &Arc<Cluster>, refresher: &mut Refresher) -> Option<Arc<Host>> {
        for _ in 0..RESTARTS {
            tokio::select! {
                heard = refresher.refresh(cluster) => return heard,
                news = next_event(&mut self.subscription) => if news.is_err() {
                    self.subscription = None;
                }
            }
        }
        refresher.refresh(cluster).await
    }

    /// Subscribes to the Sentinel that answered, unless there is a subscription; true when there is a new one. Without
    /// one the refresh rate serves.
    async fn listen(&mut self, cluster: &Cluster, sentinel: &Arc<Host>) -> bool {
        if self.subscription.is_some() {
            return false;
        }
        match Subscription::open(cluster, &self.settings, sentinel).await {
            Ok(subscription) => self.subscription = Some(subscription),
            Err(error) => {
                tracing::warn!(cluster = cluster.name(), sentinel = %sentinel.address, %error, "cannot subscribe");
            }
        }
        self.subscription.is_some()
    }

    /// Waits for the time of the next refresh, or for a reason to have it sooner.
    async fn pause(&mut self, mut next: Instant) {
        let earliest = Instant::now() + EVENTS;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => return,
                () = self.events.told() => {
                    self.events.take();
                    next = next.min(earliest);
                }
                news = next_event(&mut self.subscription) => {
                    if news.is_err() {
                        // It is gone: another one is found by asking.
                        self.subscription = None;
                    }
                    return;
                }
            }
        }
    }
}
