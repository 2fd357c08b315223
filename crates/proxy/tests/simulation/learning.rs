//! Commands that only the servers know: asked for once, in their place in the order, and refused where they would harm.

use std::net::SocketAddr;

use super::ground::{Ground, at, even, proxy, route};
use super::node::Fabric;
use super::redirecting::sides;
use super::world::World;

/// The entry of COMMAND INFO for a name, as servers before 7.0 wrote it, or with subcommands.
fn entry(name: &str) -> Option<String> {
    let plain = |name: &str, flag: &str, key: u8| {
        let len = name.len();
        format!("*6\r\n${len}\r\n{name}\r\n:2\r\n*1\r\n+{flag}\r\n:{key}\r\n:{key}\r\n:{key}\r\n")
    };
    match name {
        "fetch" => Some(plain("get", "readonly", 1)),
        "xmulti" => Some(plain("multi", "noscript", 0)),
        "thing" => {
            let sub = plain("object|freq", "readonly", 2).replacen(":2\r\n:2\r\n:2", ":2\r\n:2\r\n:1", 1);
            let head = "*10\r\n$6\r\nobject\r\n:-2\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n";
            Some(format!("{head}*1\r\n{sub}"))
        }
        _ => None,
    }
}

fn answer(words: &[Vec<u8>]) -> Option<Vec<u8>> {
    match words[0].as_slice() {
        b"command" => {
            let name = String::from_utf8(words[2].clone()).unwrap();
            let entry = entry(&name).unwrap_or_else(|| "*-1\r\n".to_owned());
            Some(format!("*1\r\n{entry}").into_bytes())
        }
        b"thing" => Some(b":7\r\n".to_vec()),
        _ => None,
    }
}

struct Stage {
    ground: Ground,
    world: World,
    peer: usize,
}

impl Stage {
    fn new() -> Self {
        let (ground, _) = Ground::three_shards();
        let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
        for node in 1..=3 {
            let node = world.fabric.node(at(node));
            node.script = Some(Box::new(answer));
            node.log = Some(Vec::new());
        }
        let peer = world.connect();
        Self { ground, world, peer }
    }

    fn call(&mut self, line: &str) -> String {
        self.world.call(self.peer, line)
    }

    /// How often a command was run, by all nodes together.
    fn ran(&self, command: &str) -> usize {
        let logs = self
            .world
            .fabric
            .nodes
            .values()
            .filter_map(|node| node.log.as_ref());
        logs.flatten()
            .filter(|words| words[0] == command.as_bytes())
            .count()
    }
}

fn unknown(name: &str) -> String {
    format!("-ERR unknown command '{name}', with args beginning with: 'k' \r\n")
}

fn log_of(world: &World, node: SocketAddr) -> Vec<String> {
    let log = world.fabric.nodes[&node].log.as_ref().unwrap();
    let names = log
        .iter()
        .map(|words| String::from_utf8(words[0].clone()).unwrap());
    names.filter(|name| name != "command").collect()
}

#[test]
fn a_name_is_asked_for_once_and_keeps_its_place() {
    let mut stage = Stage::new();
    let peer = stage.peer;
    for line in ["SET k 1", "FETCH k", "SET k 2", "Fetch k", "GET k"] {
        stage.world.ask(peer, line);
    }
    stage.world.calm();
    assert_eq!(
        stage.world.got(peer),
        "+OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n2\r\n$1\r\n2\r\n"
    );
    assert_eq!(
        log_of(&stage.world, sides(b"k").0),
        ["set", "fetch", "set", "fetch", "get"]
    );
    for n in 0..20 {
        assert_eq!(stage.call(&format!("FETCH k{n}")), "$-1\r\n");
    }
    assert_eq!(stage.ran("command"), 1);
    // It is a command like any other: in a transaction, over slots.
    stage.call("MULTI");
    assert_eq!(stage.call("FETCH k"), "+QUEUED\r\n");
    assert_eq!(stage.call("EXEC"), "*1\r\n$1\r\n2\r\n");
}

#[test]
fn two_clients_that_ask_at_once_are_both_answered() {
    let mut stage = Stage::new();
    let other = stage.world.connect();
    stage.world.ask(stage.peer, "FETCH k");
    stage.world.ask(other, "FETCH k");
    stage.world.finish(other);
    stage.world.calm();
    assert_eq!(
        (stage.world.got(stage.peer), stage.world.got(other)),
        ("$-1\r\n".into(), "$-1\r\n".into())
    );
    assert!(stage.world.peers[other].closed, "it had said all it had to say");
    assert_eq!(stage.ran("command"), 1);
}

#[test]
fn what_no_server_knows_is_unknown_for_a_while() {
    let mut stage = Stage::new();
    for _ in 0..3 {
        assert_eq!(stage.call("NOSUCH k"), unknown("NOSUCH"));
    }
    assert_eq!(stage.ran("command"), 1);
    stage.world.pass(61_000_000);
    assert_eq!(stage.call("NOSUCH k"), unknown("NOSUCH"));
    assert_eq!(stage.ran("command"), 2);
    // Names that can be none are not asked for.
    for name in ["config|get", "a\u{e9}", &"x".repeat(65)] {
        assert!(
            stage
                .call(&format!("{name} k"))
                .starts_with("-ERR unknown command")
        );
    }
    assert_eq!(stage.ran("command"), 2);
    // The table's containers may have subcommands of newer servers.
    let reply = stage.call("CONFIG NEWER k");
    assert_eq!(reply, "-ERR unknown subcommand 'NEWER'. Try CONFIG HELP.\r\n");
    assert_eq!(stage.ran("command"), 3);
    // A client that makes names up gets its answers, and nothing grows without end.
    for n in 0..3000 {
        let name = format!("made-up-{n}");
        assert_eq!(stage.call(&format!("{name} k")), unknown(&name));
    }
}

#[test]
fn subcommands_are_learnt_with_their_container() {
    let mut stage = Stage::new();
    assert_eq!(stage.call("THING FREQ k"), ":7\r\n");
    assert_eq!(stage.call("THING freq k"), ":7\r\n");
    assert_eq!(log_of(&stage.world, sides(b"k").0), ["thing", "thing"]);
    assert_eq!(
        stage.call("THING NOSUCH k"),
        "-ERR unknown subcommand 'NOSUCH'. Try THING HELP.\r\n"
    );
    assert_eq!(
        stage.call("THING"),
        "-ERR wrong number of arguments for 'thing' command\r\n"
    );
    assert_eq!(stage.ran("command"), 1);
}

#[test]
fn a_command_that_would_change_a_shared_connection_is_refused() {
    let mut stage = Stage::new();
    let reply = stage.call("XMULTI");
    assert!(
        reply.starts_with("-ERR 'xmulti' is not offered by the proxy"),
        "{reply}"
    );
    assert_eq!(stage.ran("xmulti"), 0);
}

#[test]
fn a_server_that_dies_while_it_is_asked_leaves_nobody_waiting() {
    let mut stage = Stage::new();
    (1..=3).for_each(|node| stage.world.fabric.node(at(node)).stalled = true);
    stage.world.ask(stage.peer, "FETCH k");
    stage.world.pass(1_500_000);
    assert_eq!(stage.world.got(stage.peer), "-upstream failure\r\n");
    (1..=3).for_each(|node| stage.world.fabric.node(at(node)).stalled = false);
    stage.world.pass(3_000_000);
    stage.call("GET k");
    stage.world.pass(3_000_000);
    assert_eq!(stage.call("FETCH k"), "$-1\r\n");
}

#[test]
fn a_push_that_replaces_the_cluster_forgets_what_it_taught() {
    let mut stage = Stage::new();
    assert_eq!(stage.call("FETCH k"), "$-1\r\n");
    let (cluster, _) = stage.ground.slots("c", &[even(3)]);
    stage.ground.publish(&[&cluster], &proxy("c"));
    assert_eq!(stage.call("FETCH k"), "$-1\r\n");
    assert_eq!(stage.ran("command"), 2);
}

#[test]
fn what_was_learnt_is_listed_where_no_server_can_be_asked() {
    let (ground, cluster) = Ground::three_shards();
    let mut only_prefix = proxy("c");
    only_prefix.routes.catch_all = None;
    only_prefix.routes.prefixes = vec![redplane_config::redis_proxy::Route {
        prefix: b"f:".to_vec(),
        ..route("c")
    }];
    ground.publish(&[&cluster], &only_prefix);
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    for node in 1..=3 {
        world.fabric.node(at(node)).script = Some(Box::new(answer));
    }
    let peer = world.connect();
    let count = |world: &mut World| {
        let reply = world.call(peer, "COMMAND COUNT");
        let number = reply.trim_start_matches(':').trim_end();
        number.parse::<u32>().expect("a number")
    };
    let before = count(&mut world);
    assert_eq!(world.call(peer, "COMMAND INFO fetch"), "*1\r\n*-1\r\n");
    assert_eq!(world.call(peer, "FETCH f:a"), "$-1\r\n");
    assert_eq!(count(&mut world), before + 1);
    let info = world.call(peer, "COMMAND INFO Fetch get");
    assert!(info.starts_with("*2\r\n*10\r\n$5\r\nfetch\r\n"), "{info}");
    assert!(world.call(peer, "COMMAND LIST").ends_with("$5\r\nfetch\r\n"));
    assert!(world.call(peer, "COMMAND").contains("$5\r\nfetch\r\n"));
}
