//! Servers that say what nobody asked for: their connections end, in the very turn in which clients want to use them.

use super::ground::{Ground, at, even};
use super::node::Fabric;
use super::world::World;

/// No RESP, and a reply to nothing.
const NONSENSE: [&[u8]; 2] = [b"nonsense\r\n", b"+OK\r\n"];

/// What is tried with each of them, and in each order of the events of a turn.
fn with_each(mut attempt: impl FnMut(&mut World, &[u8])) {
    for nonsense in NONSENSE {
        for seed in 0..8 {
            let (ground, _cluster) = Ground::three_shards();
            let mut world = World::new(&ground, Fabric::new(&even(3)), seed);
            attempt(&mut world, nonsense);
            // Nothing is left behind, and others are served.
            world.pass(3_000_000);
            let other = world.connect();
            assert_eq!(world.call(other, "SET other 1"), "+OK\r\n");
        }
    }
}

fn blurt_all(world: &mut World, bytes: &[u8]) {
    (1..=3).for_each(|node| world.blurt(at(node), bytes));
}

#[test]
fn a_subscription_begins_while_its_feed_ends() {
    with_each(|world, nonsense| {
        let (first, second) = (world.connect(), world.connect());
        world.call(first, "SUBSCRIBE news");
        blurt_all(world, nonsense);
        world.ask(second, "SUBSCRIBE news");
        world.ask(second, "SUBSCRIBE a b c d e f g h");
        world.ask(first, "UNSUBSCRIBE news");
        world.calm();
        world.pass(3_000_000);
        let got = world.got(second);
        assert!(
            got.starts_with("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"),
            "{got}"
        );
        assert!(got.ends_with("$1\r\nh\r\n:9\r\n"), "{got}");
        world.break_off(first);
        world.break_off(second);
    });
}

#[test]
fn a_transaction_ends_while_its_connection_does() {
    for last in ["EXEC", "DISCARD", "UNWATCH", "WATCH k"] {
        with_each(|world, nonsense| {
            let peer = world.connect();
            assert_eq!(world.call(peer, "WATCH k"), "+OK\r\n");
            if matches!(last, "EXEC" | "DISCARD") {
                world.call(peer, "MULTI");
                world.call(peer, "SET k 1");
            }
            blurt_all(world, nonsense);
            world.ask(peer, last);
            world.ask(peer, "PING");
            world.calm();
            world.pass(3_000_000);
            let got = world.got(peer);
            assert!(got.ends_with("+PONG\r\n") && got.len() > 7, "{last}: {got}");
        });
    }
}

#[test]
fn a_wait_begins_or_ends_while_its_connection_does() {
    with_each(|world, nonsense| {
        let (waits, comes) = (world.connect(), world.connect());
        world.call(comes, "BLPOP other 0.01");
        world.pass(100_000);
        world.ask(waits, "BLPOP list 1");
        world.calm();
        blurt_all(world, nonsense);
        world.ask(comes, "BLPOP list 1");
        world.ask(comes, "GET list");
        world.finish(waits);
        world.calm();
        world.pass(6_000_000);
        let got = world.got(comes);
        assert!(got.matches("\r\n").count() > 1, "{got}");
    });
}

#[test]
fn requests_that_are_on_their_way_are_answered_once() {
    with_each(|world, nonsense| {
        let peer = world.connect();
        world.call(peer, "MGET a b c d e f");
        for _ in 0..3 {
            (0..50).for_each(|n| world.ask(peer, &format!("GET k{n}")));
            world.ask(peer, "MGET a b c d e f");
            world.ask(peer, "DBSIZE");
            world.step(10);
            blurt_all(world, nonsense);
            world.calm();
        }
        world.ask(peer, "ECHO end");
        world.calm();
        world.pass(6_000_000);
        let got = world.got(peer);
        assert!(got.ends_with("$3\r\nend\r\n"), "{got}");
    });
}
