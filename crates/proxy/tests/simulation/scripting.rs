//! Scripts on the model network: nodes that know only the scripts they were given, and clients that need not care.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;

use redplane_proxy::ConnId;

use super::ground::{Ground, at, even};
use super::node::{Fabric, Words};
use super::redirecting::sides;
use super::world::World;

const BODY: &str = "return(1)";
const NOSCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.\r\n";

type Loaded = Rc<RefCell<HashSet<Vec<u8>>>>;

fn sha_of(body: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, body);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A node's scripts: the command's reply, and what it learns from it.
fn run(loaded: &Loaded, words: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut loaded = loaded.borrow_mut();
    let sub = words.get(1).map(|word| word.to_ascii_lowercase());
    match (words[0].as_slice(), sub.as_deref()) {
        (b"eval", Some(b"broken")) => Some(b"-ERR Error compiling script (new function)\r\n".to_vec()),
        (b"eval", Some(_)) => {
            loaded.insert(sha_of(&words[1]).into_bytes());
            Some(b"+ran\r\n".to_vec())
        }
        (b"evalsha", Some(sha)) => Some(match loaded.contains(sha) {
            true => b"+ran\r\n".to_vec(),
            false => NOSCRIPT.as_bytes().to_vec(),
        }),
        (b"script", Some(b"load")) => {
            let sha = sha_of(&words[2]);
            loaded.insert(sha.clone().into_bytes());
            Some(format!("$40\r\n{sha}\r\n").into_bytes())
        }
        (b"script", Some(b"flush")) => {
            loaded.clear();
            Some(b"+OK\r\n".to_vec())
        }
        (b"script", Some(b"exists")) => {
            let known = words[2..].iter().map(|sha| u8::from(loaded.contains(sha)));
            let lines: String = known.map(|known| format!(":{known}\r\n")).collect();
            Some(format!("*{}\r\n{lines}", words.len() - 2).into_bytes())
        }
        (b"script", Some(b"kill")) => Some(b"-NOTBUSY No scripts in execution right now.\r\n".to_vec()),
        _ => None,
    }
}

struct Stage {
    _ground: Ground,
    world: World,
    peer: usize,
    loaded: Vec<Loaded>,
}

impl Stage {
    fn new() -> Self {
        let (ground, _) = Ground::three_shards();
        let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
        let loaded: Vec<Loaded> = (1..=3)
            .map(|node| {
                let loaded = Loaded::default();
                let own = Rc::clone(&loaded);
                let node = world.fabric.node(at(node));
                let mut queues = false;
                node.script = Some(Box::new(move |words| {
                    queues = words[0] == b"multi" || queues && words[0] != b"exec";
                    (!queues).then(|| run(&own, words))?
                }));
                node.log = Some(Vec::new());
                loaded
            })
            .collect();
        let peer = world.connect();
        Self {
            _ground: ground,
            world,
            peer,
            loaded,
        }
    }

    fn call(&mut self, line: &str) -> String {
        self.world.call(self.peer, line)
    }

    /// The commands that a node has run since the last call, each by its first word and, of SCRIPT, its second.
    fn ran(&mut self, node: SocketAddr) -> Vec<String> {
        let log: Vec<Words> = self.world.fabric.node(node).log.replace(Vec::new()).unwrap();
        let name = |words: Words| {
            let script = words[0] == b"script";
            let names = words.into_iter().take(1 + usize::from(script));
            let names: Vec<String> = names
                .map(|word| String::from_utf8(word).unwrap().to_lowercase())
                .collect();
            names.join(" ")
        };
        log.into_iter().map(name).collect()
    }
}

/// A key of each node, in order.
fn keys() -> Vec<String> {
    let key_of = |node: u8| {
        let mut names = (0..100).map(|n| format!("k{n}"));
        names.find(|key| sides(key.as_bytes()).0 == at(node)).unwrap()
    };
    (1..=3).map(key_of).collect()
}

#[test]
fn evalsha_works_on_every_shard_right_after_eval() {
    let mut stage = Stage::new();
    let (keys, sha) = (keys(), sha_of(BODY.as_bytes()));
    assert_eq!(stage.call(&format!("EVALSHA {sha} 1 {}", keys[0])), NOSCRIPT);
    assert_eq!(stage.call(&format!("EVAL {BODY} 1 {}", keys[0])), "+ran\r\n");
    assert_eq!(stage.ran(at(1)), ["evalsha", "eval"]);
    for (key, node) in [(&keys[1], at(2)), (&keys[2], at(3))] {
        assert_eq!(stage.call(&format!("EVALSHA {sha} 1 {key}")), "+ran\r\n");
        assert_eq!(stage.ran(node), ["script load", "evalsha"]);
        assert_eq!(
            stage.call(&format!("EVALSHA {} 1 {key}", sha.to_uppercase())),
            "+ran\r\n"
        );
        assert_eq!(stage.ran(node), ["evalsha"], "it was given the script already");
    }
}

#[test]
fn what_is_pipelined_behind_a_script_runs_behind_it() {
    let mut stage = Stage::new();
    let (keys, sha) = (keys(), sha_of(BODY.as_bytes()));
    stage.call(&format!("EVAL {BODY} 1 {}", keys[0]));
    let peer = stage.peer;
    stage.world.ask(peer, &format!("EVALSHA {sha} 1 {}", keys[1]));
    stage.world.ask(peer, &format!("GET {}", keys[1]));
    stage.world.calm();
    assert_eq!(stage.world.got(peer), "+ran\r\n$-1\r\n");
    assert_eq!(stage.ran(at(2)), ["script load", "evalsha", "get"]);
}

#[test]
fn a_server_that_forgot_is_taught_again_once() {
    let mut stage = Stage::new();
    let (keys, sha) = (keys(), sha_of(BODY.as_bytes()));
    stage.call(&format!("SCRIPT LOAD {BODY}"));
    assert_eq!(stage.call(&format!("EVALSHA {sha} 1 {}", keys[0])), "+ran\r\n");
    stage.ran(at(1));
    stage.loaded[0].borrow_mut().clear();
    assert_eq!(stage.call(&format!("EVALSHA {sha} 1 {}", keys[0])), "+ran\r\n");
    assert_eq!(stage.ran(at(1)), ["evalsha", "script load", "evalsha"]);
    // A server that will not learn it: its word is passed on, and nothing waits.
    stage.world.fabric.node(at(1)).script = Some(Box::new(|words| {
        (words[0] == b"evalsha").then(|| NOSCRIPT.as_bytes().to_vec())
    }));
    assert_eq!(stage.call(&format!("EVALSHA {sha} 1 {}", keys[0])), NOSCRIPT);
    assert_eq!(stage.ran(at(1)), ["evalsha", "script load", "evalsha"]);
    assert_eq!(stage.call("PING"), "+PONG\r\n");
}

#[test]
fn a_flush_is_the_end_of_all_scripts() {
    let mut stage = Stage::new();
    let (keys, sha) = (keys(), sha_of(BODY.as_bytes()));
    stage.call(&format!("EVAL {BODY} 1 {}", keys[0]));
    stage.call(&format!("EVALSHA {sha} 1 {}", keys[1]));
    assert_eq!(stage.call("SCRIPT FLUSH"), "+OK\r\n");
    for key in &keys {
        assert_eq!(stage.call(&format!("EVALSHA {sha} 1 {key}")), NOSCRIPT);
    }
    assert_eq!(stage.call(&format!("SCRIPT EXISTS {sha}")), "*1\r\n:0\r\n");
}

#[test]
fn a_script_that_one_shard_ran_exists() {
    let mut stage = Stage::new();
    let (sha, other) = (sha_of(BODY.as_bytes()), sha_of(b"another"));
    stage.call(&format!("EVAL {BODY} 1 {}", keys()[0]));
    let answer = stage.call(&format!("SCRIPT EXISTS {other} {sha} x"));
    assert_eq!(answer, "*3\r\n:0\r\n:1\r\n:0\r\n");
    // All nodes have it, but not through us.
    let own = sha_of(b"own");
    stage.loaded.iter().for_each(|loaded| {
        loaded.borrow_mut().insert(own.clone().into_bytes());
    });
    assert_eq!(stage.call(&format!("SCRIPT EXISTS {own}")), "*1\r\n:1\r\n");
}

#[test]
fn a_script_that_does_not_compile_is_not_remembered() {
    let mut stage = Stage::new();
    let (keys, sha) = (keys(), sha_of(b"broken"));
    let answer = stage.call(&format!("EVAL broken 1 {}", keys[0]));
    assert_eq!(answer, "-ERR Error compiling script (new function)\r\n");
    assert_eq!(stage.call(&format!("SCRIPT EXISTS {sha}")), "*1\r\n:0\r\n");
    stage.ran(at(2));
    assert_eq!(stage.call(&format!("EVALSHA {sha} 1 {}", keys[1])), NOSCRIPT);
    assert_eq!(stage.ran(at(2)), ["evalsha"]);
}

#[test]
fn a_transaction_brings_its_scripts_along() {
    let mut stage = Stage::new();
    let (keys, sha) = (keys(), sha_of(BODY.as_bytes()));
    stage.call(&format!("EVAL {BODY} 1 {}", keys[0]));
    let moved = keys[1].clone();
    for line in [
        "MULTI".to_owned(),
        format!("SET {moved} 1"),
        format!("EVALSHA {sha} 1 {moved}"),
    ] {
        stage.call(&line);
    }
    assert_eq!(stage.call("EXEC"), "*2\r\n+OK\r\n+ran\r\n");
    assert_eq!(
        stage.ran(at(2)),
        ["script load", "multi", "set", "evalsha", "exec"]
    );
    // Its slot goes to a node that does not know the script: the block takes it along.
    let slot = redplane_command::slot(moved.as_bytes());
    for line in [
        "MULTI".to_owned(),
        format!("SET {moved} 2"),
        format!("EVALSHA {sha} 1 {moved}"),
    ] {
        stage.call(&line);
    }
    stage.world.fabric.hand_over(slot, at(3));
    assert_eq!(stage.call("EXEC"), "*2\r\n+OK\r\n+ran\r\n");
    assert!(stage.ran(at(3)).starts_with(&["script load".to_owned()]));
}

#[test]
fn a_script_without_keys_stays_with_one_server() {
    let mut stage = Stage::new();
    let sha = sha_of(BODY.as_bytes());
    for _ in 0..5 {
        assert_eq!(stage.call(&format!("EVAL {BODY} 0")), "+ran\r\n");
        assert_eq!(stage.call(&format!("EVALSHA {sha} 0")), "+ran\r\n");
    }
    let busy = (1..=3).filter(|node| !stage.ran(at(*node)).is_empty());
    assert_eq!(busy.count(), 1);
}

#[test]
fn a_kill_does_not_stand_behind_what_it_kills() {
    let mut stage = Stage::new();
    for key in keys() {
        stage.call(&format!("GET {key}"));
    }
    let shared = stage.world.dialled.len();
    let peer = stage.peer;
    stage.world.ask(peer, "SCRIPT KILL");
    stage.world.ask(peer, "SCRIPT KILL");
    stage.world.calm();
    let refusal = "-NOTBUSY No scripts in execution right now.\r\n";
    assert_eq!(stage.world.got(peer), refusal.repeat(2));
    assert_eq!(
        stage.world.dialled.len(),
        shared + 3,
        "one connection for each primary"
    );
    assert_eq!(stage.world.connections(), shared, "they do not stay");
    assert!(stage.world.engine.is_connected(ConnId(0)));
}

#[test]
fn a_busy_server_says_so_at_once_and_loses_no_connection() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let (runs, reads, writes) = (world.connect(), world.connect(), world.connect());
    let (mixes, kills) = (world.connect(), world.connect());
    world.call(reads, "SET k 0");
    world.ask(runs, "EVAL endless 1 k");
    world.ask(runs, "GET k");
    world.calm();
    // These are behind the script already.
    world.ask(reads, "GET k");
    world.ask(mixes, "SET k 1");
    world.ask(mixes, "GET k");
    world.ask(reads, "MGET k x y");
    world.pass(50_000);
    assert_eq!(world.got(reads), "");
    world.pass(100_000);
    let busy = "-BUSY Redis is busy running a script.\r\n";
    let got = world.got(reads);
    assert!(
        got.starts_with(busy) && got[busy.len()..].contains("BUSY"),
        "{got}"
    );
    // By now everybody else hears it at once, and what may have reached the server is not sent twice.
    assert_eq!(world.call(writes, "SET k 2"), busy);
    assert_eq!(world.call(writes, "EVAL x 1 k"), busy);
    world.ask(mixes, "SET k 3");
    world.calm();
    assert_eq!(world.got(mixes), "");
    let opened = world.dialled.len();
    world.pass(500_000);
    assert_eq!(world.dialled.len(), opened);
    let killed = world.call(kills, "SCRIPT KILL");
    assert!(
        killed.starts_with("+OK") || killed.starts_with("-NOTBUSY"),
        "{killed}"
    );
    world.pass(10_000);
    assert_eq!(world.got(runs), "-ERR script killed by user\r\n$1\r\n0\r\n");
    assert_eq!(world.got(mixes), "+OK\r\n$1\r\n1\r\n+OK\r\n");
    assert_eq!(world.call(reads, "GET k"), "$1\r\n3\r\n");
    assert_eq!(ground.stat("cluster.c.upstream_rq_timeout"), 0);
    assert_eq!(ground.stat("cluster.c.upstream_rq_active"), 0);
}
