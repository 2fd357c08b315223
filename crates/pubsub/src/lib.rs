//! Publish and subscribe: SUBSCRIBE and its kin, PUBLISH, SPUBLISH, PUBSUB.
//!
//! A worker subscribes once upstream, however many of its clients do. Names: a *hub* is one cluster's subscriptions, a
//! *topic* one channel, pattern or shard channel of it, a *feed* a connection to one host that carries nothing but
//! subscriptions. Feeds speak RESP2, which every server knows; a message is passed on as it came to RESP2 clients and
//! with another first byte to those of RESP3. Plain connections never see a push.
//!
//! Redis: Pub/Sub, and "Sharded Pub/Sub" and the bus of Redis Cluster: a published message reaches every node, a
//! message of a shard channel its shard only, a keyspace event nobody but the clients of the node it happened on.

mod ask;
mod deliver;
mod feed;
mod glob;
mod hub;
mod join;
mod place;
mod publish;
mod push;
mod question;
mod shared;
mod topic;
mod watch;

pub use shared::Subscriptions;

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use redplane_command::{Command, Local, Pubsub as Step, RequestPolicy};
use redplane_config::redis_proxy::Protocol;
use redplane_redis_core::client::features::{Feature, PerClient};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::{Request, Served};
use redplane_resp::encode;
use redplane_telemetry::Block;
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::feed::Feed;
use crate::hub::Hub;
use crate::join::Join;
use crate::shared::Ledger;
use crate::topic::Topic;

/// What one can subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SUBSCRIBE.
    Channel,
    /// PSUBSCRIBE.
    Pattern,
    /// SSUBSCRIBE.
    Shard,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    fn subscribe(self) -> &'static [u8] {
        match self {
            Self::Channel => b"subscribe",
            Self::Pattern => b"psubscribe",
            Self::Shard => b"ssubscribe",
        }
    }

    fn unsubscribe(self) -> &'static [u8] {
        match self {
            Self::Channel => b"unsubscribe",
            Self::Pattern => b"punsubscribe",
            Self::Shard => b"sunsubscribe",
        }
    }
}

/// What one client is subscribed to: by kind, the name and its topics. A pattern may be a topic of several clusters.
#[derive(Debug, Default)]
pub struct Subscriber {
    names_held: [BTreeMap<Bytes, Vec<usize>>; 3],
    /// Since when more waits for it than Redis's soft limit allows; 0: it does not.
    slow_since: u64,
}

impl Subscriber {
    /// How many subscriptions of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.names_held[kind as usize].len()
    }

    /// What confirmations of a kind count: channels and patterns together, shard channels apart.
    fn confirmed_count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.count(Kind::Shard),
            Kind::Channel | Kind::Pattern => self.count(Kind::Channel) + self.count(Kind::Pattern),
        }
    }

    fn is_empty(&self) -> bool {
        self.names_held.iter().all(BTreeMap::is_empty)
    }
}

/// The subscriptions of one worker.
pub struct PubSub {
    hubs: Slab<Hub>,
    topics: Slab<Topic>,
    feeds: Slab<Feed>,
    joins: FxHashMap<u64, Join>,
    /// Number of the next join, and of the next command on a feed.
    next: u64,
    ledger: Ledger,
    /// By cluster; kept while the cluster is, so that counters go on from one hub to the next.
    stats: FxHashMap<String, Rc<Block>>,
    subscribers: PerClient<Subscriber>,
    /// Clients above the soft limit.
    slow: Vec<u32>,
}

impl PubSub {
    /// Without subscriptions so far; what workers are subscribed to together stands in `shared`.
    pub fn new(shared: &Subscriptions) -> Self {
        Self {
            hubs: Slab::new(),
            topics: Slab::new(),
            feeds: Slab::new(),
            joins: FxHashMap::default(),
            next: 0,
            ledger: shared.ledger(),
            stats: FxHashMap::default(),
            subscribers: PerClient::new(Feature::Subscriptions),
            slow: Vec::new(),
        }
    }

    /// What a client is subscribed to.
    pub fn subscriber(&self, key: usize) -> Option<&Subscriber> {
        self.subscribers.get(key)
    }

    /// A client is gone, and its subscriptions with it.
    pub fn forget(&mut self, core: &mut Core, key: usize) {
        if let Some(subscriber) = self.subscribers.forget(key) {
            self.leave_all(core, key, *subscriber);
        }
    }

    /// Ends all subscriptions of a client without a word.
    pub fn unsubscribe_all(&mut self, core: &mut Core, key: usize) {
        if let Some(subscriber) = self.subscribers.take(key, &mut core.clients[key]) {
            self.leave_all(core, key, *subscriber);
        }
    }

    fn ticket(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// One command of publish and subscribe.
    pub fn pubsub(
        &mut self,
        core: &mut Core,
        key: usize,
        step: Step,
        command: &'static Command,
        request: Request<'_>,
    ) {
        match step {
            Step::Subscribe => self.subscribe(core, key, Kind::Channel, command, &request),
            Step::PSubscribe => self.subscribe(core, key, Kind::Pattern, command, &request),
            Step::SSubscribe => self.subscribe(core, key, Kind::Shard, command, &request),
            Step::Unsubscribe => self.unsubscribe(core, key, Kind::Channel, command, &request),
            Step::PUnsubscribe => self.unsubscribe(core, key, Kind::Pattern, command, &request),
            Step::SUnsubscribe => self.unsubscribe(core, key, Kind::Shard, command, &request),
            Step::Publish => self.publish(core, key, Kind::Channel, command, &request),
            Step::SPublish => self.publish(core, key, Kind::Shard, command, &request),
            Step::Channels | Step::NumPat | Step::NumSub | Step::ShardChannels | Step::ShardNumSub => {
                self.ask_about(core, key, step, command, &request);
            }
        }
    }

    /// PING of a RESP2 client with subscriptions has the form of a message; false for any other client.
    pub fn pong_in_pubsub(&self, core: &mut Core, key: usize, request: &Request<'_>) -> bool {
        let in_pubsub = self.subscribers.get(key).is_some() && !core.is_resp3(key) && request.len() < 3;
        if in_pubsub {
            core.answer_with(key, |out| {
                out.extend_from_slice(b"*2\r\n$4\r\npong\r\n");
                encode::bulk(out, if request.len() == 2 { request.arg(1) } else { b"" });
            });
        }
        in_pubsub
    }
}

/// Whether a client with subscriptions may not do this now. In RESP2 it may do little: replies and messages could not be
/// told apart.
#[cold]
pub fn is_refused(protocol: Protocol, served: Served) -> bool {
    let allowed = match served {
        Served::Known(command) => match command.request {
            RequestPolicy::Pubsub(step) => is_about_subscriptions(step),
            RequestPolicy::Local(local) => matches!(local, Local::Ping | Local::Quit | Local::Reset),
            _ => false,
        },
        Served::Custom(_) => false,
    };
    !allowed && protocol == Protocol::Resp2
}

fn is_about_subscriptions(step: Step) -> bool {
    matches!(
        step,
        Step::Subscribe
            | Step::PSubscribe
            | Step::SSubscribe
            | Step::Unsubscribe
            | Step::PUnsubscribe
            | Step::SUnsubscribe
    )
}
