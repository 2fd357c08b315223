//! Scripts and functions on a real cluster: known everywhere once they are known anywhere, and ended when they run wild.

use redplane_testkit::{Client, Cluster, Reply, command_bytes, until};

use crate::front::Front;
use crate::load::tag_on;
use crate::stage::{PATIENCE, ask};

const SETTINGS: &str = "op_timeout: 10s, enable_redirection: true";
const APPEND: &str = "return redis.call('append', KEYS[1], ARGV[1])";
const LIBRARY: &str = "#!lua name=own\nredis.register_function{function_name='put', callback=function(keys, args) \
                       return redis.call('set', keys[1], args[1]) end}\nredis.register_function{function_name='look', \
                       callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}";

/// One key on each primary.
fn keys(cluster: &Cluster) -> Vec<String> {
    let masters = cluster.masters();
    masters.iter().map(|node| tag_on(cluster, node.port())).collect()
}

fn call(client: &mut Client, words: &[&str]) -> Reply {
    client.command(words).expect("an answer")
}

fn sha_of(cluster: &Cluster, body: &str) -> String {
    // Asked of a server that is not behind the proxy's keys: its answer is the digest.
    let sha = cluster.replicas()[0].command(&["SCRIPT", "LOAD", body]);
    cluster.replicas()[0].run("SCRIPT FLUSH");
    sha.text().expect("a digest")
}

#[test]
fn a_script_is_known_wherever_its_keys_are() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let (mut one, mut two) = (front.client(), front.client());
    let sha = sha_of(&cluster, APPEND);
    let keys = keys(&cluster);
    let unknown = call(&mut one, &["EVALSHA", &sha, "1", &keys[0], "x"]);
    assert_eq!(
        unknown.text().as_deref(),
        Some("NOSCRIPT No matching script. Please use EVAL.")
    );
    call(&mut one, &["EVAL", APPEND, "1", &keys[0], "a"]);
    // The other client may be another worker's.
    for key in &keys {
        let first = call(&mut two, &["EVALSHA", &sha, "1", key, "b"]);
        assert!(first.integer().is_some(), "{first}");
    }
    let exists = call(&mut one, &["SCRIPT", "EXISTS", &sha]);
    assert_eq!(exists.elements(), [Reply::Int(b"1".to_vec())]);
    // Servers lose their scripts, and what is pipelined still runs in order.
    for node in cluster.nodes() {
        node.run("SCRIPT FLUSH");
    }
    let evalsha = call(&mut two, &["EVALSHA", &sha, "1", &keys[1], "c"]);
    assert_eq!(evalsha.integer(), Some(2), "{evalsha}");
    let transaction = [
        command_bytes(&["MULTI"]),
        command_bytes(&["EVALSHA", &sha, "1", &keys[2], "c"]),
        command_bytes(&["GET", &keys[2]]),
        command_bytes(&["EXEC"]),
    ];
    two.send(&transaction.concat()).expect("it is sent");
    let replies = two.read_replies(4);
    assert_eq!(
        replies[3].elements(),
        [Reply::Int(b"2".to_vec()), Reply::Bulk(Some(b"bc".to_vec()))]
    );
    // Flushed through the proxy it is unknown.
    assert_eq!(ask(&mut one, "SCRIPT FLUSH ASYNC"), "OK");
    for key in &keys {
        let reply = call(&mut two, &["EVALSHA", &sha, "1", key, "d"]);
        assert!(
            reply.text().is_some_and(|text| text.starts_with("NOSCRIPT")),
            "{reply}"
        );
    }
}

#[test]
fn a_new_primary_is_taught() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut client = front.client();
    let sha = sha_of(&cluster, APPEND);
    let master = cluster.masters()[0].port();
    let key = tag_on(&cluster, master);
    call(&mut client, &["EVAL", APPEND, "1", &key, "a"]);
    cluster.failover(cluster.replica_of(master));
    cluster.wait_until_whole();
    until("EVALSHA on the new primary", PATIENCE, || {
        let reply = call(&mut client, &["EVALSHA", &sha, "1", &key, "b"]);
        assert!(
            !reply.text().is_some_and(|text| text.starts_with("NOSCRIPT")),
            "{reply}"
        );
        reply.integer().is_some()
    });
}

#[test]
fn functions_are_on_every_primary() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut client = front.client();
    assert_eq!(
        call(&mut client, &["FUNCTION", "LOAD", LIBRARY])
            .text()
            .as_deref(),
        Some("own")
    );
    let again = call(&mut client, &["FUNCTION", "LOAD", LIBRARY]);
    assert_eq!(again.text().as_deref(), Some("ERR Library 'own' already exists"));
    let dump = call(&mut client, &["FUNCTION", "DUMP"]);
    let Reply::Bulk(Some(dump)) = dump else {
        panic!("{dump}")
    };
    let works = |client: &mut Client| {
        keys(&cluster).iter().all(|key| {
            let put = call(client, &["FCALL", "put", "1", key, "v"]);
            let look = call(client, &["FCALL_RO", "look", "1", key]);
            put.text().as_deref() == Some("OK") && look.text().as_deref() == Some("v")
        })
    };
    assert!(works(&mut client));
    assert_eq!(call(&mut client, &["FUNCTION", "LIST"]).elements().len(), 1);
    assert_eq!(ask(&mut client, "FUNCTION FLUSH SYNC"), "OK");
    assert!(!works(&mut client));
    let restored = client
        .command(&[b"FUNCTION".as_slice(), b"RESTORE", &dump])
        .expect("an answer");
    assert_eq!(restored.text().as_deref(), Some("OK"));
    assert!(works(&mut client));
    assert_eq!(ask(&mut client, "FUNCTION DELETE own"), "OK");
    assert_eq!(ask(&mut client, "FUNCTION DELETE own"), "ERR Library not found");
    let refused = call(&mut client, &["FCALL", "put", "2", "a", "b", "v"]);
    assert_eq!(
        refused.text().as_deref(),
        Some("CROSSSLOT Keys in request don't hash to the same slot")
    );
}

#[test]
fn a_script_that_runs_wild_is_killed() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    for node in cluster.nodes() {
        node.run("CONFIG SET busy-reply-threshold 100");
    }
    let mut client = front.client();
    assert_eq!(
        ask(&mut client, "SCRIPT KILL"),
        "NOTBUSY No scripts in execution right now."
    );
    assert_eq!(
        ask(&mut client, "FUNCTION KILL"),
        "NOTBUSY No scripts in execution right now."
    );
    let mut wild = front.client();
    let endless = command_bytes(&["EVAL", "while true do end", "1", &keys(&cluster)[0]]);
    wild.send(&endless).expect("it is sent");
    // It may not have begun yet.
    until("the script to be killed", PATIENCE, || {
        ask(&mut client, "SCRIPT KILL") == "OK"
    });
    let ended = wild.read_replies(1);
    let text = ended.first().and_then(Reply::text).unwrap_or_default();
    assert!(text.contains("killed by user"), "{text}");
    assert_eq!(
        call(&mut wild, &["SET", &keys(&cluster)[0], "1"])
            .text()
            .as_deref(),
        Some("OK")
    );
}

#[test]
fn a_script_in_a_transaction_keeps_nobody_else_waiting() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    for node in cluster.nodes() {
        node.run("CONFIG SET busy-reply-threshold 10");
    }
    let keys = keys(&cluster);
    let key = keys[0].as_str();
    let (mut wild, mut kills) = (front.client(), front.client());
    // Enough of them that some share the script's connection.
    let mut others: Vec<_> = (0..8).map(|_| front.client()).collect();
    assert_eq!(ask(&mut wild, &format!("SET {key} 7")), "OK");
    for other in &mut others {
        assert_eq!(ask(other, &format!("GET {key}")), "7");
    }
    for words in [
        &["MULTI"][..],
        &["GET", key],
        &["EVAL", "while true do end", "1", key],
        &["EXEC"],
    ] {
        wild.send(&command_bytes(words)).expect("it is sent");
    }
    for other in &mut others {
        until("the server to say that it is busy", PATIENCE, || {
            ask(other, &format!("GET {key}")).starts_with("BUSY")
        });
    }
    until("the script to be killed", PATIENCE, || {
        ask(&mut kills, "SCRIPT KILL") == "OK"
    });
    // The connection that it ran on has lost nothing: the block's own answers come.
    let replies = wild.read_replies(4);
    let Some(Reply::Array(Some(answers))) = replies.last() else {
        panic!("{replies:?}");
    };
    assert_eq!(answers[0].text().as_deref(), Some("7"));
    let killed = answers[1].text().unwrap_or_default();
    assert!(killed.contains("killed by user"), "{killed}");
    for other in &mut others {
        assert_eq!(ask(other, &format!("GET {key}")), "7");
    }
}

#[test]
fn replicas_are_taught_where_they_answer() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, &format!("{SETTINGS}, read_policy: REPLICA"));
    let mut client = front.client();
    let look = "return redis.call('get', KEYS[1])";
    let sha = sha_of(&cluster, look);
    let keys = keys(&cluster);
    for key in &keys {
        assert_eq!(ask(&mut client, &format!("SET {key} 1")), "OK");
    }
    cluster.wait_until_replicated();
    call(&mut client, &["EVAL_RO", look, "1", &keys[0]]);
    for key in &keys {
        let reply = call(&mut client, &["EVALSHA_RO", &sha, "1", key]);
        assert_eq!(reply.text().as_deref(), Some("1"), "{reply}");
    }
    let by_replicas: u64 = cluster
        .replicas()
        .iter()
        .map(|node| node.calls("evalsha_ro"))
        .sum();
    assert!(by_replicas >= 3, "{by_replicas} calls");
}
