//! Nobody takes more than its part of a turn, and nobody takes a turn down.

use super::failing::keys;
use super::ground::{Ground, at, even};
use super::node::{Fabric, Reach};
use super::world::World;

/// Clients of a cluster, which is there.
fn world(ground: &Ground) -> World {
    let mut world = World::new(ground, Fabric::new(&even(3)), 1);
    for node in 1..=3 {
        world.fabric.node(at(node)).script = Some(Box::new(|words| match words[0].as_slice() {
            b"hello" => Some(b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec()),
            b"ping" => Some(b"+PONG\r\n".to_vec()),
            _ => None,
        }));
    }
    world
}

#[test]
fn a_pipeline_leaves_others_their_part_of_every_turn() {
    let (ground, _cluster) = Ground::three_shards();
    for (body, times) in [
        (&["MULTI", "EXEC"][..], 3_000),
        (&["MULTI", "PING", "EXEC"], 2_000),
        (&["MULTI", "DISCARD", "CLIENT LIST"], 2_000),
        (&["HELLO 3", "HELLO 2"], 2_000),
        (&["CLIENT TRACKING ON", "CLIENT TRACKING OFF"], 2_000),
        (&["RESET", "SELECT 0"], 2_000),
        (&["COMMAND"], 2_000),
        (&["CLIENT REPLY OFF", "COMMAND", "CLIENT HELP"], 2_000),
    ] {
        let mut world = world(&ground);
        let (eager, other) = (world.connect(), world.connect());
        world.call(eager, "PING");
        world.got(eager);
        for at in 0..times {
            world.ask(eager, body[at % body.len()]);
        }
        let mut came = 0;
        for turn in 0..10 {
            world.ask(other, "PING");
            world.step(10);
            assert_eq!(world.got(other), "+PONG\r\n", "{body:?} in turn {turn}");
            let got = world.got(eager).len();
            assert!(got < 20_000_000, "{body:?}: {got} bytes in turn {turn}");
            came += got;
        }
        assert!(came > 0 || body.contains(&"CLIENT REPLY OFF"), "{body:?}");
        let rests = body.contains(&"EXEC") || body.contains(&"HELLO 3");
        world.step(10);
        assert!(
            !world.got(eager).is_empty() || !rests,
            "{body:?}: all in ten turns"
        );
    }
}

#[test]
fn a_long_transaction_is_run_in_parts() {
    let (ground, _cluster) = Ground::three_shards();
    for (mode, pongs) in [("ON", 6_000), ("OFF", 0)] {
        let mut world = world(&ground);
        let (eager, other) = (world.connect(), world.connect());
        world.ask(eager, &format!("CLIENT REPLY {mode}"));
        world.ask(eager, "MULTI");
        (0..6_000).for_each(|_| world.ask(eager, "PING"));
        world.calm();
        world.got(eager);
        world.ask(eager, "EXEC");
        world.ask(eager, "CLIENT REPLY ON");
        let mut turns = 0;
        let mut got = String::new();
        while !got.ends_with("+OK\r\n") {
            world.ask(other, "PING");
            world.step(10);
            assert_eq!(world.got(other), "+PONG\r\n", "turn {turns}");
            got += &world.got(eager);
            turns += 1;
            assert!(turns < 10_000, "{} bytes", got.len());
        }
        assert!(turns >= 3, "{mode}: {turns} turns");
        assert_eq!(got.matches("+PONG\r\n").count(), pongs, "{mode}");
    }
}

/// A client that redirects invalidations to itself is closed, as a subscriber that does not read, while it is told what
/// it could not be told before.
#[test]
fn whoever_is_closed_while_it_is_told_something_is_still_there() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = world(&ground);
    let [slow, fast, _] = keys();
    let names = ["k1", "k2", "k3"].map(|name| format!("{name}{{{fast}}}"));
    let invalidations: Vec<u8> = names
        .iter()
        .flat_map(|name| {
            let mut push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n".to_vec();
            redplane_resp::encode::bulk(&mut push, name.as_bytes());
            push
        })
        .collect();
    let big = format!("big{{{fast}}}").into_bytes();
    let trigger = format!("trigger{{{fast}}}").into_bytes();
    for node in 1..=3 {
        let (big, trigger, invalidations) = (big.clone(), trigger.clone(), invalidations.clone());
        world.fabric.node(at(node)).script = Some(Box::new(move |words| match words[0].as_slice() {
            b"hello" => Some(b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec()),
            b"ping" => Some(b"+PONG\r\n".to_vec()),
            b"client" => Some(b"+OK\r\n".to_vec()),
            b"get" if words[1] == big => {
                let mut reply = Vec::new();
                redplane_resp::encode::bulk(&mut reply, &[b'x'; 1024 * 1024]);
                Some(reply)
            }
            b"get" if words[1] == trigger => Some([&invalidations[..], b"_\r\n"].concat()),
            b"get" => Some(b"_\r\n".to_vec()),
            _ => None,
        }));
    }
    let (tracker, other) = (world.connect(), world.connect());
    world.call(tracker, "HELLO 3");
    world.call(tracker, "SUBSCRIBE x");
    let id = world.call(tracker, "CLIENT ID");
    let id = id.trim_start_matches(':').trim();
    assert_eq!(
        world.call(tracker, &format!("CLIENT TRACKING ON REDIRECT {id}")),
        "+OK\r\n"
    );
    world.call(tracker, &format!("GET {slow}"));
    world.fabric.node(at(1)).stalled = true;
    world.ask(tracker, &format!("GET {slow}"));
    names
        .iter()
        .for_each(|name| world.ask(tracker, &format!("GET {name}")));
    for _ in 0..40 {
        world.ask(tracker, &format!("GET big{{{fast}}}"));
    }
    world.ask(tracker, &format!("GET trigger{{{fast}}}"));
    world.calm();
    assert!(!world.peers[tracker].closed);
    world.peers[tracker].window = 1000;
    world.fabric.node(at(1)).stalled = false;
    world.calm();
    assert!(
        world.peers[tracker].closed,
        "forty megabytes wait for a subscriber"
    );
    assert_eq!(world.call(other, "PING"), "+PONG\r\n");
}

/// A client moves to connections of its own kind, whose server is dead: it leaves them, and their pool with them, while
/// it hears that its connection is gone.
#[test]
fn whoever_leaves_a_pool_as_its_connection_goes_takes_nobody_down() {
    for words in [
        &["CLIENT TRACKING ON"][..],
        &["CLIENT TRACKING ON BCAST"],
        &["HELLO 3", "CLIENT TRACKING ON"],
        &["HELLO 3", "CLIENT TRACKING ON BCAST"],
        &["SELECT 5", "CLIENT TRACKING ON"],
        &["SELECT 5"],
    ] {
        for reach in [Reach::Refuses, Reach::Blackhole] {
            let ground = Ground::new();
            let cluster = ground.hashed("c", &[at(1)]);
            ground.publish(&[&cluster], &super::ground::proxy("c"));
            let mut world = World::new(&ground, Fabric::plain(&[at(1)]), 1);
            world.fabric.node(at(1)).reach = reach;
            let (client, other) = (world.connect(), world.connect());
            for words in words {
                world.ask(client, words);
                world.calm();
                world.pass(1_500_000);
                let got = world.got(client);
                let failed = got == "-upstream failure\r\n";
                assert!(failed || words.starts_with("HELLO"), "{words}: {got}");
            }
            assert_eq!(world.call(other, "ECHO still"), "$5\r\nstill\r\n", "{words:?}");
        }
    }
}

/// A push to a client that does not want to hear of its own writes is compared with a few of those on their way, not with
/// all: thousands of each would keep everybody waiting.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it really takes is the question"
)]
fn many_pushes_and_many_writes_do_not_multiply() {
    const MANY: usize = 4_000;
    let ground = Ground::new();
    let cluster = ground.hashed("c", &[at(1)]);
    ground.publish(&[&cluster], &super::ground::proxy("c"));
    let mut world = World::new(&ground, Fabric::plain(&[at(1)]), 1);
    world.fabric.node(at(1)).script = Some(Box::new(move |words| {
        let pushes = (0..MANY).map(|at| format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n$5\r\nk{at:04}\r\n"));
        Some(match words[0].as_slice() {
            b"hello" => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
            b"client" if words[1].eq_ignore_ascii_case(b"id") => b":7\r\n".to_vec(),
            b"client" | b"subscribe" => b"+OK\r\n".to_vec(),
            // What a feed is asked behind a write: its server tells of much that has changed.
            b"ping" => [pushes.collect::<String>().as_bytes(), b"+PONG\r\n"].concat(),
            b"get" => b"$-1\r\n".to_vec(),
            b"set" if words[1] == b"first" => b"+OK\r\n".to_vec(),
            // It takes its time.
            _ => Vec::new(),
        })
    }));
    let (writer, hears) = (world.connect(), world.connect());
    let id = world.call(hears, "CLIENT ID");
    let id = id.trim_start_matches(':').trim_end().to_owned();
    world.call(hears, "HELLO 3");
    let tracking = format!("CLIENT TRACKING ON NOLOOP REDIRECT {id}");
    assert_eq!(world.call(writer, &tracking), "+OK\r\n");
    (0..MANY).for_each(|at| world.ask(writer, &format!("GET k{at:04}")));
    world.calm();
    assert_eq!(world.got(writer).matches("$-1").count(), MANY);
    world.got(hears);
    world.ask(writer, "SET first 1");
    (0..MANY).for_each(|_| world.ask(writer, "SET other 1"));
    let begun = std::time::Instant::now();
    world.calm();
    let took = begun.elapsed();
    assert_eq!(world.got(hears).matches("invalidate").count(), MANY);
    assert!(took.as_secs() < 8, "{took:?}");
}
