//! A subscription to one Sentinel's events: news of the master comes at once, not with the next refresh.
//!
//! What an event says is not used; it only makes us ask. A quiet connection is asked for a sign of life now and then:
//! a Sentinel whose host has vanished says nothing either.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redplane_config::cluster::SentinelCluster;
use redplane_resp::value::Value;
use redplane_upstream::cluster::Cluster;
use redplane_upstream::host::Host;
use tokio::time::Instant;

use super::answer::concerns;
use super::ask::open;
use crate::session::{Session, within};

/// What may change the topology, or which Sentinels to ask about it.
const CHANNELS: [&[u8]; 15] = [
    b"+switch-master",
    b"+sdown",
    b"-sdown",
    b"+odown",
    b"-odown",
    b"+slave",
    b"+slave-reconf-done",
    b"+convert-to-slave",
    b"+role-change",
    b"-role-change",
    b"+reboot",
    b"+reset-master",
    b"+failover-end",
    b"+monitor",
    b"+sentinel",
];

/// Silence after which a Sentinel is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(10);

/// An open subscription.
pub(super) struct Subscription {
    session: Session,
    master_name: String,
    /// How long a PING may take to be answered.
    timeout: Duration,
    /// A PING is under way.
    asked: bool,
    /// When to lose patience.
    due: Instant,
}

impl Subscription {
    pub(super) async fn open(
        cluster: &Cluster,
        settings: &SentinelCluster,
        sentinel: &Arc<Host>,
    ) -> io::Result<Self> {
        let mut session = open(cluster, settings, sentinel).await?;
        let words: Vec<&[u8]> = std::iter::once(&b"SUBSCRIBE"[..]).chain(CHANNELS).collect();
        session.send(&[&words]).await?;
        let deadline = within(settings.refresh_timeout);
        for _ in CHANNELS {
            if let Value::Error(text) = session.reply(deadline).await? {
                return Err(io::Error::other(String::from_utf8_lossy(&text).into_owned()));
            }
        }
        Ok(Self {
            session,
            master_name: settings.master_name.clone(),
            timeout: settings.refresh_timeout,
            asked: false,
            due: within(SILENCE),
        })
    }

    /// Waits for news of the master. May be dropped and called again at any time.
    pub(super) async fn news(&mut self) -> io::Result<()> {
        loop {
            match self.session.reply(self.due).await {
                Ok(message) => {
                    (self.asked, self.due) = (false, within(SILENCE));
                    if concerns(&message, &self.master_name) {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !self.asked => {
                    (self.asked, self.due) = (true, within(self.timeout));
                    self.session.send(&[&[b"PING"]]).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// News of a subscription; without one there is none, ever.
pub(super) async fn next_event(subscription: &mut Option<Subscription>) -> io::Result<()> {
    match subscription {
        Some(subscription) => subscription.news().await,
        None => std::future::pending().await,
    }
}
