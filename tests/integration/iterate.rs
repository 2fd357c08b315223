//! SCAN and what else goes over all shards of a real cluster, while slots move and primaries change.

use std::collections::BTreeSet;
use std::thread;

use redplane_testkit::{Client, Cluster, Reply, command_bytes};

use crate::front::Front;
use crate::stage::ask;

const SETTINGS: &str = "op_timeout: 5s, enable_redirection: true";
const KEYS: usize = 4000;

fn fill(client: &mut Client) -> BTreeSet<String> {
    let keys: BTreeSet<String> = (0..KEYS).map(|at| format!("key:{at}")).collect();
    let pipeline: Vec<u8> = keys
        .iter()
        .flat_map(|key| command_bytes(&["SET", key, "v"]))
        .collect();
    client.send(&pipeline).expect("it is sent");
    let replies = client.read_replies(KEYS);
    assert!(replies.iter().all(|reply| reply.text().as_deref() == Some("OK")));
    keys
}

/// One SCAN loop from 0 to 0; `between` is called after each page.
fn scan(client: &mut Client, count: &str, mut between: impl FnMut(usize)) -> Vec<String> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    for page in 0.. {
        let reply = client.command(&["SCAN", &cursor, "COUNT", count, "MATCH", "key:*"]);
        let reply = reply.expect("an answer");
        let [next, keys] = reply.elements() else {
            // A shard without its primary for a moment: the client asks again.
            assert!(reply.is_error(), "{reply}");
            continue;
        };
        found.extend(keys.elements().iter().filter_map(Reply::text));
        cursor = next.text().expect("a cursor");
        if cursor == "0" {
            break;
        }
        between(page);
        assert!(page < 100_000, "no end");
    }
    found
}

fn missing<'a>(keys: &'a BTreeSet<String>, found: &[String]) -> Vec<&'a String> {
    let found: BTreeSet<&String> = found.iter().collect();
    keys.iter().filter(|key| !found.contains(key)).collect()
}

#[test]
fn a_scan_of_a_quiet_cluster_gives_each_key_once() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut client = front.client();
    let keys = fill(&mut client);
    for count in ["10", "333", "100000"] {
        let found = scan(&mut client, count, |_| {});
        assert_eq!(found.len(), KEYS, "COUNT {count}");
        assert!(missing(&keys, &found).is_empty());
    }
    assert_eq!(ask(&mut client, "DBSIZE"), (KEYS + 1).to_string());
    assert_eq!(ask(&mut client, "SCAN x"), "ERR invalid cursor");
}

#[test]
fn a_scan_during_a_reshard_loses_no_key() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut client = front.client();
    let keys = fill(&mut client);
    let masters: Vec<u16> = cluster.masters().iter().map(|node| node.port()).collect();
    let mut loops = 0;
    thread::scope(|scope| {
        // From the last shard to the first: against the order in which shards are asked.
        let moving = scope.spawn(|| {
            cluster.reshard(masters[2], masters[0], 500);
            cluster.reshard(masters[1], masters[2], 300);
        });
        while !moving.is_finished() {
            let found = scan(&mut client, if loops % 2 == 0 { "50" } else { "100000" }, |_| {});
            let missing = missing(&keys, &found);
            assert!(missing.is_empty(), "loop {loops} lost {missing:?}");
            loops += 1;
        }
        moving.join().expect("the slots moved");
    });
    assert!(loops > 1, "{loops} loops");
    assert_eq!(missing(&keys, &scan(&mut client, "50", |_| {})).len(), 0);
}

#[test]
fn a_scan_during_a_failover_loses_no_key() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut client = front.client();
    let keys = fill(&mut client);
    cluster.wait_until_replicated();
    let slots = cluster.slots();
    let replica = slots[0].2[1];
    let found = scan(&mut client, "20", |page| {
        if page == 20 {
            cluster.failover(replica);
            cluster.wait_until_whole();
        }
    });
    assert!(missing(&keys, &found).is_empty());
}

/// The text of a reply to a command of words.
fn said(client: &mut Client, line: &str) -> Reply {
    let words: Vec<&str> = line.split(' ').collect();
    client.command(&words).expect("an answer")
}

#[test]
fn what_all_nodes_are_asked_reads_like_one_server() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut client = front.client();
    for setting in ["slowlog-log-slower-than 0", "latency-monitor-threshold 25"] {
        assert_eq!(ask(&mut client, &format!("CONFIG SET {setting}")), "OK");
        let (name, value) = setting.split_once(' ').expect("two words");
        for node in cluster.nodes() {
            let told = node.command(&["CONFIG", "GET", name]);
            assert_eq!(
                told.elements()[1].text().as_deref(),
                Some(value),
                "{name} at {}",
                node.port()
            );
        }
    }
    fill(&mut client);
    let newest = said(&mut client, "SLOWLOG GET 7");
    let times: Vec<i64> = newest
        .elements()
        .iter()
        .filter_map(|entry| entry.elements()[1].integer())
        .collect();
    assert!(times.len() == 7 && times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let logged = said(&mut client, "SLOWLOG LEN").integer();
    assert!(
        logged.is_some_and(|logged| logged > 128),
        "more than one node keeps: {logged:?}"
    );
    // Three spikes, each on another node.
    let nap = "local start = redis.call('time') repeat local now = redis.call('time') until (now[1] - start[1]) * 1000000 \
               + now[2] - start[2] > 30000 return 1";
    for node in cluster.masters() {
        assert_eq!(node.command(&["EVAL", nap, "0"]).integer(), Some(1));
    }
    let latest = said(&mut client, "LATENCY LATEST");
    // A busy machine adds events of its own.
    let events = latest
        .elements()
        .iter()
        .filter_map(|entry| entry.elements()[0].text());
    assert_eq!(events.filter(|event| event == "command").count(), 1, "{latest}");
    let history = said(&mut client, "LATENCY HISTORY command");
    let times: Vec<i64> = history
        .elements()
        .iter()
        .filter_map(|entry| entry.elements()[0].integer())
        .collect();
    assert!(
        !times.is_empty() && times.is_sorted_by(|a, b| a < b),
        "each second once: {history}"
    );
    let histogram = said(&mut client, "LATENCY HISTOGRAM set");
    let calls = histogram.elements()[1].elements()[1].integer();
    assert_eq!(calls, Some(KEYS as i64 + 1), "{histogram}");
    assert_eq!(ask(&mut client, "CONFIG SET latency-monitor-threshold 0"), "OK");
    let reset = said(&mut client, "LATENCY RESET").integer();
    assert!(
        reset.is_some_and(|reset| reset >= 3),
        "one event at least on each of three nodes: {reset:?}"
    );
    for doctor in ["LATENCY DOCTOR", "MEMORY DOCTOR"] {
        let text = ask(&mut client, doctor);
        assert!(!text.starts_with('#'), "all say the same: {text}");
    }
    assert_eq!(ask(&mut client, "SLOWLOG RESET"), "OK");
    assert_eq!(ask(&mut client, "FLUSHALL"), "OK");
    assert_eq!(ask(&mut client, "DBSIZE"), "0");
    assert_eq!(said(&mut client, "RANDOMKEY"), Reply::Bulk(None));
    assert_eq!(ask(&mut client, "SET only 1"), "OK");
    assert_eq!(ask(&mut client, "RANDOMKEY"), "only", "whichever shard has it");
}
