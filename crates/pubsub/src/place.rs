//! Where a topic belongs, and getting it there.
//!
//! In a Redis Cluster the bus brings every message to every node, so that a channel may be heard at any primary: by
//! its hash, to spread the load, and where it is heard already for as long as that is a primary. Shard channels belong
//! to the owner of their slot, events to every primary. Servers without a bus have a channel by its hash, as PUBLISH
//! goes, and patterns everywhere.
//!
//! A topic that moves is subscribed to at its new place before it is left at the old one.

use std::sync::Arc;

use redplane_config::cluster::LbPolicy;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::pool::{Access, Live, Target};
use redplane_redis_flow::core::Core;
use redplane_upstream::{Host, Pick, Want};

use crate::hub::Hub;
use crate::topic::{Reach, Topic};
use crate::watch::{Events, events_in};
use crate::{Kind, PubSub};

impl PubSub {
    /// Subscribes to a topic wherever it belongs and is not asked for yet. Fails when that is not possible now; the
    /// hub will try again.
    pub(super) fn place(&mut self, core: &mut Core, id: usize) -> Result<(), Failure> {
        let topic = &self.topics[id];
        let hub = topic.hub;
        let found = self.homes(core, topic, &self.hubs[hub]);
        let now = core.now;
        let (reach, homes) = found.inspect_err(|_| self.hubs[hub].retry_later(now))?;
        let topic = &mut self.topics[id];
        topic.reach = reach;
        topic.homes = homes.iter().map(|host| host.id).collect();
        let mut failure = None;
        for host in homes {
            if self.has_current_leg(id, host.id) {
                continue;
            }
            match self.feed_to(core, hub, &host) {
                Ok(feed) => self.ask_feed(core, feed, id),
                Err(why) => failure = Some(why),
            }
        }
        self.prune(core, id);
        let Some(failure) = failure else {
            return Ok(());
        };
        self.hubs[hub].retry_later(now);
        match reach == Reach::Bus && !self.topics[id].legs.is_empty() {
            true => Ok(()),
            false => Err(failure),
        }
    }

    /// The same; commands that wait for the topic are told that it failed.
    pub(super) fn place_or_fail(&mut self, core: &mut Core, id: usize) {
        if !self.topics.contains(id) {
            return;
        }
        if let Err(failure) = self.place(core, id) {
            self.fail_joins(core, id, &Answer::Failed(failure));
        }
    }

    /// Whether a topic is subscribed to, or asked for, wherever it belonged when that was last looked at.
    pub(super) fn is_placed(&self, id: usize) -> bool {
        let topic = self.topics.get(id);
        topic.is_some_and(|topic| {
            let mut homes = topic.homes.iter();
            !topic.homes.is_empty() && homes.all(|host| self.has_current_leg(id, *host))
        })
    }

    fn has_current_leg(&self, id: usize, host: u64) -> bool {
        let current = |feed: usize| !self.feeds[feed].stale;
        let mut legs = self.topics[id].legs.iter();
        legs.any(|leg| leg.host == host && current(leg.feed))
    }

    /// Ends what a topic's new places have made superfluous.
    pub(super) fn prune(&mut self, core: &mut Core, id: usize) {
        let topic = &self.topics[id];
        let home = topic.is_home();
        let stale = |feed: usize| self.feeds[feed].stale;
        let replaced = |host: u64| {
            let mut legs = topic.legs.iter();
            legs.any(|leg| leg.host == host && leg.confirmed && !stale(leg.feed))
        };
        let over: Vec<usize> = topic
            .legs
            .iter()
            .filter(|leg| match topic.homes.contains(&leg.host) {
                true => stale(leg.feed) && replaced(leg.host),
                false => home,
            })
            .map(|leg| leg.feed)
            .collect();
        over.into_iter()
            .for_each(|feed| self.drop_leg(core, id, feed, None));
    }

    /// Tells the other workers how a topic stands.
    pub(super) fn note_topic(&mut self, id: usize) {
        if let Some(topic) = self.topics.get(id) {
            let cluster = &self.hubs[topic.hub].cluster;
            let ledger = &mut self.ledger;
            ledger.note(cluster, topic.kind, &topic.name, topic.entry());
        }
    }

    fn homes(&self, core: &Core, topic: &Topic, hub: &Hub) -> Result<(Reach, Vec<Arc<Host>>), Failure> {
        let entry = &core.pools[hub.pool];
        let live = entry.live.as_ref().ok_or(Failure::NoHost)?;
        let events = events_in(topic.kind, &topic.name);
        let reach = match (live.is_redis(), topic.kind, events) {
            (true, _, Events::Never) => Reach::One,
            (true, _, Events::Among) => Reach::Bus,
            (false, Kind::Channel | Kind::Shard, Events::Never) => Reach::One,
            _ => Reach::Every,
        };
        let at = match reach {
            Reach::One => vec![self.one_home(core, topic, hub, live)?],
            Reach::Bus | Reach::Every => everywhere(live),
        };
        let hosts: Vec<Arc<Host>> = at
            .into_iter()
            .filter_map(|at| live.topology.hosts.get(at).cloned())
            .collect();
        match hosts.is_empty() {
            true => Err(Failure::NoHost),
            false => Ok((reach, hosts)),
        }
    }

    /// The host of a topic that needs one only.
    fn one_home(&self, core: &Core, topic: &Topic, hub: &Hub, live: &Live) -> Result<usize, Failure> {
        let settings = &core.pools[hub.pool].key.settings;
        let target = live.target(&topic.name, settings);
        let hosts = everywhere(live);
        let kept = topic.legs.iter().rev().find_map(|leg| {
            let current = !self.feeds[leg.feed].stale;
            let place = hosts.iter().find(|at| live.topology.hosts[**at].id == leg.host);
            place.filter(|_| current).copied()
        });
        match target {
            Target::Hash(hash) => {
                let by_hash = matches!(
                    live.cluster.config().lb_policy,
                    LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. }
                );
                let found = || live.topology.by_hash(hash, hash);
                kept.filter(|_| !by_hash).or_else(found).ok_or(Failure::NoHost)
            }
            _ if topic.kind == Kind::Shard => live.pick(target, Access::Primary, settings.read_policy, "", 0),
            _ => {
                let own = live
                    .pick(target, Access::Primary, settings.read_policy, "", 0)
                    .ok();
                let may_try = |at: &usize| hub.may_try(live.topology.hosts[*at].id, core.now);
                // Any primary will do where the channel's own cannot be reached.
                let other = || hosts.iter().copied().find(may_try);
                let reachable = kept.or_else(|| own.filter(may_try)).or_else(other);
                reachable.or(own).ok_or(Failure::NoHost)
            }
        }
    }
}

/// Every primary, or every host that may be chosen where there are no shards.
fn everywhere(live: &Live) -> Vec<usize> {
    let mut hosts: Vec<usize> = (0..live.topology.shard_count())
        .filter_map(|shard| match live.topology.by_shard(shard, Want::Primary) {
            Pick::Host(host) => Some(host),
            Pick::Unserved | Pick::NoHost => None,
        })
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}
