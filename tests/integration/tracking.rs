//! Client-side caching over a real cluster, held against a plain server: who is told what, in which order, and that
//! nobody keeps what has changed when connections break and slots move.

use redplane_testkit::{Client, Cluster, Redis, Reply, command_bytes, until};

use crate::front::Front;
use crate::stage::{PATIENCE, ask};

const SETTINGS: &str = "op_timeout: 5s, enable_redirection: true";

/// Sends lines in one write and a command behind them that changes and reads nothing: what comes before its reply is
/// all that the server of this key had to say.
fn all_of(client: &mut Client, lines: &[&str], key: &str) -> Vec<String> {
    all_before(client, lines, &["SETRANGE", key, "0", ""])
}

fn all_before(client: &mut Client, lines: &[&str], fence: &[&str]) -> Vec<String> {
    let mut bytes: Vec<u8> = lines
        .iter()
        .flat_map(|line| command_bytes(&line.split(' ').collect::<Vec<_>>()))
        .collect();
    bytes.extend(command_bytes(fence));
    client.send(&bytes).expect("it is connected");
    let (mut got, mut missing) = (Vec::new(), lines.len() + 1);
    while missing > 0 {
        let frame = client.read_replies(1).pop().expect("a reply in time");
        // The confirmation of a subscription is a reply.
        let unasked = ["invalidate", "tracking-redir-broken", "message"];
        let pushed = unasked
            .iter()
            .any(|word| frame.elements().first() == Some(&bulk(word)));
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

/// What became of one line of a script.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    line: String,
    replies: Vec<String>,
    /// What each client heard behind them.
    heard: Vec<Vec<String>>,
}

/// What three clients are answered and told, step by step: `0` and `1` begin in RESP3, `2` does not. All keys have one
/// slot. `$n` is the id of client n. With `expected` there may be workers between who writes and who hears, so that
/// as much is waited for.
fn transcript(clients: &mut [Client], script: &str, expected: Option<&[Step]>) -> Vec<Step> {
    let ids: Vec<String> = clients
        .iter_mut()
        .map(|client| ask(client, "CLIENT ID").trim_start_matches(':').to_owned())
        .collect();
    let lines = script.lines().map(str::trim);
    let mut seen: Vec<Step> = Vec::new();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (who, commands) = line.split_once("> ").expect("a client and its commands");
        let who: usize = who.parse().expect("a number");
        let named = |text: &str| {
            (0..3).fold(text.to_owned(), |text, at| {
                text.replace(&format!("${at}"), &ids[at])
            })
        };
        let commands: Vec<String> = commands.split(" | ").map(named).collect();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let anonymous = |texts: Vec<String>| -> Vec<String> {
            let shows = ["redirect", "redir-broken", "proto"];
            let one = |text: String| match shows.iter().any(|word| text.contains(word)) {
                true => (0..3).fold(text, |text, at| text.replace(&format!(":{}", ids[at]), "$")),
                false => text,
            };
            texts.into_iter().map(one).collect()
        };
        let wanted = expected.and_then(|expected| expected.get(seen.len()));
        let fence: &[&str] = match expected.is_some() || script.contains("REDIRECT $") {
            true => &["PING"],
            false => &["SETRANGE", "{t}fence", "0", ""],
        };
        let mut step = Step {
            line: line.to_owned(),
            replies: anonymous(all_before(&mut clients[who], &commands, fence)),
            heard: Vec::new(),
        };
        for (other, client) in clients.iter_mut().enumerate() {
            let least = wanted.map_or(0, |wanted| wanted.heard[other].len());
            let mut heard = Vec::new();
            until(
                &format!("client {other} to hear {least} behind {line}"),
                PATIENCE,
                || {
                    heard.extend(all_before(client, &[], fence));
                    heard.len() >= least
                },
            );
            step.heard.push(anonymous(heard));
        }
        seen.push(step);
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
    let expected = transcript(&mut three(|| server.client()), script, None);
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let redirects = script.contains("REDIRECT $");
    // With two workers clients of both are among the three sooner or later.
    for _ in 0..if redirects { 4 } else { 1 } {
        ask(&mut front.client(), "FLUSHALL");
        let waits = redirects.then_some(expected.as_slice());
        let got = transcript(&mut three(|| front.client()), script, waits);
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got, expected);
        }
    }
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
        0> GET {t}c | DEL {t}c
        0> MGET {t}c {t}d | MSET {t}c 1 {t}d 2 | MGET {t}c {t}d | DEL {t}c {t}d
        2> MSET {t}c 1 {t}d 2
        0> GET {t}c | GETEX {t}c
        2> SET {t}c 3
        ",
    );
}

#[test]
fn whole_prefixes_are_broadcast() {
    holds(
        "
        0> CLIENT TRACKING ON BCAST
        1> CLIENT TRACKING ON BCAST PREFIX {t}foo PREFIX {t}bar NOLOOP
        2> SET {t}k 1 | SET {t}foo1 1
        2> MSET {t}foo1 1 {t}bar1 1 {t}foo2 1 {t}other 1
        0> SET {t}foo1 2 | GET {t}foo1
        # Its own are not told, those of others are.
        1> SET {t}foo1 3 | GET {t}foo1
        1> SET {t}bar3 1
        2> SET {t}bar3 2
        1> CLIENT TRACKINGINFO | CLIENT TRACKING ON BCAST PREFIX {t}zz | CLIENT TRACKINGINFO
        2> SET {t}zz 1
        1> SET {t}zz 1
        1> CLIENT TRACKING ON BCAST PREFIX {t}foobar | CLIENT TRACKING ON BCAST PREFIX {t}a PREFIX {t}ab
        1> CLIENT TRACKING OFF
        2> SET {t}foo1 1
        0> MULTI | SET {t}m1 1 | SET {t}m2 1 | EXEC
        0> RESET
        2> SET {t}foo1 1
        ",
    );
}

#[test]
fn another_client_is_told_instead() {
    holds(
        "
        0> CLIENT TRACKING ON REDIRECT $1 | CLIENT TRACKINGINFO
        0> GET {t}a | GET {t}b
        2> SET {t}a 1
        0> SET {t}b 1
        0> CLIENT TRACKING OFF
        0> CLIENT TRACKING ON BCAST REDIRECT $1 PREFIX {t}p
        2> SET {t}p1 1 | SET {t}q 1
        0> CLIENT TRACKING OFF | CLIENT TRACKING ON
        # Only who subscribes can hear in RESP2.
        0> CLIENT TRACKING ON REDIRECT $2
        0> GET {t}a
        1> SET {t}a 2
        2> SUBSCRIBE __redis__:invalidate
        0> GET {t}a
        1> SET {t}a 3
        0> CLIENT TRACKING ON REDIRECT $0 | GET {t}a
        1> SET {t}a 4
        0> CLIENT TRACKING ON REDIRECT $2 | GET {t}a
        ",
    );
}

#[test]
fn clients_of_resp2_have_another_one_told() {
    holds(
        "
        2> CLIENT TRACKING ON REDIRECT $0 | CLIENT TRACKINGINFO
        2> GET {t}a | MGET {t}b {t}c
        1> SET {t}a 1
        1> SET {t}a 2
        2> SET {t}b 1
        2> GET {t}a | SET {t}a 3
        1> MSET {t}a 1 {t}c 1
        2> MULTI | GET {t}a | INCR {t}n | EXEC
        1> SET {t}a 4
        2> CLIENT TRACKING ON REDIRECT $0 NOLOOP | MGET {t}a {t}b {t}c
        1> SET {t}a 5
        2> SET {t}b 2
        1> SET {t}c 5
        2> GET {t}a | SET {t}a 5 NX
        1> SET {t}a 6
        2> GET {t}a
        2> SET {t}a 7
        2> GET {t}a
        1> SET {t}a 8
        2> CLIENT TRACKING OFF
        2> CLIENT TRACKING ON REDIRECT $1 OPTIN
        2> GET {t}a | CLIENT CACHING YES | GET {t}b
        0> MSET {t}a 1 {t}b 1
        2> CLIENT TRACKING OFF
        2> CLIENT TRACKING ON BCAST REDIRECT $0 PREFIX {t}p PREFIX {t}q NOLOOP
        1> SET {t}p1 1 | SET {t}r1 1
        2> SET {t}p1 2
        1> SET {t}p1 3 | SET {t}q1 1
        # It may learn the other protocol, and is told itself.
        2> CLIENT TRACKING OFF
        2> HELLO 3 | CLIENT TRACKING ON BCAST
        1> SET {t}r1 2
        2> CLIENT TRACKING OFF | CLIENT TRACKING ON | GET {t}a
        1> SET {t}a 9
        2> HELLO 2 | GET {t}a
        1> SET {t}a 10
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

/// A client's cache: what it read, less what it was told.
struct Cached {
    client: Client,
    values: std::collections::BTreeMap<String, String>,
}

impl Cached {
    /// Reads what it has not got, or tries to.
    fn fill(&mut self, keys: &[String]) {
        for key in keys {
            if self.values.contains_key(key) {
                continue;
            }
            for frame in all_before(&mut self.client, &[&format!("GET {key}")], &["PING"]) {
                self.take(key, &frame);
            }
        }
    }

    fn take(&mut self, key: &str, frame: &str) {
        if frame == everything() {
            self.values.clear();
        } else if let Some(name) = self.values.keys().find(|name| invalid(name) == frame).cloned() {
            self.values.remove(&name);
        } else if !key.is_empty() && frame.starts_with('"') {
            self.values
                .insert(key.to_owned(), frame.trim_matches('"').to_owned());
        }
    }

    fn listen(&mut self) {
        for frame in all_before(&mut self.client, &[], &["PING"]) {
            self.take("", &frame);
        }
    }
}

/// Whatever becomes of the servers: what is written is dropped from the cache before long.
fn nothing_stays(front: &Front, cached: &mut Cached, keys: &[String], round: &str) {
    let mut writer = front.client();
    for key in keys {
        until(&format!("{key} to be written in {round}"), PATIENCE, || {
            ask(&mut writer, &format!("SET {key} {round}")) == "OK"
        });
    }
    until(
        &format!("stale values to be dropped in {round}"),
        PATIENCE,
        || {
            cached.listen();
            cached.values.values().all(|value| value == round)
        },
    );
    until(&format!("all to be read in {round}"), PATIENCE, || {
        cached.fill(keys);
        cached.listen();
        keys.iter()
            .all(|key| cached.values.get(key).is_some_and(|value| value == round))
    });
}

#[test]
fn caches_outlive_slots_that_move_and_nodes_that_fail() {
    let mut cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let keys: Vec<String> = (0..30).map(|at| format!("k{at}")).collect();
    let mut caches = [" NOLOOP", " OPTOUT", " BCAST"].map(|options| Cached {
        client: tracking(&front, options),
        values: std::collections::BTreeMap::new(),
    });
    let mut round = |name: &str| {
        for cached in &mut caches {
            cached.fill(&keys);
            nothing_stays(&front, cached, &keys, name);
        }
    };
    round("begin");
    let (from, to) = (cluster.masters()[0].port(), cluster.masters()[1].port());
    cluster.reshard(from, to, 3000);
    round("moved");
    let replica = cluster.replicas()[0].port();
    cluster.failover(replica);
    cluster.wait_until_whole();
    round("failover");
    let dead = cluster.masters()[0].port();
    let replica = cluster.replica_of(dead);
    cluster.node_mut(dead).kill();
    cluster.wait_until_promoted(replica);
    round("dead");
}

#[test]
fn a_client_of_resp2_loses_its_connections_as_well() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut target = resp3(front.client());
    let id = ask(&mut target, "CLIENT ID");
    let id = id.trim_start_matches(':');
    let mut client = front.client();
    for options in ["", " BCAST"] {
        let line = format!("CLIENT TRACKING ON REDIRECT {id}{options}");
        assert_eq!(ask(&mut client, &line), "OK");
        assert_eq!(ask(&mut client, "SET k v"), "OK");
        assert_eq!(ask(&mut client, "GET k"), "v");
        for master in cluster.masters() {
            master.run("CLIENT KILL TYPE normal");
        }
        until("everything to be dropped", PATIENCE, || {
            all_before(&mut target, &[], &["PING"]).contains(&everything())
        });
        let mut writer = front.client();
        until("the next write to be told", PATIENCE, || {
            ask(&mut client, "GET k");
            ask(&mut writer, "SET k w");
            all_before(&mut target, &[], &["PING"]).contains(&invalid("k"))
        });
        assert_eq!(ask(&mut client, "CLIENT TRACKING OFF"), "OK");
    }
}
