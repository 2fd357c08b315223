//! Logins of applications that have always sent AUTH to their servers: servers decide on them here, too.

use redplane_testkit::{Client, Redis, RedisConfig, command_bytes, until};

use crate::front::{Front, all_to, hosts, redis_filter};
use crate::stage::{PATIENCE, ask};

fn guarded() -> Redis {
    Redis::start(RedisConfig {
        password: Some("secret".to_owned()),
        users: vec![
            "app on >apppass ~* &* +@all".to_owned(),
            "reader on >readpass ~* &* +@read +@connection +info".to_owned(),
        ],
        ..RedisConfig::default()
    })
}

fn front(server: &Redis) -> Front {
    Front::start(
        &redis_filter("r", "op_timeout: 5s", &all_to("c")),
        &[hosts("c", &[server.port()], ", lb_policy: MAGLEV")],
    )
}

fn asked(client: &mut Client, lines: &[(&str, &str)]) {
    for (line, expected) in lines {
        let reply = ask(client, line);
        match expected.strip_suffix('*') {
            Some(start) => assert!(reply.starts_with(start), "{line}: {reply}"),
            None => assert_eq!(reply, *expected, "{line}"),
        }
    }
}

#[test]
fn servers_decide_on_the_logins_of_an_application() {
    let server = guarded();
    let front = front(&server);
    asked(&mut front.client(), &[("GET k", "NOAUTH *")]);
    let app = &mut front.client();
    asked(
        app,
        &[
            ("AUTH app apppass", "OK"),
            ("ACL WHOAMI", "app"),
            ("SET k v", "OK"),
            ("GET k", "v"),
            ("SELECT 3", "OK"),
            ("SET k three", "OK"),
        ],
    );
    asked(
        &mut front.client(),
        &[
            ("AUTH secret", "OK"),
            ("ACL WHOAMI", "default"),
            ("GET k", "v"),
            // What is refused leaves the client as it was.
            ("AUTH app wrong", "WRONGPASS *"),
            ("ACL WHOAMI", "default"),
            ("GET k", "v"),
        ],
    );
    let reader = &mut front.client();
    asked(
        reader,
        &[
            ("AUTH reader readpass", "OK"),
            ("SET k no", "NOPERM *"),
            ("GET k", "v"),
        ],
    );
    asked(
        &mut front.client(),
        &[
            ("AUTH wrong", "WRONGPASS *"),
            ("GET k", "NOAUTH *"),
            ("AUTH nobody x", "WRONGPASS *"),
            ("GET k", "NOAUTH *"),
        ],
    );
    // Each has its own connections, and its own database.
    asked(app, &[("GET k", "three"), ("ACL WHOAMI", "app")]);
    asked(
        reader,
        &[("GET k", "v"), ("RESET", "RESET"), ("GET k", "NOAUTH *")],
    );
}

#[test]
fn hello_logs_in_and_speaks() {
    let server = guarded();
    let front = front(&server);
    let mut client = front.client();
    let refused = client
        .command(&["HELLO", "3", "AUTH", "app", "no"])
        .expect("an answer");
    assert!(refused.to_string().starts_with("-WRONGPASS"), "{refused}");
    let map = client
        .command(&["HELLO", "3", "AUTH", "app", "apppass", "SETNAME", "me"])
        .expect("an answer");
    assert!(!map.is_error(), "{map}");
    asked(
        &mut client,
        &[("SET k v", "OK"), ("CLIENT GETNAME", "me"), ("ACL WHOAMI", "app")],
    );
}

#[test]
fn what_stands_behind_a_login_runs_with_it() {
    let server = guarded();
    let front = front(&server);
    let mut client = front.client();
    let lines = [
        "AUTH app apppass",
        "SET k 1",
        "AUTH reader readpass",
        "SET k 2",
        "GET k",
        "AUTH app no",
        "SET k 3",
        "AUTH secret",
        "SET k 4",
        "GET k",
    ];
    let bytes: Vec<u8> = lines
        .iter()
        .flat_map(|line| command_bytes(&line.split(' ').collect::<Vec<_>>()))
        .collect();
    client.send(&bytes).expect("it is sent");
    let replies = client.read_replies(lines.len());
    let starts = [
        "+OK",
        "+OK",
        "+OK",
        "-NOPERM",
        "\"1\"",
        "-WRONGPASS",
        "-NOPERM",
        "+OK",
        "+OK",
        "\"4\"",
    ];
    for ((line, reply), start) in lines.iter().zip(&replies).zip(starts) {
        assert!(reply.to_string().starts_with(start), "{line}: {reply}");
    }
}

#[test]
fn messages_and_blocked_commands_are_the_users_own() {
    let server = guarded();
    let front = front(&server);
    let (mut hears, mut waits, mut says) = (front.client(), front.client(), front.client());
    for client in [&mut hears, &mut waits, &mut says] {
        asked(client, &[("AUTH app apppass", "OK")]);
    }
    hears.command(&["SUBSCRIBE", "news"]).expect("it is confirmed");
    waits
        .send(&command_bytes(&["BLPOP", "list", "10"]))
        .expect("it is sent");
    until("it is heard", PATIENCE, || {
        ask(&mut says, "PUBLISH news now") == "1"
    });
    asked(&mut says, &[("RPUSH list x", "1")]);
    let popped = waits.read_replies(1);
    assert!(popped[0].to_string().contains('x'), "{}", popped[0]);
    let heard = hears.read_replies(1);
    assert!(heard[0].to_string().contains("now"), "{}", heard[0]);
    // Transactions and watched keys, too.
    asked(
        &mut says,
        &[("WATCH k", "OK"), ("MULTI", "OK"), ("SET k 1", "QUEUED")],
    );
    assert!(!says.command(&["EXEC"]).expect("an answer").is_error());
}

#[test]
fn a_password_that_changes_ends_what_was_opened_with_it() {
    let server = guarded();
    let front = front(&server);
    let mut client = front.client();
    asked(&mut client, &[("AUTH app apppass", "OK"), ("SET k v", "OK")]);
    let mut admin = server.client();
    asked(&mut admin, &[("AUTH secret", "OK")]);
    let set = admin
        .command(&["ACL", "SETUSER", "app", "resetpass", ">other"])
        .expect("an answer");
    assert!(!set.is_error(), "{set}");
    // A connection that is open stays who it is, as at the server itself.
    asked(&mut client, &[("GET k", "v")]);
    let killed = admin.command(&["CLIENT", "KILL", "USER", "app"]);
    assert!(!killed.expect("an answer").is_error());
    // The next one cannot be opened: the client is told, and its connection ends.
    until("the login is refused", PATIENCE, || {
        client
            .command(&["GET", "k"])
            .map_or(true, |reply| reply.to_string().starts_with("-WRONGPASS"))
    });
    assert!(client.command(&["GET", "k"]).is_err(), "its connection has ended");
    asked(
        &mut front.client(),
        &[
            ("AUTH app apppass", "WRONGPASS *"),
            ("AUTH app other", "OK"),
            ("GET k", "v"),
        ],
    );
}

#[test]
fn a_cluster_can_keep_logins_to_itself() {
    let server = guarded();
    let off = ", lb_policy: MAGLEV, metadata: {filter_metadata: {redplane: {client_logins: false}}}";
    let front = Front::start(
        &redis_filter("r", "op_timeout: 5s", &all_to("c")),
        &[hosts("c", &[server.port()], off)],
    );
    asked(
        &mut front.client(),
        &[
            ("AUTH app apppass", "WRONGPASS *"),
            ("AUTH secret", "ERR AUTH <password> called without any password *"),
            ("GET k", "NOAUTH *"),
        ],
    );
}

#[test]
fn a_transaction_runs_as_the_user_of_its_end() {
    let server = guarded();
    let front = front(&server);
    let mut client = front.client();
    asked(
        &mut client,
        &[
            ("AUTH app apppass", "OK"),
            ("SET k v", "OK"),
            ("WATCH k", "OK"),
            ("AUTH reader readpass", "OK"),
            ("MULTI", "OK"),
        ],
    );
    // Perhaps it is refused at once, perhaps at the end: it must not be done by who the client was.
    let queued = ask(&mut client, "SET k w");
    let end = client.command(&["EXEC"]).expect("an answer").to_string();
    assert!(
        queued.starts_with("NOPERM") || end == "nil-array" || end.contains("NOPERM"),
        "{queued} {end}"
    );
    asked(&mut client, &[("GET k", "v")]);
}

#[test]
fn what_follows_a_login_in_a_transaction_is_not_the_former_users() {
    let server = guarded();
    let front = front(&server);
    let mut client = front.client();
    asked(
        &mut client,
        &[
            ("AUTH app apppass", "OK"),
            ("SET k v", "OK"),
            ("MULTI", "OK"),
            ("SET k 1", "QUEUED"),
            ("AUTH reader readpass", "QUEUED"),
        ],
    );
    let refused = ask(&mut client, "SET k 2");
    assert!(refused.starts_with("ERR"), "{refused}");
    let end = client.command(&["EXEC"]).expect("an answer");
    assert!(end.is_error(), "{end}");
    // As the last command it is done.
    asked(
        &mut client,
        &[
            ("MULTI", "OK"),
            ("SET k 3", "QUEUED"),
            ("AUTH reader readpass", "QUEUED"),
        ],
    );
    let end = client.command(&["EXEC"]).expect("an answer");
    assert!(!end.is_error(), "{end}");
    asked(
        &mut client,
        &[("GET k", "3"), ("SET k 4", "NOPERM *"), ("ACL WHOAMI", "reader")],
    );
}
