//! Publish and subscribe of the model nodes: a bus that takes messages to every node, shard channels that stay with
//! their slot, and events that only the node's own sessions hear of.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use redplane_resp::encode;

use super::node::Words;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Message,
    Shard,
    /// A keyspace event.
    Event,
    /// The slot is another node's: its shard channels end.
    SlotLeft(u16),
}

/// Something that concerns sessions.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    from: SocketAddr,
    what: What,
    channel: Vec<u8>,
    payload: Vec<u8>,
}

impl Post {
    /// PUBLISH and SPUBLISH.
    pub(crate) fn read(at: SocketAddr, words: &[Vec<u8>]) -> Option<Self> {
        let what = match words[0].as_slice() {
            b"publish" => What::Message,
            b"spublish" => What::Shard,
            _ => return None,
        };
        Some(Self {
            from: at,
            what,
            channel: words[1].clone(),
            payload: words[2].clone(),
        })
    }

    /// Something has happened to a key.
    pub(crate) fn event(at: SocketAddr, channel: &str, payload: &str) -> Self {
        Self {
            from: at,
            what: What::Event,
            channel: channel.into(),
            payload: payload.into(),
        }
    }

    pub(crate) fn slot_left(at: SocketAddr, slot: u16) -> Self {
        Self {
            from: at,
            what: What::SlotLeft(slot),
            channel: Vec::new(),
            payload: Vec::new(),
        }
    }
}

/// What a session is subscribed to: channels, patterns, shard channels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribed {
    names: [BTreeSet<Vec<u8>>; 3],
}

const SUBSCRIBE: [&[u8]; 3] = [b"subscribe", b"psubscribe", b"ssubscribe"];
const UNSUBSCRIBE: [&[u8]; 3] = [b"unsubscribe", b"punsubscribe", b"sunsubscribe"];

impl Subscribed {
    pub(crate) fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeSet::is_empty)
    }

    /// Takes a command about subscriptions; false for any other.
    pub(crate) fn take(&mut self, words: &Words, out: &mut Vec<u8>) -> bool {
        let of = |list: [&[u8]; 3]| list.iter().position(|word| *word == words[0]);
        let (kind, on) = match (of(SUBSCRIBE), of(UNSUBSCRIBE)) {
            (Some(kind), _) => (kind, true),
            (_, Some(kind)) => (kind, false),
            _ => return false,
        };
        for name in &words[1..] {
            match on {
                true => self.names[kind].insert(name.clone()),
                false => self.names[kind].remove(name),
            };
            array(out, &[&words[0], name]);
            encode::integer(out, self.names[kind].len() as i64);
        }
        true
    }

    /// How many times a message concerns this session.
    pub(crate) fn matching(&self, post: &Post) -> usize {
        match post.what {
            What::Message | What::Event => {
                let patterns = self.names[1]
                    .iter()
                    .filter(|pattern| fits(pattern, &post.channel));
                usize::from(self.names[0].contains(&post.channel)) + patterns.count()
            }
            What::Shard => usize::from(self.names[2].contains(&post.channel)),
            What::SlotLeft(_) => 0,
        }
    }

    /// What a node sends to this session because of a post.
    pub(crate) fn receive(&mut self, post: &Post, node: SocketAddr, bus: bool) -> Vec<u8> {
        let mut out = Vec::new();
        if post.from != node && !(bus && post.what == What::Message) {
            return out;
        }
        match post.what {
            What::Message | What::Event => {
                if self.names[0].contains(&post.channel) {
                    array(&mut out, &[b"message", &post.channel]);
                    encode::bulk(&mut out, &post.payload);
                }
                for pattern in self.names[1]
                    .iter()
                    .filter(|pattern| fits(pattern, &post.channel))
                {
                    encode::array(&mut out, 4);
                    for word in [&b"pmessage"[..], pattern, &post.channel, &post.payload] {
                        encode::bulk(&mut out, word);
                    }
                }
            }
            What::Shard if self.names[2].contains(&post.channel) => {
                array(&mut out, &[b"smessage", &post.channel]);
                encode::bulk(&mut out, &post.payload);
            }
            What::Shard => {}
            What::SlotLeft(slot) => {
                let left = |name: &Vec<u8>| redplane_command::slot(name) == slot;
                for name in self.names[2].iter().filter(|name| left(name)) {
                    array(&mut out, &[b"sunsubscribe", name]);
                    encode::integer(&mut out, 0);
                }
                self.names[2].retain(|name| !left(name));
            }
        }
        out
    }
}

/// An array of three of which the last element is still to come.
fn array(out: &mut Vec<u8>, words: &[&[u8]]) {
    encode::array(out, words.len() + 1);
    words.iter().for_each(|word| encode::bulk(out, word));
}

/// A literal start and a star.
fn fits(pattern: &[u8], channel: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(start) => channel.starts_with(start),
        None => pattern == channel,
    }
}
