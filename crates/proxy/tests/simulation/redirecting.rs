//! MOVED and ASK on the model network: hops, deadlines, strangers, names.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redplane_config::cluster::DnsFamily;

use super::ground::{Ground, Row, at, even, proxy, settings};
use super::node::{Fabric, Reach};
use super::world::World;

/// The node of a key's slot among three, and another one.
pub(crate) fn sides(key: &[u8]) -> (SocketAddr, SocketAddr) {
    let owner = at((redplane_command::slot(key) / (16384 / 3)) as u8 + 1);
    (owner, at(if owner == at(1) { 2 } else { 1 }))
}

/// Makes a node send everything about keys elsewhere.
fn sends_to(world: &mut World, node: SocketAddr, word: &'static str, to: String) {
    world.fabric.node(node).script = Some(Box::new(move |words| {
        let slot = redplane_command::slot(words.get(1)?);
        Some(format!("-{word} {slot} {to}\r\n").into_bytes())
    }));
}

/// The slots of node 3 belong to node 4.
fn fourth_for_third() -> Vec<Row> {
    let mut rows = even(3);
    rows[2].2 = at(4);
    rows
}

fn key_on(node: SocketAddr) -> String {
    (0..100)
        .map(|n| format!("k{n}"))
        .find(|key| sides(key.as_bytes()).0 == node)
        .unwrap()
}

#[test]
fn nodes_that_redirect_to_each_other_end_after_five_hops() {
    let (ground, _cluster) = Ground::three_shards();
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    sends_to(&mut world, owner, "MOVED", other.to_string());
    sends_to(&mut world, other, "MOVED", owner.to_string());
    world.fabric.node(owner).log = Some(Vec::new());
    world.fabric.node(other).log = Some(Vec::new());
    let peer = world.connect();
    assert_eq!(world.call(peer, "GET k"), "-upstream failure\r\n");
    let seen = |world: &mut World, node| world.fabric.node(node).log.as_ref().map_or(0, Vec::len);
    assert_eq!(seen(&mut world, owner) + seen(&mut world, other), 6);
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
}

#[test]
fn one_deadline_holds_over_all_hops() {
    let (ground, _cluster) = Ground::three_shards();
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    sends_to(&mut world, owner, "MOVED", other.to_string());
    world.fabric.node(owner).delay = 700_000;
    world.fabric.node(other).delay = 700_000;
    world.fabric.owners.fill(other);
    let peer = world.connect();
    world.ask(peer, "GET k");
    world.pass(950_000);
    assert_eq!(world.got(peer), "");
    world.pass(150_000);
    assert_eq!(world.got(peer), "-upstream failure\r\n");
}

#[test]
fn a_late_redirection_does_not_end_its_targets_connection() {
    let (ground, _cluster) = Ground::three_shards();
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    sends_to(&mut world, owner, "MOVED", other.to_string());
    world.fabric.owners.fill(other);
    world.fabric.node(owner).delay = 900_000;
    world.fabric.node(other).delay = 300_000;
    let (late, good) = (world.connect(), world.connect());
    world.ask(late, "GET k");
    world.pass(950_000);
    // Behind the redirected request, on the same connection, well within its own time.
    let key = key_on(other);
    world.ask(good, &format!("GET {key}"));
    world.pass(450_000);
    assert_eq!(world.got(late), "-upstream failure\r\n");
    assert_eq!(
        world.got(good),
        "$-1\r\n",
        "a healthy server's connection was closed"
    );
    world.pass(1_000_000);
    assert_eq!(world.call(late, "PING"), "+PONG\r\n");
}

#[test]
fn strangers_are_dialled_up_to_the_limit() {
    let ground = Ground::new();
    let (cluster, _) = ground.slots("c", &[even(3)]);
    let mut own = proxy("c");
    let mut limited = settings();
    limited.max_upstream_unknown_connections = 1;
    own.settings = Arc::new(limited);
    ground.publish(&[&cluster], &own);
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    let (stranger, another) = (at(8), at(9));
    world.fabric.owners.fill(stranger);
    assert_eq!(world.call(peer, "SET k 1"), "+OK\r\n");
    assert_eq!(world.call(peer, "GET k"), "$1\r\n1\r\n");
    assert_eq!(world.dialled.iter().filter(|to| **to == stranger).count(), 1);
    world.fabric.owners.fill(another);
    let slot = redplane_command::slot(b"k");
    assert_eq!(world.call(peer, "GET k"), format!("-MOVED {slot} {another}\r\n"));
    assert_eq!(
        ground.stat("cluster.c.redis_cluster.max_upstream_unknown_connections_reached"),
        1
    );
}

#[test]
fn a_stranger_that_joins_the_topology_keeps_its_connection() {
    let ground = Ground::new();
    let joined = fourth_for_third();
    let (cluster, topologies) = ground.slots("c", &[even(3), joined.clone()]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&joined), 1);
    let key = key_on(at(3));
    world.fabric.node(at(3));
    let peer = world.connect();
    assert_eq!(world.call(peer, &format!("SET {key} 1")), "+OK\r\n");
    cluster.republish(topologies[1].clone());
    assert_eq!(world.call(peer, &format!("GET {key}")), "$1\r\n1\r\n");
    assert_eq!(world.dialled, [at(3), at(4)]);
    assert_eq!(world.connections(), 1);
    // It breaks, and is made anew.
    world.cut(at(4));
    world.calm();
    assert_eq!(world.call(peer, &format!("GET {key}")), "$1\r\n1\r\n");
    assert_eq!(world.dialled, [at(3), at(4), at(4)]);
    cluster.republish(topologies[0].clone());
    world
        .fabric
        .hand_over(redplane_command::slot(key.as_bytes()), at(3));
    assert_eq!(world.call(peer, &format!("GET {key}")), "$1\r\n1\r\n");
    assert_eq!(world.connections(), 1);
}

#[test]
fn names_are_resolved_as_the_filter_says() {
    let (ground, cluster) = Ground::three_shards();
    let mut picky = proxy("c");
    let mut settings = settings();
    settings.dns_cache = Some(DnsFamily::V6Only);
    picky.settings = Arc::new(settings);
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    sends_to(&mut world, owner, "ASK", "redis-1.svc:7000".into());
    world.fabric.owners.fill(owner);
    world.fabric.moving.insert(redplane_command::slot(b"k"), other);
    world.names.insert("redis-1.svc".into(), other.ip());
    let peer = world.connect();
    assert_eq!(world.call(peer, "SET k 1"), "+OK\r\n");
    ground.publish(&[&cluster], &picky);
    assert_eq!(world.call(peer, "SET k 2"), "+OK\r\n");
    assert_eq!(world.families, [None, Some(DnsFamily::V6Only)]);
}

#[test]
fn names_are_resolved_or_given_up() {
    let (ground, _cluster) = Ground::three_shards();
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    sends_to(&mut world, owner, "ASK", "redis-1.svc:7000".into());
    world.fabric.owners.fill(owner);
    world.fabric.moving.insert(redplane_command::slot(b"k"), other);
    world.names.insert("redis-1.svc".into(), other.ip());
    let peer = world.connect();
    assert_eq!(world.call(peer, "SET k 1"), "+OK\r\n");
    world.names.clear();
    world.ask(peer, "GET k");
    world.calm();
    assert_eq!((world.got(peer).as_str(), world.unresolved.len()), ("", 1));
    world.pass(1_100_000);
    assert_eq!(world.got(peer), "-upstream failure\r\n");
    world.ask(peer, "GET k");
    world.calm();
    let (ticket, _) = world.unresolved.pop().unwrap();
    world.engine.resolved(ticket, None);
    world.calm();
    let slot = redplane_command::slot(b"k");
    assert_eq!(world.got(peer), format!("-ASK {slot} redis-1.svc:7000\r\n"));
}

#[test]
fn a_name_on_a_connection_that_only_drains_leaves_nobody_waiting() {
    let (ground, cluster) = Ground::three_shards();
    let (owner, _) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    sends_to(&mut world, owner, "MOVED", "redis-1.svc:7000".into());
    world.fabric.node(owner).delay = 10_000;
    let peer = world.connect();
    world.ask(peer, "GET k");
    world.calm();
    ground.publish(&[], &proxy("c"));
    world.pass(50_000);
    assert_eq!(world.got(peer), "-no upstream host\r\n");
    ground.publish(&[&cluster], &proxy("c"));
    world.fabric.node(owner).script = None;
    world.calm();
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
}

#[test]
fn a_redirection_to_the_dead_fails_and_the_next_one_fails_fast() {
    let (ground, _cluster) = Ground::three_shards();
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    world.fabric.owners.fill(other);
    world.fabric.node(other).reach = Reach::Refuses;
    let peer = world.connect();
    assert_eq!(world.call(peer, "GET k"), "-upstream failure\r\n");
    let dialled = world.dialled.len();
    assert_eq!(world.call(peer, "GET k"), "-upstream failure\r\n");
    assert_eq!(world.dialled.len(), dialled);
    assert!(world.dialled.contains(&owner));
    world.fabric.node(other).reach = Reach::Up;
    world.pass(100_000);
    world.call(peer, "GET k");
    assert_eq!(world.call(peer, "GET k"), "$-1\r\n");
}

#[test]
fn a_custom_command_may_be_redirected() {
    let ground = Ground::new();
    let (cluster, _) = ground.slots("c", &[even(3)]);
    let mut own = proxy("c");
    own.custom_commands = vec!["my.get".into()];
    ground.publish(&[&cluster], &own);
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    sends_to(&mut world, owner, "ASK", other.to_string());
    world.fabric.node(other).script = Some(Box::new(|words| {
        (words[0] == b"my.get").then(|| b"+mine\r\n".to_vec())
    }));
    let peer = world.connect();
    assert_eq!(world.call(peer, "MY.GET k"), "+mine\r\n");
    world.fabric.node(owner).script = Some(Box::new(|_| Some(b"-TRYAGAIN later\r\n".to_vec())));
    world.ask(peer, "MY.GET k");
    world.pass(Duration::from_secs(2).as_micros() as u64);
    assert_eq!(world.got(peer), "-TRYAGAIN later\r\n");
}

#[test]
fn what_follows_a_redirected_request_stays_behind_it() {
    let (ground, _cluster) = Ground::three_shards();
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let slot = redplane_command::slot(b"k");
    world.fabric.moving.insert(slot, other);
    // The write's way is longer: the name of its target has to be resolved first.
    world.fabric.node(owner).script = Some(Box::new(move |words| {
        (words[0] == b"set").then(|| format!("-ASK {slot} redis-1.svc:7000\r\n").into_bytes())
    }));
    let peer = world.connect();
    world.ask(peer, "SET k 1");
    world.calm();
    world.ask(peer, "GET k");
    world.calm();
    let (ticket, _) = world.unresolved.pop().unwrap();
    world.engine.resolved(ticket, Some(other.ip()));
    world.pass(1_000);
    assert_eq!(world.got(peer), "+OK\r\n$1\r\n1\r\n");
}

#[test]
fn a_new_slot_map_lets_nothing_overtake_what_is_in_flight() {
    let ground = Ground::new();
    let moved = fourth_for_third();
    let (cluster, topologies) = ground.slots("c", &[even(3), moved.clone()]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&moved), 1);
    let key = key_on(at(3));
    let peer = world.connect();
    // The former owner is slow to say that it is one.
    world.fabric.node(at(3)).delay = 5_000;
    world.ask(peer, &format!("SET {key} 1"));
    world.calm();
    cluster.republish(topologies[1].clone());
    world.ask(peer, &format!("GET {key}"));
    world.pass(20_000);
    assert_eq!(world.got(peer), "+OK\r\n$1\r\n1\r\n");
    assert_eq!(world.call(peer, &format!("GET {key}")), "$1\r\n1\r\n");
}

#[test]
fn a_redirected_request_behind_a_younger_one_ends_in_its_time() {
    let (ground, _cluster) = Ground::three_shards();
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    sends_to(&mut world, owner, "MOVED", other.to_string());
    world.fabric.owners.fill(other);
    world.fabric.node(owner).delay = 900_000;
    world.fabric.node(other).delay = 900_000;
    let (late, young) = (world.connect(), world.connect());
    world.ask(late, "GET k");
    world.pass(850_000);
    let key = key_on(other);
    world.ask(young, &format!("GET {key}"));
    world.pass(250_000);
    assert_eq!(world.got(late), "-upstream failure\r\n");
    assert_eq!(world.got(young), "");
    world.pass(700_000);
    assert_eq!(world.got(young), "$-1\r\n");
    assert_eq!(world.call(late, "PING"), "+PONG\r\n");
}

#[test]
fn a_name_is_resolved_once_for_all_that_wait_and_keeps_their_order() {
    let (ground, _cluster) = Ground::three_shards();
    let (owner, other) = sides(b"k");
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let slot = redplane_command::slot(b"k");
    world.fabric.owners[usize::from(slot)] = other;
    sends_to(&mut world, owner, "MOVED", "redis-1.svc:7000".into());
    let peers: Vec<usize> = (0..5).map(|_| world.connect()).collect();
    for at in 0..20 {
        for peer in &peers {
            world.ask(*peer, &format!("RPUSH k {}", char::from(b'a' + at)));
        }
    }
    world.calm();
    assert_eq!(world.unresolved.len(), 1);
    // By now the servers name the address: what comes behind must not overtake what waits for the name.
    sends_to(&mut world, owner, "MOVED", other.to_string());
    let late = world.connect();
    world.ask(late, "GET k");
    peers.iter().for_each(|peer| world.ask(*peer, "LLEN k"));
    world.calm();
    assert_eq!(world.got(late), "$-1\r\n");
    let (ticket, _) = world.unresolved.pop().unwrap();
    world.engine.begin_turn(world.now);
    world.engine.resolved(ticket, Some(other.ip()));
    world.calm();
    let values = world.fabric.node(other).lists[&b"k"[..]].clone();
    assert_eq!(values.len(), 100);
    for peer in peers {
        let got = world.got(peer);
        let lengths = got.lines().filter_map(|line| line.strip_prefix(':'));
        let lengths: Vec<usize> = lengths.map(|length| length.parse().unwrap()).collect();
        let own = lengths.iter().take(20).map(|length| values[length - 1][0]);
        assert_eq!(
            own.collect::<Vec<u8>>(),
            (b'a'..b'a' + 20).collect::<Vec<u8>>(),
            "{got}"
        );
        assert!(got.ends_with(":100\r\n"), "{got}");
    }
}
