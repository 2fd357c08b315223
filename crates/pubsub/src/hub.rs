//! The subscriptions to one cluster, and the looking after them: topologies that change, hosts that are tried again,
//! feeds that are of no use any more.
//!
//! A hub has a pool of its own, so that its connections outlive the filters that come and go above it. Configuration
//! that changes moves topics and never takes a client's subscription away.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redplane_merge::Failure;
use redplane_redis_core::backoff::Backoff;
use redplane_redis_core::client::features::Feature;
use redplane_redis_core::filter::{Filter, RouteTo};
use redplane_redis_core::pool::{Greeting, PoolKey, PoolUse};
use redplane_redis_flow::core::Core;
use redplane_telemetry::Block;
use redplane_telemetry::stats::redis_pubsub;
use redplane_upstream::Cluster;
use rustc_hash::FxHashMap;

use crate::glob::literal;
use crate::topic::Topic;
use crate::watch::{Events, events_in};
use crate::{Kind, PubSub, Subscriber};

/// How often topologies are looked at while anybody subscribes.
const LOOK: Duration = Duration::from_millis(100);

/// A host that is left alone for a while.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    at: u64,
    backoff: Backoff,
}

pub(super) struct Hub {
    pub(super) cluster: String,
    pub(super) pool: usize,
    pub(super) names: [FxHashMap<Bytes, usize>; 3],
    pub(super) feeds: Vec<usize>,
    retries: FxHashMap<u64, Retry>,
    /// When topics without a host are placed again.
    retry_at: Option<u64>,
    /// How long that takes; longer until a subscription comes about.
    pause: Backoff,
    /// The cluster and the version of its topology that topics were placed by.
    seen: Option<(Arc<Cluster>, u64)>,
    stats: Option<Rc<Block>>,
    /// Subscriptions of clients, and on hosts.
    pub(super) subscriptions: u64,
    pub(super) legs: u64,
}

impl Hub {
    /// Whether a host is worth an attempt.
    pub(super) fn may_try(&self, host: u64, now: u64) -> bool {
        self.retries.get(&host).is_none_or(|retry| now >= retry.at)
    }

    /// A connection to a host could not be opened, or broke: the next attempt waits longer each time.
    pub(super) fn failed(&mut self, host: u64, now: u64) {
        let retry = self.retries.entry(host).or_default();
        retry.at = now + retry.backoff.lengthen();
    }

    pub(super) fn recovered(&mut self, host: u64) {
        self.pause.reset();
        self.retries.remove(&host);
    }

    /// Topics are placed again in a while: when a host may be tried, or when there may be one.
    pub(super) fn retry_later(&mut self, now: u64) {
        let pause = match self.retry_at {
            None => self.pause.lengthen(),
            Some(_) => self.pause.last(),
        };
        let hosts = self.retries.values().map(|retry| retry.at).filter(|at| *at > now);
        let at = hosts.min().unwrap_or(now + pause);
        self.retry_at = Some(self.retry_at.map_or(at, |known| known.min(at)));
    }

    /// Brings the gauges up to date.
    pub(super) fn show(&self) {
        if let Some(stats) = &self.stats {
            stats.set(redis_pubsub::SUBSCRIPTIONS, self.subscriptions);
            stats.set(redis_pubsub::UPSTREAM_SUBSCRIPTIONS, self.legs);
            stats.set(redis_pubsub::UPSTREAM_CX_ACTIVE, self.feeds.len() as u64);
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&Block)) {
        if let Some(stats) = &self.stats {
            count(stats);
        }
    }

    fn is_idle(&self) -> bool {
        self.feeds.is_empty() && self.names.iter().all(FxHashMap::is_empty)
    }

    fn topics(&self) -> Vec<usize> {
        self.names
            .iter()
            .flat_map(|names| names.values().copied())
            .collect()
    }
}

impl PubSub {
    /// The hubs that a name belongs to: that of its route, and for what may match in several clusters all of those.
    pub(super) fn hubs_for(
        &mut self,
        core: &mut Core,
        key: usize,
        kind: Kind,
        name: &[u8],
    ) -> Result<Vec<usize>, Failure> {
        let filter = &core.filters[core.clients[key].filter];
        let settings = filter.proxy.settings.clone();
        let greeting = Greeting {
            login: filter.greeting.login,
            ..Greeting::default()
        };
        let mut clusters: Vec<String> = Vec::new();
        for route in routes_of(filter, kind, name) {
            let cluster = &core.pools[route.pool].key.cluster;
            if !clusters.contains(cluster) {
                clusters.push(cluster.clone());
            }
        }
        if clusters.is_empty() {
            return Err(Failure::NoHost);
        }
        // What a user may hear is a matter of the connection, too.
        let same = |hub: &Hub, cluster: &str, core: &Core| {
            hub.cluster == cluster && core.pools[hub.pool].key.greeting == greeting
        };
        let hub = |cluster: String| match self.hubs.iter().find(|(_, hub)| same(hub, &cluster, core)) {
            Some((known, _)) => known,
            None => {
                let pool = core.acquire_pool(PoolKey {
                    cluster: cluster.clone(),
                    settings: settings.clone(),
                    greeting,
                    purpose: PoolUse::Subscriptions,
                });
                self.add_hub(core, cluster, pool)
            }
        };
        Ok(clusters.into_iter().map(hub).collect())
    }

    fn add_hub(&mut self, core: &mut Core, cluster: String, pool: usize) -> usize {
        let hub = self.hubs.insert(Hub {
            cluster,
            pool,
            names: Default::default(),
            feeds: Vec::new(),
            retries: FxHashMap::default(),
            retry_at: None,
            pause: Backoff::default(),
            seen: None,
            stats: None,
            subscriptions: 0,
            legs: 0,
        });
        self.look_at(core, hub);
        hub
    }

    /// The topic of a name, made if it is new.
    pub(super) fn topic(&mut self, hub: usize, kind: Kind, name: &Bytes) -> usize {
        let pubsub = self;
        let names = &mut pubsub.hubs[hub].names[kind as usize];
        let topics = &mut pubsub.topics;
        let make = || topics.insert(Topic::new(hub, kind, name.clone()));
        *names.entry(name.clone()).or_insert_with(make)
    }

    /// When [`Self::tick_pubsub`] has something to do.
    pub fn next_pubsub_tick(&self, core: &Core) -> Option<Duration> {
        if self.hubs.is_empty() {
            return None;
        }
        let due = self.hubs.iter().filter_map(|(_, hub)| hub.retry_at).min();
        let wait = due.map(|at| Duration::from_micros(at.saturating_sub(core.now)));
        Some(wait.unwrap_or(LOOK).clamp(Duration::from_millis(1), LOOK))
    }

    /// What is due by time.
    pub fn tick_pubsub(&mut self, core: &mut Core) {
        if self.hubs.is_empty() {
            return;
        }
        let hubs: Vec<usize> = self.hubs.iter().map(|(hub, _)| hub).collect();
        for hub in hubs {
            self.look_after(core, hub);
        }
        self.expire_joins(core);
        self.close_slow_subscribers(core);
    }

    /// The published configuration has changed: clusters, and these filters.
    pub fn adopt_pubsub(&mut self, core: &mut Core, filters: &[usize]) {
        let clusters = &core.shared.snapshot.clusters;
        self.stats.retain(|name, _| clusters.contains_key(name));
        self.reroute(core, filters);
        let hubs: Vec<usize> = self.hubs.iter().map(|(hub, _)| hub).collect();
        for hub in hubs {
            self.look_after(core, hub);
        }
    }

    /// Takes note of a hub's cluster; true when it or its topology is another one than before.
    fn look_at(&mut self, core: &mut Core, hub: usize) -> bool {
        let pool = self.hubs[hub].pool;
        let live = core.pools[pool].live.as_ref();
        let current = live.map(|live| (live.cluster.clone(), live.topology.version));
        let entry = &mut self.hubs[hub];
        let same = match (&entry.seen, &current) {
            (None, None) => true,
            (Some(seen), Some(current)) => Arc::ptr_eq(&seen.0, &current.0) && seen.1 == current.1,
            _ => false,
        };
        if same {
            return false;
        }
        entry.seen = current;
        let cluster = entry.seen.as_ref().map(|(cluster, _)| cluster.clone());
        if let Some(cluster) = &cluster {
            let prefix = format!("cluster.{}.redis_cluster.pubsub.", cluster.config().stat_name);
            let registry = &core.shared.registry;
            let make = || Rc::new(registry.scope(&prefix, &redis_pubsub::SCHEMA).block());
            let stats = self.stats.entry(entry.cluster.clone()).or_insert_with(make);
            entry.stats = Some(stats.clone());
        }
        self.mark_stale(core, hub, cluster.as_ref());
        true
    }

    fn look_after(&mut self, core: &mut Core, hub: usize) {
        let changed = self.look_at(core, hub);
        let now = core.now;
        let entry = &mut self.hubs[hub];
        let due = entry.retry_at.take_if(|at| now >= *at).is_some();
        if changed || due {
            for topic in entry.topics() {
                // Where nothing has changed, those that are heard wherever they belong stay there.
                if changed || !self.is_placed(topic) {
                    self.place_or_fail(core, topic);
                }
            }
        }
        self.tend_feeds(core, hub);
        let entry = &self.hubs[hub];
        entry.show();
        if entry.is_idle() {
            let pool = entry.pool;
            self.hubs.remove(hub);
            core.release_pools(&[pool]);
        }
    }

    /// Clients of these filters keep their subscriptions, wherever they lead now.
    fn reroute(&mut self, core: &mut Core, filters: &[usize]) {
        let own = |filter: usize| filters.contains(&filter);
        let clients: Vec<usize> = core
            .clients
            .iter()
            .filter(|(_, client)| client.features.has(Feature::Subscriptions) && own(client.filter))
            .map(|(key, _)| key)
            .collect();
        for key in clients {
            let held = self.subscribers.get(key).map(all_held);
            for (kind, name, topics) in held.unwrap_or_default() {
                self.reroute_one(core, key, kind, name, topics);
            }
        }
    }

    fn reroute_one(&mut self, core: &mut Core, key: usize, kind: Kind, name: Bytes, former: Vec<usize>) {
        let hubs = self.hubs_for(core, key, kind, &name).unwrap_or_default();
        let (kept, left): (Vec<usize>, Vec<usize>) = former
            .into_iter()
            .partition(|topic| hubs.contains(&self.topics[*topic].hub));
        let known: Vec<usize> = kept.iter().map(|topic| self.topics[*topic].hub).collect();
        let missing: Vec<usize> = hubs.into_iter().filter(|hub| !known.contains(hub)).collect();
        if left.is_empty() && missing.is_empty() {
            return;
        }
        left.into_iter().for_each(|topic| {
            self.leave_topic(core, key, topic, None);
        });
        let sequence = core.clients[key].replies.head().wrapping_sub(1);
        let added: Vec<usize> = missing
            .into_iter()
            .map(|hub| self.enter_topic(key, hub, kind, &name, sequence))
            .collect();
        let topics = kept.into_iter().chain(added.iter().copied()).collect();
        if let Some(subscriber) = self.subscribers.get_mut(key) {
            subscriber.names_held[kind as usize].insert(name, topics);
        }
        // Where there is no host yet, there will be one: the hub goes on trying.
        added
            .into_iter()
            .for_each(|topic| self.place_or_fail(core, topic));
    }
}

fn all_held(subscriber: &Subscriber) -> Vec<(Kind, Bytes, Vec<usize>)> {
    let of = |kind: Kind| {
        let held = subscriber.names_held[kind as usize].iter();
        held.map(move |(name, topics)| (kind, name.clone(), topics.clone()))
    };
    Kind::ALL.into_iter().flat_map(of).collect()
}

/// The routes that lead to a name. A channel is routed as a key is; events of keys may come from every cluster, and a
/// pattern may match channels of several routes.
fn routes_of(filter: &Filter, kind: Kind, name: &[u8]) -> Vec<Rc<RouteTo>> {
    if events_in(kind, name) != Events::Never {
        return filter.routes().cloned().collect();
    }
    if kind != Kind::Pattern {
        return filter.route(name).cloned().into_iter().collect();
    }
    let start = literal(name);
    let mut found = Vec::new();
    // The longest prefixes stand first.
    for route in filter.routes() {
        let shared = route.prefix.len().min(start.len());
        let fits = match filter.proxy.routes.case_insensitive {
            true => start[..shared].eq_ignore_ascii_case(&route.prefix[..shared]),
            false => start[..shared] == route.prefix[..shared],
        };
        if fits {
            found.push(route.clone());
            if shared == route.prefix.len() {
                // Whatever matches begins so: nothing of it goes further.
                break;
            }
        }
    }
    found
}
