//! Many clients with random commands against a network that is calm, that moves its slots, or that breaks.

use redplane_upstream::Cluster;
use std::sync::Arc;

use super::actor::{Actor, Temper};
use super::ground::{Ground, at, even, proxy};
use super::node::{Fabric, Reach};
use super::world::World;

/// Says which seed failed.
struct Seed(&'static str, u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: seed {}", self.0, self.1);
        }
    }
}

/// Seeds to run: one from the environment, or the first ones.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("REDPLANE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

const CALM: Temper = Temper {
    commands: 150,
    pipeline: 40,
    patient: false,
    careful: false,
    large: true,
};

fn run(world: &mut World, actors: &mut [Actor], mut disturb: impl FnMut(&mut World)) {
    for _ in 0..60_000 {
        if actors.iter().all(Actor::is_done) {
            return;
        }
        for actor in &mut *actors {
            actor.go(world);
        }
        disturb(world);
        let micros = world.random.u64(1..300);
        world.step(micros);
    }
    panic!("somebody waits for ever");
}

/// Nothing is left over once all clients are gone.
fn leaves_nothing(ground: &Ground, world: &mut World, cluster: &Cluster) {
    world.chops = false;
    world.pass(20_000);
    assert_eq!(ground.stat("redis.p.downstream_rq_active"), 0);
    for peer in 0..world.peers.len() {
        world.break_off(peer);
    }
    world.calm();
    world.pass(3_000_000);
    world.sleep(60_000_000);
    assert_eq!(ground.stat("redis.p.downstream_cx_active"), 0);
    assert_eq!(
        ground.stat(&format!("cluster.{}.upstream_rq_active", cluster.name())),
        0
    );
    for host in &cluster.topology().hosts {
        assert_eq!(
            host.stats.rq_active.load(std::sync::atomic::Ordering::Relaxed),
            0,
            "{}",
            host.address
        );
    }
    assert_eq!(world.connections(), 0, "connections without a user");
}

fn actors(world: &mut World, count: usize, temper: Temper, seed: u64) -> Vec<Actor> {
    (0..count)
        .map(|name| Actor::new(world, name, temper, seed))
        .collect()
}

#[test]
fn a_calm_cluster_is_one_redis() {
    let (ground, cluster) = Ground::three_shards();
    for seed in seeds(8) {
        let _seed = Seed("calm", seed);
        let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
        world.chops = seed % 4 != 0;
        for node in 1..=3 {
            world.fabric.node(at(node)).delay = world.random.u64(..2_000);
        }
        let mut actors = actors(&mut world, 6, CALM, seed);
        run(&mut world, &mut actors, |_| {});
        leaves_nothing(&ground, &mut world, &cluster);
    }
}

#[test]
fn hosts_by_hash_are_one_redis_for_each_key() {
    let ground = Ground::new();
    let hosts = [at(1), at(2), at(3), at(4)];
    let cluster = ground.hashed("c", &hosts);
    ground.publish(&[&cluster], &proxy("c"));
    for seed in seeds(5) {
        let _seed = Seed("hashed", seed);
        let mut world = World::new(&ground, Fabric::plain(&hosts), seed);
        world.chops = true;
        let mut actors = actors(&mut world, 5, CALM, seed);
        run(&mut world, &mut actors, |_| {});
        leaves_nothing(&ground, &mut world, &cluster);
    }
}

#[test]
fn slots_that_move_lose_nothing() {
    let (ground, cluster) = Ground::three_shards();
    let temper = Temper {
        careful: true,
        ..CALM
    };
    for seed in seeds(6) {
        let _seed = Seed("moving", seed);
        let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
        world.chops = seed % 3 != 0;
        // A node that the topology does not know takes part.
        world.fabric.node(at(4));
        let mut actors = actors(&mut world, 5, temper, seed);
        run(&mut world, &mut actors, migrate);
        leaves_nothing(&ground, &mut world, &cluster);
    }
}

/// Begins, goes on with, or ends the migration of a slot in use.
fn migrate(world: &mut World) {
    if world.random.u8(..20) != 0 {
        return;
    }
    let to = at(world.random.u8(1..=4));
    let keys: Vec<(std::net::SocketAddr, Vec<u8>)> = world
        .fabric
        .nodes
        .iter()
        .flat_map(|(node, state)| state.data.keys().map(|key| (*node, key.clone())))
        .collect();
    let Some((from, key)) = world.random.choice(&keys).cloned() else {
        return;
    };
    let slot = redplane_command::slot(&key);
    match world.fabric.moving.get(&slot).copied() {
        None if world.fabric.owners[usize::from(slot)] != to => {
            world.fabric.moving.insert(slot, to);
        }
        None => {}
        Some(to) if world.random.bool() => world.fabric.hand_over(slot, to),
        Some(to) => world.fabric.move_key(from, to, &key),
    }
}

fn disturbed(name: &'static str, count: u64, disturb: impl Fn(&mut World)) {
    let (ground, cluster) = Ground::three_shards();
    let temper = Temper {
        patient: true,
        ..CALM
    };
    for seed in seeds(count) {
        let _seed = Seed(name, seed);
        let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
        world.chops = seed % 3 != 0;
        let mut actors = actors(&mut world, 5, temper, seed);
        run(&mut world, &mut actors, &disturb);
        for node in 1..=3 {
            world.fabric.node(at(node)).reach = Reach::Up;
        }
        // After all is well again every key can be served.
        world.pass(3_000_000);
        let peer = world.connect();
        for probe in 0..30 {
            world.call(peer, &format!("GET probe{probe}"));
        }
        world.pass(200_000);
        for probe in 0..30 {
            assert_eq!(world.call(peer, &format!("GET probe{probe}")), "$-1\r\n");
        }
        leaves_nothing(&ground, &mut world, &cluster);
    }
}

#[test]
fn broken_connections_lose_only_what_was_on_them() {
    disturbed("breaking", 6, |world| {
        if world.random.u8(..60) == 0 {
            let node = at(world.random.u8(1..=3));
            world.cut(node);
        }
    });
}

#[test]
fn nodes_that_die_fail_their_keys_and_come_back() {
    disturbed("dying", 4, |world| {
        if world.random.u8(..100) == 0 {
            let node = at(world.random.u8(1..=3));
            let reach = *world
                .random
                .choice(&[Reach::Up, Reach::Up, Reach::Refuses, Reach::Blackhole])
                .unwrap();
            world.fabric.node(node).reach = reach;
            if reach == Reach::Up {
                // What a dead node had in its ears it does not hear later.
                world.cut(node);
            }
        }
        if world.random.u8(..4) == 0 {
            world.now += 20_000;
        }
    });
}

#[test]
fn clients_come_and_go_and_nobody_gets_anothers_reply() {
    let (ground, cluster) = Ground::three_shards();
    for seed in seeds(6) {
        let _seed = Seed("leaving", seed);
        let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
        world.chops = true;
        for node in 1..=3 {
            world.fabric.node(at(node)).delay = 1_500;
        }
        let mut actors = actors(&mut world, 4, CALM, seed);
        let mut visitors: Vec<usize> = Vec::new();
        run(&mut world, &mut actors, |world| match world.random.u8(..6) {
            0 => {
                let visitor = world.connect();
                world.ask(visitor, "MSET foreign1 x foreign2 y foreign3 z");
                world.ask(visitor, "GET foreign1");
                world.ask(visitor, "MULTI");
                world.ask(visitor, "WATCH foreign1");
                if world.random.bool() {
                    world.finish(visitor);
                }
                visitors.push(visitor);
            }
            1 if !visitors.is_empty() => {
                let visitor = visitors.swap_remove(world.random.usize(..visitors.len()));
                world.break_off(visitor);
            }
            _ => {}
        });
        leaves_nothing(&ground, &mut world, &cluster);
    }
}

#[test]
fn configuration_may_change_at_any_time() {
    let ground = Ground::new();
    let (cluster, _): (Arc<Cluster>, _) = ground.slots("c", &[even(3)]);
    for seed in seeds(5) {
        let _seed = Seed("pushing", seed);
        ground.publish(&[&cluster], &proxy("c"));
        let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
        world.chops = true;
        let temper = Temper {
            careful: true,
            ..CALM
        };
        let mut actors = actors(&mut world, 4, temper, seed);
        let ground = &ground;
        let mut version = 0;
        run(&mut world, &mut actors, |world| {
            if world.random.u8(..30) == 0 {
                version += 1;
                let mut next = proxy("c");
                let mut settings = super::ground::settings();
                settings.op_timeout += std::time::Duration::from_millis(version % 3);
                next.settings = Arc::new(settings);
                ground.publish(&[&cluster], &next);
            }
        });
        leaves_nothing(ground, &mut world, &cluster);
    }
}
