//! SELECT on upstreams that are no Redis Cluster: each client has a database of its own, on shared connections.

use redplane_testkit::{Client, Cluster, Redis, RedisConfig, Reply, command_bytes, until};

use crate::front::{EAGER, Front, all_to, discovered, hosts, redis_filter, seeds};
use crate::stage::{PATIENCE, ask, until_answered};

fn front(servers: &[u16]) -> Front {
    let front = Front::start(
        &redis_filter("r", "op_timeout: 5s", &all_to("c")),
        &[hosts("c", servers, ", lb_policy: MAGLEV")],
    );
    until_answered(front.port, "PING", "PONG");
    front
}

/// Replies to lines that leave in one write.
fn pipelined(client: &mut Client, lines: &[&str]) -> Vec<String> {
    let bytes: Vec<u8> = lines
        .iter()
        .flat_map(|line| command_bytes(&line.split(' ').collect::<Vec<_>>()))
        .collect();
    client.send(&bytes).expect("it is sent");
    let replies = client.read_replies(lines.len());
    replies.iter().map(Reply::to_string).collect()
}

#[test]
fn clients_keep_their_databases_apart() {
    let server = Redis::plain();
    let front = front(&[server.port()]);
    let mut clients: Vec<Client> = (0..4).map(|_| front.client()).collect();
    for (database, client) in clients.iter_mut().enumerate() {
        assert_eq!(ask(client, &format!("SELECT {database}")), "OK");
        assert_eq!(ask(client, &format!("SET k {database}")), "OK");
    }
    for (database, client) in clients.iter_mut().enumerate() {
        assert_eq!(ask(client, "GET k"), database.to_string());
        let mut direct = server.client();
        assert_eq!(ask(&mut direct, &format!("SELECT {database}")), "OK");
        assert_eq!(ask(&mut direct, "GET k"), database.to_string());
    }
    // Both protocols, and the way back.
    let client = &mut clients[1];
    assert!(!client.command(&["HELLO", "3"]).expect("an answer").is_error());
    assert_eq!(ask(client, "GET k"), "1");
    assert_eq!(ask(client, "SELECT 0"), "OK");
    assert_eq!(ask(client, "GET k"), "0");
    assert_eq!(ask(client, "SELECT 2"), "OK");
    assert_eq!(ask(client, "RESET"), "RESET");
    assert_eq!(ask(client, "GET k"), "0");
}

#[test]
fn the_server_says_which_databases_there_are() {
    let server = Redis::start(RedisConfig {
        directives: vec![("databases".to_owned(), "3".to_owned())],
        ..RedisConfig::default()
    });
    let front = front(&[server.port()]);
    let mut client = front.client();
    let mut direct = server.client();
    assert_eq!(ask(&mut client, "SELECT 2"), "OK");
    assert_eq!(ask(&mut client, "SET k two"), "OK");
    for bad in ["3", "16", "-1", "99999999", "x"] {
        let line = format!("SELECT {bad}");
        assert_eq!(ask(&mut client, &line), ask(&mut direct, &line), "{line}");
        // It is where it was.
        assert_eq!(ask(&mut client, "GET k"), "two", "{line}");
    }
    // What was pipelined behind a refused SELECT ran where the client was.
    let replies = pipelined(
        &mut client,
        &[
            "GET k",
            "SELECT 7",
            "APPEND k +",
            "SELECT 0",
            "GET k",
            "SELECT 2",
            "GET k",
        ],
    );
    assert_eq!(ask(&mut direct, "SELECT 2"), "OK");
    assert_eq!(ask(&mut direct, "GET k"), "two+");
    let same = pipelined(
        &mut direct,
        &[
            "SELECT 2", "SELECT 7", "STRLEN k", "SELECT 0", "GET k", "SELECT 2", "GET k",
        ],
    );
    assert_eq!(replies[1..], same[1..]);
}

#[test]
fn what_leads_from_one_database_to_another_works() {
    let server = Redis::plain();
    let front = front(&[server.port()]);
    let mut client = front.client();
    let requests = &[
        "SET a 1",
        "MOVE a 1",
        "SELECT 1",
        "GET a",
        "COPY a b DB 2",
        "SELECT 2",
        "GET b",
        "SWAPDB 1 2",
        "GET a",
        "DBSIZE",
        "FLUSHDB",
        "SELECT 1",
        "GET b",
        "DBSIZE",
    ];
    let replies = pipelined(&mut client, requests);
    let other = Redis::plain();
    let mut direct = other.client();
    let expected = pipelined(&mut direct, requests);
    assert_eq!(replies, expected);
    // Transactions run in the client's database, and stay in it.
    assert_eq!(ask(&mut client, "SELECT 3"), "OK");
    assert_eq!(ask(&mut direct, "SELECT 3"), "OK");
    let replies = pipelined(&mut client, &["MULTI", "SET t 3", "SELECT 3", "GET t", "EXEC"]);
    let expected = pipelined(&mut direct, &["MULTI", "SET t 3", "SELECT 3", "GET t", "EXEC"]);
    assert_eq!(replies, expected);
    // Or lead to others; what comes behind EXEC is in the last one, what other clients do in theirs.
    let wanders = [
        "MULTI",
        "SELECT 4",
        "SET t 4",
        "SELECT 99",
        "SELECT 5",
        "CLIENT GETNAME",
        "SET t 5",
        "EXEC",
        "GET t",
        "SELECT 4",
        "GET t",
        "SELECT 3",
        "GET t",
    ];
    let (replies, expected) = (pipelined(&mut client, &wanders), pipelined(&mut direct, &wanders));
    assert_eq!(replies, expected);
    let discarded = ["MULTI", "SELECT 4", "DISCARD", "GET t"];
    let (replies, expected) = (
        pipelined(&mut client, &discarded),
        pipelined(&mut direct, &discarded),
    );
    assert_eq!(replies, expected);
    let mut third = front.client();
    assert_eq!(ask(&mut third, "EXISTS t"), "0");
    // A guarded one as well.
    assert_eq!(ask(&mut client, "WATCH t"), "OK");
    assert_eq!(ask(&mut client, "MULTI"), "OK");
    assert_eq!(ask(&mut client, "SET t 5"), "QUEUED");
    assert!(!client.command(&["EXEC"]).expect("an answer").is_error());
    let mut own = server.client();
    assert_eq!(ask(&mut own, "SELECT 3"), "OK");
    assert_eq!(ask(&mut own, "GET t"), "5");
}

#[test]
fn a_connection_that_comes_back_is_in_its_database_or_not_used() {
    let mut server = Redis::plain();
    let front = front(&[server.port()]);
    let mut client = front.client();
    assert_eq!(ask(&mut client, "SELECT 5"), "OK");
    server.restart();
    until("a write to be taken", PATIENCE, || {
        ask(&mut client, "SET k five") == "OK"
    });
    let mut direct = server.client();
    assert_eq!(ask(&mut direct, "EXISTS k"), "0");
    assert_eq!(ask(&mut direct, "SELECT 5"), "OK");
    assert_eq!(ask(&mut direct, "GET k"), "five");
    // The right to select is gone: nothing may land in another database.
    server.run("ACL SETUSER default -select");
    server.run("CLIENT KILL TYPE normal SKIPME yes");
    until("the connection to be refused", PATIENCE, || {
        ask(&mut client, "SET lost 1").contains("upstream failure")
    });
    assert!(ask(&mut client, "SET lost 2").contains("upstream failure"));
    assert_eq!(server.run("EXISTS lost").integer(), Some(0));
    server.run("ACL SETUSER default +select");
    until("the connection to be back", PATIENCE, || {
        ask(&mut client, "SET k six") == "OK"
    });
    assert_eq!(server.run("EXISTS k").integer(), Some(0));
}

#[test]
fn a_fleet_has_its_databases_on_every_server() {
    let servers = [Redis::plain(), Redis::plain(), Redis::plain()];
    let ports: Vec<u16> = servers.iter().map(Redis::port).collect();
    let front = front(&ports);
    let mut client = front.client();
    assert_eq!(ask(&mut client, "SELECT 4"), "OK");
    for at in 0..60 {
        assert_eq!(ask(&mut client, &format!("SET k{at} {at}")), "OK");
    }
    assert_eq!(ask(&mut client, "DBSIZE"), "60");
    for server in &servers {
        assert_eq!(server.run("DBSIZE").integer(), Some(0));
        let keyspace = server.run("INFO keyspace").text().unwrap_or_default();
        assert!(keyspace.contains("db4:keys="), "{keyspace}");
    }
    assert_eq!(ask(&mut client, "FLUSHDB"), "OK");
    assert_eq!(ask(&mut client, "DBSIZE"), "0");
}

#[test]
fn a_cluster_has_one_database() {
    let cluster = Cluster::three_and_three();
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("c"));
    let front = Front::start(&filter, &[discovered("c", &seeds(&cluster), EAGER, "")]);
    until_answered(front.port, "SET a 1", "OK");
    let mut client = front.client();
    assert_eq!(ask(&mut client, "SELECT 0"), "OK");
    let refused = ask(&mut client, "SELECT 1");
    assert!(
        refused.contains("SELECT is not allowed in cluster mode"),
        "{refused}"
    );
    assert_eq!(ask(&mut client, "GET a"), "1");
}
