//! Several nodes' answers to one view of the cluster: a pure function.
//!
//! Answers that share no node are of different clusters (an address was given to somebody else): the one that we know
//! wins, else the larger one. Nodes that see no majority of primaries are not heard when others do. Then each slot goes
//! to the claim with the highest config epoch, as Redis itself decides; with equal epochs to the one that most nodes
//! name, and at last to the one that served it before.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::answer::{Answer, Node, ShardView};
use crate::topology::SLOTS;

/// What was agreed upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Ordered by lowest slot; every slot has at most one owner.
    pub shards: Vec<ShardView>,
}

impl View {
    /// Keys of all nodes.
    fn nodes(&self) -> HashSet<String> {
        self.shards.iter().flat_map(keys).collect()
    }

    /// The owner of each slot by key.
    fn owners(&self) -> HashMap<u16, String> {
        let slots = |shard: &ShardView| {
            let key = shard.primary.key();
            shard
                .ranges
                .clone()
                .into_iter()
                .flat_map(|(first, last)| first..=last)
                .map(move |slot| (slot, key.clone()))
        };
        self.shards.iter().flat_map(slots).collect()
    }
}

/// The view that answers give, after `previous`. `None` without answers.
pub fn decide(answers: &[Answer], previous: &View) -> Option<View> {
    let heard = heard(answers, previous);
    let claims: Vec<Claims> = heard.iter().map(|answer| Claims::of(answer)).collect();
    let before = previous.owners();
    let mut owned: BTreeMap<String, Vec<(u16, u16)>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for slot in 0..SLOTS {
        let Some(owner) = owner(&claims, slot, before.get(&slot)) else {
            continue;
        };
        if !owned.contains_key(owner) {
            order.push(owner.to_owned());
        }
        let ranges = owned.entry(owner.to_owned()).or_default();
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    let primaries: HashSet<&String> = order.iter().collect();
    let shards = order.iter().filter_map(|key| {
        let mut shard = described(&heard, key)?.clone();
        shard.ranges = owned.remove(key)?;
        shard
            .replicas
            .retain(|replica| !primaries.contains(&replica.key()));
        Some(shard)
    });
    (!heard.is_empty()).then(|| View {
        shards: shards.collect(),
    })
}

fn keys(shard: &ShardView) -> Vec<String> {
    std::iter::once(&shard.primary)
        .chain(&shard.replicas)
        .map(Node::key)
        .collect()
}

/// The answers that count.
fn heard<'a>(answers: &'a [Answer], previous: &View) -> Vec<&'a Answer> {
    let known = previous.nodes();
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

/// Who claims each slot in one answer, with the epoch of the claim. A later range wins over an earlier one of the same
/// answer unless its epoch is lower.
struct Claims(Vec<Option<(u64, String)>>);

impl Claims {
    fn of(answer: &Answer) -> Self {
        let mut slots: Vec<Option<(u64, String)>> = vec![None; usize::from(SLOTS)];
        for shard in &answer.shards {
            let key = shard.primary.key();
            for slot in shard
                .ranges
                .iter()
                .flat_map(|(first, last)| *first..=(*last).min(SLOTS - 1))
            {
                let claim = &mut slots[usize::from(slot)];
                if claim.as_ref().is_none_or(|(epoch, _)| *epoch <= shard.epoch) {
                    *claim = Some((shard.epoch, key.clone()));
                }
            }
        }
        Self(slots)
    }
}

fn owner<'a>(claims: &'a [Claims], slot: u16, before: Option<&String>) -> Option<&'a str> {
    let said = claims
        .iter()
        .filter_map(|claims| claims.0[usize::from(slot)].as_ref());
    let highest = said.clone().map(|(epoch, _)| *epoch).max()?;
    let best: Vec<&String> = said
        .filter(|(epoch, _)| *epoch == highest)
        .map(|(_, key)| key)
        .collect();
    let votes = |key: &String| best.iter().filter(|other| **other == key).count();
    // Of equals the last wins, so the first answer is put last.
    best.iter()
        .rev()
        .max_by_key(|key| (votes(key), before == Some(**key)))
        .map(|key| key.as_str())
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
