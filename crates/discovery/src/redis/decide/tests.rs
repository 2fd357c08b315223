//! Agreement and disagreement: rows of answers and what comes of them.

use redplane_config::endpoint::Health;

use super::*;
use crate::node::NodeAddress;

fn node(id: &str) -> Node {
    let address = NodeAddress::Ip("10.0.0.1".parse().unwrap());
    Node {
        id: id.into(),
        address,
        port: 6379,
        hostname: String::new(),
        health: Health::Healthy,
    }
}

fn shard(primary: &str, replicas: &[&str], ranges: &[(u16, u16)], epoch: u64) -> ShardView {
    let replicas = replicas.iter().map(|id| node(id)).collect();
    ShardView {
        primary: node(primary),
        replicas,
        ranges: ranges.to_vec(),
        epoch,
    }
}

fn answer(shards: Vec<ShardView>) -> Answer {
    Answer { shards, quorum: true }
}

/// `primary:first-last,first-last` of each shard.
fn show(view: &View) -> Vec<String> {
    let ranges = |shard: &ShardView| {
        let ranges: Vec<String> = shard
            .ranges
            .iter()
            .map(|(first, last)| format!("{first}-{last}"))
            .collect();
        ranges.join(",")
    };
    view.shards
        .iter()
        .map(|shard| format!("{}:{}", shard.primary.id, ranges(shard)))
        .collect()
}

fn decided(answers: &[Answer]) -> Vec<String> {
    show(&decide(answers, &View::default()).unwrap())
}

#[test]
fn nothing_comes_of_nothing() {
    assert_eq!(decide(&[], &View::default()), None);
}

#[test]
fn one_answer_is_taken_as_it_is_in_slot_order() {
    let only = answer(vec![
        shard("b", &[], &[(100, 199)], 0),
        shard("a", &["c"], &[(0, 49), (60, 99)], 0),
    ]);
    assert_eq!(decided(&[only]), ["a:0-49,60-99", "b:100-199"]);
}

#[test]
fn a_later_range_of_one_answer_wins_unless_its_epoch_is_lower() {
    let without = answer(vec![
        shard("a", &[], &[(0, 99)], 0),
        shard("b", &[], &[(50, 149)], 0),
    ]);
    assert_eq!(decided(&[without]), ["a:0-49", "b:50-149"]);
    let with = answer(vec![
        shard("a", &[], &[(0, 99)], 9),
        shard("b", &[], &[(50, 149)], 3),
    ]);
    assert_eq!(decided(&[with]), ["a:0-99", "b:100-149"]);
}

#[test]
fn the_higher_epoch_wins_over_the_majority() {
    let stale = answer(vec![
        shard("a", &["b"], &[(0, 99)], 5),
        shard("c", &[], &[(100, 199)], 3),
    ]);
    let fresh = answer(vec![
        shard("b", &["a"], &[(0, 99)], 8),
        shard("c", &[], &[(100, 199)], 3),
    ]);
    let view = decide(&[stale.clone(), fresh.clone(), stale.clone()], &View::default()).unwrap();
    assert_eq!(show(&view), ["b:0-99", "c:100-199"]);
    assert_eq!(view.shards[0].replicas[0].id, "a");
    assert_eq!(decided(&[fresh, stale]), ["b:0-99", "c:100-199"]);
}

#[test]
fn a_migrated_slot_follows_the_epoch_of_its_new_owner() {
    let old = answer(vec![
        shard("a", &[], &[(0, 99)], 5),
        shard("b", &[], &[(100, 199)], 3),
    ]);
    let new = answer(vec![
        shard("a", &[], &[(0, 49), (51, 99)], 5),
        shard("b", &[], &[(50, 50), (100, 199)], 6),
    ]);
    assert_eq!(
        decided(&[old.clone(), new.clone()]),
        ["a:0-49,51-99", "b:50-50,100-199"]
    );
    assert_eq!(decided(&[new, old]), ["a:0-49,51-99", "b:50-50,100-199"]);
}

#[test]
fn without_epochs_most_voices_win_and_a_draw_keeps_what_was() {
    let one = answer(vec![shard("a", &["b"], &[(0, 99)], 0)]);
    let other = answer(vec![shard("b", &["a"], &[(0, 99)], 0)]);
    assert_eq!(decided(&[one.clone(), other.clone(), other.clone()]), ["b:0-99"]);
    let previous = decide(std::slice::from_ref(&other), &View::default()).unwrap();
    assert_eq!(
        show(&decide(&[one.clone(), other.clone()], &previous).unwrap()),
        ["b:0-99"]
    );
    assert_eq!(decided(&[one, other]), ["a:0-99"]);
}

#[test]
fn a_minority_partition_is_not_heard() {
    let lost = Answer {
        quorum: false,
        ..answer(vec![shard("a", &["b"], &[(0, 99)], 50)])
    };
    let good = answer(vec![shard("b", &["a"], &[(0, 99)], 8)]);
    assert_eq!(decided(&[lost.clone(), good]), ["b:0-99"]);
    assert_eq!(decided(&[lost]), ["a:0-99"], "better than nothing");
}

#[test]
fn another_cluster_at_a_known_address_is_not_believed() {
    let ours = answer(vec![shard("a", &[], &[(0, 99)], 1)]);
    let theirs = answer(vec![shard("x", &["y"], &[(0, 16383)], 90)]);
    let previous = decide(std::slice::from_ref(&ours), &View::default()).unwrap();
    assert_eq!(
        show(&decide(&[theirs.clone(), theirs.clone(), ours.clone()], &previous).unwrap()),
        ["a:0-99"]
    );
    assert_eq!(
        show(&decide(std::slice::from_ref(&theirs), &previous).unwrap()),
        ["x:0-16383"],
        "all of ours are gone"
    );
    assert_eq!(decided(&[ours, theirs.clone(), theirs]), ["x:0-16383"]);
}

#[test]
fn a_primary_is_nobodys_replica() {
    let stale = answer(vec![
        shard("a", &["b"], &[(0, 99)], 5),
        shard("c", &[], &[(100, 150)], 2),
    ]);
    let fresh = answer(vec![
        shard("a", &[], &[(0, 49)], 5),
        shard("b", &["c"], &[(50, 99)], 7),
        shard("c", &[], &[(100, 150)], 2),
    ]);
    let view = decide(&[stale, fresh], &View::default()).unwrap();
    assert_eq!(show(&view), ["a:0-49", "b:50-99", "c:100-150"]);
    assert!(view.shards.iter().all(|shard| shard.replicas.is_empty()));
}
