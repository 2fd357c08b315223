//! Gauges: what is counted up is counted down, whatever happens in between.

use std::sync::Arc;

use super::ground::{Ground, at, even, proxy, settings};
use super::node::Fabric;
use super::world::World;

const DOWN: &str = "redis.p.downstream_rq_active";
const UP: &str = "cluster.c.upstream_rq_active";

fn other_settings(version: u64) -> redplane_config::redis_proxy::RedisProxy {
    let mut next = proxy("c");
    let mut own = settings();
    own.op_timeout += std::time::Duration::from_millis(version);
    next.settings = Arc::new(own);
    next
}

#[test]
fn a_leaving_client_takes_only_what_it_waits_for() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    world.fabric.node(at(1)).stalled = true;
    let (stays, leaves) = (world.connect(), world.connect());
    let dead = super::failing::keys()[0].clone();
    world.ask(stays, &format!("GET {dead}"));
    world.ask(leaves, &format!("GET {dead}"));
    for _ in 0..5 {
        // Answered, but not yet sent.
        world.ask(leaves, "PING");
        world.ask(leaves, &format!("GET {}", super::failing::keys()[1]));
    }
    world.calm();
    assert_eq!(ground.stat(DOWN), 2);
    world.break_off(leaves);
    assert_eq!(ground.stat(DOWN), 1);
    world.fabric.node(at(1)).stalled = false;
    world.calm();
    assert_eq!((ground.stat(DOWN), ground.stat(UP)), (0, 0));
}

#[test]
fn a_push_keeps_the_count_of_what_is_in_flight() {
    let (ground, _) = Ground::three_shards();
    let cluster = ground.store.load_full().clusters.get("c").unwrap().clone();
    let (again, _) = ground.slots("c", &[even(3)]);
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let key = super::failing::keys()[0].clone();
    let (one, two) = (world.connect(), world.connect());
    world.fabric.node(at(1)).stalled = true;
    world.ask(one, &format!("GET {key}"));
    world.calm();
    assert_eq!((ground.stat(DOWN), ground.stat(UP)), (1, 1));
    // Other settings: another pool.
    ground.publish(&[&cluster], &other_settings(1));
    world.calm();
    world.step(1);
    assert_eq!(ground.stat(DOWN), 1);
    // Another cluster of the same name.
    ground.publish(&[&again], &other_settings(1));
    world.ask(two, &format!("GET {key}"));
    world.calm();
    assert_eq!((ground.stat(DOWN), ground.stat(UP)), (2, 1));
    assert_eq!(ground.stat("redis.p.downstream_cx_active"), 2);
    world.fabric.node(at(1)).stalled = false;
    world.calm();
    assert_eq!(
        (world.got(one), world.got(two)),
        ("$-1\r\n".into(), "$-1\r\n".into())
    );
    assert_eq!((ground.stat(DOWN), ground.stat(UP)), (0, 0));
    world.fabric.node(at(1)).stalled = true;
    world.ask(one, &format!("GET {key}"));
    world.ask(two, &format!("GET {key}"));
    world.calm();
    assert_eq!(
        (ground.stat(DOWN), ground.stat(UP)),
        (2, 2),
        "a gauge had gone below zero"
    );
    assert_eq!(ground.stat("cluster.c.upstream_cx_active"), 1);
}

#[test]
fn requests_are_counted_by_their_outcome() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    for words in ["SET k 1", "GET k", "MGET a b c d", "PING", "NOSUCH x", "GET"] {
        world.call(peer, words);
    }
    assert_eq!(ground.stat("redis.p.command.get.success"), 1);
    assert_eq!(ground.stat("redis.p.command.mget.success"), 1);
    assert_eq!(ground.stat("redis.p.command.set.total"), 1);
    assert_eq!(ground.stat("redis.p.splitter.unsupported_command"), 1);
    assert_eq!(ground.stat("redis.p.splitter.invalid_request"), 1);
    assert_eq!(ground.stat("redis.p.downstream_rq_total"), 6);
}
