//! Bounds: what waits at a server, what waits for a client, and how long a reply may be, whatever way a request takes.

use super::failing::keys;
use super::ground::{Ground, at, even};
use super::node::Fabric;
use super::world::World;

/// What may wait at one server's connection.
const BOUND: usize = 8 * 1024 * 1024;
/// One request, one read and what a socket holds on top of it.
const SLACK: usize = 512 * 1024;

fn world(ground: &Ground) -> World {
    World::new(ground, Fabric::new(&even(3)), 1)
}

fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    redplane_resp::encode::request(&mut frame, words);
    frame
}

#[test]
fn the_bound_of_a_slow_server_holds_while_replies_are_written() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [key, ..] = keys();
    let (eager, well) = (world.connect(), world.connect());
    let frame = request(&[b"SET", key.as_bytes(), &[b'x'; 20_000]]);
    world.call(eager, &format!("GET {key}"));
    let count = 1_000;
    for _ in 0..count {
        world.send(eager, &frame);
    }
    let mut worst = 0;
    let mut rounds = 0;
    while world.unread(eager) > 0 {
        rounds += 1;
        assert!(rounds < 1_000, "it has to come to an end");
        // It takes a little and answers that, so that replies are written all the time.
        world.fabric.node(at(1)).stalled = true;
        world.step(100);
        world.fabric.node(at(1)).stalled = false;
        world.ask(well, &format!("GET {key}"));
        world.step(100);
        let answered = world.peers[eager].inbox.len() / 5 * frame.len();
        let taken = count * frame.len() - world.unread(eager);
        worst = worst.max(taken.saturating_sub(answered));
    }
    world.calm();
    assert_eq!(world.got(eager), "+OK\r\n".repeat(count));
    assert!(worst <= BOUND + SLACK, "{worst} bytes were on their way");
    assert!(worst > BOUND / 2, "{worst} bytes: the server was never slow");
    assert!(!world.got(well).contains('-'), "a bystander is not touched");
}

#[test]
fn every_way_to_a_server_has_the_same_bound() {
    let [key, other, _] = keys();
    let value = [b'x'; 20_000];
    let block = [
        request(&[b"MULTI"]),
        request(&[b"SET", key.as_bytes(), &value]),
        request(&[b"EXEC"]),
    ];
    let body = [&b"return 1 --"[..], &value].concat();
    let ways: [(&str, Vec<u8>); 7] = [
        ("one key", request(&[b"SET", key.as_bytes(), &value])),
        ("a transaction", block.concat()),
        (
            "a script without keys",
            request(&[b"EVAL", b"return 1", b"0", &value]),
        ),
        ("a script for all", request(&[b"SCRIPT", b"LOAD", &body])),
        ("a message", request(&[b"PUBLISH", key.as_bytes(), &value])),
        (
            "parts",
            request(&[b"MSET", key.as_bytes(), &value, other.as_bytes(), &value]),
        ),
        ("any server", request(&[b"FUNCTION", b"LOAD", &body])),
    ];
    for (way, frame) in ways {
        let (ground, _cluster) = Ground::three_shards();
        let mut world = world(&ground);
        let (eager, well) = (world.connect(), world.connect());
        for key in keys() {
            world.call(well, &format!("GET {key}"));
        }
        for node in 1..=3 {
            world.fabric.node(at(node)).stalled = true;
        }
        // As much as would fill all three of them.
        let count = (3 * BOUND).div_ceil(frame.len());
        for _ in 0..count {
            world.send(eager, &frame);
        }
        world.calm();
        let taken = count * frame.len() - world.unread(eager);
        // Each of the two servers of the parts has its own.
        let servers = if way == "parts" { 2 } else { 1 };
        assert!(
            taken <= servers * BOUND + SLACK,
            "{way}: {taken} bytes were taken in"
        );
        assert_eq!(world.call(well, "PING"), "+PONG\r\n", "{way}");
    }
}

#[test]
fn parts_that_wait_for_a_slow_server_count() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [slow, fast, _] = keys();
    let (eager, well) = (world.connect(), world.connect());
    world.send(well, &request(&[b"SET", fast.as_bytes(), &[b'x'; 100_000]]));
    world.call(well, &format!("GET {slow}"));
    world.got(well);
    world.fabric.node(at(1)).stalled = true;
    let words = [vec![fast.as_str(); 20], vec![slow.as_str()]].concat();
    for _ in 0..40 {
        world.ask(eager, &format!("MGET {}", words.join(" ")));
    }
    world.calm();
    world.ask(eager, "PING");
    world.calm();
    assert!(world.unread(eager) > 0, "80 MB wait for it, and it is read from");
    world.fabric.node(at(1)).stalled = false;
    world.calm();
    assert_eq!(world.unread(eager), 0);
    let got = world.got(eager);
    assert_eq!(got.matches("*21\r\n").count(), 40);
    assert!(got.ends_with("$-1\r\n+PONG\r\n"));
}

#[test]
fn a_reply_that_never_ends_has_a_bound_and_a_deadline() {
    let (ground, _cluster) = Ground::three_shards();
    let [key, other, _] = keys();
    let cases: [(&[u8], bool); 3] = [
        (b"$2000000000\r\nbegun", true),
        (b"*3\r\n$2000000000\r\nbegun", true),
        (b"*1000000000\r\n$1\r\nx\r\n", false),
    ];
    for (begun, at_once) in cases {
        let mut world = world(&ground);
        let peer = world.connect();
        world.fabric.node(at(1)).script = Some(Box::new(move |words| {
            (words[0] == b"get").then(|| begun.to_vec())
        }));
        world.ask(peer, &format!("GET {key}"));
        world.calm();
        let expected = if at_once { "-upstream failure\r\n" } else { "" };
        let text = String::from_utf8_lossy(begun);
        assert_eq!(world.got(peer), expected, "{text}");
        if !at_once {
            // More of it comes all the time: that is no answer.
            world.pass(1_200_000);
            assert_eq!(world.got(peer), "-upstream failure\r\n", "{text}");
        }
        assert_eq!(world.call(peer, &format!("GET {other}")), "$-1\r\n");
    }
}

#[test]
fn a_request_that_is_sent_again_condemns_nobody_else() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [key, ..] = keys();
    let (patient, well) = (world.connect(), world.connect());
    world.call(well, &format!("GET {key}"));
    world.fabric.node(at(1)).script = Some(Box::new(|words| {
        (words[0] == b"rename").then(|| b"-TRYAGAIN later\r\n".to_vec())
    }));
    world.ask(patient, &format!("RENAME {key} {{{key}}}"));
    // Shortly before its time is over it is sent once more, and the server takes a while for all that it is asked.
    world.pass(970_000);
    world.fabric.node(at(1)).delay = 60_000;
    let mut asked = 0;
    for _ in 0..20 {
        world.ask(well, &format!("GET {key}"));
        asked += 1;
        world.pass(5_000);
    }
    world.pass(500_000);
    let got = world.got(well);
    assert_eq!(got, "$-1\r\n".repeat(asked), "a bystander's connection broke");
    let answer = world.got(patient);
    assert!(
        answer == "-upstream failure\r\n" || answer == "-TRYAGAIN later\r\n",
        "{answer:?}"
    );
}
