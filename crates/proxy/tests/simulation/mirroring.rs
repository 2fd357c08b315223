//! Mirrors on the model network: copies that the client never waits for.

use redplane_config::redis_proxy::Mirror;

use super::ground::{Ground, at, even, proxy};
use super::node::{Fabric, Reach};
use super::world::World;

fn mirrored(writes_only: bool) -> (Ground, World) {
    let ground = Ground::new();
    let (cluster, _) = ground.slots("c", &[even(3)]);
    let mirror = ground.hashed("m", &[at(9)]);
    let mut filter = proxy("c");
    if let Some(route) = &mut filter.routes.catch_all {
        route.mirrors = vec![Mirror {
            cluster: "m".into(),
            parts_per_million: 1_000_000,
            exclude_read_commands: writes_only,
        }];
    }
    ground.publish(&[&cluster, &mirror], &filter);
    let mut fabric = Fabric::new(&even(3));
    fabric.node(at(9)).log = Some(Vec::new());
    // The mirror is no cluster node.
    fabric.node(at(9)).script = Some(Box::new(|_| Some(b"+COPY\r\n".to_vec())));
    let world = World::new(&ground, fabric, 1);
    (ground, world)
}

fn copies(world: &mut World) -> Vec<String> {
    let log = world.fabric.node(at(9)).log.as_mut().map(std::mem::take);
    let words = |words: Vec<Vec<u8>>| String::from_utf8(words.join(&b' ')).unwrap();
    log.unwrap_or_default().into_iter().map(words).collect()
}

#[test]
fn writes_or_everything_is_copied() {
    let (_ground, mut world) = mirrored(true);
    let peer = world.connect();
    world.call(peer, "SET k 1");
    world.call(peer, "GET k");
    world.ask(peer, "MULTI");
    world.ask(peer, "INCR k");
    assert_eq!(world.call(peer, "EXEC"), "+OK\r\n+QUEUED\r\n*1\r\n:2\r\n");
    assert_eq!(copies(&mut world), ["set k 1", "multi", "incr k", "exec"]);
    let (_ground, mut world) = mirrored(false);
    let peer = world.connect();
    assert_eq!(world.call(peer, "GET k"), "$-1\r\n");
    assert_eq!(copies(&mut world), ["get k"]);
}

#[test]
fn a_dead_mirror_costs_nothing_and_is_counted() {
    let (ground, mut world) = mirrored(true);
    let peer = world.connect();
    world.fabric.node(at(9)).reach = Reach::Blackhole;
    let before = world.now;
    for _ in 0..20 {
        assert_eq!(world.call(peer, "SET k 1"), "+OK\r\n");
    }
    assert!(world.now - before < 100_000);
    world.pass(1_000_000);
    world.fabric.node(at(9)).reach = Reach::Refuses;
    for _ in 0..20 {
        assert_eq!(world.call(peer, "SET k 1"), "+OK\r\n");
    }
    assert!(ground.stat("cluster.m.upstream_rq_pending_overflow") >= 19);
    assert_eq!(ground.stat("cluster.m.upstream_rq_active"), 0);
}

#[test]
fn a_full_mirror_drops_copies_and_slows_nobody() {
    let (ground, mut world) = mirrored(true);
    let peer = world.connect();
    world.call(peer, "SET k 1");
    world.fabric.node(at(9)).stalled = true;
    let value = "x".repeat(30_000);
    for _ in 0..400 {
        assert_eq!(world.call(peer, &format!("SET k {value}")), "+OK\r\n");
    }
    let lost = ground.stat("cluster.m.upstream_rq_pending_overflow");
    assert!(lost > 100, "{lost}");
    world.fabric.node(at(9)).stalled = false;
    world.calm();
    copies(&mut world);
    assert_eq!(world.call(peer, "SET k 2"), "+OK\r\n");
    assert_eq!(copies(&mut world), ["set k 2"]);
    assert_eq!(ground.stat("cluster.m.upstream_rq_active"), 0);
}
