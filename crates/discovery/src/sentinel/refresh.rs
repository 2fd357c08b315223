//! One refresh: ask the Sentinels, take the newest answer, have the master confirm its role, publish.
//!
//! All Sentinels are asked at once and the answer with the highest config epoch counts, so that one that was cut off
//! from the others cannot lead back to a former master. A master that says it is a replica is not published: the
//! topology stays as it is and the question is asked again soon.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use redplane_config::cluster::SentinelCluster;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::cluster::Cluster;
use redplane_upstream::host::{Host, HostAddress};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::ask::{SentinelReply, ask, role};
use super::contacts::Contacts;
use crate::node::{NodeAddress, ShardView};
use crate::publish::{Surroundings, address, publish_replicated};
use crate::session::Session;

/// Most Sentinels that are asked.
const MOST: usize = 9;

/// How long the others may take once one Sentinel has answered.
const GRACE: Duration = Duration::from_millis(200);
/// Refreshes after which an older epoch is believed, though the master does not confirm it.
const BEHIND: u32 = 20;

/// What discovery remembers from one refresh to the next.
pub(super) struct Refresher {
    settings: Arc<SentinelCluster>,
    /// Connections to Sentinels.
    sessions: HashMap<HostAddress, Session>,
    contacts: Contacts,
    /// The connection to the master that `ROLE` is asked on.
    master: Option<(SocketAddr, Session)>,
    /// Last known address of each name.
    addresses: HashMap<String, IpAddr>,
    epoch: u64,
    /// Refreshes in a row that only heard of an older epoch.
    behind: u32,
}

impl Refresher {
    pub(super) fn new(settings: &SentinelCluster) -> Self {
        let settings = Arc::new(settings.clone());
        Self {
            contacts: Contacts::new(Arc::clone(&settings)),
            settings,
            sessions: HashMap::new(),
            master: None,
            addresses: HashMap::new(),
            epoch: 0,
            behind: 0,
        }
    }

    /// Refreshes and counts; says which Sentinel was heard.
    pub(super) async fn refresh(&mut self, cluster: &Arc<Cluster>) -> Option<Arc<Host>> {
        cluster.count(|block| block.inc(names::UPDATE_ATTEMPT));
        match self.attempt(cluster).await {
            Ok((sentinel, changed)) => {
                cluster.count(|block| {
                    block.inc(names::UPDATE_SUCCESS);
                    block.add(names::UPDATE_NO_REBUILD, u64::from(!changed));
                });
                Some(sentinel)
            }
            Err(reason) => {
                cluster.count(|block| block.inc(names::UPDATE_FAILURE));
                let master = &self.settings.master_name;
                tracing::warn!(
                    cluster = cluster.name(),
                    master,
                    reason,
                    "the master could not be found"
                );
                None
            }
        }
    }

    async fn attempt(&mut self, cluster: &Arc<Cluster>) -> Result<(Arc<Host>, bool), String> {
        let mut silent = Vec::new();
        let sentinels = self.contacts.hosts(cluster, &mut silent).await;
        let Some((sentinel, answer)) = self.ask_all(cluster, sentinels, &mut silent).await else {
            return Err(silent.join("; "));
        };
        self.resolve(cluster, &answer.shard).await;
        let confirmed = self.confirm(cluster, &answer.shard).await?;
        let behind = answer.shard.epoch < self.epoch && !confirmed;
        self.behind = if behind { self.behind + 1 } else { 0 };
        if behind && self.behind < BEHIND {
            // Those that are up to date are slow to answer; or all have begun anew, and stay so.
            return Err(format!(
                "the Sentinels that were heard have gone back to epoch {}, and their master does not confirm it",
                answer.shard.epoch
            ));
        }
        let before = primary(cluster);
        let changed = publish_replicated(cluster, &answer.shard, &self.surroundings(&HashMap::new()))?;
        let after = primary(cluster);
        if let Some(master) = after.filter(|after| before.as_ref() != Some(after)) {
            tracing::info!(cluster = cluster.name(), %master, epoch = answer.shard.epoch, "the master");
        }
        self.epoch = answer.shard.epoch;
        self.contacts.learn(answer.sentinels, &sentinel);
        Ok((sentinel, changed))
    }

    fn surroundings<'a>(&'a self, zones: &'a HashMap<SocketAddr, String>) -> Surroundings<'a> {
        let first = self.settings.sentinels.localities.first();
        Surroundings {
            names: &self.addresses,
            zones,
            priority: first.map_or(0, |locality| locality.priority),
        }
    }

    /// The newest answer: the highest config epoch, of equals the first.
    async fn ask_all(
        &mut self,
        cluster: &Arc<Cluster>,
        sentinels: Vec<Arc<Host>>,
        silent: &mut Vec<String>,
    ) -> Option<(Arc<Host>, Answer)> {
        let mut kept = std::mem::take(&mut self.sessions);
        let mut asking = JoinSet::new();
        for sentinel in sentinels.into_iter().take(MOST) {
            let session = kept.remove(&sentinel.address);
            asking.spawn(ask(
                Arc::clone(cluster),
                Arc::clone(&self.settings),
                sentinel,
                session,
            ));
        }
        let mut best: Option<(Arc<Host>, Answer)> = None;
        let mut patience: Option<Instant> = None;
        loop {
            let next = asking.join_next();
            let asked = match patience {
                None => next.await,
                Some(end) => timeout_at(end, next).await.unwrap_or(None),
            };
            let Some(asked) = asked else { return best };
            let Ok(SentinelReply {
                sentinel,
                session,
                outcome,
            }) = asked
            else {
                continue;
            };
            if let Some(session) = session {
                self.sessions.insert(sentinel.address.clone(), session);
            }
            match outcome {
                Ok(answer) => {
                    patience.get_or_insert_with(|| Instant::now() + GRACE);
                    if best
                        .as_ref()
                        .is_none_or(|(_, known)| known.shard.epoch < answer.shard.epoch)
                    {
                        best = Some((sentinel, answer));
                    }
                }
                Err(reason) => silent.push(format!("{}: {reason}", sentinel.address)),
            }
        }
    }

    /// Resolves the names of an answer. A name that cannot be resolved now keeps the address it had.
    async fn resolve(&mut self, cluster: &Cluster, shard: &ShardView) {
        for node in std::iter::once(&shard.primary).chain(&shard.replicas) {
            let NodeAddress::Name(name) = &node.address else {
                continue;
            };
            match cluster.context().dns.resolve(name, self.settings.family).await {
                Ok(found) => {
                    if let Some(first) = found.addresses.first() {
                        self.addresses.insert(name.clone(), *first);
                    }
                }
                Err(error) => tracing::warn!(%error, "a name that a Sentinel told could not be resolved"),
            }
        }
    }

    /// Whether the server that the Sentinels name says it is a master; an error when it says it is none. One that cannot
    /// be asked gets the benefit of the doubt: requests to it fail by themselves, and replicas may be read from.
    async fn confirm(&mut self, cluster: &Cluster, shard: &ShardView) -> Result<bool, String> {
        let Some(at) = address(&shard.primary, &self.surroundings(&HashMap::new())) else {
            return Err(format!("unable to resolve the master {}", shard.primary.hostname));
        };
        let server = cluster.stranger(at, &shard.primary.hostname);
        let kept = self.master.take().filter(|(known, _)| *known == at);
        let kept = kept.map(|(_, session)| session);
        let (session, said) = role(cluster, &server, kept, self.settings.refresh_timeout).await;
        self.master = session.map(|session| (at, session));
        match said {
            Ok(Some(false)) => Err(format!("{at} says it is a replica")),
            Ok(said) => Ok(said == Some(true)),
            Err(error) => {
                tracing::debug!(cluster = cluster.name(), master = %at, %error, "the master does not tell its role");
                Ok(false)
            }
        }
    }
}

fn primary(cluster: &Cluster) -> Option<HostAddress> {
    let topology = cluster.topology();
    let shard = topology.shards().first()?;
    Some(topology.hosts.get(shard.primary)?.address.clone())
}
