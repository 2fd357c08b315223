//! One refresh: choose which nodes to ask, collect answers, agree, resolve names, publish.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use redplane_config::Address;
use redplane_config::cluster::RedisCluster;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::cluster::Cluster;
use redplane_upstream::dns::Dns;
use redplane_upstream::host::{Health, Host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::ask::{Extent, NodeReply, ask};
use super::counts::Counts;
use super::decide::{View, decide};
use super::outline::Outline;
use super::zones;
use crate::node::NodeAddress;
use crate::publish::{Surroundings, publish};
use crate::session::Session;

/// Answers that are wanted, and nodes that are asked at the same time.
const VOICES: usize = 3;

/// Nodes that are tried before others are: with many dead ones the seeds get their turn in good time.
const TRIES: usize = 9;

/// Connections that are kept between refreshes.
const KEPT: usize = 16;

/// How long the others may take once one node has answered, and once most have.
const GRACE: [Duration; 2] = [Duration::from_millis(1000), Duration::from_millis(100)];

/// What a cluster's discovery remembers from one refresh to the next.
pub(super) struct Refresher {
    settings: RedisCluster,
    sessions: HashMap<u64, Session>,
    view: View,
    /// Last known address of each name in the slot map.
    addresses: HashMap<String, IpAddr>,
    zones: HashMap<SocketAddr, String>,
    counts: Counts,
}

impl Refresher {
    pub(super) fn new(cluster: &Cluster, settings: &RedisCluster) -> Self {
        Self {
            settings: settings.clone(),
            sessions: HashMap::new(),
            view: View::default(),
            addresses: HashMap::new(),
            zones: zones::known(cluster),
            counts: Counts::new(cluster),
        }
    }

    /// Refreshes and counts; says whether there was an answer. Without doubt one node's word is enough that nothing has
    /// changed.
    pub(super) async fn refresh(&mut self, cluster: &Arc<Cluster>, in_doubt: bool) -> bool {
        cluster.count(|block| block.inc(names::UPDATE_ATTEMPT));
        let well = |host: &Arc<Host>| host.health() == Health::Healthy;
        let sure = !in_doubt && cluster.topology().hosts.iter().all(well);
        let outcome = if sure && self.nothing_changed(cluster).await {
            self.learn_zones(cluster).await
        } else {
            self.attempt(cluster).await
        };
        let succeeded = outcome.is_ok();
        cluster.count(|block| match &outcome {
            Ok(changed) => {
                block.inc(names::UPDATE_SUCCESS);
                block.add(names::UPDATE_NO_REBUILD, u64::from(!changed));
            }
            Err(_) => block.inc(names::UPDATE_FAILURE),
        });
        if let Err(reason) = outcome {
            tracing::warn!(
                cluster = cluster.name(),
                reason,
                "the slot map could not be refreshed"
            );
        }
        succeeded
    }

    /// Whether one node says what is known already.
    async fn nothing_changed(&mut self, cluster: &Arc<Cluster>) -> bool {
        let one = known(cluster).into_iter().take(1).collect();
        let answers = self.collect(cluster, one, Extent::Slots, &mut Vec::new()).await;
        let known = Outline::of(&self.view.shards);
        answers.iter().any(|answer| Outline::of(&answer.shards) == known)
    }

    async fn attempt(&mut self, cluster: &Arc<Cluster>) -> Result<bool, String> {
        let mut silent = Vec::new();
        let mut answers = self
            .collect(cluster, known(cluster), Extent::All, &mut silent)
            .await;
        if answers.is_empty() {
            let seeds = self.seeds(cluster, &mut silent).await;
            answers = self.collect(cluster, seeds, Extent::All, &mut silent).await;
        }
        let Some(view) = decide(&answers, &self.view) else {
            return Err(if silent.is_empty() {
                "there is no node to ask".to_owned()
            } else {
                silent.join("; ")
            });
        };
        self.resolve(&cluster.context().dns, &view).await;
        let changed = publish(cluster, &view.shards, &self.surroundings())?;
        self.view = view;
        Ok(self.learn_zones(cluster).await? || changed)
    }

    /// Asks hosts for the zones that are not known yet; says whether any was learned.
    async fn learn_zones(&mut self, cluster: &Arc<Cluster>) -> Result<bool, String> {
        let learned = self.settings.enable_zone_discovery
            && zones::learn(cluster, &mut self.zones, self.settings.refresh_timeout).await;
        if learned {
            publish(cluster, &self.view.shards, &self.surroundings())?;
        }
        Ok(learned)
    }

    fn surroundings(&self) -> Surroundings<'_> {
        let priority = self
            .settings
            .seeds
            .localities
            .first()
            .map_or(0, |locality| locality.priority);
        Surroundings {
            names: &self.addresses,
            zones: &self.zones,
            priority,
        }
    }

    /// Asks candidates in their order until there are enough answers; what went wrong is noted in `silent`.
    async fn collect(
        &mut self,
        cluster: &Arc<Cluster>,
        hosts: Vec<Arc<Host>>,
        extent: Extent,
        silent: &mut Vec<String>,
    ) -> Vec<Answer> {
        let wanted = VOICES.min(hosts.len());
        let mut candidates = hosts.into_iter().take(TRIES);
        let mut asking = JoinSet::new();
        let mut answers = Vec::new();
        let mut patience: Option<Instant> = None;
        let before = self.sessions.len();
        let mut made = 0;
        while answers.len() < wanted {
            while asking.len() + answers.len() < wanted {
                let Some(host) = candidates.next() else { break };
                let session = self.sessions.remove(&host.id);
                asking.spawn(ask(
                    Arc::clone(cluster),
                    host,
                    session,
                    extent,
                    self.settings.refresh_timeout,
                ));
            }
            let next = asking.join_next();
            let asked = match patience {
                None => next.await,
                Some(end) => timeout_at(end, next).await.unwrap_or(None),
            };
            let Some(asked) = asked else { break };
            let Ok(asked) = asked else { continue };
            made += u64::from(asked.connected);
            if let Some(answer) = self.take(cluster, asked, silent) {
                let grace = if answers.is_empty() { GRACE[0] } else { GRACE[1] };
                patience = Some(Instant::now() + grace);
                answers.push(answer);
            }
        }
        drop(asking);
        self.prune(cluster);
        let closed = (before as u64 + made).saturating_sub(self.sessions.len() as u64);
        self.counts.connections(cluster, made, closed);
        answers
    }

    fn take(&mut self, cluster: &Cluster, asked: NodeReply, silent: &mut Vec<String>) -> Option<Answer> {
        self.counts.asked(cluster, &asked);
        if let Some(session) = asked.session {
            self.sessions.insert(asked.host.id, session);
        }
        match asked.outcome {
            Ok(answer) => Some(answer),
            Err(reason) => {
                silent.push(format!("{}: {reason}", asked.host.address));
                None
            }
        }
    }

    /// Keeps connections to hosts of the topology only, and not too many.
    fn prune(&mut self, cluster: &Cluster) {
        let topology = cluster.topology();
        let present: HashSet<u64> = topology.hosts.iter().map(|host| host.id).collect();
        if !present.is_empty() {
            self.sessions.retain(|id, _| present.contains(id));
        }
        while self.sessions.len() > KEPT {
            let Some(id) = self.sessions.keys().next().copied() else {
                break;
            };
            self.sessions.remove(&id);
        }
    }

    /// The seeds' addresses, in random order.
    async fn seeds(&self, cluster: &Arc<Cluster>, silent: &mut Vec<String>) -> Vec<Arc<Host>> {
        let endpoints = self
            .settings
            .seeds
            .localities
            .iter()
            .flat_map(|locality| &locality.endpoints);
        let mut hosts = Vec::new();
        for endpoint in endpoints {
            match &endpoint.address {
                Address::Ip(address) => hosts.push(cluster.stranger(*address, &endpoint.hostname)),
                Address::Name { host, port } => {
                    match cluster.context().dns.resolve(host, self.settings.family).await {
                        Ok(found) if found.addresses.is_empty() => {
                            silent.push(format!("{host}: the name has no address"));
                        }
                        Ok(found) => {
                            let at = |ip: &IpAddr| cluster.stranger(SocketAddr::new(*ip, *port), host);
                            hosts.extend(found.addresses.iter().map(at));
                        }
                        Err(error) => silent.push(error.to_string()),
                    }
                }
                Address::Pipe(path) => silent.push(format!("{}: a seed is no Unix socket", path.display())),
            }
        }
        fastrand::shuffle(&mut hosts);
        hosts
    }

    /// Resolves the names of a view. A name that cannot be resolved now keeps the address it had.
    async fn resolve(&mut self, dns: &Dns, view: &View) {
        let nodes = view
            .shards
            .iter()
            .flat_map(|shard| std::iter::once(&shard.primary).chain(&shard.replicas));
        let names: HashSet<String> = nodes
            .filter_map(|node| match &node.address {
                NodeAddress::Name(name) => Some(name.clone()),
                NodeAddress::Ip(_) => None,
            })
            .collect();
        let mut asking = JoinSet::new();
        for name in &names {
            let (dns, name, family) = (dns.clone(), name.clone(), self.settings.family);
            asking.spawn(async move { (dns.resolve(&name, family).await, name) });
        }
        self.addresses.retain(|name, _| names.contains(name));
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok((Ok(found), name)) => {
                    if let Some(first) = found.addresses.first() {
                        self.addresses.insert(name, *first);
                    }
                }
                Ok((Err(error), _)) => tracing::warn!(%error, "a name of the slot map could not be resolved"),
                Err(_) => {}
            }
        }
    }
}

/// The hosts of the topology in random order, the healthy ones first.
fn known(cluster: &Cluster) -> Vec<Arc<Host>> {
    let mut hosts = cluster.topology().hosts.clone();
    fastrand::shuffle(&mut hosts);
    hosts.sort_by_key(|host| host.health() != Health::Healthy);
    hosts
}
