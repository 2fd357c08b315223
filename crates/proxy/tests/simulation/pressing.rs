//! Much at once: large values, deep replies, clients that never read, servers that never read.

use super::failing::keys;
use super::ground::{Ground, at, even};
use super::node::Fabric;
use super::world::World;

fn world(ground: &Ground) -> World {
    World::new(ground, Fabric::new(&even(3)), 1)
}

fn set(key: &str, value: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    redplane_resp::encode::request(&mut frame, &[b"SET", key.as_bytes(), value]);
    frame
}

#[test]
fn large_values_pass_whole_and_in_order() {
    let (ground, _cluster) = Ground::three_shards();
    for (seed, size) in [(1, 64 * 1024), (2, 1024 * 1024), (3, 33_000), (4, 3_000_000)] {
        let mut world = world(&ground);
        world.random = fastrand::Rng::with_seed(seed);
        let peer = world.connect();
        let value: Vec<u8> = (0..size).map(|at| b'a' + (at % 23) as u8).collect();
        let keys = keys();
        for key in &keys {
            world.send(peer, &set(key, &value));
        }
        for key in keys.iter().rev() {
            world.ask(peer, &format!("GET {key}"));
        }
        world.ask(peer, &format!("MGET {} {}", keys[2], keys[0]));
        world.ask(peer, "PING");
        world.calm();
        let got = std::mem::take(&mut world.peers[peer].inbox);
        let mut expected = b"+OK\r\n+OK\r\n+OK\r\n".to_vec();
        (0..3).for_each(|_| redplane_resp::encode::bulk(&mut expected, &value));
        redplane_resp::encode::array(&mut expected, 2);
        (0..2).for_each(|_| redplane_resp::encode::bulk(&mut expected, &value));
        expected.extend_from_slice(b"+PONG\r\n");
        assert!(got == expected, "size {size}: {} bytes", got.len());
    }
}

#[test]
fn a_reply_of_a_hundred_thousand_levels_passes() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [key, other, _] = keys();
    let mut deep = b"*1\r\n".repeat(100_000);
    deep.extend_from_slice(b":1\r\n");
    let reply = deep.clone();
    world.fabric.node(at(1)).script = Some(Box::new(move |_| Some(reply.clone())));
    let peer = world.connect();
    world.ask(peer, &format!("GET {key}"));
    world.ask(peer, &format!("GET {other}"));
    world.calm();
    deep.extend_from_slice(b"$-1\r\n");
    assert!(world.peers[peer].inbox == deep);
    world.peers[peer].inbox.clear();
    // The same inside commands whose replies are put together.
    for words in [format!("MGET {key} {other}"), format!("DEL {key} {other}")] {
        world.call(peer, &words);
    }
    for words in [
        "DBSIZE",
        "KEYS *",
        "SCAN 0",
        "SLOWLOG GET",
        "INFO",
        "RANDOMKEY",
        "SCRIPT EXISTS x",
    ] {
        world.call(peer, words);
    }
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
}

#[test]
fn amounts_that_no_sum_can_hold_do_no_harm() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    for node in 1..=3 {
        world.fabric.node(at(node)).script = Some(Box::new(|words| {
            Some(match words[0].as_slice() {
                b"info" => b"$42\r\nused_memory:9223372036854775807\r\nx:y\r\n\r\n\r\n".to_vec(),
                b"pubsub" => b"*2\r\n$1\r\na\r\n:9223372036854775807\r\n".to_vec(),
                _ => b":9223372036854775807\r\n".to_vec(),
            })
        }));
    }
    let peer = world.connect();
    for words in [
        "DBSIZE",
        "DEL a b c d e",
        "INFO",
        "PUBSUB NUMSUB a",
        "SLOWLOG LEN",
    ] {
        world.call(peer, words);
    }
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
}

#[test]
fn a_client_that_never_reads_is_not_read_from() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [key, other, _] = keys();
    let (idle, well) = (world.connect(), world.connect());
    world.send(well, &set(&key, &[b'x'; 1000]));
    world.calm();
    world.peers[idle].window = 1000;
    for wave in [100_000, 50_000] {
        for _ in 0..wave {
            world.ask(idle, &format!("GET {key}"));
        }
        world.calm();
    }
    assert!(world.unread(idle) > 0, "everything was taken in");
    assert_eq!(world.peers[idle].inbox.len(), 1000);
    world.got(well);
    assert_eq!(world.call(well, &format!("GET {other}")), "$-1\r\n");
    world.peers[idle].window = usize::MAX;
    world.calm();
    assert_eq!(world.peers[idle].inbox.len(), 150_000 * (1000 + 9));
    assert_eq!(world.unread(idle), 0);
}

#[test]
fn a_client_that_asks_for_too_much_and_reads_nothing_is_closed() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [key, other, _] = keys();
    let (idle, well) = (world.connect(), world.connect());
    world.send(well, &set(&key, &[b'x'; 100_000]));
    world.calm();
    world.peers[idle].window = 1000;
    for _ in 0..3_000 {
        world.ask(idle, &format!("GET {key}"));
    }
    world.calm();
    assert!(!world.peers[idle].closed, "it had no time to read");
    world.pass(10_500_000);
    assert!(
        world.peers[idle].closed,
        "300 MB wait for a client that does not read"
    );
    // Where ever more comes that is not read, the end comes early.
    let idle = world.connect();
    world.peers[idle].window = 1000;
    world.fabric.node(at(1)).delay = 400_000;
    for _ in 0..3 {
        for _ in 0..3_000 {
            world.ask(idle, &format!("GET {key}"));
        }
        world.step(0);
        world.pass(300_000);
    }
    world.fabric.node(at(1)).delay = 0;
    world.pass(1_200_000);
    assert!(
        world.peers[idle].closed,
        "600 MB wait for a client that does not read"
    );
    world.got(well);
    assert_eq!(world.call(well, &format!("GET {other}")), "$-1\r\n");
}

#[test]
fn a_client_that_reads_gets_everything_whatever_its_size() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [key, other, _] = keys();
    let peer = world.connect();
    let size = 300 * 1024 * 1024;
    let whole = set(&key, &vec![b'x'; size]);
    for part in whole.chunks(1024 * 1024) {
        world.send(peer, part);
        world.calm();
    }
    assert_eq!(world.got(peer), "+OK\r\n");
    // One large reply to a client that takes a megabyte a second now and then, many to one that is slow.
    for (count, step) in [(1, 60), (2, 120)] {
        (0..count).for_each(|_| world.ask(peer, &format!("GET {key}")));
        world.ask(peer, &format!("GET {other}"));
        world.peers[peer].window = 0;
        let expected = count * (size + "$314572800\r\n\r\n".len()) + 5;
        let mut got = 0;
        while got < expected {
            assert!(!world.peers[peer].closed, "after {got} bytes of {expected}");
            world.peers[peer].window = step * 1024 * 1024;
            world.pass(400_000);
            got += std::mem::take(&mut world.peers[peer].inbox).len();
        }
        assert_eq!(got, expected);
        world.peers[peer].window = usize::MAX;
    }
}

#[test]
fn a_server_that_never_reads_holds_up_only_its_own_clients() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [key, other, _] = keys();
    let (eager, well) = (world.connect(), world.connect());
    world.call(eager, &format!("GET {key}"));
    world.fabric.node(at(1)).stalled = true;
    for _ in 0..1_000 {
        world.send(eager, &set(&key, &[b'x'; 20_000]));
    }
    world.calm();
    assert!(world.unread(eager) > 5_000_000, "everything was taken in");
    assert_eq!(world.call(well, &format!("GET {other}")), "$-1\r\n");
    world.fabric.node(at(1)).stalled = false;
    world.calm();
    assert_eq!(world.unread(eager), 0);
    assert_eq!(world.got(eager), "+OK\r\n".repeat(1_000));
    // The same, and the server breaks.
    world.fabric.node(at(1)).stalled = true;
    for _ in 0..1_000 {
        world.send(eager, &set(&key, &[b'x'; 20_000]));
    }
    world.calm();
    world.fabric.node(at(1)).stalled = false;
    world.cut(at(1));
    world.calm();
    world.pass(3_000_000);
    assert_eq!(world.unread(eager), 0);
    let got = world.got(eager);
    assert_eq!(got.matches("\r\n").count(), 1_000);
}

#[test]
fn early_replies_of_every_size_wait_for_their_turn() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [slow, fast, _] = keys();
    let peer = world.connect();
    let value = vec![b'v'; 60_000];
    world.send(peer, &set(&fast, &value));
    world.calm();
    world.got(peer);
    world.fabric.node(at(1)).delay = 100_000;
    let mut expected = Vec::new();
    for round in 0..200 {
        world.ask(peer, &format!("GET {slow}"));
        expected.extend_from_slice(b"$-1\r\n");
        world.ask(peer, &format!("GET {fast}"));
        redplane_resp::encode::bulk(&mut expected, &value);
        world.ask(peer, &format!("ECHO {round}"));
        redplane_resp::encode::bulk(&mut expected, round.to_string().as_bytes());
    }
    world.pass(2_000_000);
    assert!(world.peers[peer].inbox == expected);
}

#[test]
fn held_bytes_are_flushed_by_time_or_by_amount() {
    let ground = Ground::new();
    let (cluster, _) = ground.slots("c", &[even(3)]);
    let mut holding = super::ground::proxy("c");
    let mut settings = super::ground::settings();
    settings.max_buffer_size_before_flush = 1024;
    settings.buffer_flush_timeout = std::time::Duration::from_millis(20);
    holding.settings = std::sync::Arc::new(settings);
    ground.publish(&[&cluster], &holding);
    let mut world = world(&ground);
    let [key, ..] = keys();
    let peer = world.connect();
    world.ask(peer, &format!("GET {key}"));
    world.pass(100_000);
    world.got(peer);
    world.ask(peer, &format!("GET {key}"));
    world.calm();
    assert_eq!(world.got(peer), "");
    world.pass(60_000);
    assert_eq!(world.got(peer), "$-1\r\n");
    world.send(peer, &set(&key, &[b'x'; 2_000]));
    world.calm();
    assert_eq!(world.got(peer), "+OK\r\n");
}
