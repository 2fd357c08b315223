//! One resource type: what is wanted, what is held, and what the current stream knows of both.
//!
//! Owns the bookkeeping of names, versions and nonces. How a response is sifted into an update is in `offer`.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Instant;

use super::Form;
use super::message::{Body, Purpose, Request, Response};
use crate::type_url;
use crate::update::Rejected;

/// The name that means all resources.
const WILDCARD: &str = "*";

/// A resource type with its subscriptions.
#[derive(Debug)]
pub(super) struct Kind {
    type_url: String,
    wildcard: bool,
    names: BTreeSet<String>,
    /// Everything accepted and not removed since.
    pub(super) held: BTreeMap<String, Held>,
    /// Names whose last offer was refused: offered again even when their content is the one held.
    pub(super) disputed: BTreeSet<String>,
    /// Version of the last response that was accepted as a whole.
    version: String,
    paused: bool,
    /// A lower bound of the next end of a TTL.
    expiry: Option<Instant>,

    // Of the current stream.
    opened: bool,
    fresh: BTreeSet<String>,
    gone: BTreeSet<String>,
    answered: String,
    pub(super) pending: Option<Pending>,
    queue: VecDeque<Arrival>,
}

/// What is remembered of an accepted resource.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) version: String,
    pub(super) hash: u128,
    pub(super) expires: Option<Instant>,
}

/// A response that waits to be offered. Without a stream it was made up here, and nobody is answered.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) response: Response,
    pub(super) now: Instant,
    pub(super) stream: Option<u64>,
}

/// An update that waits for its verdict.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: u64,
    pub(super) stream: Option<u64>,
    pub(super) nonce: String,
    pub(super) version: String,
    pub(super) offered: Vec<(String, Held)>,
    pub(super) removed: Vec<String>,
    pub(super) refused: Vec<Rejected>,
}

/// What a verdict makes of a pending update.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) stream: Option<u64>,
    pub(super) nonce: String,
    pub(super) purpose: Purpose,
}

impl Kind {
    pub(super) fn new(type_url: &str) -> Self {
        Self {
            type_url: type_url.to_owned(),
            wildcard: false,
            names: BTreeSet::new(),
            held: BTreeMap::new(),
            disputed: BTreeSet::new(),
            version: String::new(),
            paused: false,
            expiry: None,
            opened: false,
            fresh: BTreeSet::new(),
            gone: BTreeSet::new(),
            answered: String::new(),
            pending: None,
            queue: VecDeque::new(),
        }
    }

    pub(super) fn type_url(&self) -> &str {
        &self.type_url
    }

    pub(super) fn accepted(&self) -> Vec<&str> {
        self.held.keys().map(String::as_str).collect()
    }

    pub(super) fn is_open(&self) -> bool {
        self.opened
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    pub(super) fn awaits(&self, ticket: u64) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| pending.ticket == ticket)
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn subscribe_all(&mut self) {
        if !self.wildcard {
            self.wildcard = true;
            self.fresh.insert(WILDCARD.to_owned());
        }
    }

    pub(super) fn subscribe(&mut self, names: Vec<String>) {
        for name in names {
            if self.names.insert(name.clone()) {
                self.gone.remove(&name);
                self.fresh.insert(name);
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, names: &[String]) {
        for name in names {
            if !self.names.remove(name) {
                continue;
            }
            self.fresh.remove(name);
            self.gone.insert(name.clone());
            if !self.wildcard {
                self.held.remove(name);
                self.disputed.remove(name);
            }
        }
    }

    pub(super) fn forget_stream(&mut self) {
        self.opened = false;
        self.answered.clear();
        // What was made up here belongs to no stream.
        self.queue.retain(|arrival| arrival.stream.is_none());
    }

    pub(super) fn enqueue(&mut self, arrival: Arrival) {
        self.queue.push_back(arrival);
    }

    pub(super) fn next_arrival(&mut self) -> Option<Arrival> {
        if self.pending.is_some() {
            None
        } else {
            self.queue.pop_front()
        }
    }

    /// Whether the server should hear of the subscriptions now.
    pub(super) fn has_news(&self, form: Form) -> bool {
        let judging = self.pending.is_some() || !self.queue.is_empty();
        if self.paused {
            false
        } else if !self.opened {
            // The first request names all that is held, and a verdict may still add to it.
            self.pending.is_none() && (self.wildcard || !self.names.is_empty())
        } else {
            let changed = !self.fresh.is_empty() || !self.gone.is_empty();
            changed && !(form == Form::Sotw && judging)
        }
    }

    /// The first request of this stream, or a spontaneous one with the changes since the last.
    pub(super) fn news(&mut self, form: Form, node: bool) -> Request {
        let first = !std::mem::replace(&mut self.opened, true);
        let fresh = std::mem::take(&mut self.fresh);
        let gone = std::mem::take(&mut self.gone);
        let purpose = if first { Purpose::First } else { Purpose::Change };
        match form {
            Form::Sotw => self.request(self.answered.clone(), purpose, self.whole(), node),
            Form::Delta if first => {
                let body = Body::Delta {
                    subscribe: self.all_names(),
                    unsubscribe: Vec::new(),
                    initial_versions: self.versions(),
                };
                self.request(String::new(), purpose, body, node)
            }
            Form::Delta => {
                let body = Body::Delta {
                    subscribe: fresh.into_iter().collect(),
                    unsubscribe: gone.into_iter().collect(),
                    initial_versions: BTreeMap::new(),
                };
                self.request(String::new(), purpose, body, node)
            }
        }
    }

    /// The ACK, or with a rejection the NACK, of a nonce.
    pub(super) fn answer(&mut self, answer: Answer, form: Form, node: bool) -> Request {
        let body = match form {
            Form::Delta => Body::Delta {
                subscribe: Vec::new(),
                unsubscribe: Vec::new(),
                initial_versions: BTreeMap::new(),
            },
            Form::Sotw => {
                // The whole list rides along, and with it every change.
                self.fresh.clear();
                self.gone.clear();
                self.whole()
            }
        };
        self.answered.clone_from(&answer.nonce);
        self.request(answer.nonce, answer.purpose, body, node)
    }

    /// Records a verdict: what was offered and not rejected is held from now on.
    pub(super) fn settle(&mut self, rejected: Vec<Rejected>) -> Option<Answer> {
        let pending = self.pending.take()?;
        let mut all = pending.refused;
        all.extend(rejected);
        let bad: HashSet<&str> = all.iter().map(|one| one.name.as_str()).collect();
        for name in pending.removed {
            self.held.remove(&name);
            self.disputed.remove(&name);
        }
        for (name, held) in pending.offered {
            if !bad.contains(name.as_str()) && self.wants(&name) {
                self.expiry = earliest(self.expiry, held.expires);
                self.disputed.remove(&name);
                self.held.insert(name, held);
            }
        }
        for name in &bad {
            if !name.is_empty() && self.wants(name) {
                self.disputed.insert((*name).to_owned());
            }
        }
        if all.is_empty() && pending.stream.is_some() {
            self.version = pending.version;
        }
        Some(Answer {
            stream: pending.stream,
            nonce: pending.nonce,
            purpose: verdict_on(&self.type_url, &all),
        })
    }

    /// When the next TTL may end; never while a verdict is out, which could renew it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.expiry
            .filter(|_| self.pending.is_none() && self.queue.is_empty())
    }

    /// Queues the removal of everything whose TTL has ended.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let ends = |held: &Held| held.expires.is_some_and(|end| end <= now);
        let removed: Vec<String> = self
            .held
            .iter()
            .filter(|(_, held)| ends(held))
            .map(|(name, _)| name.clone())
            .collect();
        self.expiry = self
            .held
            .values()
            .filter(|held| !ends(held))
            .filter_map(|held| held.expires)
            .min();
        if removed.is_empty() {
            return;
        }
        let response = Response {
            type_url: self.type_url.clone(),
            version: self.version.clone(),
            removed,
            ..Response::default()
        };
        self.enqueue(Arrival {
            response,
            now,
            stream: None,
        });
    }

    fn request(&self, nonce: String, purpose: Purpose, body: Body, node: bool) -> Request {
        Request {
            type_url: self.type_url.clone(),
            node,
            nonce,
            purpose,
            body,
        }
    }

    fn whole(&self) -> Body {
        Body::Sotw {
            version: self.version.clone(),
            names: self.all_names(),
        }
    }

    /// Everything wanted, as it is said in a first request: nothing at all means all.
    fn all_names(&self) -> Vec<String> {
        let star = (self.wildcard && !self.names.is_empty()).then(|| WILDCARD.to_owned());
        star.into_iter().chain(self.names.iter().cloned()).collect()
    }

    /// Every held name with its version. Refused names that are not held go along without one, so that the server says
    /// when they are gone.
    fn versions(&self) -> BTreeMap<String, String> {
        let disputed = self.disputed.iter().map(|name| (name.clone(), String::new()));
        let held = self
            .held
            .iter()
            .map(|(name, held)| (name.clone(), held.version.clone()));
        disputed.chain(held).collect()
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// ACK, or NACK with a text in Envoy's words.
fn verdict_on(type_url: &str, rejected: &[Rejected]) -> Purpose {
    if rejected.is_empty() {
        return Purpose::Ack;
    }
    let lines: Vec<String> = rejected
        .iter()
        .map(|one| match one.name.as_str() {
            "" => one.reason.clone(),
            name => format!("{name}: {}", one.reason),
        })
        .collect();
    let noun = type_url::noun(type_url);
    Purpose::Nack(format!("Error adding/updating {noun} {}", lines.join("\n")))
}
