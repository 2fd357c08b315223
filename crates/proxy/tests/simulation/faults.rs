//! Delay and error faults on the model network.

use std::time::Duration;

use redplane_config::redis_proxy::{Fault, FaultKind};

use super::ground::{Ground, even, proxy};
use super::node::Fabric;
use super::world::World;

fn with(kind: FaultKind, delay: Duration, commands: &[&str]) -> (Ground, World) {
    let ground = Ground::new();
    let (cluster, _) = ground.slots("c", &[even(3)]);
    let mut faulty = proxy("c");
    faulty.faults = vec![Fault {
        kind,
        parts_per_million: 1_000_000,
        delay,
        commands: commands.iter().map(|name| (*name).to_owned()).collect(),
    }];
    ground.publish(&[&cluster], &faulty);
    let world = World::new(&ground, Fabric::new(&even(3)), 1);
    (ground, world)
}

#[test]
fn errors_take_the_place_of_replies() {
    let (ground, mut world) = with(FaultKind::Error, Duration::ZERO, &["get"]);
    let peer = world.connect();
    assert_eq!(world.call(peer, "SET k 1"), "+OK\r\n");
    assert_eq!(world.call(peer, "GET k"), "-Fault Injected: Error\r\n");
    assert_eq!(ground.stat("redis.p.command.get.error_fault"), 1);
}

#[test]
fn late_errors_come_late() {
    let (_ground, mut world) = with(FaultKind::Error, Duration::from_millis(200), &["get"]);
    let peer = world.connect();
    world.ask(peer, "GET k");
    world.ask(peer, "SET k 1");
    world.pass(150_000);
    assert_eq!(world.got(peer), "");
    world.pass(150_000);
    assert_eq!(world.got(peer), "-Fault Injected: Error\r\n+OK\r\n");
}

#[test]
fn delays_hold_whole_replies() {
    let (ground, mut world) = with(
        FaultKind::Delay,
        Duration::from_millis(200),
        &["mget", "get", "scan"],
    );
    let peer = world.connect();
    world.call(peer, "MSET a 1 b 2 c 3 d 4");
    world.ask(peer, "MGET a b c d");
    world.ask(peer, "GET a");
    world.ask(peer, "PING");
    world.pass(150_000);
    assert_eq!(world.got(peer), "");
    world.pass(150_000);
    assert_eq!(
        world.got(peer),
        "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n1\r\n+PONG\r\n"
    );
    world.ask(peer, "SCAN 0 COUNT 100");
    world.pass(300_000);
    assert!(world.got(peer).starts_with("*2\r\n$1\r\n0\r\n*4\r\n"));
    assert_eq!(ground.stat("redis.p.command.mget.delay_fault"), 1);
    assert_eq!(ground.stat("redis.p.command.mget.success"), 1);
    assert_eq!(ground.stat("redis.p.command.get.success"), 1);
    assert_eq!(ground.stat("redis.p.downstream_rq_active"), 0);
}

#[test]
fn a_held_reply_of_a_client_that_left_reaches_nobody() {
    let (_ground, mut world) = with(FaultKind::Delay, Duration::from_millis(200), &["get"]);
    let gone = world.connect();
    world.ask(gone, "GET k");
    world.pass(50_000);
    world.break_off(gone);
    world.calm();
    let next = world.connect();
    world.ask(next, "GET k");
    world.pass(170_000);
    assert_eq!(world.got(next), "");
    world.pass(100_000);
    assert_eq!(world.got(next), "$-1\r\n");
}

#[test]
fn what_is_answered_at_once_is_not_remembered_as_late() {
    let (_ground, mut world) = with(FaultKind::Delay, Duration::from_millis(200), &[]);
    let peer = world.connect();
    let (one, two) = (
        "RENAME a b",
        "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    );
    for _ in 0..3 {
        assert_eq!(world.call(peer, one), two);
    }
    world.ask(peer, "SET k 1");
    world.pass(300_000);
    assert_eq!(world.got(peer), "+OK\r\n");
}
