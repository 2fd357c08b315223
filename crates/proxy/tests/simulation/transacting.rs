//! MULTI, EXEC and WATCH on the model network.

use std::sync::Arc;

use super::ground::{Ground, at, even, proxy, route, settings};
use super::node::{Fabric, Reach};
use super::world::World;

/// Changes the settings, so that every pool is replaced.
fn push_other_settings(ground: &Ground, cluster: &Arc<redplane_upstream::Cluster>, version: u64) {
    let mut next = proxy("c");
    let mut own = settings();
    own.op_timeout += std::time::Duration::from_millis(version);
    next.settings = Arc::new(own);
    ground.publish(&[cluster], &next);
}

#[test]
fn a_transaction_outlives_the_configuration_it_began_under() {
    let (ground, cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    world.call(peer, "MULTI");
    world.call(peer, "SET k 1");
    push_other_settings(&ground, &cluster, 1);
    assert_eq!(world.call(peer, "INCR k"), "+QUEUED\r\n");
    push_other_settings(&ground, &cluster, 2);
    let reply = world.call(peer, "EXEC");
    assert!(
        reply == "*2\r\n+OK\r\n:2\r\n" || reply.starts_with("-CROSSSLOT"),
        "{reply}"
    );
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
    world.call(peer, "MULTI");
    world.call(peer, "SET k 5");
    push_other_settings(&ground, &cluster, 3);
    world.calm();
    push_other_settings(&ground, &cluster, 4);
    assert_eq!(world.call(peer, "EXEC"), "*1\r\n+OK\r\n");
}

#[test]
fn a_key_without_a_cluster_is_not_sent_to_another_one() {
    let ground = Ground::new();
    let cluster = ground.hashed("c", &[at(1)]);
    let mut proxy = proxy("c");
    proxy.routes.prefixes = vec![redplane_config::redis_proxy::Route {
        prefix: b"gone:".to_vec(),
        ..route("gone")
    }];
    ground.publish(&[&cluster], &proxy);
    let mut world = World::new(&ground, Fabric::plain(&[at(1)]), 1);
    let peer = world.connect();
    world.call(peer, "MULTI");
    world.call(peer, "SET gone:k 1");
    assert_eq!(world.call(peer, "EXEC"), "-no upstream host\r\n");
    assert!(world.fabric.node(at(1)).data.is_empty());
}

#[test]
fn watch_guards() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let (one, two) = (world.connect(), world.connect());
    assert_eq!(world.call(one, "WATCH k"), "+OK\r\n");
    assert_eq!(world.call(one, "GET k"), "$-1\r\n");
    assert_eq!(world.call(two, "SET k 7"), "+OK\r\n");
    world.call(one, "MULTI");
    world.call(one, "SET k 8");
    assert_eq!(world.call(one, "EXEC"), "*-1\r\n");
    assert_eq!(world.call(one, "WATCH k"), "+OK\r\n");
    world.call(one, "MULTI");
    world.call(one, "INCR k");
    assert_eq!(world.call(one, "EXEC"), "*1\r\n:8\r\n");
    // The leased connections are gone, the shared one stays.
    assert_eq!(world.connections(), 1);
    world.call(one, "WATCH k");
    assert_eq!(world.connections(), 2);
    world.break_off(one);
    world.calm();
    assert_eq!(world.connections(), 1);
}

#[test]
fn a_lost_guard_is_a_failed_guard() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    world.call(peer, "WATCH k");
    for node in 1..=3 {
        world.cut(at(node));
    }
    world.calm();
    world.call(peer, "MULTI");
    world.call(peer, "SET k 1");
    assert_eq!(world.call(peer, "EXEC"), "*-1\r\n");
    assert_eq!(world.call(peer, "WATCH k"), "+OK\r\n");
    world.call(peer, "MULTI");
    world.call(peer, "SET k 1");
    assert_eq!(world.call(peer, "EXEC"), "*1\r\n+OK\r\n");
}

#[test]
fn a_watch_that_failed_may_be_tried_again() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    for node in 1..=3 {
        world.fabric.node(at(node)).reach = Reach::Refuses;
    }
    assert_eq!(world.call(peer, "WATCH k"), "-upstream failure\r\n");
    for node in 1..=3 {
        world.fabric.node(at(node)).reach = Reach::Up;
    }
    assert_eq!(world.call(peer, "WATCH k"), "+OK\r\n");
    world.call(peer, "MULTI");
    world.call(peer, "SET k 1");
    // The first one is known to have failed; the client begins again.
    assert_eq!(world.call(peer, "EXEC"), "*-1\r\n");
    assert_eq!(world.call(peer, "WATCH k"), "+OK\r\n");
    world.call(peer, "MULTI");
    world.call(peer, "SET k 1");
    assert_eq!(world.call(peer, "EXEC"), "*1\r\n+OK\r\n");
    assert!(world.connections() <= 2);
}

#[test]
fn the_next_watch_is_not_lost_with_the_last_lease() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let node = redplane_command::slot(b"k") / (16384 / 3);
    let node = at(node as u8 + 1);
    let peer = world.connect();
    world.call(peer, "WATCH k");
    world.fabric.node(node).stalled = true;
    world.ask(peer, "MULTI");
    world.ask(peer, "SET k 1");
    world.ask(peer, "EXEC");
    world.calm();
    world.ask(peer, "WATCH k");
    world.calm();
    // The first lease breaks with its EXEC, the second one stands.
    world.fabric.node(node).stalled = false;
    world.cut_first(node);
    world.calm();
    assert_eq!(world.got(peer), "+OK\r\n+QUEUED\r\n-upstream failure\r\n+OK\r\n");
    world.call(peer, "MULTI");
    world.call(peer, "SET k 2");
    assert_eq!(world.call(peer, "EXEC"), "*1\r\n+OK\r\n");
}

#[test]
fn a_block_follows_its_slot() {
    let (ground, _cluster) = Ground::three_shards();
    let slot = redplane_command::slot(b"k");
    let from = at((slot / (16384 / 3)) as u8 + 1);
    let to = at(if from == at(1) { 2 } else { 1 });
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    world.fabric.hand_over(slot, to);
    world.ask(peer, "MULTI");
    world.ask(peer, "SET k 1");
    world.ask(peer, "INCR k");
    assert!(world.call(peer, "EXEC").ends_with("*2\r\n+OK\r\n:2\r\n"));
    world.fabric.hand_over(slot, from);
    world.fabric.moving.insert(slot, to);
    world.fabric.move_key(from, to, b"k");
    world.ask(peer, "MULTI");
    world.ask(peer, "INCR k");
    assert!(world.call(peer, "EXEC").ends_with("*1\r\n:3\r\n"));
}

#[test]
fn commands_behind_exec_are_routed_anew() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    for words in ["MULTI", "SET a 1", "EXEC", "SET b 2", "SET c 3", "MGET a b c"] {
        world.ask(peer, words);
    }
    world.calm();
    assert!(
        world
            .got(peer)
            .ends_with("*1\r\n+OK\r\n+OK\r\n+OK\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n")
    );
}

#[test]
fn a_guarded_transaction_keeps_its_place_among_pipelined_commands() {
    let (ground, _cluster) = Ground::three_shards();
    for seed in 0..50 {
        let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
        world.chops = seed % 2 == 1;
        let peer = world.connect();
        // The connections' speeds differ from seed to seed.
        for words in [
            "SET k 1", "WATCH k", "MULTI", "INCR k", "EXEC", "SET k 5", "GET k", "INCR k",
        ] {
            world.ask(peer, words);
        }
        world.finish(peer);
        world.calm();
        assert_eq!(
            world.got(peer),
            "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n+OK\r\n$1\r\n5\r\n:6\r\n",
            "seed {seed}"
        );
        assert!(world.peers[peer].closed);
    }
}

#[test]
fn nothing_overtakes_on_two_ways_while_keys_are_watched() {
    let (ground, _cluster) = Ground::three_shards();
    let [key, other, _] = super::failing::keys();
    for seed in 0..60 {
        let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
        let peer = world.connect();
        for words in [
            format!("WATCH {key}"),
            format!("MSET {key} 1 {other} 2"),
            format!("GET {key}"),
        ] {
            world.ask(peer, &words);
        }
        world.calm();
        assert_eq!(world.got(peer), "+OK\r\n+OK\r\n$1\r\n1\r\n", "seed {seed}");
    }
}

/// The map of slots is behind, and stays so: what servers say is followed.
#[test]
fn a_watch_follows_its_slot() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let (peer, other) = (world.connect(), world.connect());
    let slot = redplane_command::slot(b"k");
    let owner = slot / (16384 / 3) + 1;
    let [second, third] = [1, 2].map(|step| at(((owner - 1 + step) % 3 + 1) as u8));
    world.fabric.hand_over(slot, second);
    let transact = |world: &mut World, key: &str| {
        world.call(peer, "MULTI");
        world.call(peer, &format!("SET {key} 1"));
        world.call(peer, "EXEC")
    };
    assert_eq!(world.call(peer, "WATCH k"), "+OK\r\n");
    assert_eq!(transact(&mut world, "k"), "*1\r\n+OK\r\n");
    // It is guarded there.
    assert_eq!(world.call(peer, "WATCH k"), "+OK\r\n");
    world.call(other, "SET k 2");
    assert_eq!(transact(&mut world, "k"), "*-1\r\n");
    // What was guarded where the slot was before is guarded no more.
    assert_eq!(world.call(peer, "WATCH k"), "+OK\r\n");
    world.fabric.hand_over(slot, third);
    assert_eq!(world.call(peer, "WATCH a{k}"), "+OK\r\n");
    assert_eq!(transact(&mut world, "k"), "*-1\r\n");
    assert_eq!(world.call(peer, "WATCH k a{k}"), "+OK\r\n");
    assert_eq!(transact(&mut world, "a{k}"), "*1\r\n+OK\r\n");
    // A key that is not there any more while its slot is on its way.
    world.fabric.moving.insert(slot, second);
    assert_eq!(world.call(peer, "WATCH b{k}"), "+OK\r\n");
    assert_eq!(transact(&mut world, "b{k}"), "*1\r\n+OK\r\n");
    assert_eq!(
        world.fabric.node(second).data.get(&b"b{k}"[..]),
        Some(&b"1".to_vec())
    );
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
    world.calm();
    assert!(world.connections() <= 3, "{}", world.connections());
}
