//! Blocking commands on the model network: order, time, clients that go, nodes that die, and the bounds.

use std::sync::Arc;

use redplane_command::slot;

use super::failing::keys;
use super::ground::{Ground, Row, at, even, proxy, route, settings};
use super::node::{Fabric, Reach};
use super::world::World;

const SECOND: u64 = 1_000_000;

fn popped(key: &str, value: &str) -> String {
    format!("*2\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len())
}

fn three(seed: u64) -> (Ground, World) {
    let (ground, _cluster) = Ground::three_shards();
    let world = World::new(&ground, Fabric::new(&even(3)), seed);
    (ground, world)
}

/// Every BLPOP that reached a node.
fn log_of(world: &mut World, node: u8) -> Vec<String> {
    let log = world.fabric.node(at(node)).log.take().unwrap_or_default();
    let line = |words: &Vec<Vec<u8>>| String::from_utf8_lossy(&words.join(&b' ')).into_owned();
    log.iter()
        .map(line)
        .filter(|line| line.starts_with("blpop"))
        .collect()
}

#[test]
fn a_pipeline_keeps_its_order_around_a_wait() {
    let (ground, _cluster) = Ground::three_shards();
    for seed in 0..60 {
        let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
        world.chops = seed % 2 == 1;
        let [key, other, _] = keys();
        let peer = world.connect();
        world.fabric.node(at(1)).delay = seed * 100;
        for words in [
            format!("RPUSH {key} a"),
            format!("BLPOP {key} 0"),
            format!("RPUSH {key} b"),
            format!("SET {other} 1"),
            format!("BLPOP nothing {key} 0"),
            format!("BLPOP {key} 0.2"),
            format!("LLEN {key}"),
        ] {
            world.ask(peer, &words.replace("nothing", &key));
        }
        world.calm();
        world.pass(SECOND);
        let expected = [
            ":1\r\n".to_owned(),
            popped(&key, "a"),
            ":1\r\n+OK\r\n".to_owned(),
            popped(&key, "b"),
            "*-1\r\n:0\r\n".to_owned(),
        ];
        assert_eq!(world.got(peer), expected.concat(), "seed {seed}");
        // One shared connection to each of two nodes, one leased.
        assert_eq!(world.connections(), 3);
        assert_eq!(ground.stat("cluster.c.upstream_rq_active"), 0);
    }
    assert_eq!(ground.stat("redis.p.downstream_rq_active"), 0);
}

#[test]
fn a_wait_holds_up_nobody_else_and_lasts_longer_than_any_time_out() {
    let (ground, mut world) = three(1);
    let [key, ..] = keys();
    let (waiting, other) = (world.connect(), world.connect());
    assert_eq!(world.call(waiting, &format!("BLPOP {key} 0")), "");
    assert_eq!(world.engine.blocked_clients(), 1);
    world.ask(waiting, "ECHO behind");
    for _ in 0..20 {
        world.pass(SECOND);
        assert_eq!(world.call(other, &format!("SET {key}x 1")), "+OK\r\n");
    }
    assert_eq!(world.got(waiting), "");
    assert_eq!(world.call(other, &format!("RPUSH {key} v")), ":1\r\n");
    assert_eq!(world.got(waiting), popped(&key, "v") + "$6\r\nbehind\r\n");
    assert_eq!(world.engine.blocked_clients(), 0);
    assert_eq!(ground.stat("redis.p.command.blpop.success"), 1);
    assert_eq!(ground.stat("cluster.c.upstream_rq_timeout"), 0);
}

#[test]
fn the_server_keeps_the_time_and_the_proxy_watches_it() {
    let (ground, mut world) = three(1);
    let [key, ..] = keys();
    let peer = world.connect();
    world.ask(peer, &format!("BLPOP {key} 5"));
    world.pass(4_900_000);
    assert_eq!(world.got(peer), "");
    world.pass(200_000);
    assert_eq!(world.got(peer), "*-1\r\n");
    // A server that does not keep it is given up.
    world.ask(peer, &format!("BLPOP {key} 5"));
    world.pass(SECOND);
    world.fabric.node(at(1)).stalled = true;
    world.pass(4_500_000);
    assert_eq!(world.got(peer), "");
    world.pass(1_000_000);
    assert_eq!(world.got(peer), "-upstream failure\r\n");
    assert_eq!(ground.stat("cluster.c.upstream_rq_timeout"), 1);
    assert_eq!(world.connections(), 0);
}

#[test]
fn a_client_that_goes_takes_its_wait_along() {
    let (ground, mut world) = three(1);
    let [key, ..] = keys();
    let (reset, closed, other) = (world.connect(), world.connect(), world.connect());
    world.call(reset, &format!("BLPOP {key} 0"));
    world.call(closed, &format!("BLPOP {key} 0"));
    assert_eq!(world.connections(), 2);
    world.break_off(reset);
    world.calm();
    assert_eq!(world.connections(), 1);
    world.pass(SECOND);
    world.ask(closed, "ECHO unread");
    world.finish(closed);
    world.calm();
    assert!(world.peers[closed].closed);
    assert_eq!((world.connections(), world.engine.blocked_clients()), (0, 0));
    world.call(other, &format!("RPUSH {key} kept"));
    assert_eq!(world.call(other, &format!("LLEN {key}")), ":1\r\n");
    assert_eq!(ground.stat("cluster.c.upstream_rq_active"), 0);
    assert_eq!(ground.stat("cluster.c.upstream_cx_active"), 1);
    assert_eq!(ground.stat("redis.p.downstream_rq_active"), 0);
}

#[test]
fn who_sends_and_closes_gets_what_is_there() {
    let (_ground, mut world) = three(1);
    let [key, ..] = keys();
    let (full, empty) = (world.connect(), world.connect());
    world.ask(full, &format!("RPUSH {key} a"));
    world.ask(full, &format!("BLPOP {key} 0"));
    world.ask(full, &format!("LLEN {key}"));
    world.finish(full);
    world.calm();
    assert_eq!(
        world.got(full),
        ":1\r\n".to_owned() + &popped(&key, "a") + ":0\r\n"
    );
    assert!(world.peers[full].closed);
    world.ask(empty, &format!("LLEN {key}"));
    world.ask(empty, &format!("BLPOP {key} 0"));
    world.finish(empty);
    world.calm();
    assert!(!world.peers[empty].closed);
    world.pass(200_000);
    assert!(world.peers[empty].closed);
    assert_eq!(world.got(empty), ":0\r\n");
    assert_eq!(world.engine.blocked_clients(), 0);
}

#[test]
fn an_end_that_comes_just_after_its_request_waits_for_what_is_there() {
    let (_ground, mut world) = three(1);
    let [key, ..] = keys();
    let peer = world.connect();
    world.call(peer, &format!("RPUSH {key} a"));
    world.fabric.node(at(1)).delay = 50_000;
    world.ask(peer, &format!("BLPOP {key} 0"));
    world.pass(20_000);
    assert_eq!(
        (world.got(peer), world.engine.blocked_clients()),
        (String::new(), 1)
    );
    world.finish(peer);
    world.pass(60_000);
    assert_eq!(world.got(peer), popped(&key, "a"));
    assert!(world.peers[peer].closed);
}

#[test]
fn a_wait_follows_its_slot_for_the_time_that_is_left() {
    let (ground, mut world) = three(1);
    let [key, ..] = keys();
    let slot = slot(key.as_bytes());
    let (waiting, other) = (world.connect(), world.connect());
    world.ask(waiting, &format!("BLPOP {key} 8"));
    world.pass(3 * SECOND);
    world.fabric.node(at(2)).log = Some(Vec::new());
    world.fabric.hand_over(slot, at(2));
    world.pass(100_000);
    let log = log_of(&mut world, 2);
    assert_eq!(log.len(), 1, "{log:?}");
    let left: f64 = log[0].rsplit(' ').next().unwrap().parse().unwrap();
    assert!((4.9..=5.0).contains(&left), "{left}");
    assert_eq!(world.call(other, &format!("RPUSH {key} v")), ":1\r\n");
    assert_eq!(world.got(waiting), popped(&key, "v"));
    assert_eq!(
        ground.stat("cluster.c.upstream_internal_redirect_succeeded_total"),
        2
    );
    // Moved before it waits, and asked on the side that imports.
    assert_eq!(world.call(waiting, &format!("BLPOP {key} 0")), "");
    world.call(other, &format!("RPUSH {key} w"));
    assert_eq!(world.got(waiting), popped(&key, "w"));
    world.fabric.moving.insert(slot, at(3));
    world.ask(waiting, &format!("BLPOP {key} 1"));
    world.calm();
    world
        .fabric
        .node(at(3))
        .lists
        .insert(key.clone().into(), [b"x".to_vec()].into());
    world.calm();
    assert_eq!(world.got(waiting), popped(&key, "x"));
}

#[test]
fn a_dead_node_is_outlived() {
    let (ground, [before, after]) = (Ground::new(), [even(3), promoted()]);
    let (cluster, topologies) = ground.slots("c", &[before, after.clone()]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    let (waiting, timed) = (world.connect(), world.connect());
    world.call(waiting, &format!("BLPOP {key} 0"));
    world.ask(timed, &format!("BLPOP {key} 2.5"));
    world.calm();
    world.fabric.node(at(1)).reach = Reach::Refuses;
    world.cut(at(1));
    world.pass(2 * SECOND);
    assert_eq!(
        (world.got(waiting), world.got(timed)),
        (String::new(), String::new())
    );
    world.pass(SECOND);
    // Nobody was there to say it, and the time was over all the same.
    assert_eq!(world.got(timed), "*-1\r\n");
    world.pass(9 * SECOND);
    for slot in 0..16384 / 3 {
        world.fabric.owners[slot] = at(4);
    }
    cluster.republish(Arc::clone(&topologies[1]));
    world.pass(2 * SECOND);
    world
        .fabric
        .node(at(4))
        .lists
        .insert(key.clone().into(), [b"v".to_vec()].into());
    world.calm();
    assert_eq!(world.got(waiting), popped(&key, "v"));
}

/// Node 4 in the place of node 1.
fn promoted() -> Vec<Row> {
    let mut rows = even(3);
    rows[0].2 = at(4);
    rows
}

#[test]
fn a_new_owner_is_found_without_the_old_one_saying_so() {
    let ground = Ground::new();
    let (cluster, topologies) = ground.slots("c", &[even(3), promoted()]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    let waiting = world.connect();
    world.call(waiting, &format!("BLPOP {key} 0"));
    // Cut off from everybody: no word, no end.
    world.fabric.node(at(1)).stalled = true;
    for slot in 0..16384 / 3 {
        world.fabric.owners[slot] = at(4);
    }
    cluster.republish(Arc::clone(&topologies[1]));
    world.pass(SECOND);
    assert!(!world.is_connected_to(at(1)));
    world
        .fabric
        .node(at(4))
        .lists
        .insert(key.clone().into(), [b"v".to_vec()].into());
    world.calm();
    assert_eq!(world.got(waiting), popped(&key, "v"));
}

#[test]
fn a_node_that_is_not_coming_back_is_an_error_in_the_end() {
    let (_ground, mut world) = three(1);
    let [key, ..] = keys();
    let peer = world.connect();
    world.call(peer, &format!("BLPOP {key} 0"));
    world.fabric.node(at(1)).reach = Reach::Refuses;
    world.pass(29 * SECOND);
    assert_eq!(world.got(peer), "");
    world.pass(3 * SECOND);
    assert_eq!(world.got(peer), "-upstream failure\r\n");
    // One that is dead from the start fails at once.
    assert_eq!(
        world.call(peer, &format!("BLPOP {key} 0")),
        "-upstream failure\r\n"
    );
}

#[test]
fn a_demoted_node_lets_go_and_the_wait_goes_on() {
    let (_ground, mut world) = three(1);
    let [key, ..] = keys();
    let mut said = false;
    world.fabric.node(at(1)).script = Some(Box::new(move |words| {
        let first = words[0] == b"blpop" && !std::mem::replace(&mut said, true);
        let reply = b"-UNBLOCKED force unblock from blocking operation, instance state changed\r\n";
        first.then(|| reply.to_vec())
    }));
    let (waiting, other) = (world.connect(), world.connect());
    world.ask(waiting, &format!("BLPOP {key} 0"));
    world.pass(100_000);
    assert_eq!(world.got(waiting), "");
    world.call(other, &format!("RPUSH {key} v"));
    assert_eq!(world.got(waiting), popped(&key, "v"));
}

#[test]
fn what_was_half_answered_is_not_asked_twice() {
    let (_ground, mut world) = three(1);
    let [key, ..] = keys();
    world.fabric.node(at(1)).script = Some(Box::new(|words| {
        (words[0] == b"blpop").then(|| b"*2\r\n$1\r\n".to_vec())
    }));
    let peer = world.connect();
    world.call(peer, &format!("BLPOP {key} 0"));
    world.fabric.node(at(1)).log = Some(Vec::new());
    world.cut(at(1));
    world.pass(SECOND);
    assert_eq!(world.got(peer), "-upstream failure\r\n");
    assert_eq!(log_of(&mut world, 1), [""; 0]);
}

#[test]
fn leases_are_bounded_and_used_again() {
    let ground = Ground::new();
    let (cluster, _) = ground.slots_with("c", &[even(3)], |config| config.max_connections = 2);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, elsewhere, _] = keys();
    let peers = [world.connect(), world.connect(), world.connect()];
    world.call(peers[0], &format!("BLPOP {key} 0"));
    world.call(peers[1], &format!("BLPOP {key} 0"));
    let refusal = "-ERR max number of blocked clients reached\r\n";
    assert_eq!(world.call(peers[2], &format!("BLPOP {key} 0")), refusal);
    assert_eq!(ground.stat("cluster.c.upstream_cx_overflow"), 1);
    assert_eq!(world.call(peers[2], &format!("BLPOP {elsewhere} 0.1")), "");
    world.pass(300_000);
    assert_eq!(world.got(peers[2]), "*-1\r\n");
    // One is gone with its client, the other is kept when its wait is over.
    world.break_off(peers[0]);
    world.calm();
    world.call(peers[2], &format!("RPUSH {key} v"));
    assert_eq!(world.got(peers[1]), popped(&key, "v"));
    let dialled = world.dialled.len();
    for _ in 0..5 {
        world.ask(peers[2], &format!("RPUSH {key} w"));
        assert_eq!(
            world.call(peers[2], &format!("BLPOP {key} 0")),
            ":1\r\n".to_owned() + &popped(&key, "w")
        );
    }
    assert_eq!(world.dialled.len(), dialled);
}

#[test]
fn a_wait_can_be_ended_from_outside() {
    let (_ground, mut world) = three(1);
    let [key, ..] = keys();
    let (peer, other) = (world.connect(), world.connect());
    let id = world
        .call(peer, "CLIENT ID")
        .trim_matches([':', '\r', '\n'])
        .to_owned();
    let unblock = format!("CLIENT UNBLOCK {id}");
    assert_eq!(world.call(other, &unblock), ":0\r\n");
    world.call(peer, &format!("BLPOP {key} 0"));
    assert!(
        world
            .call(other, &format!("CLIENT LIST ID {id}"))
            .contains(" flags=b ")
    );
    world.ask(peer, "ECHO behind");
    assert_eq!(world.call(other, &unblock), ":1\r\n");
    assert_eq!(world.got(peer), "*-1\r\n$6\r\nbehind\r\n");
    world.call(peer, &format!("BLPOP {key} 0"));
    assert_eq!(world.call(other, &format!("{unblock} ERROR")), ":1\r\n");
    let error = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n";
    assert_eq!(world.got(peer), error);
    assert_eq!(world.call(other, &unblock), ":0\r\n");
    assert_eq!(world.connections(), 0);
    assert_eq!(world.engine.blocked_clients(), 0);
}

#[test]
fn a_push_leaves_no_wait_behind() {
    let (ground, cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    let peer = world.connect();
    // Other settings: the wait ends as it began.
    world.call(peer, &format!("BLPOP {key} 0"));
    let mut next = proxy("c");
    let mut own = settings();
    own.op_timeout *= 2;
    next.settings = Arc::new(own);
    ground.publish(&[&cluster], &next);
    world.calm();
    let other = world.connect();
    world.call(other, &format!("RPUSH {key} v"));
    assert_eq!(world.got(peer), popped(&key, "v"));
    // The cluster is another one now, behind the same name: the wait goes there.
    world.call(peer, &format!("BLPOP {key} 0"));
    let second = ground.hashed("c", &[at(9)]);
    ground.publish(&[&second], &next);
    world
        .fabric
        .node(at(9))
        .lists
        .insert(key.clone().into(), [b"w".to_vec()].into());
    world.fabric.owners.clear();
    world.pass(SECOND);
    assert_eq!(world.got(peer), popped(&key, "w"));
    // It is gone altogether.
    world.call(peer, &format!("BLPOP {key} 0"));
    let third = ground.hashed("d", &[at(9)]);
    let mut next = proxy("d");
    next.routes.catch_all = Some(route("d"));
    ground.publish(&[&third], &next);
    world.pass(40 * SECOND);
    assert_eq!(world.got(peer), "-no upstream host\r\n");
    assert_eq!(world.call(peer, "ECHO x"), "$1\r\nx\r\n");
    assert_eq!(ground.stat("redis.p.downstream_rq_active"), 0);
}

#[test]
fn in_a_transaction_nothing_waits() {
    let (_ground, mut world) = three(1);
    let [key, ..] = keys();
    let peer = world.connect();
    world.ask(peer, "MULTI");
    world.ask(peer, &format!("BLPOP {key} 0"));
    world.ask(peer, &format!("RPUSH {key} v"));
    world.ask(peer, &format!("BLPOP {key} 0"));
    let reply = world.call(peer, "EXEC");
    assert!(
        reply.ends_with(&format!("*3\r\n*-1\r\n:1\r\n{}", popped(&key, "v"))),
        "{reply}"
    );
    assert_eq!(world.connections(), 1);
}
