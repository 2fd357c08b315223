//! One name of one cluster that clients of this worker are subscribed to: which they are, and where it is subscribed to
//! for them.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::Kind;
use crate::shared::Entry;
use crate::watch::is_event;

/// On how many hosts a topic must be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// On one: the bus of the cluster, the shard or the hash brings all of it there.
    One,
    /// On every primary, for the events of each; what the bus brings to all of them counts once.
    Bus,
    /// On every host, since each has something of its own.
    Every,
}

/// A subscription on one host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg {
    pub(super) feed: usize,
    pub(super) host: u64,
    /// The command that asked for it: a confirmation of an earlier one means nothing.
    pub(super) ticket: u64,
    pub(super) confirmed: bool,
}

/// A client of a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    /// Its SUBSCRIBE: messages come behind the confirmation.
    pub(super) sequence: u32,
    /// That command, while it waits for servers.
    pub(super) join: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) hub: usize,
    pub(super) kind: Kind,
    pub(super) name: Bytes,
    pub(super) reach: Reach,
    /// The hosts (by id) where it belongs.
    pub(super) homes: Vec<u64>,
    /// Where it is asked for, oldest first.
    pub(super) legs: Vec<Leg>,
    /// By client.
    pub(super) subscribers: FxHashMap<u32, Subscription>,
    /// Commands that wait until it is settled.
    pub(super) joins: Vec<u64>,
}

impl Topic {
    pub(super) fn new(hub: usize, kind: Kind, name: Bytes) -> Self {
        Self {
            hub,
            kind,
            name,
            reach: Reach::One,
            homes: Vec::new(),
            legs: Vec::new(),
            subscribers: FxHashMap::default(),
            joins: Vec::new(),
        }
    }

    /// Whether nothing that is published from now on will be missed.
    pub(super) fn is_settled(&self) -> bool {
        match self.reach {
            Reach::One => self.is_heard(),
            Reach::Bus => self.is_heard() && self.legs.iter().all(|leg| leg.confirmed),
            Reach::Every => !self.homes.is_empty() && self.is_home(),
        }
    }

    /// Whether any host sends its messages.
    fn is_heard(&self) -> bool {
        self.legs.iter().any(|leg| leg.confirmed)
    }

    /// Whether every host where it belongs has confirmed.
    pub(super) fn is_home(&self) -> bool {
        let confirmed = |home: &u64| self.legs.iter().any(|leg| leg.host == *home && leg.confirmed);
        self.homes.iter().all(confirmed)
    }

    /// Whether a message from a feed is to be passed on. What comes over the bus comes over every leg: the oldest one
    /// counts, so that a topic on its way from one host to another is never heard twice.
    pub(super) fn accepts(&self, feed: usize, channel: &[u8]) -> bool {
        let mut confirmed = self.legs.iter().filter(|leg| leg.confirmed);
        let local = match self.reach {
            Reach::One => false,
            Reach::Bus => is_event(channel),
            Reach::Every => true,
        };
        match local {
            true => confirmed.any(|leg| leg.feed == feed),
            false => confirmed.next().is_some_and(|leg| leg.feed == feed),
        }
    }

    /// How the topic stands, for those that count.
    pub(super) fn entry(&self) -> Entry {
        let confirmed = self.legs.iter().filter(|leg| leg.confirmed);
        Entry {
            clients: if self.is_heard() {
                self.subscribers.len()
            } else {
                0
            },
            hosts: confirmed.map(|leg| leg.host).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(reach: Reach, legs: &[(usize, bool)]) -> Topic {
        let mut topic = Topic::new(0, Kind::Pattern, Bytes::from_static(b"*"));
        topic.reach = reach;
        topic.homes = legs.iter().map(|(feed, _)| *feed as u64).collect();
        topic.legs = legs
            .iter()
            .map(|(feed, confirmed)| Leg {
                feed: *feed,
                host: *feed as u64,
                ticket: 0,
                confirmed: *confirmed,
            })
            .collect();
        topic
    }

    #[test]
    fn what_the_bus_brings_counts_once() {
        let event = b"__keyspace@0__:k";
        let bus = topic(Reach::Bus, &[(1, false), (2, true), (3, true)]);
        let accepted = |channel: &[u8]| [1, 2, 3].map(|feed| bus.accepts(feed, channel));
        assert_eq!(accepted(b"news"), [false, true, false]);
        assert_eq!(accepted(event), [false, true, true]);
        assert!(!bus.is_settled());
        let moving = topic(Reach::One, &[(1, true), (2, true)]);
        assert!(moving.accepts(1, b"news") && !moving.accepts(2, b"news"));
    }

    #[test]
    fn settled_is_where_nothing_is_missed() {
        assert!(!topic(Reach::One, &[]).is_settled());
        assert!(topic(Reach::One, &[(1, true), (2, false)]).is_settled());
        assert!(!topic(Reach::Every, &[]).is_settled());
        assert!(!topic(Reach::Every, &[(1, true), (2, false)]).is_settled());
        assert!(topic(Reach::Every, &[(1, true), (2, true)]).is_settled());
    }
}
