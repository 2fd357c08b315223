//! SUBSCRIBE, UNSUBSCRIBE and their kin, as clients ask for them.
//!
//! Confirmations are the proxy's own: one for each argument in order, with this client's count. What a client holds
//! changes when the command is read; only the confirmation waits for servers.

use bytes::Bytes;
use redplane_command::Command;
use redplane_merge::Failure;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;
use redplane_resp::encode;

use crate::join::Waiting;
use crate::topic::Subscription;
use crate::{Kind, PubSub};

impl PubSub {
    /// SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE.
    pub(super) fn subscribe(
        &mut self,
        core: &mut Core,
        key: usize,
        kind: Kind,
        command: &'static Command,
        request: &Request<'_>,
    ) {
        let resp3 = core.is_resp3(key);
        let mut reply = core.buffers.take_empty();
        let mut added: Vec<Bytes> = Vec::new();
        for name in (1..request.len()).map(|at| request.arg(at)) {
            if !self.holds(key, kind, name) {
                let name = Bytes::copy_from_slice(name);
                added.push(name.clone());
                if let Err(failure) = self.enter(core, key, kind, &name) {
                    for name in &added {
                        self.leave(core, key, kind, name, None);
                    }
                    core.buffers.give(reply);
                    return core.fail_now(key, command.id, failure);
                }
            }
            let count = self.confirmed_count(key, kind);
            confirmation(&mut reply, resp3, kind.subscribe(), Some(name), count);
        }
        let id = self.ticket();
        let left = self.wait_for_topics(key, kind, &added, id);
        let waiting = Waiting {
            id,
            left,
            kind,
            added,
        };
        self.answer_joined(core, key, command, waiting, reply);
    }

    /// UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE: what is named, or all there is.
    pub(super) fn unsubscribe(
        &mut self,
        core: &mut Core,
        key: usize,
        kind: Kind,
        command: &'static Command,
        request: &Request<'_>,
    ) {
        let resp3 = core.is_resp3(key);
        let subscriber = self.subscribers.get(key);
        let names: Vec<Bytes> = match (request.len(), subscriber) {
            (1, Some(subscriber)) => subscriber.names_held[kind as usize].keys().cloned().collect(),
            (1, None) => Vec::new(),
            (count, _) => (1..count)
                .map(|at| Bytes::copy_from_slice(request.arg(at)))
                .collect(),
        };
        let mut reply = core.buffers.take_empty();
        if names.is_empty() {
            let count = self.confirmed_count(key, kind);
            confirmation(&mut reply, resp3, kind.unsubscribe(), None, count);
        }
        let id = self.ticket();
        let mut left = 0;
        for name in &names {
            left += self.leave(core, key, kind, name, Some(id));
            let count = self.confirmed_count(key, kind);
            confirmation(&mut reply, resp3, kind.unsubscribe(), Some(name), count);
        }
        let waiting = Waiting {
            id,
            left,
            kind,
            added: Vec::new(),
        };
        self.answer_joined(core, key, command, waiting, reply);
    }

    fn holds(&self, key: usize, kind: Kind, name: &[u8]) -> bool {
        let subscriber = self.subscribers.get(key);
        subscriber.is_some_and(|subscriber| subscriber.names_held[kind as usize].contains_key(name))
    }

    fn confirmed_count(&self, key: usize, kind: Kind) -> usize {
        let subscriber = self.subscribers.get(key);
        subscriber.map_or(0, |subscriber| subscriber.confirmed_count(kind))
    }

    /// Makes a client a subscriber of a name, in each cluster that it belongs to.
    fn enter(&mut self, core: &mut Core, key: usize, kind: Kind, name: &Bytes) -> Result<(), Failure> {
        let hubs = self.hubs_for(core, key, kind, name)?;
        let sequence = core.clients[key].replies.next_sequence();
        let topics: Vec<usize> = hubs
            .into_iter()
            .map(|hub| self.enter_topic(key, hub, kind, name, sequence))
            .collect();
        let subscriber = self.subscribers.of(key, &mut core.clients[key], Default::default);
        subscriber.names_held[kind as usize].insert(name.clone(), topics.clone());
        for topic in topics {
            if self.topics[topic].legs.is_empty() {
                self.place(core, topic)?;
            }
        }
        Ok(())
    }

    pub(super) fn enter_topic(
        &mut self,
        key: usize,
        hub: usize,
        kind: Kind,
        name: &Bytes,
        sequence: u32,
    ) -> usize {
        let id = self.topic(hub, kind, name);
        let subscription = Subscription { sequence, join: None };
        self.topics[id].subscribers.insert(key as u32, subscription);
        let hub = &mut self.hubs[hub];
        hub.subscriptions += 1;
        hub.show();
        self.note_topic(id);
        id
    }

    /// How many topics are not settled yet; the command waits for these, and messages of all wait for the command.
    fn wait_for_topics(&mut self, key: usize, kind: Kind, added: &[Bytes], join: u64) -> usize {
        let Some(subscriber) = self.subscribers.get(key) else {
            return 0;
        };
        let held = &subscriber.names_held[kind as usize];
        let ids: Vec<usize> = added
            .iter()
            .filter_map(|name| held.get(name))
            .flatten()
            .copied()
            .collect();
        let topics = &mut self.topics;
        let left = ids.iter().filter(|id| !topics[**id].is_settled()).count();
        if left == 0 {
            return 0;
        }
        for id in ids {
            let topic = &mut topics[id];
            if let Some(subscription) = topic.subscribers.get_mut(&(key as u32)) {
                subscription.join = Some(join);
            }
            if !topic.is_settled() {
                topic.joins.push(join);
            }
        }
        left
    }

    /// Ends a client's subscription; says how many servers are told; each steps `join` when it has heard.
    pub(super) fn leave(
        &mut self,
        core: &mut Core,
        key: usize,
        kind: Kind,
        name: &[u8],
        join: Option<u64>,
    ) -> usize {
        let Some(subscriber) = self.subscribers.get_mut(key) else {
            return 0;
        };
        let topics = subscriber.names_held[kind as usize]
            .remove(name)
            .unwrap_or_default();
        if subscriber.is_empty() {
            self.subscribers.take(key, &mut core.clients[key]);
        }
        topics
            .into_iter()
            .map(|topic| self.leave_topic(core, key, topic, join))
            .sum()
    }

    /// Ends all subscriptions of a client without a word. Clients that are gone leave this way, too.
    #[cold]
    pub(super) fn leave_all(&mut self, core: &mut Core, key: usize, subscriber: crate::Subscriber) {
        for topic in subscriber
            .names_held
            .into_iter()
            .flat_map(std::collections::BTreeMap::into_values)
            .flatten()
        {
            self.leave_topic(core, key, topic, None);
        }
    }

    pub(super) fn leave_topic(&mut self, core: &mut Core, key: usize, id: usize, join: Option<u64>) -> usize {
        let Some(topic) = self.topics.get_mut(id) else {
            return 0;
        };
        topic.subscribers.remove(&(key as u32));
        let hub = &mut self.hubs[topic.hub];
        hub.subscriptions -= 1;
        hub.show();
        if !topic.subscribers.is_empty() {
            self.note_topic(id);
            return 0;
        }
        self.end_topic(core, id, join)
    }

    /// Nobody is left: the servers are told.
    fn end_topic(&mut self, core: &mut Core, id: usize, join: Option<u64>) -> usize {
        let topic = &mut self.topics[id];
        let feeds: Vec<usize> = topic.legs.iter().map(|leg| leg.feed).collect();
        let joins = std::mem::take(&mut topic.joins);
        feeds.iter().for_each(|feed| self.drop_leg(core, id, *feed, join));
        self.note_topic(id);
        let topic = self.topics.remove(id);
        let hub = &mut self.hubs[topic.hub];
        hub.names[topic.kind as usize].remove(&topic.name);
        hub.show();
        joins.into_iter().for_each(|join| self.step_join(core, join));
        feeds.len()
    }
}

fn confirmation(out: &mut Vec<u8>, resp3: bool, word: &[u8], name: Option<&[u8]>, count: usize) {
    encode::header(out, if resp3 { b'>' } else { b'*' }, 3);
    encode::bulk(out, word);
    match name {
        Some(name) => encode::bulk(out, name),
        None if resp3 => encode::null(out),
        None => encode::null_bulk(out),
    }
    encode::integer(out, count as i64);
}
