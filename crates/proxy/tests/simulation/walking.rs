//! SCAN over a cluster: every key that stays is found, whatever moves in between.

use std::collections::{BTreeMap, BTreeSet};

use super::ground::{Ground, at, even, proxy};
use super::node::Fabric;
use super::world::World;

/// One page: the next cursor and its keys.
pub(super) fn page(world: &mut World, peer: usize, cursor: &str, count: usize) -> (String, Vec<String>) {
    let reply = world.call(peer, &format!("SCAN {cursor} COUNT {count}"));
    let (value, _) = redplane_resp::value::decode(reply.as_bytes()).unwrap().unwrap();
    let parts = value.elements().expect("two parts");
    let text =
        |value: &redplane_resp::value::Value| String::from_utf8(value.text().unwrap().to_vec()).unwrap();
    let keys = parts[1].elements().unwrap().iter().map(text).collect();
    (text(&parts[0]), keys)
}

fn filled(world: &mut World) -> BTreeSet<String> {
    let keys: BTreeSet<String> = (0..300).map(|n| format!("key{n}")).collect();
    for key in &keys {
        world
            .fabric
            .owner(key.as_bytes())
            .data
            .insert(key.clone().into(), b"v".to_vec());
    }
    keys
}

#[test]
fn one_cursor_finds_every_key() {
    let (ground, _cluster) = Ground::three_shards();
    for count in [1, 7, 10, 100, 1000] {
        let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
        let keys = filled(&mut world);
        let peer = world.connect();
        let (mut cursor, mut found) = ("0".to_owned(), BTreeSet::new());
        loop {
            let (next, page) = page(&mut world, peer, &cursor, count);
            found.extend(page);
            if next == "0" {
                break;
            }
            cursor = next;
        }
        assert_eq!(found, keys, "COUNT {count}");
    }
}

#[test]
fn cursors_without_room_are_kept() {
    let (ground, _cluster) = Ground::three_shards();
    for shift in [20, 33, 34, 45] {
        let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
        views(&mut world, ["0-5460", "5461-10921", "10922-16383"]);
        let keys = filled(&mut world);
        (1..=3).for_each(|node| world.fabric.node(at(node)).cursor_shift = shift);
        // Another client scans in between, and a page may be asked for twice.
        let other = world.connect();
        let found = walk(&mut world, |world, _| {
            let (first, _) = page(world, other, "0", 10);
            let again = page(world, other, &first, 10);
            assert_eq!(page(world, other, &first, 10).1, again.1);
        });
        assert_eq!(found.len(), keys.len(), "{shift} bits more");
        assert!(found.values().all(|times| *times == 1));
    }
}

#[test]
fn a_shard_that_grows_downwards_is_not_skipped() {
    let ground = Ground::new();
    let mut wider = even(3);
    // The second shard takes a slot of the first one over: its lowest slot is a lower one now.
    wider[0].1 -= 1;
    wider[1].0 -= 1;
    let (cluster, topologies) = ground.slots("c", &[even(3), wider]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let keys = filled(&mut world);
    let on_second = world.fabric.node(at(2)).data.len();
    let peer = world.connect();
    let (mut cursor, mut found, mut pages) = ("0".to_owned(), BTreeSet::new(), 0);
    loop {
        let (next, page) = page(&mut world, peer, &cursor, 20);
        found.extend(page);
        pages += 1;
        let second = found.iter().filter(|key| {
            let data = &world.fabric.nodes[&at(2)].data;
            data.contains_key(key.as_bytes())
        });
        if (1..on_second).contains(&second.count()) {
            cluster.republish(topologies[1].clone());
        }
        if next == "0" {
            break;
        }
        assert!(pages < 100, "no end");
        cursor = next;
    }
    assert_eq!(found.len(), keys.len());
}

/// Walks with small pages; `between` may change the world after each. Says how often each key was given.
pub(super) fn walk(
    world: &mut World,
    mut between: impl FnMut(&mut World, &BTreeMap<String, usize>),
) -> BTreeMap<String, usize> {
    let peer = world.connect();
    let (mut cursor, mut found, mut pages) = ("0".to_owned(), BTreeMap::new(), 0);
    loop {
        let (next, keys) = page(world, peer, &cursor, 20);
        keys.into_iter()
            .for_each(|key| *found.entry(key).or_default() += 1);
        if next == "0" {
            return found;
        }
        pages += 1;
        assert!(pages < 200, "no end");
        between(world, &found);
        cursor = next;
    }
}

/// What CLUSTER NODES says on each node.
fn views(world: &mut World, views: [&str; 3]) {
    for (node, slots) in (1..).zip(views) {
        let line = format!("id {}@1 myself,master - 0 0 1 connected {slots}\n", at(node));
        world.fabric.node(at(node)).script = Some(Box::new(move |words| {
            let mut reply = Vec::new();
            redplane_resp::encode::bulk(&mut reply, line.as_bytes());
            (words[0] == b"cluster").then_some(reply)
        }));
    }
}

/// Whether all keys of a node were found.
fn all_of(world: &World, node: u8, found: &BTreeMap<String, usize>) -> bool {
    let data = &world.fabric.nodes[&at(node)].data;
    data.keys()
        .all(|key| found.contains_key(std::str::from_utf8(key).unwrap()))
}

#[test]
fn a_quiet_cluster_gives_each_key_once() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    views(&mut world, ["0-5460", "5461-10921", "10922-16382 16383"]);
    let keys = filled(&mut world);
    let found = walk(&mut world, |_, _| {});
    assert_eq!(found.len(), keys.len());
    assert!(found.values().all(|times| *times == 1));
}

#[test]
fn keys_that_go_back_to_a_shard_that_was_asked_are_found_there() {
    let ground = Ground::new();
    let mut back = even(3);
    back[2].1 = 13_999;
    back.push((14_000, 16_383, at(1), Vec::new()));
    let (cluster, topologies) = ground.slots("c", &[even(3), back]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let keys = filled(&mut world);
    let mut done = false;
    let found = walk(&mut world, |world, found| {
        if !done && all_of(world, 1, found) {
            done = true;
            (14_000..=16_383).for_each(|slot| world.fabric.hand_over(slot, at(1)));
            cluster.republish(topologies[1].clone());
        }
    });
    assert!(done);
    assert_eq!(found.into_keys().collect::<BTreeSet<_>>(), keys);
}

#[test]
fn keys_of_a_slot_on_its_way_are_looked_for_once_more() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    views(
        &mut world,
        ["0-5460 [16000-<-c]", "5461-10921", "10922-16383 [16000->-a]"],
    );
    let keys = filled(&mut world);
    let mut done = false;
    let found = walk(&mut world, |world, found| {
        if !done && all_of(world, 1, found) {
            done = true;
            // As in the midst of a migration: the keys have gone, and nobody was told.
            let leaving: Vec<Vec<u8>> = world.fabric.node(at(3)).data.keys().take(30).cloned().collect();
            leaving
                .iter()
                .for_each(|key| world.fabric.move_key(at(3), at(1), key));
        }
    });
    assert!(done);
    assert_eq!(found.into_keys().collect::<BTreeSet<_>>(), keys);
}

#[test]
fn a_shard_with_a_new_primary_is_walked_again() {
    let ground = Ground::new();
    let mut after = even(3);
    after[1].2 = at(9);
    let (cluster, topologies) = ground.slots("c", &[even(3), after.clone()]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let keys = filled(&mut world);
    let mut done = false;
    let found = walk(&mut world, |world, found| {
        let second = world.fabric.nodes[&at(2)].data.clone();
        let begun = second
            .keys()
            .any(|key| found.contains_key(std::str::from_utf8(key).unwrap()));
        if !done && begun {
            done = true;
            // Its order is another one: what stood at the front stands at the end.
            world.fabric.node(at(9)).data = second;
            world.fabric.node(at(9)).reversed = true;
            (5461..=10_921).for_each(|slot| world.fabric.owners[slot] = at(9));
            world.fabric.node(at(2)).data.clear();
            cluster.republish(topologies[1].clone());
        }
    });
    assert!(done);
    assert_eq!(found.into_keys().collect::<BTreeSet<_>>(), keys);
}

#[test]
fn cursors_that_no_server_gave_are_harmless() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    filled(&mut world);
    let peer = world.connect();
    for cursor in [
        "18446744073709551615",
        "17592186044416",
        "1",
        "9223372036854775808",
        // A place that was never kept: its cluster begins again.
        "1152921504606846977",
    ] {
        let (_, keys) = page(&mut world, peer, cursor, 10);
        assert!(!keys.is_empty() || cursor != "1152921504606846977");
    }
    for bad in ["x", "-1", "18446744073709551616", ""] {
        assert_eq!(
            world.call(peer, &format!("SCAN {bad}")),
            "-ERR invalid cursor\r\n",
            "{bad}"
        );
    }
}
