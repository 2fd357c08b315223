//! Several nodes' answers to one view of the cluster: a pure function.
//!
//! Answers that share no node are of different clusters (an address was given to another server): the one that is known
//! wins, else the larger one. Nodes that see no majority of primaries are not heard when others do. Then each slot goes
//! to the claim with the highest config epoch, as Redis itself decides; with equal epochs to the one that most nodes
//! name, and at last to the one that served it before.

use std::collections::{HashMap, HashSet};

use redplane_upstream::topology::SLOTS;

use super::answer::Answer;
use crate::node::{Node, ShardView};

/// What was agreed upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Ordered by lowest slot; every slot has at most one owner.
    pub shards: Vec<ShardView>,
}

/// The view that answers give, after `previous`. `None` without answers.
pub fn decide(answers: &[Answer], previous: &View) -> Option<View> {
    let heard = heard(answers, previous);
    if heard.is_empty() {
        return None;
    }
    let mut keys = Keys::default();
    let claims: Vec<Vec<Option<Claim>>> = heard.iter().map(|answer| keys.claims(&answer.shards)).collect();
    let before = keys.claims(&previous.shards);
    let mut owned: Vec<Owned> = Vec::new();
    for slot in 0..SLOTS {
        if let Some(key) = owner(&claims, &before, usize::from(slot)) {
            grant(&mut owned, key, slot);
        }
    }
    let primaries: HashSet<&str> = owned.iter().map(|owned| keys.names[owned.key].as_str()).collect();
    let shards = owned.iter().filter_map(|owned| {
        let mut shard = described(&heard, &keys.names[owned.key])?.clone();
        shard.ranges.clone_from(&owned.ranges);
        shard
            .replicas
            .retain(|replica| !primaries.contains(replica.key().as_str()));
        Some(shard)
    });
    Some(View {
        shards: shards.collect(),
    })
}

/// Nodes' keys as small numbers.
#[derive(Default)]
struct Keys {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

/// Which node claims a slot, and since which config epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Claim {
    epoch: u64,
    key: usize,
}

/// A primary and its slots.
struct Owned {
    key: usize,
    ranges: Vec<(u16, u16)>,
}

impl Keys {
    fn number(&mut self, name: String) -> usize {
        let next = self.names.len();
        let number = *self.numbers.entry(name.clone()).or_insert(next);
        if number == next {
            self.names.push(name);
        }
        number
    }

    /// The claim on each slot. A later range wins over an earlier one of the same answer unless its epoch is lower.
    fn claims(&mut self, shards: &[ShardView]) -> Vec<Option<Claim>> {
        let mut slots = vec![None; usize::from(SLOTS)];
        for shard in shards {
            let claim = Claim {
                epoch: shard.epoch,
                key: self.number(shard.primary.key()),
            };
            for slot in shard
                .ranges
                .iter()
                .flat_map(|(first, last)| *first..=(*last).min(SLOTS - 1))
            {
                let held: &mut Option<Claim> = &mut slots[usize::from(slot)];
                if held.is_none_or(|held| held.epoch <= claim.epoch) {
                    *held = Some(claim);
                }
            }
        }
        slots
    }
}

fn grant(owned: &mut Vec<Owned>, key: usize, slot: u16) {
    // Neighbours mostly have the same owner, and clusters have few primaries.
    let at = owned
        .iter()
        .rposition(|owned| owned.key == key)
        .unwrap_or_else(|| {
            owned.push(Owned {
                key,
                ranges: Vec::new(),
            });
            owned.len() - 1
        });
    match owned[at].ranges.last_mut() {
        Some((_, last)) if *last + 1 == slot => *last = slot,
        _ => owned[at].ranges.push((slot, slot)),
    }
}

fn owner(claims: &[Vec<Option<Claim>>], before: &[Option<Claim>], slot: usize) -> Option<usize> {
    let said = claims.iter().filter_map(|claims| claims[slot]);
    let highest = said.clone().map(|claim| claim.epoch).max()?;
    let best = said.filter(|claim| claim.epoch == highest).map(|claim| claim.key);
    let votes = |key: usize| best.clone().filter(|other| *other == key).count();
    let held = before[slot].map(|claim| claim.key);
    // Of equals the first answer counts.
    let ranked = best
        .clone()
        .enumerate()
        .map(|(at, key)| (votes(key), held == Some(key), std::cmp::Reverse(at), key));
    ranked.max().map(|(.., key)| key)
}

fn keys(shard: &ShardView) -> impl Iterator<Item = String> {
    std::iter::once(&shard.primary)
        .chain(&shard.replicas)
        .map(Node::key)
}

/// The answers that count.
fn heard<'a>(answers: &'a [Answer], previous: &View) -> Vec<&'a Answer> {
    let known: HashSet<String> = previous.shards.iter().flat_map(keys).collect();
    let groups = clusters(answers);
    let rank = |group: &(HashSet<String>, Vec<&Answer>)| {
        let familiar = group.0.intersection(&known).count();
        let epoch = group
            .1
            .iter()
            .flat_map(|answer| &answer.shards)
            .map(|shard| shard.epoch)
            .max();
        (familiar > 0, group.1.len(), familiar, epoch)
    };
    let Some((_, group)) = groups.into_iter().max_by_key(rank) else {
        return Vec::new();
    };
    let quorum: Vec<&Answer> = group.iter().copied().filter(|answer| answer.quorum).collect();
    if quorum.is_empty() { group } else { quorum }
}

/// Answers by cluster: two that name a common node belong together.
fn clusters(answers: &[Answer]) -> Vec<(HashSet<String>, Vec<&Answer>)> {
    let mut groups: Vec<(HashSet<String>, Vec<&Answer>)> = Vec::new();
    for answer in answers {
        let mut nodes: HashSet<String> = answer.shards.iter().flat_map(keys).collect();
        let mut members = Vec::new();
        groups.retain_mut(|group| {
            let same = !group.0.is_disjoint(&nodes);
            if same {
                nodes.extend(group.0.drain());
                members.append(&mut group.1);
            }
            !same
        });
        members.push(answer);
        groups.push((nodes, members));
    }
    groups
}

/// What the best informed answer says of a primary.
fn described<'a>(answers: &[&'a Answer], key: &str) -> Option<&'a ShardView> {
    let shards = answers.iter().rev().flat_map(|answer| &answer.shards);
    shards
        .filter(|shard| shard.primary.key() == key)
        .max_by_key(|shard| shard.epoch)
}

#[cfg(test)]
mod tests;
