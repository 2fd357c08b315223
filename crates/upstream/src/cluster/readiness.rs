//! Whether a cluster has what its first commands need, and waiting for it.

use std::pin::pin;

use redplane_config::cluster::Discovery;
use tokio::sync::{Notify, watch};

use super::Cluster;

/// What is told of a cluster's beginnings.
pub(super) struct Readiness {
    warm: watch::Sender<bool>,
    /// Told of every topology that is published.
    news: Notify,
}

impl Readiness {
    pub(super) fn new() -> Self {
        Self {
            warm: watch::Sender::new(false),
            news: Notify::new(),
        }
    }

    /// There is another topology.
    pub(super) fn tell(&self) {
        self.news.notify_waiters();
    }
}

impl Cluster {
    /// Nothing has to be waited for any more. A cluster whose endpoints do not come stays cold (EDS, DNS); a Redis
    /// cluster and one behind Sentinels are warm from the start.
    pub fn is_warm(&self) -> bool {
        *self.readiness.warm.borrow()
    }

    /// Waits until [`is_warm`](Self::is_warm).
    pub async fn warmed(&self) {
        // An error means that the sender is gone, which lives in `self`.
        let _ = self.readiness.warm.subscribe().wait_for(|warm| *warm).await;
    }

    /// Ends the wait of [`warmed`](Self::warmed).
    pub fn set_warm(&self) {
        let warm = &self.readiness.warm;
        warm.send_if_modified(|warm| !std::mem::replace(warm, true));
    }

    /// Whether it has what its first commands need. A Redis cluster, or one behind Sentinels, is warm from the start: its
    /// first topology counts here, and for all the first IAM token where they are in use.
    pub fn is_ready(&self) -> bool {
        self.is_warm() && self.can_log_in() && self.is_discovered()
    }

    /// Waits until [`is_ready`](Self::is_ready).
    pub async fn ready(&self) {
        self.warmed().await;
        self.token_made().await;
        loop {
            let mut news = pin!(self.readiness.news.notified());
            // From here on no topology is missed.
            news.as_mut().enable();
            if self.is_discovered() {
                return;
            }
            news.await;
        }
    }

    fn is_discovered(&self) -> bool {
        let discovers = matches!(
            self.config.discovery,
            Discovery::Redis(_) | Discovery::Sentinel(_)
        );
        !discovers || self.topology().shard_count() > 0
    }
}
