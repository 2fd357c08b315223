//! WAIT and WAITAOF on the model network: whom it asks, when, and what it makes of the answers.

use std::cell::Cell;
use std::rc::Rc;

use super::failing::keys;
use super::ground::{Ground, at, even};
use super::node::{Fabric, Reach};
use super::world::World;

const SECOND: u64 = 1_000_000;

/// A primary with one replica that comes to `offset` only when it is asked for it, or never.
struct Primary {
    own: Rc<Cell<u64>>,
    acked: Rc<Cell<u64>>,
    asked: Rc<Cell<u32>>,
}

impl Primary {
    fn at(world: &mut World, node: u8, follows: bool) -> Self {
        let primary = Self {
            own: Rc::new(Cell::new(100)),
            acked: Rc::new(Cell::new(90)),
            asked: Rc::default(),
        };
        let (own, acked, asked) = (primary.own.clone(), primary.acked.clone(), primary.asked.clone());
        world.fabric.node(at(node)).script = Some(Box::new(move |words| match words[0].as_slice() {
            b"info" => {
                asked.set(asked.get() + 1);
                let (own, acked) = (own.get(), acked.get());
                let text = format!(
                    "# Replication\r\nrole:master\r\nslave0:ip=1.1.1.1,port=1,state=online,offset={acked},lag=0\r\n\
                     master_repl_offset:{own}\r\n"
                );
                Some(format!("${}\r\n{text}\r\n", text.len()).into_bytes())
            }
            b"wait" => {
                // Others write on: what was waited for is there all the same.
                own.set(own.get() + 50);
                if follows {
                    acked.set(own.get() - 20);
                }
                Some(b":0\r\n".to_vec())
            }
            b"set" => {
                own.set(own.get() + 10);
                None
            }
            _ => None,
        }));
        primary
    }
}

fn three() -> (Ground, World) {
    let (ground, _cluster) = Ground::three_shards();
    let world = World::new(&ground, Fabric::new(&even(3)), 1);
    (ground, world)
}

#[test]
fn the_primaries_that_were_written_to_are_asked() {
    let (ground, mut world) = three();
    let primaries = [1, 2, 3].map(|node| Primary::at(&mut world, node, true));
    let [one, two, _] = keys();
    let peer = world.connect();
    world.ask(peer, &format!("SET {one} 1"));
    world.ask(peer, &format!("GET {two}"));
    world.ask(peer, "WAIT 1 0");
    world.ask(peer, "ECHO behind");
    world.calm();
    assert_eq!(world.got(peer), "+OK\r\n$-1\r\n:1\r\n$6\r\nbehind\r\n");
    let asked: Vec<bool> = primaries.iter().map(|primary| primary.asked.get() > 0).collect();
    assert_eq!(asked, [true, false, false]);
    // A second one lags: the least counts, and the time.
    let _lame = Primary::at(&mut world, 2, false);
    world.ask(peer, &format!("SET {two} 1"));
    world.ask(peer, "WAIT 1 300");
    world.pass(250_000);
    assert_eq!(world.got(peer), "+OK\r\n");
    assert_eq!(world.engine.blocked_clients(), 1);
    world.pass(150_000);
    assert_eq!(world.got(peer), ":0\r\n");
    assert_eq!(world.engine.blocked_clients(), 0);
    assert_eq!(ground.stat("cluster.c.upstream_rq_active"), 0);
    assert_eq!(ground.stat("redis.p.command.wait.success"), 2);
}

#[test]
fn a_split_write_counts_at_every_shard() {
    let (_ground, mut world) = three();
    let primaries = [1, 2, 3].map(|node| Primary::at(&mut world, node, true));
    let [one, two, three] = keys();
    let (peer, idle) = (world.connect(), world.connect());
    world.call(peer, &format!("MSET {one} 1 {two} 2"));
    assert_eq!(world.call(peer, "WAIT 1 0"), ":1\r\n");
    assert_eq!(
        primaries.each_ref().map(|primary| primary.asked.get() > 0),
        [true, true, false]
    );
    world.ask(peer, "MULTI");
    world.ask(peer, &format!("SET {three} 1"));
    world.call(peer, "EXEC");
    assert_eq!(world.call(peer, "WAIT 1 0"), ":1\r\n");
    assert!(primaries[2].asked.get() > 0);
    // Who wrote nothing waits for nothing.
    primaries.iter().for_each(|primary| primary.acked.set(0));
    assert_eq!(world.call(idle, "WAIT 1 0"), ":1\r\n");
    assert_eq!(
        world.call(idle, "WAIT x 0"),
        "-ERR value is not an integer or out of range\r\n"
    );
    assert_eq!(
        world.call(idle, "WAIT 1 x"),
        "-ERR timeout is not an integer or out of range\r\n"
    );
    assert_eq!(world.call(idle, "WAIT 1 -1"), "-ERR timeout is negative\r\n");
}

#[test]
fn a_primary_that_is_gone_says_nothing_more() {
    let (_ground, mut world) = three();
    let [one, ..] = keys();
    let _lame = Primary::at(&mut world, 1, false);
    let (peer, leaving, other) = (world.connect(), world.connect(), world.connect());
    for client in [peer, leaving] {
        world.call(client, &format!("SET {one} 1"));
        world.ask(client, "WAIT 1 0");
    }
    world.pass(5 * SECOND);
    assert_eq!(world.got(peer), "");
    world.finish(leaving);
    world.calm();
    assert!(world.peers[leaving].closed);
    assert_eq!(world.engine.blocked_clients(), 1);
    world.fabric.node(at(1)).reach = Reach::Refuses;
    world.pass(SECOND);
    assert_eq!(world.got(peer), "-upstream failure\r\n");
    assert_eq!(world.call(other, "ECHO x"), "$1\r\nx\r\n");
}

#[test]
fn disks_are_asked_where_nothing_blocks() {
    let (_ground, mut world) = three();
    let [one, ..] = keys();
    let synced = Rc::new(Cell::new(0));
    let now = synced.clone();
    world.fabric.node(at(1)).script = Some(Box::new(move |words| match words[0].as_slice() {
        b"waitaof" => Some(b"+QUEUED\r\n".to_vec()),
        b"exec" => Some(format!("*1\r\n*2\r\n:{}\r\n:0\r\n", now.get()).into_bytes()),
        b"wait" => Some(b":0\r\n".to_vec()),
        _ => None,
    }));
    let peer = world.connect();
    world.call(peer, &format!("SET {one} 1"));
    world.ask(peer, "WAITAOF 1 0 0");
    world.pass(SECOND);
    assert_eq!(world.got(peer), "");
    synced.set(1);
    world.pass(100_000);
    assert_eq!(world.got(peer), "*2\r\n:1\r\n:0\r\n");
    world.fabric.node(at(1)).script = Some(Box::new(|words| {
        (words[0] == b"waitaof").then(|| b"-ERR unknown command 'WAITAOF'\r\n".to_vec())
    }));
    assert_eq!(
        world.call(peer, "WAITAOF 1 0 0"),
        "-ERR unknown command 'WAITAOF'\r\n"
    );
    assert_eq!(world.call(peer, &format!("GET {one}")), "$1\r\n1\r\n");
}

#[test]
fn a_silent_primary_costs_no_more_than_the_time_that_was_asked_for() {
    let (_ground, mut world) = three();
    let keys = keys();
    let _primaries = [1, 2, 3].map(|node| Primary::at(&mut world, node, true));
    let peer = world.connect();
    keys.iter().for_each(|key| {
        world.call(peer, &format!("SET {key} v"));
    });
    world.fabric.node(at(2)).stalled = true;
    let asked = world.now;
    world.ask(peer, "WAIT 1 200");
    world.pass(190_000);
    assert_eq!(world.got(peer), "");
    world.pass(30_000);
    assert_eq!(
        world.got(peer),
        ":0\r\n",
        "after {} microseconds",
        world.now - asked
    );
    assert_eq!(world.call(peer, "PING"), "+PONG\r\n");
    // What comes late is for nobody.
    world.fabric.node(at(2)).stalled = false;
    world.calm();
    assert_eq!(world.call(peer, "WAIT 1 200"), ":1\r\n");
}

#[test]
fn a_server_that_says_more_than_it_was_asked_changes_nothing() {
    let (_ground, mut world) = three();
    let [one, ..] = keys();
    world.fabric.node(at(1)).script = Some(Box::new(|words| match words[0].as_slice() {
        b"multi" | b"waitaof" | b"exec" => Some(b"*1\r\n*2\r\n:0\r\n:0\r\n".to_vec()),
        b"wait" => Some(b":0\r\n".to_vec()),
        _ => None,
    }));
    let peer = world.connect();
    world.call(peer, &format!("SET {one} 1"));
    world.ask(peer, "WAITAOF 1 0 500");
    world.pass(SECOND);
    assert_eq!(world.got(peer), "*2\r\n:0\r\n:0\r\n");
    assert_eq!(world.call(peer, &format!("GET {one}")), "$1\r\n1\r\n");
}
