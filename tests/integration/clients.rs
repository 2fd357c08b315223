//! CLIENT over real workers: the proxy's own clients, in the words and shapes of a real Redis.

use std::collections::BTreeMap;
use std::time::Duration;

use redplane_testkit::{Client, Redis, Reply, command_bytes, free_port, until};

use crate::front::{Front, all_to, hosts, listener, redis_filter, serve_as};
use crate::stage::{PATIENCE, ask, client};

/// redplane with two workers in front of one server.
fn front() -> (Front, Redis) {
    let redis = Redis::plain();
    let port = free_port();
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("c"));
    let proxy = serve_as(
        "node: {id: n, cluster: c}\n",
        "2",
        &[listener("redis", port, &filter)],
        &[hosts("c", &[redis.port()], "")],
    );
    (Front { proxy, port }, redis)
}

/// So many clients, each with a name; with this many no worker stays without.
fn crowd(front: &Front, count: usize) -> Vec<Client> {
    let named = |n: usize| {
        let mut client = front.client();
        assert_eq!(ask(&mut client, &format!("CLIENT SETNAME c{n}")), "OK");
        client
    };
    (0..count).map(named).collect()
}

/// The lines of CLIENT LIST as maps.
fn lines(text: &str) -> Vec<BTreeMap<&str, &str>> {
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            line.split(' ')
                .filter_map(|field| field.split_once('='))
                .collect()
        })
        .collect()
}

fn silent(client: &mut Client) -> bool {
    client.read_until_quiet(Duration::from_millis(300)).is_empty()
}

#[test]
fn the_clients_of_both_workers_are_listed_and_closed() {
    let (front, _redis) = front();
    let mut crowd = crowd(&front, 50);
    let mut own = front.client();
    let list = ask(&mut own, "CLIENT LIST");
    let listed = lines(&list);
    let names: Vec<&str> = listed.iter().map(|line| line["name"]).collect();
    assert_eq!(names.iter().filter(|name| !name.is_empty()).count(), 50, "{list}");
    let ids: Vec<u64> = listed
        .iter()
        .map(|line| line["id"].parse().expect("a number"))
        .collect();
    assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] < pair[1]));
    let addresses: Vec<&str> = listed.iter().map(|line| line["addr"]).collect();
    for member in &crowd {
        assert!(addresses.contains(&member.local_addr().to_string().as_str()));
    }
    let id_of =
        |name: &str| listed.iter().find(|line| line["name"] == name).expect("listed")["id"].to_owned();

    assert_eq!(ask(&mut own, &format!("CLIENT KILL ID {}", id_of("c7"))), "1");
    let address = crowd[8].local_addr();
    assert_eq!(ask(&mut own, &format!("CLIENT KILL ADDR {address}")), "1");
    let address = crowd[9].local_addr();
    assert_eq!(ask(&mut own, &format!("CLIENT KILL {address}")), "OK");
    for gone in &mut crowd[7..10] {
        gone.read_until_close();
        assert!(gone.is_closed());
    }
    assert_eq!(ask(&mut own, "CLIENT KILL LADDR 127.0.0.1:1"), "0");
    assert_eq!(ask(&mut own, "CLIENT KILL TYPE pubsub"), "0");
    assert_eq!(ask(&mut own, "CLIENT KILL MAXAGE 1000"), "0");
    let info = ask(&mut own, "INFO clients");
    assert!(info.contains("\r\nconnected_clients:48\r\n"), "{info}");
    let own_local = format!("CLIENT KILL LADDR 127.0.0.1:{} USER default", front.port);
    assert_eq!(ask(&mut own, &own_local), "47");
    for member in crowd.iter_mut().skip(10) {
        member.read_until_close();
        assert!(member.is_closed());
    }
    assert_eq!(lines(&ask(&mut own, "CLIENT LIST")).len(), 1);
    assert_eq!(ask(&mut own, "CLIENT KILL TYPE normal SKIPME no"), "1");
    own.read_until_close();
    assert!(own.is_closed());
    until("no client is counted", PATIENCE, || {
        front.stat("redis.r.downstream_cx_active") == 0
    });
}

#[test]
fn keys_do_not_expire_while_clients_pause() {
    let (front, server) = front();
    let (mut own, mut crowd) = (front.client(), crowd(&front, 20));
    for (n, member) in crowd.iter_mut().enumerate() {
        assert_eq!(ask(member, &format!("SET k{n} v PX 300")), "OK");
    }
    assert_eq!(ask(&mut own, "CLIENT PAUSE 60000 WRITE"), "OK");
    // The server itself says whether it holds keys whose time is over.
    until("the keys have no time left", PATIENCE, || {
        server.command(&["PTTL", "k0"]).integer() == Some(-2)
    });
    assert_eq!(server.info("expired_keys").as_deref(), Some("0"));
    assert_eq!(server.command(&["DBSIZE"]).integer(), Some(20));
    // A write of somebody else waits at the server, as one of ours does here.
    let mut direct = server.client();
    direct
        .send(&command_bytes(&["SET", "direct", "v"]))
        .expect("it is sent");
    assert!(silent(&mut direct));
    assert_eq!(ask(&mut own, "CLIENT UNPAUSE"), "OK");
    assert_eq!(direct.read_replies(1), [Reply::Simple(b"OK".to_vec())]);
    until("the keys are gone", PATIENCE, || {
        server.command(&["DBSIZE"]).integer() == Some(1)
    });
    for member in &mut crowd {
        assert_eq!(ask(member, "SET other v"), "OK");
    }
}

#[test]
fn a_pause_loses_nothing_that_is_on_its_way() {
    let (front, server) = front();
    let mut crowd = crowd(&front, 20);
    let mut own = front.client();
    for round in 0..20 {
        // Writes leave from both workers while the pause begins.
        for member in &mut crowd {
            member
                .send(&command_bytes(&["INCR", "sum"]).repeat(50))
                .expect("it is sent");
        }
        let pause = if round % 2 == 0 {
            "CLIENT PAUSE 30 WRITE"
        } else {
            "CLIENT PAUSE 30"
        };
        assert_eq!(ask(&mut own, pause), "OK");
        if round % 3 == 0 {
            assert_eq!(ask(&mut own, "CLIENT UNPAUSE"), "OK");
        }
        for member in &mut crowd {
            let replies = member.read_replies(50);
            assert!(
                replies.iter().all(|reply| reply.integer().is_some()),
                "{replies:?}"
            );
        }
    }
    assert_eq!(server.command(&["GET", "sum"]).to_string(), "\"20000\"");
}

#[test]
fn functions_that_only_read_run_while_writes_are_paused() {
    let (front, server) = front();
    let code = "#!lua name=lib\n\
        redis.register_function{function_name='looks', callback=function() return 'seen' end, flags={'no-writes'}}\n\
        redis.register_function('puts', function(keys) return redis.call('SET', keys[1], 'v') end)";
    let loaded = server.command(&["FUNCTION", "LOAD", code]);
    assert!(!loaded.is_error(), "{loaded}");
    let mut admin = front.client();
    assert_eq!(ask(&mut admin, "CLIENT PAUSE 60000 WRITE"), "OK");
    for protocol in ["2", "3"] {
        let mut client = front.client();
        assert!(
            !client
                .command(&["HELLO", protocol])
                .expect("an answer")
                .is_error()
        );
        assert_eq!(ask(&mut client, "FCALL looks 0"), "seen");
        assert_eq!(ask(&mut client, "FCALL looks 1 key"), "seen");
        assert_eq!(ask(&mut client, "MULTI"), "OK");
        assert_eq!(ask(&mut client, "FCALL looks 0"), "QUEUED");
        let all = client.command(&["EXEC"]).expect("an answer");
        assert!(all.to_string().contains("seen"), "{all}");
    }
    // One that does not say so waits, and what nobody knows.
    let (mut writer, mut unknown) = (front.client(), front.client());
    writer
        .send(&command_bytes(&["FCALL", "puts", "1", "key"]))
        .expect("it is sent");
    unknown
        .send(&command_bytes(&["FCALL", "nobody", "0"]))
        .expect("it is sent");
    until("both wait", PATIENCE, || {
        ask(&mut admin, "INFO clients").contains("blocked_clients:2")
    });
    assert_eq!(server.command(&["EXISTS", "key"]).integer(), Some(0));
    assert_eq!(ask(&mut admin, "CLIENT UNPAUSE"), "OK");
    assert_eq!(writer.read_replies(1)[0].to_string(), "+OK");
    let said = unknown.read_replies(1)[0].to_string();
    assert!(said.starts_with("-ERR Function not found"), "{said}");
}

#[test]
fn a_pause_holds_both_workers() {
    let (front, _redis) = front();
    let mut crowd = crowd(&front, 20);
    let mut own = front.client();
    assert_eq!(ask(&mut own, "CLIENT PAUSE 60000 WRITE"), "OK");
    for (n, member) in crowd.iter_mut().enumerate() {
        member
            .send(&command_bytes(&["SET", &format!("k{n}"), "v"]))
            .expect("it reads");
    }
    assert!(crowd.iter_mut().all(silent));
    assert_eq!(ask(&mut own, "EXISTS k0"), "0");
    assert!(ask(&mut own, "INFO clients").contains("\r\nblocked_clients:20\r\n"));
    assert_eq!(ask(&mut own, "CLIENT UNPAUSE"), "OK");
    for member in &mut crowd {
        assert_eq!(member.read_replies(1), [Reply::Simple(b"OK".to_vec())]);
    }
    // One that nobody ends is ended by the clock.
    assert_eq!(ask(&mut own, "CLIENT PAUSE 400"), "OK");
    for member in &mut crowd {
        member.send(&command_bytes(&["PING"])).expect("it reads");
    }
    for member in &mut crowd {
        assert_eq!(member.read_replies(1), [Reply::Simple(b"PONG".to_vec())]);
    }
    assert!(ask(&mut own, "INFO clients").contains("\r\nblocked_clients:0\r\n"));
}

#[test]
fn who_blocks_is_seen_and_unblocked_from_any_worker() {
    let (front, _redis) = front();
    let mut crowd = crowd(&front, 20);
    let mut own = front.client();
    for member in &mut crowd {
        member
            .send(&command_bytes(&["BLPOP", "queue", "0"]))
            .expect("it reads");
    }
    until("twenty blocked clients", PATIENCE, || {
        ask(&mut own, "INFO clients").contains("\r\nblocked_clients:20\r\n")
    });
    let list = ask(&mut own, "CLIENT LIST");
    let listed = lines(&list);
    let blocked: Vec<&str> = listed
        .iter()
        .filter(|line| line["flags"] == "b" && line["cmd"] == "blpop")
        .map(|line| line["id"])
        .collect();
    assert_eq!(blocked.len(), 20, "{list}");
    for (n, id) in blocked.iter().enumerate() {
        let reason = if n % 2 == 0 { "TIMEOUT" } else { "ERROR" };
        assert_eq!(ask(&mut own, &format!("CLIENT UNBLOCK {id} {reason}")), "1");
    }
    let replies: Vec<Reply> = crowd
        .iter_mut()
        .flat_map(|member| member.read_replies(1))
        .collect();
    let errors = replies.iter().filter(|reply| reply.is_error()).count();
    assert_eq!((replies.len(), errors), (20, 10), "{replies:?}");
    assert_eq!(ask(&mut own, &format!("CLIENT UNBLOCK {}", blocked[0])), "0");
    assert!(ask(&mut own, "INFO clients").contains("\r\nblocked_clients:0\r\n"));
}

/// What a plain Redis answers to these, the proxy answers too, byte for byte, in both protocols.
const SAME: &[&str] = &[
    "CLIENT ID x",
    "CLIENT LIST TYPE foo",
    "CLIENT LIST TYPE",
    "CLIENT LIST ID",
    "CLIENT LIST ID x",
    "CLIENT LIST ID 1 x",
    "CLIENT LIST ID 99999 88888",
    "CLIENT LIST FOO BAR",
    "CLIENT LIST FOO",
    "CLIENT LIST TYPE normal ID 3",
    "CLIENT LIST TYPE MASTER",
    "CLIENT LIST TYPE replica",
    "CLIENT KILL",
    "CLIENT KILL 1.2.3.4:5",
    "CLIENT KILL ID",
    "CLIENT KILL ID 0",
    "CLIENT KILL ID -1",
    "CLIENT KILL ID x",
    "CLIENT KILL ID 99999",
    "CLIENT KILL ID 99999999999999999999",
    "CLIENT KILL TYPE foo",
    "CLIENT KILL TYPE slave",
    "CLIENT KILL USER nobody",
    "CLIENT KILL ADDR x",
    "CLIENT KILL LADDR x",
    "CLIENT KILL SKIPME foo",
    "CLIENT KILL ID 99999 FOO",
    "CLIENT KILL ID 99999 FOO bar",
    "CLIENT PAUSE",
    "CLIENT PAUSE x",
    "CLIENT PAUSE -1",
    "CLIENT PAUSE 0",
    "CLIENT PAUSE 10 foo",
    "CLIENT pause 10 WRITE foo",
    "CLIENT PAUSE 1 write",
    "CLIENT PAUSE 99999999999999999999",
    "CLIENT UNPAUSE",
    "CLIENT UNPAUSE x",
    "CLIENT UNBLOCK",
    "CLIENT UNBLOCK x",
    "CLIENT UNBLOCK 99999",
    "CLIENT UNBLOCK -1",
    "CLIENT UNBLOCK 99999 foo",
    "CLIENT UNBLOCK 99999 ERROR",
    "CLIENT UNBLOCK 99999 TIMEOUT foo",
    "CLIENT UNBLOCK x foo",
    "CLIENT REPLY",
    "CLIENT REPLY foo",
    "CLIENT REPLY ON",
    "CLIENT NO-EVICT",
    "CLIENT NO-EVICT foo",
    "CLIENT NO-EVICT ON",
    "CLIENT NO-EVICT OFF",
    "CLIENT GETREDIR",
    "CLIENT GETREDIR x",
    "CLIENT TRACKING",
    "CLIENT TRACKING foo",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKING OFF BCAST",
    "CLIENT TRACKING OFF FOO",
    "CLIENT TRACKING OFF REDIRECT",
    "CLIENT TRACKING OFF PREFIX a",
    "CLIENT TRACKING OFF REDIRECT 99999",
    "CLIENT TRACKING ON REDIRECT 99999",
    "CLIENT TRACKING ON OPTIN",
    "CLIENT TRACKING ON OPTOUT",
    "CLIENT CACHING YES",
    "CLIENT CACHING NO",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKINGINFO x",
    "CLIENT CACHING",
    "CLIENT CACHING yes",
    "CLIENT CACHING foo",
    "CLIENT HELP",
    "CLIENT HELP x",
    "CLIENT SETNAME one",
    "CLIENT GETNAME",
    "CLIENT NOSUCH",
    "ACL WHOAMI",
    "ACL WHOAMI x",
    "ACL CAT",
    "ACL CAT hash",
    "ACL CAT foo",
    "ACL GENPASS 0",
    "ACL GENPASS 5000",
    "ACL GENPASS x",
    "ACL HELP",
    "COMMAND HELP",
    "CONFIG HELP",
    "OBJECT HELP",
    "PUBSUB HELP",
    "SCRIPT HELP",
    "ROLE",
    "ROLE x",
    "LOLWUT",
    "TIME x",
    "ECHO",
    "ECHO a",
    "PING",
    "PING a",
    "PING a b",
    "RESET x",
    "RESET",
    "CLIENT GETNAME",
    "QUIT x",
];

#[test]
fn the_proxy_answers_in_the_words_of_redis() {
    let (front, redis) = front();
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut one, mut other) = (front.client(), client(redis.port()));
        for line in [hello].iter().chain(SAME) {
            let words: Vec<&str> = line.split(' ').collect();
            let replies = [&mut one, &mut other].map(|client| client.command(&words).expect("a reply"));
            if !line.starts_with("HELLO") {
                assert_eq!(replies[0], replies[1], "{line} after {hello}");
            }
        }
    }
}

#[test]
fn reset_puts_everything_back() {
    let (front, _redis) = front();
    let mut client = front.client();
    for line in ["HELLO 3", "CLIENT SETNAME x", "CLIENT NO-EVICT ON", "MULTI"] {
        client
            .command(&line.split(' ').collect::<Vec<_>>())
            .expect("a reply");
    }
    assert_eq!(ask(&mut client, "RESET"), "RESET");
    let info = ask(&mut client, "CLIENT INFO");
    let line = &lines(&info)[0];
    assert_eq!(
        (
            line["name"],
            line["flags"],
            line["resp"],
            line["multi"],
            line["cmd"]
        ),
        ("", "N", "2", "-1", "client|info")
    );
}

#[test]
fn clients_of_another_listener_are_left_alone() {
    let redis = Redis::plain();
    let ports = [free_port(), free_port()];
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("c"));
    let listeners = ports.map(|port| listener(&format!("l{port}"), port, &filter));
    let _proxy = serve_as(
        "node: {id: n, cluster: c}\n",
        "2",
        &listeners,
        &[hosts("c", &[redis.port()], "")],
    );
    let mut own = client(ports[0]);
    let mut others: Vec<Client> = (0..8).map(|_| client(ports[1])).collect();
    for other in &mut others {
        assert_eq!(ask(other, "PING"), "PONG");
    }
    assert_eq!(lines(&ask(&mut own, "CLIENT LIST")).len(), 1);
    assert_eq!(ask(&mut own, "CLIENT KILL TYPE normal"), "0");
    assert_eq!(ask(&mut own, "CLIENT PAUSE 60000"), "OK");
    own.send(&command_bytes(&["PING"])).expect("it reads");
    for other in &mut others {
        assert_eq!(ask(other, "SET k v"), "OK");
    }
    assert!(silent(&mut own));
}
