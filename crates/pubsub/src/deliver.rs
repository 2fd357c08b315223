//! Messages on their way to clients.
//!
//! A message goes out as the server gave it, in RESP3 with another first byte. Small ones are copied into each
//! client's output; a large one is copied once for each protocol and shared. A client that does not read is closed at
//! the limits that Redis sets for its subscribers, and costs no other client anything.

use bytes::Bytes;
use redplane_config::redis_proxy::Protocol;
use redplane_redis_core::client::{Client, ClientId};
use redplane_redis_core::output::LARGE;
use redplane_redis_flow::core::{Core, mark_dirty};
use redplane_telemetry::stats::redis_pubsub;

use crate::push::Push;
use crate::{Kind, PubSub, Subscriber};

/// Redis: `client-output-buffer-limit pubsub 32mb 8mb 60`.
const HARD_LIMIT: usize = 32 * 1024 * 1024;

const SOFT_LIMIT: usize = 8 * 1024 * 1024;

/// Microseconds.
const SOFT_TIME: u64 = 60_000_000;

/// A message in the protocols that it was wanted in so far.
struct Message<'a> {
    raw: &'a [u8],
    resp3: Option<Vec<u8>>,
    shared: [Option<Bytes>; 2],
}

impl<'a> Message<'a> {
    fn new(raw: &'a [u8]) -> Self {
        Self {
            raw,
            resp3: None,
            shared: [None, None],
        }
    }

    fn bytes(&mut self, protocol: Protocol) -> &[u8] {
        match protocol {
            Protocol::Resp2 => self.raw,
            Protocol::Resp3 => self.resp3.get_or_insert_with(|| {
                let mut push = self.raw.to_vec();
                push[..1].copy_from_slice(b">");
                push
            }),
        }
    }

    /// A large message in a buffer of its own: what it was received into may be much larger, and would stay as long
    /// as the slowest client needs.
    fn shared(&mut self, protocol: Protocol) -> Option<Bytes> {
        if self.raw.len() < LARGE {
            return None;
        }
        let place = usize::from(protocol == Protocol::Resp3);
        if self.shared[place].is_none() {
            self.shared[place] = Some(Bytes::copy_from_slice(self.bytes(protocol)));
        }
        self.shared[place].clone()
    }
}

impl PubSub {
    /// An array that came over a feed. False when it answers a command.
    #[cold]
    pub fn fed(&mut self, core: &mut Core, feed: usize, raw: &[u8]) -> bool {
        match Push::read(raw) {
            Some(Push::Message { kind, name, channel }) => self.message(core, feed, kind, name, channel, raw),
            Some(Push::Ended(name)) => return self.subscription_ended(core, feed, name),
            None => return false,
        }
        true
    }

    fn message(&mut self, core: &mut Core, feed: usize, kind: Kind, name: &[u8], channel: &[u8], raw: &[u8]) {
        let Some(entry) = self.feeds.get_mut(feed) else {
            return;
        };
        entry.heard = core.now;
        let hub = &self.hubs[entry.hub];
        let topic = hub.names[kind as usize].get(name).copied();
        let Some(topic) = topic.filter(|topic| self.topics[*topic].accepts(feed, channel)) else {
            return;
        };
        let count = self.topics[topic].subscribers.len() as u64;
        hub.count(|stats| {
            stats.inc(redis_pubsub::MESSAGES);
            stats.add(redis_pubsub::DELIVERIES, count);
        });
        for client in self.fan_out_message(core, topic, raw) {
            self.close_slow(core, client);
        }
    }

    /// Gives a message to all clients of a topic; says which of them can take no more.
    fn fan_out_message(&mut self, core: &mut Core, topic: usize, raw: &[u8]) -> Vec<u32> {
        let Self {
            topics,
            joins,
            slow,
            subscribers,
            ..
        } = self;
        let mut message = Message::new(raw);
        let mut full = Vec::new();
        for (&key, subscription) in &topics[topic].subscribers {
            let Some(client) = core.clients.get_mut(key as usize) else {
                continue;
            };
            let protocol = core.filters[client.filter].greeting.protocol;
            let waiting = subscription.join.and_then(|join| joins.get_mut(&join));
            if let Some(join) = waiting {
                join.early.extend_from_slice(message.bytes(protocol));
                if join.early.len() > HARD_LIMIT {
                    full.push(key);
                }
                continue;
            }
            client.replies.out.lend(|| core.buffers.take_empty());
            let kept = client.replies.keep(message.bytes(protocol));
            match message.shared(protocol).filter(|_| !kept) {
                Some(shared) => client.replies.message_shared(subscription.sequence, shared),
                None if kept => {}
                None => client
                    .replies
                    .message(subscription.sequence, message.bytes(protocol)),
            }
            mark_dirty(client, key as usize, &mut core.due.clients);
            if is_full(client, subscribers.get_mut(key as usize), key, core.now, slow) {
                full.push(key);
            }
        }
        full
    }

    /// Looks whether a client that was told something can take no more.
    pub fn watch_slow(&mut self, core: &mut Core, key: u32) {
        let Some(client) = core.clients.get(key as usize) else {
            return;
        };
        let subscriber = self.subscribers.get_mut(key as usize);
        if is_full(client, subscriber, key, core.now, &mut self.slow) {
            self.close_slow(core, key);
        }
    }

    fn close_slow(&self, core: &mut Core, key: u32) {
        let Some(client) = core.clients.get(key as usize) else {
            return;
        };
        tracing::warn!(target: "redis", client = client.session.id, waiting = client.replies.backlog(), "closed: a subscriber that does not read its messages");
        let own = self.subscribers.get(key as usize);
        let held = own.into_iter().flat_map(|subscriber| &subscriber.names_held);
        let topic = held.flat_map(|held| held.values().flatten()).next();
        if let Some(topic) = topic.and_then(|topic| self.topics.get(*topic)) {
            let hub = &self.hubs[topic.hub];
            hub.count(|stats| stats.inc(redis_pubsub::SLOW_SUBSCRIBER_CLOSED));
        }
        core.close_client(ClientId(key));
    }

    /// Subscribers above the soft limit whose time is over, also when no message comes any more.
    pub(super) fn close_slow_subscribers(&mut self, core: &mut Core) {
        for key in std::mem::take(&mut self.slow) {
            let Some(client) = core.clients.get(key as usize) else {
                continue;
            };
            let backlog = client.replies.backlog();
            let Some(subscriber) = self.subscribers.get_mut(key as usize) else {
                continue;
            };
            if backlog <= SOFT_LIMIT || subscriber.slow_since == 0 {
                subscriber.slow_since = 0;
            } else if core.now >= subscriber.slow_since + SOFT_TIME {
                self.close_slow(core, key);
            } else {
                self.slow.push(key);
            }
        }
    }
}

/// Whether a client is above the hard limit. Above the soft one it is watched.
fn is_full(
    client: &Client,
    subscriber: Option<&mut Subscriber>,
    key: u32,
    now: u64,
    slow: &mut Vec<u32>,
) -> bool {
    let backlog = client.replies.backlog();
    if backlog > SOFT_LIMIT
        && let Some(subscriber) = subscriber
        && subscriber.slow_since == 0
    {
        subscriber.slow_since = now;
        slow.push(key);
    }
    backlog > HARD_LIMIT
}
