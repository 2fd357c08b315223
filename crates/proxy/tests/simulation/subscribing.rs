//! Publish and subscribe on the model network: confirmations, sharing, what becomes of subscriptions when nodes, slots
//! and configurations change, and of clients that do not read.

use std::net::SocketAddr;
use std::sync::Arc;

use redplane_config::redis_proxy::Route;
use redplane_upstream::Topology;

use super::bus::Post;
use super::failing::keys;
use super::ground::{Ground, at, even, proxy, route, settings};
use super::node::{Fabric, Reach};
use super::redirecting::sides;
use super::world::World;

/// A channel, as clients of both protocols get it.
fn message(channel: &str, payload: &str) -> String {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    format!("*3\r\n$7\r\nmessage\r\n{}{}", bulk(channel), bulk(payload))
}

fn confirmed(word: &str, name: &str, count: usize) -> String {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    format!("*3\r\n{}{}:{count}\r\n", bulk(word), bulk(name))
}

fn world(ground: &Ground) -> World {
    World::new(ground, Fabric::new(&even(3)), 1)
}

/// Everything that all nodes are subscribed to by the proxy, once for each session.
fn upstream(world: &mut World) -> usize {
    world.step(0);
    world.fabric.sessions.len()
}

#[test]
fn confirmations_count_this_clients_subscriptions() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let peer = world.connect();
    assert_eq!(
        world.call(peer, "UNSUBSCRIBE"),
        "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
    );
    let got = world.call(peer, "SUBSCRIBE a b a");
    let expected = [("a", 1), ("b", 2), ("a", 2)].map(|(name, count)| confirmed("subscribe", name, count));
    assert_eq!(got, expected.concat());
    assert_eq!(
        world.call(peer, "PSUBSCRIBE p*"),
        confirmed("psubscribe", "p*", 3)
    );
    assert_eq!(world.call(peer, "SSUBSCRIBE s"), confirmed("ssubscribe", "s", 1));
    let refused = world.call(peer, "GET k");
    assert!(
        refused.starts_with("-ERR Can't execute 'get': only (P|S)SUBSCRIBE"),
        "{refused}"
    );
    assert_eq!(world.call(peer, "PING"), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    let got = world.call(peer, "UNSUBSCRIBE");
    assert_eq!(
        got,
        confirmed("unsubscribe", "a", 2) + &confirmed("unsubscribe", "b", 1)
    );
    assert_eq!(
        world.call(peer, "PUNSUBSCRIBE p*"),
        confirmed("punsubscribe", "p*", 0)
    );
    assert!(world.call(peer, "GET k").starts_with("-ERR Can't execute"));
    assert_eq!(
        world.call(peer, "SUNSUBSCRIBE"),
        confirmed("sunsubscribe", "s", 0)
    );
    assert_eq!(world.call(peer, "GET k"), "$-1\r\n");
}

#[test]
fn many_clients_are_one_subscription_upstream() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let peers: Vec<usize> = (0..50).map(|_| world.connect()).collect();
    for peer in &peers {
        assert_eq!(
            world.call(*peer, "SUBSCRIBE news"),
            confirmed("subscribe", "news", 1)
        );
    }
    assert_eq!(upstream(&mut world), 1);
    let publisher = world.connect();
    assert_eq!(world.call(publisher, "PUBLISH news hello"), ":50\r\n");
    assert_eq!(world.call(publisher, "PUBLISH other hello"), ":0\r\n");
    for peer in &peers {
        assert_eq!(world.got(*peer), message("news", "hello"));
    }
    for peer in &peers[1..] {
        world.break_off(*peer);
    }
    assert_eq!(world.call(publisher, "PUBLISH news again"), ":1\r\n");
    assert_eq!(ground.stat("cluster.c.redis_cluster.pubsub.subscriptions"), 1);
    assert_eq!(world.got(peers[0]), message("news", "again"));
    // The last one out ends it, and the idle connection goes.
    world.call(peers[0], "UNSUBSCRIBE news");
    assert_eq!(upstream(&mut world), 0);
    let connections = world.connections();
    world.pass(3_000_000);
    assert_eq!(world.connections(), connections - 1);
    assert_eq!(
        ground.stat("cluster.c.redis_cluster.pubsub.upstream_cx_active"),
        0
    );
    assert_eq!(world.call(publisher, "PUBLISH news nobody"), ":0\r\n");
}

#[test]
fn a_confirmation_waits_for_the_server_and_keeps_its_place() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let peer = world.connect();
    for node in 1..=3 {
        world.fabric.node(at(node)).delay = 5_000;
    }
    let [key, ..] = keys();
    world.ask(peer, &format!("GET {key}"));
    world.ask(peer, "SUBSCRIBE news");
    world.ask(peer, "GET refused");
    world.calm();
    assert_eq!(world.got(peer), "");
    world.pass(50_000);
    let got = world.got(peer);
    let start = "$-1\r\n".to_owned() + &confirmed("subscribe", "news", 1) + "-ERR Can't execute 'get'";
    assert!(got.starts_with(&start), "{got}");
}

#[test]
fn messages_follow_the_confirmation_that_is_still_in_line() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let (peer, other) = (world.connect(), world.connect());
    world.call(other, "SUBSCRIBE news");
    let [slow, ..] = keys();
    world.fabric.node(at(1)).script = Some(Box::new(|words| {
        (words[0] == b"get").then(|| b"$4\r\nslow\r\n".to_vec())
    }));
    let owner = at((redplane_command::slot(slow.as_bytes()) / (16384 / 3)) as u8 + 1);
    world.fabric.node(owner).stalled = true;
    world.ask(peer, &format!("GET {slow}"));
    // It is confirmed at once: others hold it already.
    world.ask(peer, "SUBSCRIBE news");
    world.calm();
    let from = [at(1), at(2), at(3)]
        .into_iter()
        .find(|node| *node != owner)
        .expect("another one");
    for payload in ["one", "two"] {
        let post = Post::read(from, &[b"publish".to_vec(), b"news".to_vec(), payload.into()]);
        world.fabric.posts.extend(post);
        world.calm();
    }
    // The subscription may be on the stalled node itself, whose messages still come.
    assert_eq!(world.got(other), message("news", "one") + &message("news", "two"));
    assert_eq!(world.got(peer), "");
    world.fabric.node(owner).stalled = false;
    world.calm();
    let got = world.got(peer);
    let behind = confirmed("subscribe", "news", 1) + &message("news", "one") + &message("news", "two");
    assert!(got.ends_with(&behind), "{got}");
    assert_eq!(world.call(peer, "PING x"), "*2\r\n$4\r\npong\r\n$1\r\nx\r\n");
}

#[test]
fn what_cannot_be_had_is_not_half_held() {
    let ground = Ground::new();
    let (cluster, _) = ground.slots("c", &[even(3)]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = world(&ground);
    let peer = world.connect();
    for node in 1..=3 {
        world.fabric.node(at(node)).reach = Reach::Refuses;
    }
    assert_eq!(world.call(peer, "SUBSCRIBE a b"), "-upstream failure\r\n");
    assert_eq!(world.call(peer, "SSUBSCRIBE a"), "-upstream failure\r\n");
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
    ground.publish(&[], &proxy("c"));
    assert_eq!(world.call(peer, "SUBSCRIBE a"), "-no upstream host\r\n");
    ground.publish(&[&cluster], &proxy("c"));
    for node in 1..=3 {
        world.fabric.node(at(node)).reach = Reach::Blackhole;
    }
    world.pass(2_000_000);
    world.ask(peer, "SUBSCRIBE a");
    world.pass(1_500_000);
    assert_eq!(world.got(peer), "-upstream failure\r\n");
    for node in 1..=3 {
        world.fabric.node(at(node)).reach = Reach::Up;
    }
    world.pass(2_000_000);
    assert_eq!(world.call(peer, "SUBSCRIBE a"), confirmed("subscribe", "a", 1));
}

#[test]
fn a_server_that_refuses_is_quoted() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let peer = world.connect();
    for node in 1..=3 {
        world.fabric.node(at(node)).script = Some(Box::new(|words| {
            (words[0] == b"ssubscribe").then(|| b"-NOPERM no such channel for you\r\n".to_vec())
        }));
    }
    assert_eq!(
        world.call(peer, "SSUBSCRIBE s"),
        "-NOPERM no such channel for you\r\n"
    );
    assert_eq!(world.call(peer, "SUBSCRIBE s"), confirmed("subscribe", "s", 1));
}

/// The node that a channel is subscribed on.
fn node_of(world: &mut World) -> SocketAddr {
    world.step(0);
    world.fabric.sessions[0].0
}

#[test]
fn a_lost_connection_is_made_good_quietly() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let (peer, publisher) = (world.connect(), world.connect());
    world.call(peer, "SUBSCRIBE a b c");
    world.call(peer, "PSUBSCRIBE *");
    for node in 1..=3 {
        world.cut(at(node));
        world.pass(50_000);
        assert_eq!(world.got(peer), "");
        for name in ["a", "b", "c"] {
            assert_eq!(world.call(publisher, &format!("PUBLISH {name} x")), ":2\r\n");
            let got = world.got(peer);
            assert_eq!(got.matches("$7\r\nmessage").count(), 1, "{got}");
            assert_eq!(got.matches("$8\r\npmessage").count(), 1, "{got}");
        }
    }
    let lost = ground.stat("cluster.c.redis_cluster.pubsub.upstream_cx_lost");
    assert!(lost >= 3, "{lost}");
}

#[test]
fn a_dead_node_is_not_waited_for() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let (peer, publisher) = (world.connect(), world.connect());
    world.call(peer, "SUBSCRIBE news");
    let dead = node_of(&mut world);
    world.fabric.node(dead).reach = Reach::Refuses;
    world.pass(200_000);
    // The bus takes a message to every node, so any of them will do once the dead one is known.
    assert_eq!(
        world.call(publisher, "PUBLISH news lost"),
        "-upstream failure\r\n"
    );
    assert_eq!(world.call(publisher, "PUBLISH news x"), ":1\r\n");
    assert_eq!(world.got(peer), message("news", "x"));
    world.fabric.node(dead).reach = Reach::Up;
    world.pass(2_000_000);
    assert_eq!(world.call(publisher, "PUBLISH news y"), ":1\r\n");
    assert_eq!(world.got(peer), message("news", "y"));
    assert_eq!(upstream(&mut world), 1);
}

#[test]
fn a_silent_node_is_found_out() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let (peer, publisher) = (world.connect(), world.connect());
    world.call(peer, "SUBSCRIBE news");
    let dead = node_of(&mut world);
    world.fabric.node(dead).reach = Reach::Blackhole;
    world.pass(12_000_000);
    let other = [at(1), at(2), at(3)]
        .into_iter()
        .find(|node| *node != dead)
        .expect("another");
    let post = Post::read(other, &[b"publish".to_vec(), b"news".to_vec(), b"x".to_vec()]);
    world.fabric.posts.extend(post);
    world.calm();
    assert_eq!(world.got(peer), message("news", "x"));
    assert_eq!(world.got(publisher), "");
}

#[test]
fn shard_channels_follow_their_slot() {
    let ground = Ground::new();
    let (from, to) = sides(b"s");
    let slot = redplane_command::slot(b"s");
    let mut rows = even(3);
    rows.retain(|row| !(row.0..=row.1).contains(&slot));
    let (first, last) = even(3)
        .iter()
        .find(|row| (row.0..=row.1).contains(&slot))
        .map(|row| (row.0, row.1))
        .unwrap();
    rows.extend([
        (first, slot - 1, from, Vec::new()),
        (slot, slot, to, Vec::new()),
        (slot + 1, last, from, Vec::new()),
    ]);
    let (cluster, topologies) = ground.slots("c", &[even(3), rows]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = world(&ground);
    let (peer, publisher) = (world.connect(), world.connect());
    assert_eq!(
        world.call(peer, "SSUBSCRIBE s other"),
        confirmed("ssubscribe", "s", 1) + &confirmed("ssubscribe", "other", 2)
    );
    assert_eq!(world.call(publisher, "SPUBLISH s one"), ":1\r\n");
    world.fabric.hand_over(slot, to);
    world.pass(10_000);
    cluster.republish(topologies[1].clone());
    world.pass(200_000);
    assert_eq!(world.call(publisher, "SPUBLISH s two"), ":1\r\n");
    assert_eq!(world.call(publisher, "SPUBLISH other three"), ":1\r\n");
    let got = world.got(peer);
    let smessage =
        |channel: &str, payload: &str| message(channel, payload).replace("$7\r\nmessage", "$8\r\nsmessage");
    assert_eq!(
        got,
        smessage("s", "one") + &smessage("s", "two") + &smessage("other", "three")
    );
}

#[test]
fn events_come_from_every_primary_and_nothing_twice() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let (peer, publisher) = (world.connect(), world.connect());
    world.call(peer, "PSUBSCRIBE __keyevent@0__:*");
    let all = world.connect();
    world.call(all, "PSUBSCRIBE *");
    let one = world.connect();
    world.call(one, "SUBSCRIBE __keyspace@0__:k");
    for node in 1..=3 {
        world
            .fabric
            .posts
            .push(Post::event(at(node), "__keyevent@0__:set", "k"));
        world
            .fabric
            .posts
            .push(Post::event(at(node), "__keyspace@0__:k", "set"));
        world.calm();
    }
    assert_eq!(world.got(peer).matches("pmessage").count(), 3);
    assert_eq!(world.got(one).matches("message").count(), 3);
    assert_eq!(world.got(all).matches("pmessage").count(), 6);
    assert_eq!(world.call(publisher, "PUBLISH news x"), ":1\r\n");
    assert_eq!(world.got(all).matches("pmessage").count(), 1);
}

/// A topology in which node 4 has taken over from node 1.
fn promoted(ground: &Ground) -> (Arc<redplane_upstream::Cluster>, Vec<Arc<Topology>>) {
    let before: Vec<_> = even(3)
        .into_iter()
        .map(|(a, b, node, _)| {
            let replicas = if node == at(1) { vec![at(4)] } else { Vec::new() };
            (a, b, node, replicas)
        })
        .collect();
    let after = before
        .iter()
        .map(|(a, b, node, _)| match *node == at(1) {
            true => (*a, *b, at(4), vec![at(1)]),
            false => (*a, *b, *node, Vec::new()),
        })
        .collect();
    ground.slots("c", &[before, after])
}

#[test]
fn a_promotion_moves_what_belongs_to_primaries() {
    let ground = Ground::new();
    let (cluster, topologies) = promoted(&ground);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = world(&ground);
    let peer = world.connect();
    world.call(peer, "PSUBSCRIBE __keyevent@0__:*");
    world.call(peer, "SUBSCRIBE a b c d e f");
    for slot in 0..(16384 / 3) {
        world.fabric.owners[slot] = at(4);
    }
    cluster.republish(topologies[1].clone());
    world.pass(300_000);
    // The former primary is a replica and lives: what it would say now is said by the new one.
    world.step(0);
    let mut nodes: Vec<SocketAddr> = world.fabric.sessions.iter().map(|session| session.0).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [at(2), at(3), at(4)]);
    for node in 1..=4 {
        world
            .fabric
            .posts
            .push(Post::event(at(node), "__keyevent@0__:set", "k"));
    }
    world.calm();
    assert_eq!(world.got(peer).matches("pmessage").count(), 3);
    for name in ["a", "b", "c", "d", "e", "f"] {
        let publisher = world.connect();
        assert_eq!(world.call(publisher, &format!("PUBLISH {name} x")), ":1\r\n");
        assert_eq!(world.got(peer), message(name, "x"));
    }
}

#[test]
fn a_push_keeps_subscriptions() {
    let ground = Ground::new();
    let (first, _) = ground.slots("c", &[even(3)]);
    ground.publish(&[&first], &proxy("c"));
    let mut world = world(&ground);
    let (peer, publisher) = (world.connect(), world.connect());
    world.call(peer, "SUBSCRIBE news");
    world.call(peer, "SSUBSCRIBE s");
    world.call(peer, "PSUBSCRIBE __key*");
    // The cluster is replaced by one of the same name, under other settings.
    let (second, _) = ground.slots("c", &[even(3)]);
    let mut next = proxy("c");
    let mut own = settings();
    own.op_timeout += std::time::Duration::from_millis(7);
    next.settings = Arc::new(own);
    ground.publish(&[&second], &next);
    world.pass(300_000);
    assert_eq!(world.call(publisher, "PUBLISH news x"), ":1\r\n");
    assert_eq!(world.call(publisher, "SPUBLISH s y"), ":1\r\n");
    world
        .fabric
        .posts
        .push(Post::event(at(2), "__keyspace@0__:k", "set"));
    world.calm();
    let got = world.got(peer);
    assert_eq!(got.matches("message").count(), 3, "{got}");
    // A cluster that goes takes nothing along, and when it is back all is well.
    ground.publish(&[], &next);
    world.pass(300_000);
    assert_eq!(upstream(&mut world), 0);
    ground.publish(&[&second], &next);
    world.pass(300_000);
    assert_eq!(world.call(publisher, "PUBLISH news z"), ":1\r\n");
    assert_eq!(world.got(peer), message("news", "z"));
    assert_eq!(ground.stat("redis.p.downstream_cx_active"), 2);
}

#[test]
fn a_route_that_leads_elsewhere_takes_subscriptions_along() {
    let ground = Ground::new();
    let (one, two) = (ground.hashed("one", &[at(1)]), ground.hashed("two", &[at(2)]));
    ground.publish(&[&one, &two], &proxy("one"));
    let mut world = World::new(&ground, Fabric::plain(&[at(1), at(2)]), 1);
    let (peer, publisher) = (world.connect(), world.connect());
    world.call(peer, "SUBSCRIBE news");
    world.call(peer, "PSUBSCRIBE n*");
    ground.publish(&[&one, &two], &proxy("two"));
    world.pass(100_000);
    assert_eq!(world.call(publisher, "PUBLISH news x"), ":2\r\n");
    assert_eq!(world.got(peer).matches("message").count(), 2);
    world.pass(5_000_000);
    assert!(!world.is_connected_to(at(1)));
    assert_eq!(
        world.call(peer, "UNSUBSCRIBE news"),
        confirmed("unsubscribe", "news", 1)
    );
}

#[test]
fn prefixes_route_channels_and_do_not_rename_them() {
    let ground = Ground::new();
    let (one, two) = (ground.hashed("one", &[at(1)]), ground.hashed("two", &[at(2)]));
    let mut own = proxy("one");
    own.routes.prefixes = vec![Route {
        prefix: b"b:".to_vec(),
        remove_prefix: true,
        ..route("two")
    }];
    ground.publish(&[&one, &two], &own);
    let mut world = World::new(&ground, Fabric::plain(&[at(1), at(2)]), 1);
    let (peer, publisher) = (world.connect(), world.connect());
    world.call(peer, "SUBSCRIBE b:news news");
    world.call(peer, "PSUBSCRIBE *");
    for name in ["b:news", "news"] {
        assert_eq!(world.call(publisher, &format!("PUBLISH {name} x")), ":2\r\n");
        let got = world.got(peer);
        assert!(got.contains(&message(name, "x")), "{got}");
        assert_eq!(got.matches("pmessage").count(), 1, "{got}");
    }
    world.call(peer, "PUNSUBSCRIBE *");
    world.call(peer, "PSUBSCRIBE b:n*");
    world.calm();
    let of_one: Vec<_> = world
        .fabric
        .sessions
        .iter()
        .filter(|session| session.0 == at(1))
        .collect();
    assert!(
        of_one
            .iter()
            .all(|session| session.1.matching(&Post::event(at(1), "b:nothing", "")) == 0)
    );
}

#[test]
fn fleets_have_a_channel_on_one_host_and_patterns_on_all() {
    let ground = Ground::new();
    let nodes = [at(1), at(2), at(3)];
    let fleet = ground.hashed("fleet", &nodes);
    ground.publish(&[&fleet], &proxy("fleet"));
    let mut world = World::new(&ground, Fabric::plain(&nodes), 1);
    let (peer, publisher) = (world.connect(), world.connect());
    world.call(peer, "PSUBSCRIBE c*");
    world.step(0);
    assert_eq!(world.fabric.sessions.len(), 3);
    for name in ["c1", "c2", "c3", "c4", "c5"] {
        world.call(peer, &format!("SUBSCRIBE {name}"));
        assert_eq!(world.call(publisher, &format!("PUBLISH {name} x")), ":2\r\n");
        assert_eq!(world.got(peer).matches("message").count(), 2);
    }
}

#[test]
fn resp3_gets_pushes_and_may_do_anything() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    for node in 1..=3 {
        world.fabric.node(at(node)).script = Some(Box::new(|words| {
            (words[0] == b"hello").then(|| b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec())
        }));
    }
    let (peer, other) = (world.connect(), world.connect());
    world.call(peer, "HELLO 3");
    world.call(other, "SUBSCRIBE news");
    assert_eq!(
        world.call(peer, "SUBSCRIBE news"),
        confirmed("subscribe", "news", 1).replacen('*', ">", 1)
    );
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
    let got = world.call(peer, "PUBLISH news x");
    assert!(
        got.contains(&message("news", "x").replacen('*', ">", 1)) && got.contains(":2\r\n"),
        "{got}"
    );
    assert_eq!(world.got(other), message("news", "x"));
    // Both protocols share one subscription.
    assert_eq!(upstream(&mut world), 1);
    assert_eq!(world.call(peer, "RESET"), "+RESET\r\n");
    assert_eq!(
        world.call(peer, "UNSUBSCRIBE"),
        "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
    );
}

#[test]
fn who_does_not_read_is_dropped_and_nobody_else() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let (idle, well, publisher) = (world.connect(), world.connect(), world.connect());
    world.call(idle, "SUBSCRIBE news");
    world.call(well, "SUBSCRIBE news");
    world.peers[idle].window = 0;
    for size in [200_000, 100] {
        let payload = "x".repeat(size);
        for _ in 0..20 {
            world.call(publisher, &format!("PUBLISH news {payload}"));
            assert_eq!(world.got(well).len(), message("news", &payload).len());
        }
    }
    assert!(!world.peers[idle].closed);
    let payload = "x".repeat(200_000);
    for _ in 0..200 {
        world.call(publisher, &format!("PUBLISH news {payload}"));
        assert_eq!(world.got(well).len(), message("news", &payload).len());
    }
    assert!(world.peers[idle].closed && !world.peers[well].closed);
    assert_eq!(
        ground.stat("cluster.c.redis_cluster.pubsub.slow_subscriber_closed"),
        1
    );
}

#[test]
fn who_reads_too_slowly_for_a_minute_is_dropped() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let (slow, late, publisher) = (world.connect(), world.connect(), world.connect());
    for peer in [slow, late] {
        world.call(peer, "SUBSCRIBE news");
        world.peers[peer].window = 0;
    }
    let payload = "x".repeat(100_000);
    for _ in 0..100 {
        world.call(publisher, &format!("PUBLISH news {payload}"));
    }
    world.pass(30_000_000);
    world.peers[late].window = usize::MAX;
    world.pass(31_000_000);
    assert!(world.peers[slow].closed && !world.peers[late].closed);
}

#[test]
fn questions_count_clients() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    for node in 1..=3 {
        world.fabric.node(at(node)).script = Some(Box::new(|words| {
            match (
                words.first()?.as_slice(),
                words.get(1)?.to_ascii_lowercase().as_slice(),
            ) {
                (b"pubsub", b"numsub") => Some(b"*4\r\n$4\r\nnews\r\n:1\r\n$1\r\nx\r\n:5\r\n".to_vec()),
                (b"pubsub", b"numpat") => Some(b":1\r\n".to_vec()),
                _ => None,
            }
        }));
    }
    let peers: Vec<usize> = (0..7).map(|_| world.connect()).collect();
    for peer in &peers {
        world.call(*peer, "SUBSCRIBE news");
        world.call(*peer, "PSUBSCRIBE *");
    }
    let asking = world.connect();
    // Each node was made to count one: ours is one of them, the two others are strangers.
    assert_eq!(
        world.call(asking, "PUBSUB NUMSUB news x"),
        "*4\r\n$4\r\nnews\r\n:9\r\n$1\r\nx\r\n:15\r\n"
    );
    assert_eq!(world.call(asking, "PUBSUB NUMPAT"), ":1\r\n");
    let refused = world.call(asking, "PUBSUB CHANNELS a b");
    assert!(refused.starts_with("-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'"));
}
