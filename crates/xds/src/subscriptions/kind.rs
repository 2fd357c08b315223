//! One resource type: what is wanted, what is held, and what the current stream knows of both.
//!
//! Owns the bookkeeping of names, versions and nonces. How a response becomes an update is in `offer`, what a
//! verdict makes of it in `settle`.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Instant;

use super::Form;
use super::message::{Body, Purpose, Request, Response};
use super::settle::{Answer, Pending};

/// The name that means all resources.
const WILDCARD: &str = "*";

/// A resource type with its subscriptions.
#[derive(Debug)]
pub(super) struct Kind {
    type_url: String,
    wildcard: bool,
    names: BTreeSet<String>,
    /// Everything accepted and not removed since.
    pub(super) accepted: BTreeMap<String, Accepted>,
    /// Names whose last offer was refused: offered again even when their content is the one held.
    pub(super) disputed: BTreeSet<String>,
    /// Version of the last response that was accepted as a whole.
    pub(super) version: String,
    paused: bool,
    /// A lower bound of the next end of a TTL.
    pub(super) expiry: Option<Instant>,
    /// What is said on the current stream.
    pub(super) stream: Exchange,
}

/// What the current stream knows of a type, and what it still has to say.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The first request is sent.
    opened: bool,
    /// Names that the server has not heard of yet.
    fresh: BTreeSet<String>,
    /// Names that it does not know to be gone.
    gone: BTreeSet<String>,
    /// The nonce that was answered last.
    answered: String,
    /// The update that is being judged.
    pub(super) pending: Option<Pending>,
    /// Responses behind it.
    pub(super) queue: VecDeque<Arrival>,
}

/// What is remembered of an accepted resource.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
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

impl Kind {
    pub(super) fn new(type_url: &str) -> Self {
        Self {
            type_url: type_url.to_owned(),
            wildcard: false,
            names: BTreeSet::new(),
            accepted: BTreeMap::new(),
            disputed: BTreeSet::new(),
            version: String::new(),
            paused: false,
            expiry: None,
            stream: Exchange::default(),
        }
    }

    pub(super) fn type_url(&self) -> &str {
        &self.type_url
    }

    pub(super) fn accepted_names(&self) -> Vec<&str> {
        self.accepted.keys().map(String::as_str).collect()
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.opened
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.stream.pending.is_some()
    }

    pub(super) fn awaits(&self, ticket: u64) -> bool {
        self.stream
            .pending
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
            self.stream.fresh.insert(WILDCARD.to_owned());
        }
    }

    pub(super) fn subscribe(&mut self, names: Vec<String>) {
        for name in names {
            if self.names.insert(name.clone()) {
                self.stream.gone.remove(&name);
                self.stream.fresh.insert(name);
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, names: &[String]) {
        let mut left = HashSet::new();
        for name in names {
            if self.names.remove(name) {
                self.stream.fresh.remove(name);
                self.stream.gone.insert(name.clone());
                left.insert(name);
            }
        }
        if !self.wildcard {
            self.forget(&left);
        }
    }

    /// Drops resources, also from an update that is being judged: should a name be wanted again before the verdict,
    /// it must come anew, because the receiver has dropped it too.
    fn forget(&mut self, names: &HashSet<&String>) {
        for name in names {
            self.accepted.remove(*name);
            self.disputed.remove(*name);
        }
        if let Some(pending) = &mut self.stream.pending {
            pending.offered.retain(|(offered, _)| !names.contains(offered));
        }
    }

    pub(super) fn forget_stream(&mut self) {
        self.stream.opened = false;
        self.stream.answered.clear();
        // What was made up here belongs to no stream.
        self.stream.queue.retain(|arrival| arrival.stream.is_none());
    }

    pub(super) fn enqueue(&mut self, arrival: Arrival) {
        self.stream.queue.push_back(arrival);
    }

    pub(super) fn next_arrival(&mut self) -> Option<Arrival> {
        if self.stream.pending.is_some() {
            None
        } else {
            self.stream.queue.pop_front()
        }
    }

    /// Whether the server should hear of the subscriptions now.
    pub(super) fn has_news(&self, form: Form) -> bool {
        let judging = self.stream.pending.is_some() || !self.stream.queue.is_empty();
        if self.paused {
            false
        } else if !self.stream.opened {
            // The first request names all that is held, and a verdict may still add to it.
            self.stream.pending.is_none() && (self.wildcard || !self.names.is_empty())
        } else {
            let changed = !self.stream.fresh.is_empty() || !self.stream.gone.is_empty();
            changed && !(form == Form::Sotw && judging)
        }
    }

    /// The first request of this stream, or a spontaneous one with the changes since the last.
    pub(super) fn news(&mut self, form: Form, node: bool) -> Request {
        let first = !std::mem::replace(&mut self.stream.opened, true);
        let fresh = std::mem::take(&mut self.stream.fresh);
        let gone = std::mem::take(&mut self.stream.gone);
        let purpose = if first { Purpose::First } else { Purpose::Change };
        match form {
            Form::Sotw => self.request(self.stream.answered.clone(), purpose, self.whole(), node),
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
                self.stream.fresh.clear();
                self.stream.gone.clear();
                self.whole()
            }
        };
        self.stream.answered.clone_from(&answer.nonce);
        self.request(answer.nonce, answer.purpose, body, node)
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

    /// Every held name with its version. Refused names that are not held go along without one, so that the
    /// server says when they are gone.
    fn versions(&self) -> BTreeMap<String, String> {
        let disputed = self.disputed.iter().map(|name| (name.clone(), String::new()));
        let held = self
            .accepted
            .iter()
            .map(|(name, held)| (name.clone(), held.version.clone()));
        disputed.chain(held).collect()
    }
}
