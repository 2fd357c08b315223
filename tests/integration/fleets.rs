//! Servers that are no Redis Cluster: hash fleets, and routes by prefix over several clusters. Commands for all servers
//! visit each of them once; commands over several keys run where all keys are, or are refused.

use std::collections::BTreeSet;

use redplane_testkit::{Client, Cluster, Redis};

use crate::front::{EAGER, Front, all_to, discovered, hosts, redis_filter, seeds};
use crate::stage::{ask, until_answered};

fn servers<const N: usize>() -> [Redis; N] {
    std::array::from_fn(|_| Redis::plain())
}

fn ports(servers: &[Redis]) -> Vec<u16> {
    servers.iter().map(Redis::port).collect()
}

fn fleet(policy: &str, servers: &[Redis], settings: &str) -> Front {
    let filter = redis_filter("r", &format!("op_timeout: 5s{settings}"), &all_to("c"));
    let front = Front::start(
        &filter,
        &[hosts("c", &ports(servers), &format!(", lb_policy: {policy}"))],
    );
    until_answered(front.port, "SET there yes", "OK");
    front
}

/// All keys, by SCAN and its one cursor.
fn scanned(client: &mut Client) -> (Vec<String>, usize) {
    let (mut found, mut cursor, mut calls) = (Vec::new(), "0".to_owned(), 0);
    loop {
        let reply = client
            .command(&["SCAN", &cursor, "COUNT", "7"])
            .expect("an answer");
        let [next, keys] = reply.elements() else {
            panic!("{reply}")
        };
        found.extend(keys.elements().iter().filter_map(redplane_testkit::Reply::text));
        calls += 1;
        cursor = next.text().expect("a cursor");
        if cursor == "0" {
            return (found, calls);
        }
    }
}

fn keys(client: &mut Client) -> BTreeSet<String> {
    let reply = client.command(&["KEYS", "*"]).expect("an answer");
    let keys: Vec<String> = reply
        .elements()
        .iter()
        .filter_map(redplane_testkit::Reply::text)
        .collect();
    let set: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!(keys.len(), set.len(), "a server was visited twice: {keys:?}");
    set
}

#[test]
fn a_fleet_answers_as_one() {
    for policy in ["MAGLEV", "RING_HASH"] {
        let servers = servers::<3>();
        let front = fleet(policy, &servers, "");
        let mut client = front.client();
        assert_eq!(ask(&mut client, "FLUSHALL"), "OK");
        for at in 0..90 {
            assert_eq!(ask(&mut client, &format!("SET k{at} {at}")), "OK");
        }
        for server in &servers {
            assert!(
                server.run("DBSIZE").integer() > Some(5),
                "{policy} leaves a server out"
            );
        }
        assert_eq!(ask(&mut client, "DBSIZE"), "90");
        assert_eq!(keys(&mut client).len(), 90);
        let (found, calls) = scanned(&mut client);
        let found: BTreeSet<String> = found.into_iter().collect();
        assert_eq!(found, keys(&mut client));
        assert!(calls > 3, "{calls} calls");
        assert!(ask(&mut client, "RANDOMKEY").starts_with('k'));
        // Split, and put together in the order of the keys.
        assert_eq!(
            client
                .command(&["MGET", "k1", "k2", "nil", "k3"])
                .expect("an answer")
                .to_string(),
            {
                let mut all = front.client();
                let one = |client: &mut Client, key: &str| {
                    client.command(&["GET", key]).expect("an answer").to_string()
                };
                let parts = ["k1", "k2", "nil", "k3"].map(|key| one(&mut all, key));
                format!("[ {} ]", parts.join(" "))
            }
        );
        assert_eq!(ask(&mut client, "DEL k1 k2 k3 k4 k5"), "5");
        assert_eq!(ask(&mut client, "EXISTS k1 k6 k7"), "2");
        // A script is known wherever its key may be.
        let sha = ask(&mut client, "SCRIPT LOAD return(redis.call('get',KEYS[1]))");
        for at in 6..30 {
            assert_eq!(
                ask(&mut client, &format!("EVALSHA {sha} 1 k{at}")),
                at.to_string()
            );
        }
        assert_eq!(ask(&mut client, "FLUSHALL"), "OK");
        assert_eq!(ask(&mut client, "DBSIZE"), "0");
    }
}

/// Two keys on different servers, found by asking those.
fn apart(client: &mut Client, servers: &[Redis]) -> (String, String) {
    let holds = |server: &Redis, key: &str| server.run(&format!("EXISTS {key}")).integer() == Some(1);
    assert_eq!(ask(client, "SET a0 v"), "OK");
    let other = (1..200).map(|at| format!("a{at}")).find(|key| {
        assert_eq!(ask(client, &format!("SET {key} v")), "OK");
        servers
            .iter()
            .any(|server| holds(server, "a0") != holds(server, key))
    });
    ("a0".to_owned(), other.expect("keys are spread"))
}

#[test]
fn keys_of_one_command_must_share_a_server() {
    let servers = servers::<3>();
    let front = fleet("MAGLEV", &servers, ", enable_hashtagging: true");
    let mut client = front.client();
    let (a, b) = apart(&mut client, &servers);
    for command in [
        format!("RENAME {a} {b}"),
        format!("SINTERSTORE {a} {b}"),
        format!("COPY {a} {b}"),
    ] {
        let reply = ask(&mut client, &command);
        assert!(reply.contains("CROSSSLOT"), "{command}: {reply}");
    }
    assert_eq!(ask(&mut client, &format!("GET {a}")), "v");
    // Tagged keys share a server.
    assert_eq!(ask(&mut client, "SET {t}a 1"), "OK");
    assert_eq!(ask(&mut client, "RENAME {t}a {t}b"), "OK");
    assert_eq!(ask(&mut client, "GET {t}b"), "1");
    // So do transactions.
    assert_eq!(ask(&mut client, "MULTI"), "OK");
    assert_eq!(ask(&mut client, "INCR {t}b"), "QUEUED");
    assert_eq!(ask(&mut client, "COPY {t}b {t}c"), "QUEUED");
    assert!(!client.command(&["EXEC"]).expect("an answer").is_error());
    assert_eq!(ask(&mut client, "GET {t}c"), "2");
    // Keys of one command are judged at once, those of several at EXEC.
    ask(&mut client, "MULTI");
    let reply = ask(&mut client, &format!("SINTERSTORE {a} {b}"));
    assert!(reply.contains("CROSSSLOT"), "{reply}");
    assert!(ask(&mut client, "EXEC").contains("EXECABORT"));
    ask(&mut client, "MULTI");
    for key in [&a, &b] {
        assert_eq!(ask(&mut client, &format!("APPEND {key} x")), "QUEUED");
    }
    assert!(ask(&mut client, "EXEC").contains("CROSSSLOT"));
    assert!(ask(&mut client, &format!("WATCH {a} {b}")).contains("CROSSSLOT"));
    assert_eq!(ask(&mut client, &format!("GET {a}")), "v");
    // One server alone takes any keys, tagged or not.
    let alone = fleet("MAGLEV", &servers[..1], "");
    let mut client = alone.client();
    assert_eq!(ask(&mut client, "MSETNX x 1 y 2"), "1");
    assert_eq!(ask(&mut client, "RENAME x z"), "OK");
}

#[test]
fn all_routes_are_visited_and_each_server_once() {
    let (main, cache) = (servers::<2>(), servers::<1>());
    let cluster = Cluster::three_and_three();
    let routes = "prefix_routes: {routes: [{prefix: 'cache:', cluster: cache}, {prefix: 'old:', cluster: cache}, \
                  {prefix: 'same:', cluster: alias}, {prefix: 'big:', cluster: big}, {prefix: 'gone:', cluster: gone}], \
                  catch_all_route: {cluster: main}}";
    let clusters = [
        hosts("main", &ports(&main), ", lb_policy: MAGLEV"),
        hosts("cache", &ports(&cache), ", lb_policy: MAGLEV"),
        // Another name for a server of `main`.
        hosts("alias", &ports(&main[..1]), ", lb_policy: MAGLEV"),
        discovered("big", &seeds(&cluster), EAGER, ""),
    ];
    let front = Front::start(&redis_filter("r", "op_timeout: 5s", routes), &clusters);
    until_answered(front.port, "SET there yes", "OK");
    until_answered(front.port, "SET big:there yes", "OK");
    let mut client = front.client();
    assert_eq!(ask(&mut client, "FLUSHALL"), "OK");
    let mut expected = BTreeSet::new();
    for prefix in ["cache:", "old:", "same:", "big:", ""] {
        for at in 0..20 {
            let key = format!("{prefix}k{at}");
            assert_eq!(ask(&mut client, &format!("SET {key} v")), "OK");
            expected.insert(key);
        }
    }
    assert_eq!(ask(&mut client, "DBSIZE"), "100");
    assert_eq!(keys(&mut client), expected);
    let (found, _) = scanned(&mut client);
    assert_eq!(found.len(), 100, "a server was scanned twice");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    let every: Vec<&Redis> = main.iter().chain(&cache).collect();
    every.iter().for_each(|server| server.reset_stats());
    let info = ask(&mut client, "INFO server");
    assert!(info.contains("redis_version"), "{info}");
    assert!(!ask(&mut client, "SCRIPT LOAD return(1)").is_empty());
    for server in &every {
        let stats = server.commandstats();
        assert_eq!(stats.get("script|load"), Some(&1), "{stats:?}");
    }
    // Keys of two clusters are not one command's.
    for command in ["RENAME cache:k1 k1", "RENAME cache:k1 big:k1", "COPY k1 cache:k1"] {
        let reply = ask(&mut client, command);
        assert!(reply.contains("CROSSSLOT"), "{command}: {reply}");
    }
    assert_eq!(ask(&mut client, "RENAME cache:k1 old:k1"), "OK");
    assert_eq!(
        ask(&mut client, "MGET cache:k2 k2 big:k2 same:k2").len(),
        ask(&mut client, "MGET k2 k2 k2 k2").len()
    );
    assert_eq!(ask(&mut client, "FLUSHALL"), "OK");
    assert_eq!(ask(&mut client, "DBSIZE"), "0");
    assert_eq!(ask(&mut client, "SCAN 0"), ask(&mut main[0].client(), "SCAN 0"));
    assert_eq!(cluster.masters()[0].run("DBSIZE").integer(), Some(0));
}

#[test]
fn every_key_of_a_command_loses_its_prefix() {
    let [server] = servers::<1>();
    let routes = "prefix_routes: {routes: [{prefix: 'cut:', remove_prefix: true, cluster: c}], catch_all_route: {cluster: c}}";
    let front = Front::start(
        &redis_filter("r", "op_timeout: 5s", routes),
        &[hosts("c", &[server.port()], "")],
    );
    until_answered(front.port, "SET cut:a 1", "OK");
    let mut client = front.client();
    assert_eq!(ask(&mut client, "RENAME cut:a cut:b"), "OK");
    assert_eq!(server.run("GET b").text().as_deref(), Some("1"));
    assert_eq!(
        ask(
            &mut client,
            "EVAL return(redis.call('incr',KEYS[2])) 2 cut:x cut:b"
        ),
        "2"
    );
    assert_eq!(ask(&mut client, "MULTI"), "OK");
    assert_eq!(ask(&mut client, "COPY cut:b cut:c"), "QUEUED");
    assert!(!client.command(&["EXEC"]).expect("an answer").is_error());
    assert_eq!(server.run("GET c").text().as_deref(), Some("2"));
}
