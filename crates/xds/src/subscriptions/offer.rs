//! Sifts a response into an update: what is new, what is gone, what needs no look, what is refused right
//! here.
//!
//! Content is compared by hash, because Istiod resends everything after each change. Refused here are only
//! resources that cannot be told apart or read at all; every other judgement belongs to the receiver.

use std::collections::HashSet;
use std::time::Instant;

use redplane_proto::pb::google::protobuf::Any;
use twox_hash::{XxHash3_128, XxHash64};

use super::Form;
use super::kind::{Accepted, Arrival, Kind};
use super::message::{Arrived, Response};
use super::settle::Pending;
use crate::type_url;
use crate::update::{Rejected, Resource, Update};

/// What a response falls into.
#[derive(Default)]
struct Sieve {
    resources: Vec<Resource>,
    offered: Vec<(String, Accepted)>,
    refused: Vec<Rejected>,
    unchanged: usize,
    unrequested: usize,
}

impl Kind {
    /// Turns a response into an update and remembers what its verdict will mean.
    pub(super) fn offer(&mut self, arrival: Arrival, ticket: u64, form: Form) -> Update {
        let Arrival {
            response,
            now,
            stream,
        } = arrival;
        let Response {
            type_url,
            version,
            nonce,
            resources,
            removed,
            errors,
            control_plane,
        } = response;
        let mut census = Census::of(&resources);
        let removed = if form == Form::Sotw && stream.is_some() {
            self.missing(&census)
        } else {
            self.gone(removed, &mut census)
        };
        let mut sieve = Sieve::default();
        for (index, arrived) in resources.into_iter().enumerate() {
            self.sift(index, arrived, now, &census, &mut sieve);
        }
        sieve.refuse_repeated(&census, |name| self.wants(name));
        self.stream.pending = Some(Pending {
            ticket,
            stream,
            nonce: nonce.clone(),
            version: version.clone(),
            offered: sieve.offered,
            removed: removed.clone(),
            refused: sieve.refused.clone(),
        });
        Update {
            ticket,
            type_url,
            version,
            nonce,
            resources: sieve.resources,
            removed,
            refused: sieve.refused,
            errors,
            unchanged: sieve.unchanged,
            unrequested: sieve.unrequested,
            control_plane,
        }
    }

    /// What a state-of-the-world response removes by leaving it out. A resource without a readable name could
    /// be any of them, so then nothing is removed.
    fn missing(&self, census: &Census) -> Vec<String> {
        if !type_url::is_full_state(self.type_url()) || census.nameless {
            return Vec::new();
        }
        let held = self.accepted.keys();
        let refused = self
            .disputed
            .iter()
            .filter(|name| !self.accepted.contains_key(*name));
        held.chain(refused)
            .filter(|name| !census.seen.contains(*name))
            .cloned()
            .collect()
    }

    /// The names that the server removes. One that is also sent in the same response counts as said twice.
    fn gone(&self, removed: Vec<String>, census: &mut Census) -> Vec<String> {
        let (both, gone): (Vec<_>, Vec<_>) = removed
            .into_iter()
            .filter(|name| self.wants(name))
            .partition(|name| census.seen.contains(name));
        census.repeated.extend(both);
        gone
    }

    fn sift(&self, index: usize, arrived: Arrived, now: Instant, census: &Census, sieve: &mut Sieve) {
        let Arrived {
            name,
            version,
            body,
            ttl,
        } = arrived;
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            sieve.refuse(
                "",
                format!("resource {index} of the response has no readable name"),
            );
            return;
        };
        if !self.wants(&name) {
            sieve.unrequested += 1;
            return;
        }
        if census.repeated.contains(&name) {
            return;
        }
        let known = self.accepted.get(&name);
        let expires = ttl.and_then(|ttl| now.checked_add(ttl));
        let Some(body) = body else {
            match known {
                Some(known) if ttl.is_some() => sieve.renew(
                    name,
                    Accepted {
                        expires,
                        ..known.clone()
                    },
                ),
                None if ttl.is_some() => sieve.unrequested += 1,
                _ => sieve.refuse(&name, "has no body"),
            }
            return;
        };
        if !same_message(&body.type_url, self.type_url()) {
            sieve.refuse(
                &name,
                format!("is a {}, not a {}", body.type_url, self.type_url()),
            );
            return;
        }
        let held = Accepted {
            version: version.clone(),
            hash: content_hash(&body),
            expires,
        };
        let same = known.is_some_and(|known| known.hash == held.hash);
        if same && !self.disputed.contains(&name) {
            sieve.renew(name, held);
        } else {
            sieve.offered.push((name.clone(), held));
            sieve.resources.push(Resource { name, version, body });
        }
    }
}

impl Sieve {
    fn refuse(&mut self, name: &str, reason: impl Into<String>) {
        self.refused.push(Rejected::new(name, reason));
    }

    /// Content that is accepted already: only its version and TTL are taken over.
    fn renew(&mut self, name: String, held: Accepted) {
        self.unchanged += 1;
        self.offered.push((name, held));
    }

    fn refuse_repeated(&mut self, census: &Census, wanted: impl Fn(&str) -> bool) {
        let mut names: Vec<&String> = census.repeated.iter().filter(|name| wanted(name)).collect();
        names.sort();
        for name in names {
            self.refuse(name, "is named more than once in the response");
        }
    }
}

/// The names of a response, counted.
struct Census {
    seen: HashSet<String>,
    repeated: HashSet<String>,
    nameless: bool,
}

impl Census {
    fn of(resources: &[Arrived]) -> Self {
        let mut census = Self {
            seen: HashSet::with_capacity(resources.len()),
            repeated: HashSet::new(),
            nameless: false,
        };
        for arrived in resources {
            match arrived.name.as_deref() {
                None | Some("") => census.nameless = true,
                Some(name) => {
                    if !census.seen.insert(name.to_owned()) {
                        census.repeated.insert(name.to_owned());
                    }
                }
            }
        }
        census
    }
}

/// Whether both URLs name the same kind of message. Old control planes send `envoy.api.v2.Cluster` where v3
/// was asked for; the receiver decodes by the body's own URL.
fn same_message(one: &str, other: &str) -> bool {
    let last = |url: &str| url.rsplit(['.', '/']).next().map(str::to_owned);
    one == other || last(one) == last(other)
}

fn content_hash(body: &Any) -> u128 {
    let seed = XxHash64::oneshot(0, body.type_url.as_bytes());
    XxHash3_128::oneshot_with_seed(seed, &body.value)
}
