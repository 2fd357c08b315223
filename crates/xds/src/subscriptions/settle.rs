//! What a verdict makes of an update, and what the end of a TTL does.
//!
//! Everything offered and not rejected is held from then on; the answer is one ACK or NACK for the whole
//! response.

use std::collections::HashSet;
use std::time::Instant;

use super::kind::{Accepted, Arrival, Kind};
use super::message::{Purpose, Response};
use crate::type_url;
use crate::update::Rejected;

/// An update that waits for its verdict.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: u64,
    pub(super) stream: Option<u64>,
    pub(super) nonce: String,
    pub(super) version: String,
    pub(super) offered: Vec<(String, Accepted)>,
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
    /// Records a verdict: what was offered and not rejected is held from now on.
    pub(super) fn settle(&mut self, rejected: Vec<Rejected>) -> Option<Answer> {
        let pending = self.stream.pending.take()?;
        let mut all = pending.refused;
        all.extend(rejected);
        let bad: HashSet<&str> = all.iter().map(|one| one.name.as_str()).collect();
        for name in pending.removed {
            self.accepted.remove(&name);
            self.disputed.remove(&name);
        }
        for (name, held) in pending.offered {
            if !bad.contains(name.as_str()) && self.wants(&name) {
                self.expiry = earliest(self.expiry, held.expires);
                self.disputed.remove(&name);
                self.accepted.insert(name, held);
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
            purpose: verdict_on(self.type_url(), &all),
        })
    }

    /// When the next TTL may end; never while a verdict is out, which could renew it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.expiry
            .filter(|_| self.stream.pending.is_none() && self.stream.queue.is_empty())
    }

    /// Queues the removal of everything whose TTL has ended.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let ends = |held: &Accepted| held.expires.is_some_and(|end| end <= now);
        let removed: Vec<String> = self
            .accepted
            .iter()
            .filter(|(_, held)| ends(held))
            .map(|(name, _)| name.clone())
            .collect();
        self.expiry = self
            .accepted
            .values()
            .filter(|held| !ends(held))
            .filter_map(|held| held.expires)
            .min();
        if removed.is_empty() {
            return;
        }
        let response = Response {
            type_url: self.type_url().to_owned(),
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
