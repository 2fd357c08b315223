//! Slots move while clients write and read: no wrong answer, no lost write, and no client hears of it.

use std::collections::BTreeSet;
use std::fmt::Write;

use redplane_testkit::{Cluster, Redis, Reply, command_bytes, until};

use crate::front::Front;
use crate::load::{Load, assert_clean, tag_on};
use crate::stage::{PATIENCE, ask};

const REDIRECTED: &str = "cluster.c.upstream_internal_redirect_succeeded_total";

fn tags(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("w{at}")).collect()
}

#[test]
fn resharding_under_load_is_not_seen_by_clients() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let (from, to) = (cluster.masters()[0].port(), cluster.masters()[1].port());
    let mut all = tags(3);
    all.push(tag_on(&cluster, from));
    let load = Load::start(front.port, &all);
    load.go_on(5);
    let before = front.stat(REDIRECTED);
    cluster.reshard(from, to, 400);
    load.go_on(5);
    cluster.reshard(to, from, 100);
    load.go_on(5);
    let tallies = load.finish();
    let redirected = front.stat(REDIRECTED) - before;
    assert_clean(&tallies, &cluster, &[], &front.proxy.process().output());
    assert!(redirected > 0, "no redirection: {redirected}");
    assert_eq!(front.stat("cluster.c.upstream_internal_redirect_failed_total"), 0);
}

/// A slot on its way from one node to another.
pub(crate) struct Moving<'a> {
    slot: String,
    from: &'a Redis,
    to: &'a Redis,
}

impl<'a> Moving<'a> {
    pub(crate) fn start(cluster: &'a Cluster, key: &str) -> Self {
        let slot = cluster.nodes()[0].command(&["CLUSTER", "KEYSLOT", key]);
        let from = cluster.master_of(key);
        let to = cluster
            .masters()
            .into_iter()
            .find(|node| node.port() != from.port());
        let moving = Self {
            slot: slot.integer().expect("a slot").to_string(),
            from,
            to: to.expect("there are three"),
        };
        moving.set(moving.to, "IMPORTING", &cluster.node_id(from.port()));
        moving.set(moving.from, "MIGRATING", &cluster.node_id(moving.to.port()));
        moving
    }

    fn set(&self, node: &Redis, state: &str, id: &str) {
        let reply = node.command(&["CLUSTER", "SETSLOT", &self.slot, state, id]);
        assert!(!reply.is_error(), "{state}: {reply}");
    }

    fn keys(&self, count: &str) -> Vec<String> {
        let reply = self
            .from
            .command(&["CLUSTER", "GETKEYSINSLOT", &self.slot, count]);
        reply.elements().iter().filter_map(Reply::text).collect()
    }

    fn migrate(&self, keys: &[String]) {
        let port = self.to.port().to_string();
        let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        let reply = self.from.command(&words);
        assert!(!reply.is_error(), "{reply}");
    }

    pub(crate) fn finish(&self, cluster: &Cluster) {
        let id = cluster.node_id(self.to.port());
        self.set(self.to, "NODE", &id);
        self.set(self.from, "NODE", &id);
    }
}

#[test]
fn a_slot_that_is_asked_for_on_both_sides_answers_as_one() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let mut client = front.client();
    let keys: Vec<String> = (0..10).map(|at| format!("{{ask}}{at}")).collect();
    for key in &keys {
        client.command(&["SET", key, key]).expect("an answer");
    }
    let before = front.stat(REDIRECTED);
    let moving = Moving::start(&cluster, "{ask}");
    moving.migrate(&keys[..5]);
    // Half of the keys are here and half there; new ones are made there.
    for key in &keys {
        assert_eq!(
            client.command(&["GET", key]).expect("an answer").text().as_ref(),
            Some(key)
        );
    }
    let new = client.command(&["SET", "{ask}new", "1"]).expect("an answer");
    assert_eq!(new, Reply::Simple(b"OK".to_vec()));
    assert_eq!(
        moving
            .to
            .command(&["CLUSTER", "COUNTKEYSINSLOT", &moving.slot])
            .integer(),
        Some(6)
    );
    let mut words = vec!["MGET"];
    words.extend(keys.iter().map(String::as_str));
    let together = client.command(&words).expect("an answer");
    let texts: Vec<String> = together.elements().iter().filter_map(Reply::text).collect();
    assert_eq!(texts, keys, "{together}");
    words[0] = "EXISTS";
    assert_eq!(client.command(&words).expect("an answer").integer(), Some(10));
    let both = ["MSET", "{ask}0", "x", "{ask}9", "y"];
    assert_eq!(client.command(&both).expect("an answer").to_string(), "+OK");
    assert!(front.stat(REDIRECTED) > before, "nothing was redirected");
    moving.migrate(&keys[5..]);
    moving.finish(&cluster);
    let read = client
        .command(&["MGET", "{ask}0", "{ask}9", "{ask}5"])
        .expect("an answer");
    assert_eq!(read.to_string(), "[ \"x\" \"y\" \"{ask}5\" ]");
    words[0] = "DEL";
    assert_eq!(client.command(&words).expect("an answer").integer(), Some(10));
}

#[test]
fn keys_migrate_one_by_one_under_load() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let load = Load::start(
        front.port,
        &["{m}".to_owned(), "{m}b".to_owned(), "other".to_owned()],
    );
    load.go_on(3);
    let moving = Moving::start(&cluster, "{m}");
    for _ in 0..10 {
        moving.migrate(&moving.keys("3"));
        load.go_on(1);
    }
    loop {
        let keys = moving.keys("500");
        if keys.is_empty() {
            break;
        }
        moving.migrate(&keys);
    }
    moving.finish(&cluster);
    load.go_on(3);
    let tallies = load.finish();
    assert_clean(&tallies, &cluster, &[], &front.proxy.process().output());
    assert!(front.stat(REDIRECTED) > 0);
}

#[test]
fn pipelines_over_a_moved_slot_keep_their_order() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let mut client = front.client();
    let moving = Moving::start(&cluster, "{o}");
    moving.finish(&cluster);
    let mut asked = Vec::new();
    let mut expected = String::new();
    for at in 0..50 {
        asked.extend(command_bytes(&["SET", "{o}k", &at.to_string()]));
        asked.extend(command_bytes(&["GET", "{o}k"]));
        asked.extend(command_bytes(&["PING"]));
        write!(expected, "+OK \"{at}\" +PONG ").expect("a String takes everything");
    }
    client.send(&asked).expect("it reads");
    let replies = client.read_replies(150);
    let got: String = replies.iter().map(|reply| format!("{reply} ")).collect();
    assert_eq!(got, expected);
    assert!(front.stat(REDIRECTED) > 0);
}

#[test]
fn a_command_that_cannot_be_split_waits_for_its_keys() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let mut client = front.client();
    for key in ["{s}a", "{s}b"] {
        client.command(&["SADD", key, key]).expect("an answer");
    }
    let moving = Moving::start(&cluster, "{s}");
    moving.migrate(&["{s}a".to_owned()]);
    client
        .send(&command_bytes(&["SUNION", "{s}a", "{s}b"]))
        .expect("it reads");
    until("the node to refuse", PATIENCE, || {
        let told = moving.from.run("INFO errorstats").text();
        told.is_some_and(|text| text.contains("errorstat_TRYAGAIN"))
    });
    moving.migrate(&["{s}b".to_owned()]);
    moving.finish(&cluster);
    let replies = client.read_replies(1);
    let members: BTreeSet<String> = replies[0].elements().iter().filter_map(Reply::text).collect();
    assert_eq!(
        members,
        BTreeSet::from(["{s}a".to_owned(), "{s}b".to_owned()]),
        "{}",
        replies[0]
    );
}

/// Each of these is the first to meet a slot that has moved.
#[test]
fn requests_of_every_kind_follow_a_moved_slot() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let large = "v".repeat(1_000_000);
    let mut client = front.client();
    let moved = |key: &str| {
        let moving = Moving::start(&cluster, key);
        moving.finish(&cluster);
    };
    moved("{l}");
    assert_eq!(ask(&mut client, &format!("SET {{l}} {large}")), "OK");
    assert_eq!(ask(&mut client, "GET {l}").len(), large.len());
    moved("{i}");
    client.send(b"SET {i} inline\r\n").expect("it reads");
    assert_eq!(client.read_replies(1)[0].to_string(), "+OK");
    moved("{f}");
    let bytes = command_bytes(&["SET", "{f}", "in pieces"]);
    bytes
        .chunks(7)
        .for_each(|piece| client.send(piece).expect("it reads"));
    assert_eq!(client.read_replies(1)[0].to_string(), "+OK");
    moved("{e}");
    assert_eq!(
        ask(&mut client, "EVAL return(redis.call('incr',KEYS[1])) 1 {e}"),
        "1"
    );
    let got = client.command(&["MGET", "{i}", "{f}", "{e}"]).expect("an answer");
    assert_eq!(got.to_string(), "[ \"inline\" \"in pieces\" \"1\" ]");
    assert!(front.stat(REDIRECTED) >= 4, "{}", front.stat(REDIRECTED));
}

#[test]
fn large_values_are_asked_for_on_the_other_side() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let (one, two) = ("1".repeat(300_000), "2".repeat(300_000));
    let mut client = front.client();
    let moving = Moving::start(&cluster, "{a}");
    assert_eq!(ask(&mut client, &format!("MSET {{a}}1 {one} {{a}}2 {two}")), "OK");
    let got = client
        .command(&["MGET", "{a}1", "{a}2", "{a}3"])
        .expect("an answer");
    let texts: Vec<Option<String>> = got.elements().iter().map(Reply::text).collect();
    assert!(texts == [Some(one), Some(two), None], "{} elements", texts.len());
    assert_eq!(
        moving
            .to
            .command(&["CLUSTER", "COUNTKEYSINSLOT", &moving.slot])
            .integer(),
        Some(2)
    );
    moving.finish(&cluster);
    assert_eq!(ask(&mut client, "DEL {a}1 {a}2 {a}3"), "2");
}

/// A transaction that meets a moved slot is aborted as by a cluster, or done; the next one is done.
#[test]
fn transactions_follow_a_moved_slot() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let mut client = front.client();
    let moving = Moving::start(&cluster, "{t}");
    moving.finish(&cluster);
    let mut transaction = || {
        let lines = ["MULTI", "SET {t}a 1", "INCR {t}a", "EXEC"];
        let replies = lines.map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            client.command(&words).expect("an answer").to_string()
        });
        assert!(
            !replies.iter().any(|reply| reply.contains("MOVED")),
            "{replies:?}"
        );
        replies[3].clone()
    };
    let (first, second) = (transaction(), transaction());
    assert!(
        first == "[ <+OK> :2 ]" || first.starts_with("-EXECABORT"),
        "{first}"
    );
    assert_eq!(second, "[ <+OK> :2 ]", "after {first}");
}
