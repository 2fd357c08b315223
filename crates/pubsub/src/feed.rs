//! Connections that carry subscriptions and nothing else: what is asked on them, what they confirm, how they end.
//!
//! Every command names one channel, so that each has one reply and replies come in the order of the commands. A feed
//! that is silent for long is asked whether it lives; its requests have the time-outs of all others.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::connection::{Carries, ConnId};
use redplane_redis_core::pending::Purpose;
use redplane_redis_flow::action::{Action, Gone};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::redirect;
use redplane_telemetry::stats::redis_pubsub;
use redplane_upstream::{Cluster, Host};
use rustc_hash::FxHashSet;

use crate::topic::Leg;
use crate::{Kind, PubSub};

/// Silence after which a feed is asked whether it lives, in microseconds.
const SILENCE: u64 = 10_000_000;

/// How long a feed without topics waits for the next one, in microseconds.
const LINGER: u64 = 2_000_000;

/// A command that waits for its reply.
#[derive(Debug)]
struct FeedCommand {
    what: What,
    kind: Kind,
    name: Bytes,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// With the ticket of the leg.
    Subscribe(u64),
    /// With the client's command that waits for it.
    Unsubscribe(Option<u64>),
    Ping,
}

pub(super) struct Feed {
    pub(super) hub: usize,
    connection: u32,
    host: Arc<Host>,
    cluster: Arc<Cluster>,
    /// Its cluster was replaced: topics move away.
    pub(super) stale: bool,
    pub(super) topics: FxHashSet<usize>,
    asked: VecDeque<FeedCommand>,
    /// When it last said something.
    pub(super) heard: u64,
}

impl PubSub {
    /// The feed from a host, opened if there is none.
    pub(super) fn feed_to(
        &mut self,
        core: &mut Core,
        hub: usize,
        host: &Arc<Host>,
    ) -> Result<usize, Failure> {
        let entry = &self.hubs[hub];
        let fits = |feed: &&usize| {
            let feed = &self.feeds[**feed];
            !feed.stale && feed.host.id == host.id
        };
        if let Some(open) = entry.feeds.iter().find(fits) {
            return Ok(*open);
        }
        if !entry.may_try(host.id, core.now) {
            return Err(Failure::Upstream);
        }
        let pool = entry.pool;
        let connection = core.connect(pool, host.clone(), false)?;
        let feed = self.feeds.insert(Feed {
            hub,
            connection,
            host: host.clone(),
            cluster: core.connections[connection as usize].server.cluster.clone(),
            stale: false,
            topics: FxHashSet::default(),
            asked: VecDeque::new(),
            heard: core.now,
        });
        core.connections[connection as usize].carries = Carries::Subscriptions(feed);
        let hub = &mut self.hubs[hub];
        hub.feeds.push(feed);
        hub.count(|stats| stats.inc(redis_pubsub::UPSTREAM_CX_TOTAL));
        hub.show();
        Ok(feed)
    }

    /// Subscribes to a topic on a feed.
    pub(super) fn ask_feed(&mut self, core: &mut Core, feed: usize, topic: usize) {
        let ticket = self.ticket();
        let (entry, host) = (&mut self.topics[topic], self.feeds[feed].host.id);
        let (kind, name) = (entry.kind, entry.name.clone());
        entry.legs.push(Leg {
            feed,
            host,
            ticket,
            confirmed: false,
        });
        let hub = &mut self.hubs[entry.hub];
        hub.legs += 1;
        self.feeds[feed].topics.insert(topic);
        self.tell_feed(core, feed, What::Subscribe(ticket), kind, name);
    }

    fn tell_feed(&mut self, core: &mut Core, feed: usize, what: What, kind: Kind, name: Bytes) {
        let connection = self.feeds[feed].connection;
        match what {
            What::Subscribe(_) => core.setup(connection, Purpose::Feed, &[kind.subscribe(), &name]),
            What::Unsubscribe(_) => core.setup(connection, Purpose::Feed, &[kind.unsubscribe(), &name]),
            What::Ping => core.setup(connection, Purpose::Feed, &[b"PING"]),
        }
        let asked = &mut self.feeds[feed].asked;
        asked.push_back(FeedCommand { what, kind, name });
    }

    /// Ends a topic's subscription on one feed.
    pub(super) fn drop_leg(&mut self, core: &mut Core, topic: usize, feed: usize, join: Option<u64>) {
        if let Some((kind, name)) = self.forget_leg(topic, feed) {
            self.tell_feed(core, feed, What::Unsubscribe(join), kind, name);
        }
    }

    /// The subscription is gone already, or will be with its feed.
    fn forget_leg(&mut self, topic: usize, feed: usize) -> Option<(Kind, Bytes)> {
        let entry = self.topics.get_mut(topic)?;
        let before = entry.legs.len();
        entry.legs.retain(|leg| leg.feed != feed);
        if let Some(feed) = self.feeds.get_mut(feed) {
            feed.topics.remove(&topic);
        }
        let hub = &mut self.hubs[entry.hub];
        hub.legs -= (before - entry.legs.len()) as u64;
        (before > entry.legs.len()).then(|| (entry.kind, entry.name.clone()))
    }

    /// A reply on a feed.
    pub fn feed_reply(&mut self, core: &mut Core, connection: usize, raw: &[u8], is_error: bool) {
        let Some(feed) = core.connections[connection].feed() else {
            return;
        };
        let now = core.now;
        let entry = &mut self.feeds[feed];
        entry.heard = now;
        let Some(asked) = entry.asked.pop_front() else {
            return;
        };
        match asked.what {
            What::Subscribe(ticket) if is_error => {
                self.subscription_refused(core, connection, &asked, ticket, raw);
            }
            What::Subscribe(ticket) => self.subscription_confirmed(core, feed, &asked, ticket),
            What::Unsubscribe(Some(join)) => self.step_join(core, join),
            What::Unsubscribe(None) | What::Ping => {}
        }
        self.close_if_left(core, feed);
    }

    /// A feed of a former cluster goes with its last topic.
    fn close_if_left(&mut self, core: &mut Core, feed: usize) {
        let entry = self.feeds.get(feed);
        if entry.is_some_and(|entry| entry.stale && entry.topics.is_empty() && entry.asked.is_empty()) {
            self.close_feed(core, feed);
        }
    }

    /// The topic that a command was about, if its leg is still the one it asked for.
    fn topic_of(&self, feed: usize, asked: &FeedCommand, ticket: u64) -> Option<usize> {
        let hub = &self.hubs[self.feeds.get(feed)?.hub];
        let topic = *hub.names[asked.kind as usize].get(&asked.name)?;
        let legs = &self.topics[topic].legs;
        legs.iter().any(|leg| leg.ticket == ticket).then_some(topic)
    }

    fn subscription_confirmed(&mut self, core: &mut Core, feed: usize, asked: &FeedCommand, ticket: u64) {
        let Some(id) = self.topic_of(feed, asked, ticket) else {
            return;
        };
        let host = self.feeds[feed].host.id;
        let topic = &mut self.topics[id];
        self.hubs[topic.hub].recovered(host);
        let own = topic.legs.iter_mut().filter(|leg| leg.ticket == ticket);
        own.for_each(|leg| leg.confirmed = true);
        self.prune(core, id);
        self.note_topic(id);
        let topic = &mut self.topics[id];
        if topic.is_settled() {
            for join in std::mem::take(&mut topic.joins) {
                self.step_join(core, join);
            }
        }
    }

    /// The slot is another node's, or is on its way: asked again there. Anything else is what clients are told.
    fn subscription_refused(
        &mut self,
        core: &mut Core,
        connection: usize,
        asked: &FeedCommand,
        ticket: u64,
        raw: &[u8],
    ) {
        let Some(feed) = core.connections[connection].feed() else {
            return;
        };
        let Some(id) = self.topic_of(feed, asked, ticket) else {
            return;
        };
        self.forget_leg(id, feed);
        let now = core.now;
        let hub = self.topics[id].hub;
        self.hubs[hub].retry_later(now);
        if let Some(to) = redirect::parse(raw) {
            let pool = core.connections[connection].pool;
            if let Some(address) = core.target_of(connection, to) {
                core.tell_redirected(pool, to, address);
            }
            return;
        }
        if raw.starts_with(b"-CLUSTERDOWN") || raw.starts_with(b"-TRYAGAIN") {
            return;
        }
        tracing::warn!(target: "redis", cluster = self.hubs[hub].cluster, reply = %String::from_utf8_lossy(raw).trim_end(), "a server refused a subscription");
        self.fail_joins(core, id, &Answer::Raw(raw));
    }

    /// The server has ended the subscription to a shard channel. False when it was asked to.
    pub(super) fn subscription_ended(&mut self, core: &Core, feed: usize, name: &[u8]) -> bool {
        let entry = &self.feeds[feed];
        let asked = entry.asked.front();
        let is_it = |asked: &FeedCommand| asked.kind == Kind::Shard && asked.name == name;
        if asked.is_some_and(|asked| matches!(asked.what, What::Unsubscribe(_)) && is_it(asked)) {
            return false;
        }
        let hub = entry.hub;
        let topic = self.hubs[hub].names[Kind::Shard as usize].get(name).copied();
        if let Some(topic) = topic
            && self.forget_leg(topic, feed).is_some()
        {
            self.note_topic(topic);
            let now = core.now;
            self.hubs[hub].retry_later(now);
        }
        true
    }

    /// A feed's connection is gone. Its topics are subscribed to elsewhere, or there again when it is back.
    pub fn feed_lost(&mut self, core: &mut Core, feed: usize) {
        let now = core.now;
        let Some(entry) = self.feeds.try_remove(feed) else {
            return;
        };
        let hub = &mut self.hubs[entry.hub];
        hub.feeds.retain(|known| *known != feed);
        hub.failed(entry.host.id, now);
        hub.count(|stats| stats.inc(redis_pubsub::UPSTREAM_CX_LOST));
        tracing::debug!(target: "redis", cluster = hub.cluster, host = %entry.host.address, topics = entry.topics.len(), "a connection with subscriptions is gone");
        self.forget_feed(core, feed, entry);
    }

    fn forget_feed(&mut self, core: &mut Core, feed: usize, entry: Feed) {
        let topics: Vec<usize> = entry.topics.into_iter().collect();
        for topic in &topics {
            self.forget_leg(*topic, feed);
            self.note_topic(*topic);
        }
        for asked in entry.asked {
            if let What::Unsubscribe(Some(join)) = asked.what {
                self.step_join(core, join);
            }
        }
        for topic in topics {
            if self.topics.contains(topic) {
                self.place_or_fail(core, topic);
            }
        }
        if let Some(hub) = self.hubs.get(entry.hub) {
            hub.show();
        }
    }

    /// Closes a feed from our side.
    fn close_feed(&mut self, core: &mut Core, feed: usize) {
        let Some(entry) = self.feeds.try_remove(feed) else {
            return;
        };
        self.hubs[entry.hub].feeds.retain(|known| *known != feed);
        let id = ConnId(entry.connection);
        core.connections[id.0 as usize].carries = Carries::Replies;
        core.out.actions.push(Action::CloseUpstream(id));
        core.lose(id, Gone::Local);
        self.forget_feed(core, feed, entry);
    }

    /// Feeds of another cluster than the hub's present one are left as soon as their topics are heard elsewhere; where
    /// there is no cluster they end at once.
    pub(super) fn mark_stale(&mut self, core: &mut Core, hub: usize, cluster: Option<&Arc<Cluster>>) {
        for feed in self.hubs[hub].feeds.clone() {
            match cluster {
                Some(cluster) => {
                    let entry = &mut self.feeds[feed];
                    entry.stale = !Arc::ptr_eq(cluster, &entry.cluster);
                    self.close_if_left(core, feed);
                }
                None => self.close_feed(core, feed),
            }
        }
    }

    /// Silent feeds are asked whether they live, those of no use are closed.
    pub(super) fn tend_feeds(&mut self, core: &mut Core, hub: usize) {
        let now = core.now;
        for feed in self.hubs[hub].feeds.clone() {
            let entry = &self.feeds[feed];
            let silent = now.saturating_sub(entry.heard);
            if !entry.asked.is_empty() {
                continue;
            }
            if entry.topics.is_empty() && silent >= LINGER {
                self.close_feed(core, feed);
            } else if silent >= SILENCE {
                self.tell_feed(core, feed, What::Ping, Kind::Channel, Bytes::new());
            }
        }
    }
}
