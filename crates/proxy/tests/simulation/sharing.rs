//! Commands inside MULTI that the proxy runs itself, on the model network.

use redplane_proxy::Peers;

use super::ground::{Ground, at, even};
use super::node::{Fabric, Reach};
use super::world::World;

fn three_shards() -> (Ground, World) {
    let (ground, _cluster) = Ground::three_shards();
    let world = World::new(&ground, Fabric::new(&even(3)), 1);
    (ground, world)
}

#[test]
fn elements_of_both_kinds_come_in_their_order() {
    let (_ground, mut world) = three_shards();
    let peer = world.connect();
    for words in [
        "MULTI",
        "CLIENT SETNAME me",
        "SET k 1",
        "CLIENT GETNAME",
        "INCR k",
        "GET k",
        "PING",
        "EXEC",
        "GET k",
        "CLIENT GETNAME",
    ] {
        world.ask(peer, words);
    }
    world.calm();
    let queued = "+QUEUED\r\n".repeat(6);
    assert_eq!(
        world.got(peer),
        format!(
            "+OK\r\n{queued}*6\r\n+OK\r\n+OK\r\n$2\r\nme\r\n:2\r\n$1\r\n2\r\n+PONG\r\n$1\r\n2\r\n$2\r\nme\r\n"
        )
    );
}

#[test]
fn what_no_server_executed_is_not_done_here() {
    let (_ground, mut world) = three_shards();
    let peer = world.connect();
    for node in 1..=3 {
        world.fabric.node(at(node)).reach = Reach::Refuses;
    }
    world.call(peer, "MULTI");
    world.call(peer, "CLIENT SETNAME me");
    world.call(peer, "SET k 1");
    assert_eq!(world.call(peer, "EXEC"), "-upstream failure\r\n");
    assert_eq!(world.call(peer, "CLIENT GETNAME"), "$-1\r\n");
    for node in 1..=3 {
        world.fabric.node(at(node)).reach = Reach::Up;
    }
    // What the failed one left behind is not done by the next one.
    world.call(peer, "MULTI");
    assert_eq!(world.call(peer, "PING"), "+QUEUED\r\n");
    assert_eq!(world.call(peer, "EXEC"), "*1\r\n+PONG\r\n");
    assert_eq!(world.call(peer, "CLIENT GETNAME"), "$-1\r\n");
}

#[test]
fn a_block_that_moves_takes_the_rest_along() {
    let (_ground, mut world) = three_shards();
    let peer = world.connect();
    world.call(peer, "SET k 1");
    let slot = redplane_command::slot(b"k");
    let to = (1..=3)
        .map(at)
        .find(|node| *node != world.fabric.owners[usize::from(slot)]);
    world.fabric.hand_over(slot, to.expect("there are three"));
    world.call(peer, "MULTI");
    world.call(peer, "INCR k");
    world.call(peer, "CLIENT SETNAME me");
    world.call(peer, "DBSIZE");
    assert_eq!(world.call(peer, "EXEC"), "*3\r\n:2\r\n+OK\r\n:1\r\n");
    assert_eq!(world.call(peer, "CLIENT GETNAME"), "$2\r\nme\r\n");
}

#[test]
fn what_servers_and_workers_are_asked_is_waited_for() {
    let (ground, _cluster) = Ground::three_shards();
    let peers = Peers::new(2, 1000);
    let mut worlds = [0, 1].map(|worker| World::among(&ground, Fabric::new(&even(3)), 1, (&peers, worker)));
    let peer = worlds[0].connect();
    for words in ["SET a 1", "SET b 2", "SET c 3"] {
        worlds[0].call(peer, words);
    }
    for words in [
        "MULTI",
        "SET a 2",
        "CLIENT KILL ID 77",
        "DBSIZE",
        "FLUSHALL",
        "DBSIZE",
        "ECHO x",
        "EXEC",
        "GET a",
    ] {
        worlds[0].ask(peer, words);
    }
    worlds[0].calm();
    let got = worlds[0].got(peer);
    let array = got.rsplit_once("QUEUED\r\n").expect("everything was queued").1;
    assert_eq!(array, "*6\r\n+OK\r\n", "the other worker has not answered");
    worlds[1].calm();
    worlds[0].calm();
    assert_eq!(worlds[0].got(peer), ":0\r\n:3\r\n+OK\r\n:0\r\n$1\r\nx\r\n$-1\r\n");
}

#[test]
fn messages_wait_for_the_end_of_the_array() {
    let (ground, _cluster) = Ground::three_shards();
    let peers = Peers::new(2, 1000);
    let mut worlds = [0, 1].map(|worker| World::among(&ground, Fabric::new(&even(3)), 1, (&peers, worker)));
    let (peer, other) = (worlds[0].connect(), worlds[0].connect());
    for words in ["MULTI", "SUBSCRIBE news", "CLIENT KILL ID 77", "ECHO x", "EXEC"] {
        worlds[0].ask(peer, words);
    }
    worlds[0].calm();
    let confirmed = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
    assert!(worlds[0].got(peer).ends_with(&format!("*3\r\n{confirmed}")));
    assert_eq!(worlds[0].call(other, "PUBLISH news hi"), ":1\r\n");
    assert_eq!(worlds[0].got(peer), "");
    worlds[1].calm();
    worlds[0].calm();
    assert_eq!(
        worlds[0].got(peer),
        ":0\r\n$1\r\nx\r\n*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
    );
    // With nothing on its way they come at once.
    worlds[0].call(other, "PUBLISH news you");
    assert!(worlds[0].got(peer).ends_with("you\r\n"));
}

#[test]
fn who_has_hung_up_gets_the_whole_array() {
    let (ground, _cluster) = Ground::three_shards();
    let peers = Peers::new(2, 1000);
    let mut worlds = [0, 1].map(|worker| World::among(&ground, Fabric::new(&even(3)), 1, (&peers, worker)));
    let peer = worlds[0].connect();
    for words in ["MULTI", "SET a 2", "CLIENT KILL ID 77", "ECHO x", "EXEC"] {
        worlds[0].ask(peer, words);
    }
    worlds[0].calm();
    worlds[0].finish(peer);
    worlds[0].calm();
    assert!(worlds[0].got(peer).ends_with("*3\r\n+OK\r\n"));
    worlds[1].calm();
    worlds[0].calm();
    assert_eq!(worlds[0].got(peer), ":0\r\n$1\r\nx\r\n");
    assert!(worlds[0].peers[peer].closed);
}

#[test]
fn a_client_that_goes_leaves_nothing_to_do() {
    let (ground, _cluster) = Ground::three_shards();
    let peers = Peers::new(2, 1000);
    let mut worlds = [0, 1].map(|worker| World::among(&ground, Fabric::new(&even(3)), 1, (&peers, worker)));
    let peer = worlds[0].connect();
    worlds[0].call(peer, "SET a 1");
    for words in ["MULTI", "GET a", "CLIENT KILL ID 77", "FLUSHALL", "EXEC"] {
        worlds[0].ask(peer, words);
    }
    worlds[0].calm();
    worlds[0].break_off(peer);
    worlds[0].calm();
    worlds[1].calm();
    worlds[0].calm();
    let next = worlds[0].connect();
    assert_eq!(worlds[0].call(next, "GET a"), "$1\r\n1\r\n");
}
