//! CLIENT over several workers on the model network: who is listed, who is closed, who waits for whom.

use redplane_proxy::Peers;
use redplane_resp::encode;

use super::ground::{Ground, even};
use super::node::Fabric;
use super::world::World;

/// Engines that write to each other.
struct Workers {
    worlds: Vec<World>,
}

impl Workers {
    fn new(ground: &Ground, count: usize) -> Self {
        let peers = Peers::new(count, 1000);
        let world = |worker| World::among(ground, Fabric::new(&even(3)), 1, (&peers, worker));
        Self {
            worlds: (0..count).map(world).collect(),
        }
    }

    /// Turns of all workers until nothing moves.
    fn calm(&mut self) {
        for _ in 0..4 {
            self.worlds.iter_mut().for_each(World::calm);
        }
    }

    fn call(&mut self, worker: usize, peer: usize, words: &str) -> String {
        self.worlds[worker].ask(peer, words);
        self.calm();
        self.worlds[worker].got(peer)
    }
}

/// The values of a field in the lines of a reply.
fn fields(reply: &str, name: &str) -> Vec<String> {
    let lines = reply.lines().filter(|line| line.contains("id="));
    let value = |line: &str| {
        let found = line
            .split(' ')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    };
    lines.map(value).collect()
}

#[test]
fn clients_of_all_workers_are_listed_in_the_order_of_their_coming() {
    let (ground, _cluster) = Ground::three_shards();
    let mut workers = Workers::new(&ground, 3);
    let first = workers.worlds[1].connect();
    let second = workers.worlds[0].connect();
    let third = workers.worlds[2].connect();
    workers.call(2, third, "CLIENT SETNAME third");
    workers.call(2, third, "CLIENT SETINFO lib-name lib");
    let list = workers.call(0, second, "CLIENT LIST");
    assert_eq!(fields(&list, "id"), ["1", "2", "3"]);
    assert_eq!(fields(&list, "name"), ["", "", "third"]);
    assert_eq!(fields(&list, "lib-name"), ["", "", "lib"]);
    assert_eq!(fields(&list, "cmd"), ["NULL", "client|list", "client|setinfo"]);
    let list = workers.call(1, first, "CLIENT LIST ID 3 1 3 77");
    assert_eq!(fields(&list, "id"), ["3", "1"]);
    assert_eq!(workers.call(1, first, "CLIENT LIST TYPE pubsub"), "$0\r\n\r\n");
}

#[test]
fn a_question_keeps_its_place_in_the_order_of_replies() {
    let (ground, _cluster) = Ground::three_shards();
    let mut workers = Workers::new(&ground, 2);
    let peer = workers.worlds[0].connect();
    for words in [
        "SET a 1",
        "CLIENT LIST TYPE master",
        "PING",
        "GET a",
        "CLIENT KILL nobody",
    ] {
        workers.worlds[0].ask(peer, words);
    }
    workers.calm();
    assert_eq!(
        workers.worlds[0].got(peer),
        "+OK\r\n$0\r\n\r\n+PONG\r\n$1\r\n1\r\n-ERR No such client\r\n"
    );
}

#[test]
fn clients_are_closed_wherever_they_are() {
    let (ground, _cluster) = Ground::three_shards();
    let mut workers = Workers::new(&ground, 2);
    let own = workers.worlds[0].connect();
    let near = workers.worlds[0].connect();
    let far = workers.worlds[1].connect();
    assert_eq!(workers.call(0, own, "CLIENT KILL ID 3"), ":1\r\n");
    assert!(workers.worlds[1].peers[far].closed);
    assert_eq!(workers.call(0, own, "CLIENT KILL ID 3"), ":0\r\n");
    let far = workers.worlds[1].connect();
    assert_eq!(workers.call(0, own, "CLIENT KILL TYPE normal MAXAGE 5"), ":0\r\n");
    workers.worlds.iter_mut().for_each(|world| world.now += 5_000_000);
    assert_eq!(
        workers.call(0, own, "CLIENT KILL LADDR 10.0.0.2:6379 USER default MAXAGE 5"),
        ":2\r\n"
    );
    assert!(workers.worlds[0].peers[near].closed && workers.worlds[1].peers[far].closed);
    assert!(
        !workers.worlds[0].peers[own].closed,
        "the one that asks is spared"
    );
    workers.worlds[0].ask(own, "CLIENT KILL ID 1 SKIPME no");
    workers.worlds[0].ask(own, "PING");
    workers.calm();
    assert_eq!(
        workers.worlds[0].got(own),
        ":1\r\n",
        "and else closed after its reply"
    );
    assert!(workers.worlds[0].peers[own].closed);
}

#[test]
fn the_old_form_of_kill_names_an_address() {
    let (ground, _cluster) = Ground::three_shards();
    let mut workers = Workers::new(&ground, 2);
    let own = workers.worlds[0].connect();
    let far = workers.worlds[1].connect();
    assert_eq!(workers.call(0, own, "CLIENT KILL 10.0.0.1:4000"), "+OK\r\n");
    assert!(workers.worlds[1].peers[far].closed && workers.worlds[0].peers[own].closed);
}

#[test]
fn a_worker_that_is_gone_leaves_nobody_waiting() {
    let (ground, _cluster) = Ground::three_shards();
    let mut workers = Workers::new(&ground, 2);
    let own = workers.worlds[0].connect();
    workers.worlds[1].connect();
    workers.worlds[0].ask(own, "CLIENT LIST");
    workers.worlds[0].ask(own, "PING");
    workers.worlds[0].calm();
    assert_eq!(workers.worlds[0].got(own), "", "the other one has not answered");
    workers.worlds.truncate(1);
    workers.calm();
    let reply = workers.worlds[0].got(own);
    assert_eq!(fields(&reply, "id"), ["1"]);
    assert!(reply.ends_with("+PONG\r\n"));
}

#[test]
fn a_pause_holds_the_commands_of_all_workers() {
    let (ground, _cluster) = Ground::three_shards();
    let mut workers = Workers::new(&ground, 2);
    let own = workers.worlds[0].connect();
    let far = workers.worlds[1].connect();
    assert_eq!(workers.call(0, own, "CLIENT PAUSE 1000 WRITE"), "+OK\r\n");
    workers.worlds[1].ask(far, "GET a");
    workers.worlds[1].ask(far, "SET a 1");
    workers.worlds[1].ask(far, "GET a");
    workers.calm();
    assert_eq!(
        workers.worlds[1].got(far),
        "$-1\r\n",
        "what is behind the write waits as well"
    );
    let list = workers.call(0, own, "CLIENT LIST ID 2");
    assert_eq!(
        (fields(&list, "flags"), fields(&list, "cmd")),
        (vec!["b".into()], vec!["get".into()])
    );
    workers.worlds[1].pass(900_000);
    assert_eq!(workers.worlds[1].got(far), "");
    workers.worlds[1].pass(200_000);
    assert_eq!(workers.worlds[1].got(far), "+OK\r\n$1\r\n1\r\n");
}

#[test]
fn a_pause_of_writes_holds_what_may_write() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let own = world.connect();
    let declared = |flags: &str| format!("#!lua{flags}\nreturn 1");
    // As redis-server 7.0.15 holds them, but FCALL of a function that does not write.
    for (words, held) in [
        (vec!["SET", "k", "v"], true),
        (vec!["PFCOUNT", "k"], true),
        (vec!["PUBLISH", "a", "b"], true),
        (vec!["SPUBLISH", "a", "b"], true),
        (vec!["EVAL", "return 1", "1", "k"], true),
        (vec!["EVAL", &declared(""), "1", "k"], true),
        (vec!["EVAL", &declared(" flags=no-writes"), "1", "k"], false),
        (vec!["EVAL_RO", "return 1", "1", "k"], false),
        (vec!["EVAL_RO", &declared(""), "1", "k"], true),
        (vec!["FCALL", "f", "1", "k"], true),
        (vec!["FCALL_RO", "f", "1", "k"], false),
        (vec!["SCRIPT", "LOAD", "return 1"], false),
        (vec!["GET", "k"], false),
        (vec!["DBSIZE"], false),
        (vec!["FLUSHALL"], true),
    ] {
        let mut frame = Vec::new();
        let args: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        encode::request(&mut frame, &args);
        let (alone, queued) = (world.connect(), world.connect());
        world.call(queued, "MULTI");
        world.send(queued, &frame);
        world.calm();
        assert_eq!(world.got(queued), "+QUEUED\r\n");
        world.call(own, "CLIENT PAUSE 60000 WRITE");
        world.send(alone, &frame);
        world.calm();
        assert_eq!(world.got(alone).is_empty(), held, "{words:?}");
        assert_eq!(world.call(queued, "EXEC").is_empty(), held, "EXEC of {words:?}");
        assert_eq!(world.call(own, "CLIENT UNPAUSE"), "+OK\r\n");
        assert_eq!(world.got(alone).is_empty(), !held, "{words:?} after the pause");
    }
}

#[test]
fn a_pause_is_ended_by_who_may_still_speak() {
    let (ground, _cluster) = Ground::three_shards();
    let mut workers = Workers::new(&ground, 2);
    let own = workers.worlds[0].connect();
    let near = workers.worlds[0].connect();
    let far = workers.worlds[1].connect();
    workers.call(0, own, "CLIENT PAUSE 100000 WRITE");
    for (worker, peer) in [(0, near), (1, far)] {
        workers.call(worker, peer, "MULTI");
        assert_eq!(workers.call(worker, peer, "GET a"), "+QUEUED\r\n");
        assert_eq!(
            workers.call(worker, peer, "EXEC"),
            "*1\r\n$-1\r\n",
            "it only reads"
        );
        assert_eq!(workers.call(worker, peer, "INCR a"), "");
    }
    assert_eq!(workers.call(0, own, "CLIENT UNPAUSE"), "+OK\r\n");
    assert_eq!(workers.worlds[0].got(near), ":1\r\n");
    assert_eq!(workers.worlds[1].got(far), ":1\r\n");
    workers.call(0, own, "CLIENT PAUSE 60000");
    assert_eq!(workers.call(0, own, "CLIENT UNPAUSE"), "", "everything waits");
    assert_eq!(workers.call(1, far, "PING"), "");
    workers.worlds[1].break_off(far);
    workers.worlds[0].pass(61_000_000);
    workers.calm();
    assert_eq!(workers.worlds[0].got(own), "+OK\r\n");
}

#[test]
fn replies_that_nobody_wants_are_dropped_in_their_place() {
    let (ground, _cluster) = Ground::three_shards();
    let mut workers = Workers::new(&ground, 1);
    let peer = workers.worlds[0].connect();
    let scene = [
        "SET a 1",
        "CLIENT REPLY SKIP",
        "INCR a",
        "INCR a",
        "CLIENT REPLY OFF",
        "INCR a",
        "MGET a b c d",
        "PING",
        "NOSUCH",
        "CLIENT LIST",
        "CLIENT REPLY SKIP",
        "GET a",
        "CLIENT REPLY ON",
        "GET a",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY ON",
        "PING",
    ];
    scene.iter().for_each(|words| workers.worlds[0].ask(peer, words));
    workers.calm();
    assert_eq!(
        workers.worlds[0].got(peer),
        "+OK\r\n:3\r\n+OK\r\n$1\r\n4\r\n+OK\r\n+PONG\r\n"
    );
    workers.call(0, peer, "CLIENT REPLY OFF");
    assert_eq!(workers.call(0, peer, "RESET"), "+RESET\r\n");
    workers.call(0, peer, "CLIENT REPLY OFF");
    assert_eq!(workers.call(0, peer, "QUIT"), "");
    assert!(workers.worlds[0].peers[peer].closed);
}

#[test]
fn long_answers_are_given_one_at_a_time() {
    let (ground, _cluster) = Ground::three_shards();
    for count in [1, 2] {
        let mut workers = Workers::new(&ground, count);
        let peer = workers.worlds[0].connect();
        for _ in 0..200 {
            workers.worlds[0].connect();
        }
        workers.worlds[0].peers[peer].window = 0;
        let mut frame = Vec::new();
        encode::request(&mut frame, &[b"CLIENT", b"LIST"]);
        workers.worlds[0].send(peer, &frame.repeat(5000));
        workers.calm();
        assert!(
            workers.worlds[0].unread(peer) > 0,
            "it reads nothing and is not read from"
        );
        workers.worlds[0].peers[peer].window = 200_000;
        workers.calm();
        let got = workers.worlds[0].got(peer);
        assert_eq!(got.len(), 200_000);
        assert!(fields(&got, "id").len() > 402);
    }
}

#[test]
fn a_client_that_hangs_up_in_a_pause_is_gone() {
    let (ground, _cluster) = Ground::three_shards();
    let mut workers = Workers::new(&ground, 2);
    let own = workers.worlds[0].connect();
    let far = workers.worlds[1].connect();
    workers.call(0, own, "CLIENT PAUSE 60000 WRITE");
    assert_eq!(workers.call(1, far, "SET a 1"), "");
    workers.worlds[1].finish(far);
    workers.calm();
    assert!(workers.worlds[1].peers[far].closed);
    let list = workers.call(0, own, "CLIENT LIST");
    assert_eq!(fields(&list, "id"), ["1"]);
    workers.call(0, own, "CLIENT UNPAUSE");
    assert_eq!(workers.call(0, own, "GET a"), "$-1\r\n");
}
