//! Client-side caching over a real cluster, held against a plain server: who is told what, in which order, and that
//! nobody keeps what has changed when connections break and slots move.

use redplane_testkit::{Client, Cluster, Redis, Reply, command_bytes, until};

use crate::front::Front;
use crate::stage::{PATIENCE, ask};

const SETTINGS: &str = "op_timeout: 5s, enable_redirection: true";

/// Sends lines in one write and a command behind them that changes and reads nothing: what comes before its reply is
/// all that the server of this key had to say.
fn all_of(client: &mut Client, lines: &[&str], key: &str) -> Vec<String> {
    let mut bytes: Vec<u8> = lines
        .iter()
        .flat_map(|line| command_bytes(&line.split(' ').collect::<Vec<_>>()))
        .collect();
    bytes.extend(command_bytes(&["SETRANGE", key, "0", ""]));
    client.send(&bytes).expect("it is connected");
    let (mut got, mut missing) = (Vec::new(), lines.len() + 1);
    while missing > 0 {
        let frame = client.read_replies(1).pop().expect("a reply in time");
        // The confirmation of a subscription is a reply.
        let pushed = frame.elements().first() == Some(&bulk("invalidate"));
        missing -= usize::from(!pushed);
        if missing > 0 || pushed {
            got.push(frame.to_string());
        }
    }
    got
}

/// What a client is told of a key unasked.
fn told(client: &mut Client, key: &str) -> Vec<String> {
    all_of(client, &[], key)
}

/// A client of RESP3.
fn resp3(mut client: Client) -> Client {
    assert!(!client.command(&["HELLO", "3"]).expect("an answer").is_error());
    client
}

fn tracking(front: &Front, options: &str) -> Client {
    let mut client = resp3(front.client());
    assert_eq!(
        ask(&mut client, &format!("CLIENT TRACKING ON{options}")),
        "OK",
        "{options}"
    );
    client
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Some(text.into()))
}

fn invalid(key: &str) -> String {
    let keys = Reply::Array(Some(vec![bulk(key)]));
    Reply::Aggregate(b'>', vec![bulk("invalidate"), keys]).to_string()
}

fn everything() -> String {
    let null = Reply::Line(b"_".to_vec());
    Reply::Aggregate(b'>', vec![bulk("invalidate"), null]).to_string()
}

/// What three clients are answered and told, step by step: `0` and `1` speak RESP3, `2` writes. All keys have one slot.
fn transcript(clients: &mut [Client], script: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (who, commands) = line.split_once("> ").expect("a client and its commands");
        let who: usize = who.parse().expect("a number");
        let lines: Vec<&str> = commands.split(" | ").collect();
        seen.push(format!(
            "{line}: {:?}",
            all_of(&mut clients[who], &lines, "{t}fence")
        ));
        for (other, client) in clients.iter_mut().enumerate() {
            let got = told(client, "{t}fence");
            if !got.is_empty() {
                seen.push(format!("  {other} hears {got:?}"));
            }
        }
    }
    seen
}

fn three(one: impl Fn() -> Client) -> Vec<Client> {
    vec![resp3(one()), resp3(one()), one()]
}

/// The same clients do the same at a plain server and at redplane before a cluster, and see the same.
#[track_caller]
fn holds(script: &str) {
    let server = Redis::plain();
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let expected = transcript(&mut three(|| server.client()), script);
    let got = transcript(&mut three(|| front.client()), script);
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got, expected);
    }
    assert_eq!(got.len(), expected.len());
}

#[test]
fn keys_that_were_read_are_told_once() {
    holds(
        "
        0> CLIENT TRACKING ON
        1> CLIENT TRACKING ON
        2> SET {t}k 1
        0> GET {t}k
        1> MGET {t}k {t}l
        2> SET {t}k 2
        2> SET {t}k 3
        0> GET {t}k | SET {t}k 4 | GET {t}k
        2> SET {t}l 1 | SET {t}k 5
        # What is not there is read as well, and what cannot be.
        0> GET {t}none | GET {t}list
        2> RPUSH {t}list a
        0> GET {t}list
        2> DEL {t}none {t}list
        0> EXISTS {t}e1 {t}e2 | TYPE {t}k | STRLEN {t}k
        2> MSET {t}e1 1 {t}e2 2 {t}k 1
        # Writes alone are not remembered, and what was told is forgotten.
        0> SET {t}w 1 | INCR {t}n
        2> SET {t}w 2 | INCR {t}n
        0> MULTI | GET {t}k | SET {t}w 1 | MGET {t}e1 {t}e2 | EXEC
        2> MSET {t}e1 1 {t}e2 2 {t}k 1 {t}w 1
        0> MULTI | GET {t}k | DISCARD
        2> SET {t}k 9
        0> EVAL return(redis.call('get',KEYS[1])) 1 {t}k
        2> SET {t}k 10
        0> EVAL_RO return(redis.call('get',KEYS[1])) 1 {t}k
        2> SET {t}k 11
        0> XREAD COUNT 1 STREAMS {t}x 0
        2> XADD {t}x 1-1 a b
        0> SUBSCRIBE news | GET {t}k
        2> SET {t}k 12
        0> CLIENT TRACKING ON | CLIENT TRACKINGINFO | CLIENT GETREDIR
        0> GET {t}k | CLIENT TRACKING OFF | CLIENT TRACKINGINFO
        2> SET {t}k 13
        0> GET {t}k
        2> SET {t}k 14
        1> GET {t}k | RESET
        2> SET {t}k 15
        ",
    );
}

#[test]
fn caching_is_opted_in_and_out() {
    holds(
        "
        0> CLIENT TRACKING ON OPTIN
        1> CLIENT TRACKING ON OPTOUT
        0> GET {t}a | CLIENT CACHING YES | GET {t}b | GET {t}c
        1> GET {t}a | CLIENT CACHING NO | GET {t}b | GET {t}c
        2> MSET {t}a 1 {t}b 1 {t}c 1
        0> CLIENT CACHING YES | CLIENT TRACKINGINFO | CLIENT GETNAME | PING | CLIENT TRACKINGINFO | GET {t}a
        1> CLIENT CACHING NO | CLIENT TRACKINGINFO | CLIENT GETNAME | PING | CLIENT TRACKINGINFO | GET {t}a
        2> MSET {t}a 1 {t}b 1 {t}c 1
        0> CLIENT CACHING YES | MULTI | GET {t}a | GET {t}b | EXEC | GET {t}c
        1> CLIENT CACHING NO | MULTI | GET {t}a | GET {t}b | EXEC | GET {t}c
        2> MSET {t}a 1 {t}b 1 {t}c 1
        0> CLIENT CACHING YES | SET {t}x 1 | GET {t}a
        2> SET {t}a 2
        0> CLIENT CACHING NO | CLIENT CACHING foo | CLIENT TRACKING ON OPTOUT | CLIENT TRACKING ON BCAST
        1> CLIENT CACHING YES | CLIENT TRACKING ON OPTIN | CLIENT TRACKING ON | CLIENT TRACKINGINFO
        1> CLIENT TRACKING ON OPTIN OPTOUT | CLIENT TRACKING ON BCAST OPTIN | CLIENT TRACKING ON PREFIX a
        1> CLIENT TRACKING ON REDIRECT 999999 | CLIENT TRACKING ON REDIRECT x | CLIENT TRACKING ON REDIRECT 0
        1> CLIENT TRACKING ON REDIRECT | CLIENT TRACKING ON foo | CLIENT TRACKING foo
        1> CLIENT TRACKING OFF REDIRECT 999999 | CLIENT TRACKING OFF | CLIENT CACHING NO | CLIENT TRACKINGINFO
        ",
    );
}

#[test]
fn own_writes_are_told_but_to_those_who_asked_not_to_hear() {
    holds(
        "
        0> CLIENT TRACKING ON NOLOOP
        1> CLIENT TRACKING ON
        0> CLIENT TRACKINGINFO | GET {t}a | SET {t}a 1
        1> GET {t}a | SET {t}a 2 | GET {t}a
        0> GET {t}a | GET {t}a
        2> SET {t}a 3
        # A write that changes nothing leaves the key remembered.
        0> SET {t}a 1 | GET {t}a | SET {t}a 9 NX | DEL {t}none
        2> SET {t}a 4
        0> GET {t}a | GET {t}b | MULTI | SET {t}a 1 | INCR {t}b | EXEC | GET {t}b
        2> SET {t}a 1 | INCR {t}b
        0> GET {t}c
        1> GET {t}c
        0> EVAL return(redis.call('set',KEYS[1],'x')) 1 {t}c
        2> SET {t}c 1
        ",
    );
}

#[test]
fn who_flushes_tells_everybody_once() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let (mut one, mut two) = (tracking(&front, ""), tracking(&front, " NOLOOP"));
    let keys: Vec<String> = (0..30).map(|at| format!("k{at}")).collect();
    for key in &keys {
        one.command(&["GET", key]).expect("an answer");
    }
    let mut writer = front.client();
    assert_eq!(ask(&mut writer, "FLUSHALL"), "OK");
    // All shards say so, and nothing was read in between.
    let heard: Vec<String> = ["a", "b", "c"]
        .iter()
        .flat_map(|key| told(&mut one, key))
        .collect();
    assert_eq!(heard[0], everything());
    assert_eq!(
        all_of(&mut two, &["GET k1"], "k1").last(),
        Some(&Reply::Line(b"_".to_vec()).to_string())
    );
    // Its own comes behind the reply.
    two.send(&command_bytes(&["FLUSHALL"])).expect("it is connected");
    let got: Vec<String> = two.read_replies(2).iter().map(Reply::to_string).collect();
    assert_eq!(got, [Reply::Simple(b"OK".to_vec()).to_string(), everything()]);
    for key in &keys {
        assert_eq!(ask(&mut writer, &format!("SET {key} 1")), "OK");
        assert!(!told(&mut one, key).contains(&invalid(key)), "{key} is forgotten");
    }
}

#[test]
fn all_shards_tell_and_each_key_once() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut clients: Vec<Client> = (0..8).map(|_| tracking(&front, "")).collect();
    let keys: Vec<String> = (0..40).map(|at| format!("k{at}")).collect();
    let all = format!("MGET {}", keys.join(" "));
    for client in &mut clients {
        let words: Vec<&str> = all.split(' ').collect();
        assert_eq!(client.command(&words).expect("an answer").elements().len(), 40);
    }
    let mut writer = front.client();
    for key in &keys {
        assert_eq!(ask(&mut writer, &format!("SET {key} v")), "OK");
        for client in &mut clients {
            assert_eq!(told(client, key), [invalid(key)], "{key}");
        }
        assert_eq!(ask(&mut writer, &format!("SET {key} w")), "OK");
        for client in &mut clients {
            assert_eq!(told(client, key), Vec::<String>::new(), "{key}");
        }
    }
    let info = ask(&mut writer, "INFO clients");
    assert!(info.contains("tracking_clients:8"), "{info}");
    let list = ask(&mut writer, "CLIENT LIST");
    assert_eq!(list.matches("flags=t ").count(), 8, "{list}");
    drop(clients);
    until("nobody to track", PATIENCE, || {
        ask(&mut writer, "INFO clients").contains("tracking_clients:0")
    });
}

#[test]
fn a_lost_connection_empties_the_caches_behind_it() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut client = tracking(&front, "");
    assert_eq!(ask(&mut client, "SET k v"), "OK");
    assert_eq!(ask(&mut client, "GET k"), "v");
    for master in cluster.masters() {
        master.run("CLIENT KILL TYPE normal");
    }
    let lost = client.read_replies(1);
    assert_eq!(lost[0].to_string(), everything());
    // It comes back with tracking.
    until("the key to be read", PATIENCE, || {
        all_of(&mut client, &["GET k"], "k").contains(&bulk("v").to_string())
    });
    let mut writer = front.client();
    until("a write", PATIENCE, || ask(&mut writer, "SET k w") == "OK");
    assert_eq!(told(&mut client, "k"), [invalid("k")]);
}

#[test]
fn a_server_that_does_not_track_refuses_in_its_own_words() {
    let server = Redis::plain();
    server.run("ACL SETUSER default -client|tracking");
    let front = Front::start(
        &crate::front::redis_filter("r", "op_timeout: 5s", &crate::front::all_to("c")),
        &[crate::front::hosts("c", &[server.port()], "")],
    );
    crate::stage::until_answered(front.port, "PING", "PONG");
    let mut client = resp3(front.client());
    let refused = ask(&mut client, "CLIENT TRACKING ON");
    assert!(refused.contains("NOPERM"), "{refused}");
    // It goes on as before.
    assert_eq!(ask(&mut client, "SET k v"), "OK");
    assert_eq!(ask(&mut client, "GET k"), "v");
    assert_eq!(ask(&mut client, "CLIENT GETREDIR"), "-1");
    server.run("ACL SETUSER default +client|tracking");
    assert_eq!(ask(&mut client, "CLIENT TRACKING ON"), "OK");
    assert_eq!(ask(&mut client, "GET k"), "v");
    server.run("SET k w");
    assert_eq!(told(&mut client, "k"), [invalid("k")]);
}
