//! Nodes that die, and what the others' clients notice of it.

use super::ground::{Ground, at, even};
use super::node::{Fabric, Reach};
use super::redirecting::sides;
use super::world::World;

/// A key of each of the three shards.
pub(crate) fn keys() -> [String; 3] {
    [1, 2, 3].map(|node| {
        (0..200)
            .map(|n| format!("k{n}"))
            .find(|key| sides(key.as_bytes()).0 == at(node))
            .unwrap()
    })
}

#[test]
fn a_late_reply_reaches_nobody_else() {
    let (ground, _cluster) = Ground::three_shards();
    for seed in 0..40 {
        let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
        let [key, ..] = keys();
        world.fabric.node(at(1)).delay = 2_000_000;
        world
            .fabric
            .node(at(1))
            .data
            .insert(key.clone().into(), b"secret".to_vec());
        let (late, other) = (world.connect(), world.connect());
        world.ask(late, &format!("GET {key}"));
        world.calm();
        // In one turn: the time-out, the reply that it was for, and another client's request to that node.
        world.ask(other, "ECHO before");
        world.ask(other, &format!("EXISTS {key}"));
        world.now += 3_000_000;
        for _ in 0..3 {
            world.step(0);
        }
        world.fabric.node(at(1)).delay = 0;
        world.calm();
        world.pass(2_500_000);
        let got = world.got(other);
        assert!(
            got == "$6\r\nbefore\r\n:1\r\n" || got == "$6\r\nbefore\r\n-upstream failure\r\n",
            "seed {seed}: {got}"
        );
    }
}

#[test]
fn a_dead_shard_delays_nobody_else() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [dead, alive, _] = keys();
    let (one, two) = (world.connect(), world.connect());
    world.fabric.node(at(1)).reach = Reach::Blackhole;
    world.ask(one, &format!("GET {dead}"));
    world.ask(one, &format!("GET {alive}"));
    world.ask(two, &format!("GET {alive}"));
    world.calm();
    assert_eq!(world.got(one), "");
    assert_eq!(world.got(two), "$-1\r\n");
    world.pass(600_000);
    assert_eq!(world.got(one), "-upstream failure\r\n$-1\r\n");
    // From now on at once.
    assert_eq!(world.call(one, &format!("GET {dead}")), "-upstream failure\r\n");
    assert_eq!(ground.stat("cluster.c.upstream_cx_connect_timeout"), 1);
}

#[test]
fn a_refused_node_fails_fast_and_recovers() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    let peer = world.connect();
    world.fabric.node(at(1)).reach = Reach::Refuses;
    for _ in 0..50 {
        assert_eq!(world.call(peer, &format!("GET {key}")), "-upstream failure\r\n");
    }
    assert!(world.dialled.len() <= 2, "{}", world.dialled.len());
    world.fabric.node(at(1)).reach = Reach::Up;
    world.pass(1_100_000);
    world.call(peer, &format!("GET {key}"));
    assert_eq!(world.call(peer, &format!("GET {key}")), "$-1\r\n");
}

#[test]
fn a_silent_node_fails_once_by_time_and_then_at_once() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    let peer = world.connect();
    world.call(peer, &format!("GET {key}"));
    world.fabric.node(at(1)).stalled = true;
    // An idle connection that gets busy has the whole time.
    world.pass(5_000_000);
    world.ask(peer, &format!("GET {key}"));
    world.pass(950_000);
    assert_eq!(world.got(peer), "");
    world.pass(150_000);
    assert_eq!(world.got(peer), "-upstream failure\r\n");
    assert_eq!(world.call(peer, &format!("GET {key}")), "-upstream failure\r\n");
    assert_eq!(ground.stat("cluster.c.upstream_rq_timeout"), 1);
    // A probe is under way and goes unanswered: still at once.
    world.pass(1_500_000);
    assert_eq!(world.call(peer, &format!("GET {key}")), "-upstream failure\r\n");
    assert_eq!(world.call(peer, &format!("GET {key}")), "-upstream failure\r\n");
    world.fabric.node(at(1)).stalled = false;
    world.pass(2_500_000);
    world.call(peer, &format!("GET {key}"));
    world.calm();
    assert_eq!(world.call(peer, &format!("GET {key}")), "$-1\r\n");
    world.pass(100_000);
    assert_eq!(ground.stat("cluster.c.upstream_rq_active"), 0);
}

#[test]
fn a_slow_handshake_leaves_the_whole_time_for_the_reply() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    let peer = world.connect();
    world.fabric.node(at(1)).reach = Reach::Blackhole;
    world.ask(peer, &format!("GET {key}"));
    world.pass(400_000);
    world.fabric.node(at(1)).reach = Reach::Up;
    world.fabric.node(at(1)).delay = 800_000;
    world.pass(850_000);
    assert_eq!(world.got(peer), "$-1\r\n");
}

#[test]
fn a_reply_cut_in_the_middle_is_a_failure() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, other, _] = keys();
    let peer = world.connect();
    world.fabric.node(at(1)).script = Some(Box::new(|_| Some(b"$100\r\nhalf".to_vec())));
    world.ask(peer, &format!("GET {key}"));
    world.ask(peer, &format!("GET {other}"));
    world.calm();
    assert_eq!(world.got(peer), "");
    world.cut(at(1));
    world.calm();
    assert_eq!(world.got(peer), "-upstream failure\r\n$-1\r\n");
    world.fabric.node(at(1)).script = Some(Box::new(|_| Some(b"nonsense\r\n".to_vec())));
    assert_eq!(world.call(peer, &format!("GET {key}")), "-upstream failure\r\n");
    world.fabric.node(at(1)).script = Some(Box::new(|_| Some(b"+one\r\n+two\r\n".to_vec())));
    assert_eq!(world.call(peer, &format!("GET {key}")), "+one\r\n");
    world.fabric.node(at(1)).script = None;
    assert_eq!(world.call(peer, &format!("GET {key}")), "$-1\r\n");
}

#[test]
fn a_client_that_leaves_takes_its_replies_along() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    world.fabric.node(at(1)).delay = 5_000;
    world
        .fabric
        .node(at(1))
        .data
        .insert(key.clone().into(), b"mine".to_vec());
    let gone = world.connect();
    for _ in 0..10 {
        world.ask(gone, &format!("GET {key}"));
    }
    world.calm();
    world.break_off(gone);
    world.step(0);
    let next = world.connect();
    world.ask(next, &format!("EXISTS {key}"));
    world.pass(50_000);
    assert_eq!(world.got(next), ":1\r\n");
}

#[test]
fn a_client_that_only_stops_sending_gets_its_replies() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    world.fabric.node(at(1)).delay = 5_000;
    let [key, other, _] = keys();
    let half = world.connect();
    world.ask(half, &format!("GET {key}"));
    world.ask(half, &format!("GET {other}"));
    world.finish(half);
    world.pass(50_000);
    assert_eq!(
        (world.got(half).as_str(), world.peers[half].closed),
        ("$-1\r\n$-1\r\n", true)
    );
    let quits = world.connect();
    world.ask(quits, &format!("GET {key}"));
    world.ask(quits, "QUIT");
    world.ask(quits, &format!("SET {key} never"));
    world.pass(50_000);
    assert_eq!(
        (world.got(quits).as_str(), world.peers[quits].closed),
        ("$-1\r\n+OK\r\n", true)
    );
    assert!(world.fabric.node(at(1)).data.is_empty());
    let errs = world.connect();
    world.ask(errs, &format!("GET {key}"));
    world.send(errs, b"*1\r\nfoo\r\n");
    world.ask(errs, &format!("SET {key} never"));
    world.pass(50_000);
    assert_eq!(
        world.got(errs),
        "$-1\r\n-ERR Protocol error: expected '$', got 'f'\r\n"
    );
    assert!(world.peers[errs].closed && world.fabric.node(at(1)).data.is_empty());
}
