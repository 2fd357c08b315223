//! SCAN over a cluster: every key that stays is found, whatever moves in between.

use std::collections::BTreeSet;

use super::ground::{Ground, at, even, proxy};
use super::node::Fabric;
use super::world::World;

/// One page: the next cursor and its keys.
fn page(world: &mut World, peer: usize, cursor: &str, count: usize) -> (String, Vec<String>) {
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
            cluster.topologies().store(topologies[1].clone());
        }
        if next == "0" {
            break;
        }
        assert!(pages < 100, "no end");
        cursor = next;
    }
    assert_eq!(found.len(), keys.len());
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
    ] {
        world.call(peer, &format!("SCAN {cursor}"));
    }
    for bad in ["x", "-1", "18446744073709551616", ""] {
        assert_eq!(
            world.call(peer, &format!("SCAN {bad}")),
            "-ERR invalid cursor\r\n",
            "{bad}"
        );
    }
}
