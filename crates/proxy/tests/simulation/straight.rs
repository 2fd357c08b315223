//! The straight way and the long one: what clients and statistics see of a request does not depend on which it took.

use std::time::Duration;

use redplane_config::redis_proxy::{Fault, FaultKind};

use super::ground::{Ground, even, proxy};
use super::node::Fabric;
use super::world::World;

/// Without `upstream_rq_total`, to which discovery adds its own requests when it likes.
const STATISTICS: [&str; 13] = [
    "redis.p.downstream_rq_total",
    "redis.p.downstream_rq_active",
    "redis.p.downstream_cx_rx_bytes_total",
    "redis.p.downstream_cx_tx_bytes_total",
    "redis.p.command.get.total",
    "redis.p.command.get.success",
    "redis.p.command.set.total",
    "redis.p.command.set.success",
    "redis.p.command.incr.total",
    "redis.p.command.incr.success",
    "redis.p.command.incr.error",
    "cluster.c.upstream_rq_active",
    "cluster.c.upstream_cx_tx_bytes_total",
];

/// Three shards. A fault that never comes makes every request take the long way.
fn world(long: bool) -> (Ground, World) {
    let ground = Ground::new();
    let (cluster, _) = ground.slots("c", &[even(3)]);
    let mut filter = proxy("c");
    if long {
        filter.faults = vec![Fault {
            kind: FaultKind::Error,
            parts_per_million: 0,
            delay: Duration::ZERO,
            commands: Vec::new(),
        }];
    }
    ground.publish(&[&cluster], &filter);
    let world = World::new(&ground, Fabric::new(&even(3)), 7);
    (ground, world)
}

/// What a client sends at once: mostly plain, with what makes a client special among it.
fn pipeline(random: &mut fastrand::Rng) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..random.usize(1..12) {
        let key = format!(
            "{}k{}",
            ["", "{tag}", "long:prefix:"][random.usize(..3)],
            random.u32(..20)
        );
        match random.u32(..12) {
            0..4 => words.push(format!("GET {key}")),
            4..7 => words.push(format!("SET {key} v{}", random.u32(..))),
            7 => words.push(format!("INCR {key}")),
            8 => words.push(format!("MGET {key} other {key}2")),
            9 => words.push("PING".to_owned()),
            10 => words.extend(["CLIENT REPLY SKIP".to_owned(), format!("GET {key}")]),
            _ => words.extend(["MULTI", "GET a", "EXEC"].map(str::to_owned)),
        }
    }
    words
}

fn play(long: bool, seed: u64) -> (Vec<String>, Vec<u64>) {
    let (ground, mut world) = world(long);
    let mut random = fastrand::Rng::with_seed(seed);
    let clients = [world.connect(), world.connect(), world.connect()];
    let mut heard = Vec::new();
    for _ in 0..40 {
        for client in clients {
            pipeline(&mut random)
                .iter()
                .for_each(|words| world.ask(client, words));
            // One after the other: which of them writes first is not what this is about.
            world.calm();
            heard.push(world.got(client));
        }
    }
    let counted = STATISTICS.iter().map(|name| ground.stat(name)).collect();
    (heard, counted)
}

#[test]
fn both_roads_lead_to_the_same() {
    for seed in 0..5 {
        let (straight, long) = (play(false, seed), play(true, seed));
        assert_eq!(straight.0, long.0, "seed {seed}");
        assert_eq!(straight.1, long.1, "seed {seed}: {STATISTICS:?}");
        assert!(straight.1[4] > 0 && straight.1[10] + straight.1[9] > 0);
    }
}
