//! Pushes that reach open clients, clusters that go and come back.

use redplane_config::redis_proxy::{DownstreamAuth, Passwords, Protocol};
use redplane_proxy::Opened;

use super::failing::keys;
use super::ground::{Ground, at, even, opened, proxy};
use super::node::Fabric;
use super::world::World;

#[test]
fn the_next_command_runs_under_the_new_routes() {
    let ground = Ground::new();
    let (one, two) = (ground.hashed("one", &[at(1)]), ground.hashed("two", &[at(2)]));
    ground.publish(&[&one, &two], &proxy("one"));
    let mut world = World::new(&ground, Fabric::plain(&[at(1), at(2)]), 1);
    let peer = world.connect();
    assert_eq!(world.call(peer, "SET k 1"), "+OK\r\n");
    world.fabric.node(at(1)).delay = 5_000;
    world.ask(peer, "GET k");
    world.calm();
    ground.publish(&[&one, &two], &proxy("two"));
    world.ask(peer, "GET k");
    world.ask(peer, "SET k 2");
    world.pass(50_000);
    // What was in flight finishes where it was.
    assert_eq!(world.got(peer), "$1\r\n1\r\n$-1\r\n+OK\r\n");
    assert_eq!(world.fabric.node(at(2)).data[&b"k"[..]], b"2");
    assert_eq!(
        world.connections(),
        1,
        "the former cluster's connection is drained"
    );
}

#[test]
fn a_cluster_that_goes_fails_and_comes_back() {
    let (ground, cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    let [key, ..] = keys();
    assert_eq!(world.call(peer, &format!("SET {key} 1")), "+OK\r\n");
    world.fabric.node(at(1)).delay = 5_000;
    world.ask(peer, &format!("GET {key}"));
    world.calm();
    ground.publish(&[], &proxy("c"));
    for words in [
        format!("GET {key}"),
        "KEYS *".into(),
        "SCAN 0".into(),
        "INFO.SHARD 0".into(),
        "MGET a b".into(),
    ] {
        world.ask(peer, &words);
    }
    world.pass(50_000);
    let got = world.got(peer);
    assert!(got.starts_with("$1\r\n1\r\n-no upstream host\r\n"), "{got}");
    assert_eq!(world.connections(), 0);
    ground.publish(&[&cluster], &proxy("c"));
    world.ask(peer, &format!("GET {key}"));
    world.pass(50_000);
    assert_eq!(world.got(peer), "$1\r\n1\r\n");
}

#[test]
fn walks_over_shards_survive_a_push() {
    let (ground, cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    for node in 1..=3 {
        world.fabric.node(at(node)).delay = 5_000;
    }
    for round in 0..10 {
        world.ask(peer, "SCAN 0");
        world.ask(peer, "RANDOMKEY");
        world.ask(peer, "KEYS *");
        world.pass(2_000 + 500 * round);
        let mut next = proxy(if round % 2 == 0 { "nothing" } else { "c" });
        let mut settings = super::ground::settings();
        settings.op_timeout += std::time::Duration::from_millis(round);
        next.settings = std::sync::Arc::new(settings);
        ground.publish(&[&cluster], &next);
        world.pass(100_000);
        assert_eq!(world.call(peer, "PING").matches("+PONG\r\n").count(), 1);
    }
}

#[test]
fn hosts_that_leave_drain() {
    let ground = Ground::new();
    let without: Vec<_> = even(3)
        .into_iter()
        .map(|(first, last, node, r)| (first, last, if node == at(1) { at(2) } else { node }, r))
        .collect();
    let (cluster, topologies) = ground.slots("c", &[even(3), without]);
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    let [key, ..] = keys();
    world.fabric.node(at(1)).delay = 5_000;
    world.ask(peer, &format!("SET {key} 1"));
    world.calm();
    cluster.republish(topologies[1].clone());
    world.ask(peer, "GET other");
    world.pass(50_000);
    assert!(world.got(peer).starts_with("+OK\r\n"), "the write was lost");
    assert_eq!(ground.stat("cluster.c.redis_cluster.upstream_cx_drained"), 1);
    assert!(!world.is_connected_to(at(1)));
}

#[test]
fn logging_in() {
    let (ground, cluster) = Ground::three_shards();
    let mut locked = proxy("c");
    locked.auth = Some(DownstreamAuth::Passwords(Passwords {
        username: None,
        passwords: vec![b"secret".to_vec()],
    }));
    ground.publish(&[&cluster], &locked);
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    let denied = "-NOAUTH Authentication required.\r\n";
    for words in ["GET k", "MULTI", "PING", "SUBSCRIBE x", "SELECT 0"] {
        assert_eq!(world.call(peer, words), denied, "{words}");
    }
    assert!(world.call(peer, "AUTH wrong").starts_with("-WRONGPASS"));
    assert!(
        world
            .call(peer, "HELLO 2 AUTH default wrong")
            .starts_with("-WRONGPASS")
    );
    assert!(
        world
            .call(peer, "HELLO 2 AUTH default secret SETNAME me")
            .starts_with("*14\r\n")
    );
    assert_eq!(world.call(peer, "CLIENT GETNAME"), "$2\r\nme\r\n");
    assert_eq!(world.call(peer, "RESET"), "+RESET\r\n");
    assert_eq!(world.call(peer, "GET k"), denied);
    assert_eq!(world.call(peer, "AUTH secret"), "+OK\r\n");
    assert_eq!(world.call(peer, "GET k"), "$-1\r\n");
}

#[test]
fn servers_passwords_come_first() {
    let ground = Ground::new();
    let (cluster, _) = ground.slots_with("c", &[even(3)], |config| {
        config.redis_auth.password = b"inner".to_vec();
    });
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    for node in 1..=3 {
        world.fabric.node(at(node)).password = Some(b"inner".to_vec());
    }
    let peer = world.connect();
    assert_eq!(world.call(peer, "SET k 1"), "+OK\r\n");
    world.ask(peer, "WATCH k");
    world.ask(peer, "MULTI");
    world.ask(peer, "INCR k");
    assert!(world.call(peer, "EXEC").ends_with("*1\r\n:2\r\n"));
}

#[test]
fn a_refused_login_is_counted() {
    let ground = Ground::new();
    let (cluster, _) = ground.slots_with("c", &[even(3)], |config| {
        config.redis_auth.password = b"wrong".to_vec();
    });
    ground.publish(&[&cluster], &proxy("c"));
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    for node in 1..=3 {
        world.fabric.node(at(node)).password = Some(b"inner".to_vec());
    }
    let peer = world.connect();
    assert_eq!(world.call(peer, "GET k"), "-NOAUTH Authentication required.\r\n");
    assert_eq!(ground.stat("cluster.c.redis_cluster.upstream_auth_failure"), 1);
}

#[test]
fn a_listener_for_resp3_alone_wants_hello_first() {
    let (ground, cluster) = Ground::three_shards();
    let mut strict = proxy("c");
    strict.protocol = Protocol::Resp3;
    strict.auth = Some(DownstreamAuth::Passwords(Passwords {
        username: None,
        passwords: vec![b"secret".to_vec()],
    }));
    ground.publish(&[&cluster], &strict);
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let peer = world.connect();
    let refused = "-NOPROTO unsupported protocol version\r\n";
    for words in ["PING", "GET k", "NOSUCH", "HELLO", "HELLO 2", "MULTI"] {
        assert_eq!(world.call(peer, words), refused, "{words}");
    }
    assert_eq!(ground.stat("redis.p.downstream_rq_noproto"), 6);
    assert!(world.call(peer, "HELLO 3").starts_with("-NOAUTH"));
    assert_eq!(world.call(peer, "AUTH secret"), "+OK\r\n");
    assert_eq!(world.call(peer, "PING"), refused, "logged in, not greeted");
    assert!(world.call(peer, "HELLO 3").starts_with("%7\r\n"));
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
    assert_eq!(world.call(peer, "HELLO 2"), refused);
    assert!(world.call(peer, "HELLO").starts_with("%7\r\n"));
    assert_eq!(world.call(peer, "RESET"), "+RESET\r\n");
    assert_eq!(world.call(peer, "PING"), refused);
    assert!(
        world
            .call(peer, "HELLO 3 AUTH default secret")
            .starts_with("%7\r\n")
    );
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
}

#[test]
fn a_drained_listener_closes_each_client_at_its_quiet_point() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    let (idle, busy) = (world.connect(), world.connect());
    world.fabric.node(at(1)).delay = 5_000;
    world.ask(busy, &format!("GET {key}"));
    world.calm();
    world.engine.drain(super::ground::LISTENER);
    // In the same turn somebody comes.
    let next = world.connect();
    world.calm();
    assert!(world.peers[idle].closed && !world.peers[busy].closed && !world.peers[next].closed);
    assert_eq!(world.call(next, "PING"), "+PONG\r\n");
    world.pass(50_000);
    assert_eq!(
        (world.got(busy).as_str(), world.peers[busy].closed),
        ("$-1\r\n", true)
    );
}

#[test]
fn what_was_read_before_a_drain_is_answered() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    let peer = world.connect();
    world.call(peer, &format!("RPUSH {key}l a"));
    for words in [
        format!("GET {key}"),
        format!("BLPOP {key}l 1"),
        format!("SET {key} 1"),
    ] {
        world.ask(peer, &words);
    }
    world.step(0);
    world.engine.drain(super::ground::LISTENER);
    world.calm();
    let list = format!("*2\r\n${}\r\n{key}l\r\n$1\r\na\r\n", key.len() + 1);
    assert_eq!(world.got(peer), format!("$-1\r\n{list}+OK\r\n"));
    assert!(world.peers[peer].closed);
}

/// A chain that got a password, or another kind: who came before is served as it came, once more, and nobody else is
/// touched.
#[test]
fn a_chain_that_ends_serves_its_clients_once_more() {
    let (ground, cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    let (idle, busy, greeted) = (world.connect(), world.connect(), world.connect());
    assert!(world.call(greeted, "HELLO 3").starts_with("%7\r\n"));
    // Accepted before the push, handed over behind it.
    let on_its_way = opened(&ground.store);
    let life = on_its_way.life;
    let mut locked = proxy("c");
    locked.auth = Some(DownstreamAuth::Passwords(Passwords {
        username: None,
        passwords: vec![b"secret".to_vec()],
    }));
    ground.publish(&[&cluster], &locked);
    assert_ne!(opened(&ground.store).life, life);
    let next = world.connect();
    let late = world.connect_as(Opened {
        draining: true,
        ..on_its_way
    });
    world.engine.drain_chain(life);
    world.calm();
    for peer in [idle, busy, greeted, late, next] {
        assert!(!world.peers[peer].closed, "what it sends may be on its way");
    }
    assert_eq!(world.engine.clients_of_chain(life).len(), 4);
    let get = format!("GET {key}");
    for (peer, words, reply) in [
        (busy, &*get, "$-1\r\n"),
        (greeted, "PING", "+PONG\r\n"),
        (late, &*get, "$-1\r\n"),
    ] {
        world.ask(peer, words);
        world.pass(50_000);
        assert_eq!(
            (world.got(peer).as_str(), world.peers[peer].closed),
            (reply, true)
        );
    }
    assert!(!world.peers[idle].closed);
    assert_eq!(world.engine.clients_of_chain(life).len(), 1);
    assert_eq!(world.call(next, &get), "-NOAUTH Authentication required.\r\n");
    assert!(!world.peers[next].closed);
}
