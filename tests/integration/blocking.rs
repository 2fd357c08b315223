//! Queues in front of a real cluster: consumers that wait, producers, consumers that go, and nodes that fail.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use redplane_testkit::{Client, Cluster, Redis, until};

use crate::failover::promote;
use crate::front::{Front, since};
use crate::load::tag_on;
use crate::stage::{PATIENCE, ask};

const SETTINGS: &str = "op_timeout: 1s, enable_redirection: true";

/// Clients that wait at a node, by its own list.
fn blocked_at(node: &Redis) -> usize {
    let list = node.run("CLIENT LIST TYPE normal").text().unwrap_or_default();
    let flags = list
        .split_whitespace()
        .filter_map(|field| field.strip_prefix("flags="));
    flags.filter(|flags| flags.contains('b')).count()
}

/// Clients that wait at any node.
fn blocked(cluster: &Cluster) -> usize {
    cluster.nodes().iter().map(blocked_at).sum()
}

/// Sends a request whose reply is to come later.
fn begin(client: &mut Client, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let bytes = redplane_testkit::command_bytes(&words);
    client.send(&bytes).expect("redplane reads");
}

fn next(client: &mut Client) -> String {
    client.read_replies(1).iter().map(ToString::to_string).collect()
}

#[test]
fn every_element_of_a_queue_is_taken_once() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let queues = ["queue:a", "queue:b"];
    let consumers: Vec<_> = (0..6)
        .map(|at| {
            let mut client = front.client().patience(PATIENCE);
            std::thread::spawn(move || {
                let mut taken = Vec::new();
                loop {
                    let reply = client
                        .command(&["BLPOP", queues[at % 2], "0"])
                        .expect("an element");
                    let text = reply.to_string();
                    if text.contains("the end") {
                        return taken;
                    }
                    taken.push(text);
                }
            })
        })
        .collect();
    let mut producer = front.client();
    for n in 0..600 {
        let reply = ask(&mut producer, &format!("RPUSH {} element-{n}", queues[n % 2]));
        assert!(reply.parse::<u32>().is_ok(), "{reply}");
    }
    for at in 0..6 {
        producer
            .command(&["RPUSH", queues[at % 2], "the end"])
            .expect("an answer");
    }
    let taken: Vec<String> = consumers
        .into_iter()
        .flat_map(|consumer| consumer.join().expect("it ends"))
        .collect();
    assert_eq!(taken.len(), 600);
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 600);
    assert_eq!(front.stat("redis.r.command.blpop.success"), 606);
    until("no wait is left", PATIENCE, || blocked(&cluster) == 0);
    assert_eq!(front.stat("cluster.c.upstream_rq_active"), 0);
}

#[test]
fn a_hundred_waiting_clients_slow_nobody_and_leave_no_trace() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut waiting: Vec<Client> = (0..100).map(|_| front.client().patience(PATIENCE)).collect();
    for (at, client) in waiting.iter_mut().enumerate() {
        begin(client, &format!("BRPOP wait:{at} 0"));
    }
    until("a hundred waits", PATIENCE, || blocked(&cluster) == 100);
    let mut other = front.client();
    let start = Instant::now();
    for n in 0..300 {
        assert_eq!(ask(&mut other, &format!("SET wait:{n}:x 1")), "OK");
    }
    assert!(
        since(start) < Duration::from_secs(3),
        "300 writes took {:?}",
        since(start)
    );
    // Half of them go; the others are served.
    let mut left = waiting.split_off(50);
    drop(waiting);
    until("fifty waits", PATIENCE, || blocked(&cluster) == 50);
    for at in 0..100 {
        assert_eq!(ask(&mut other, &format!("RPUSH wait:{at} for-{at}")), "1");
    }
    for (at, client) in left.iter_mut().enumerate() {
        let reply = next(client);
        assert!(reply.contains(&format!("for-{}", at + 50)), "{reply}");
    }
    for at in 0..50 {
        assert_eq!(
            ask(&mut other, &format!("LLEN wait:{at}")),
            "1",
            "nobody was there to take it"
        );
    }
    until("no wait", PATIENCE, || blocked(&cluster) == 0);
    let mut gone = front.client();
    begin(&mut gone, "BLPOP wait:none 0");
    until("one wait", PATIENCE, || blocked(&cluster) == 1);
    gone.half_close();
    until("no wait again", PATIENCE, || blocked(&cluster) == 0);
    assert!(gone.read_until_close().0.is_empty());
}

#[test]
fn waits_outlive_a_failover_and_a_dead_master() {
    let mut cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let master = cluster.masters()[0].port();
    let replica = cluster.replica_of(master);
    let key = tag_on(&cluster, master);
    let mut forever = front.client().patience(PATIENCE);
    let mut timed = front.client().patience(PATIENCE);
    let mut producer = front.client();
    begin(&mut forever, &format!("BLPOP {key}q 0"));
    begin(&mut timed, &format!("BLMOVE {key}t {key}u LEFT RIGHT 60"));
    until("two waits", PATIENCE, || blocked(&cluster) == 2);
    promote(&cluster, replica);
    cluster.wait_until_whole();
    until("two waits at the new master", PATIENCE, || {
        cluster.by_port(replica).is_some_and(|node| blocked_at(node) == 2)
    });
    assert_eq!(ask(&mut producer, &format!("RPUSH {key}q one")), "1");
    assert!(next(&mut forever).contains("one"));
    // Now the hard way: the new master dies, and the old one takes over again.
    begin(&mut forever, &format!("BLPOP {key}q 0"));
    until("two waits", PATIENCE, || blocked(&cluster) == 2);
    cluster.node_mut(replica).kill();
    cluster.wait_until_promoted(master);
    until("a write to work again", PATIENCE, || {
        let pushed = producer.command(&["RPUSH", &format!("{key}q"), "two"]);
        pushed.is_ok_and(|reply| !reply.is_error())
    });
    assert!(next(&mut forever).contains("two"));
    assert_eq!(ask(&mut producer, &format!("RPUSH {key}t three")), "1");
    assert!(next(&mut timed).contains("three"));
}

#[test]
fn wait_speaks_of_what_this_client_wrote() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let masters: Vec<u16> = cluster.masters().iter().map(|node| node.port()).collect();
    let keys: Vec<String> = masters.iter().map(|port| tag_on(&cluster, *port)).collect();
    let (mut writer, mut other) = (
        front.client().patience(PATIENCE),
        front.client().patience(PATIENCE),
    );
    let start = Instant::now();
    for n in 0..20 {
        assert_eq!(ask(&mut writer, &format!("SET {} {n}", keys[n % 2])), "OK");
        assert_eq!(ask(&mut writer, "WAIT 1 10000"), "1");
    }
    let took = since(start);
    assert!(
        took < Duration::from_secs(10),
        "twenty waits took {took:?}, as if replicas were not asked"
    );
    // Far fewer have it than there are replicas when one of them sleeps; who did not write there is not concerned.
    let asleep = cluster
        .by_port(cluster.replica_of(masters[2]))
        .expect("one of ours");
    asleep.pause();
    assert_eq!(ask(&mut writer, "WAIT 1 10000"), "1");
    assert_eq!(ask(&mut other, &format!("SET {} 1", keys[2])), "OK");
    let start = Instant::now();
    assert_eq!(ask(&mut other, "WAIT 1 300"), "0");
    assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&since(start)));
    begin(&mut other, "WAIT 1 0");
    assert_eq!(
        ask(&mut writer, &format!("GET {}", keys[2])),
        "1",
        "nobody else is held up"
    );
    asleep.resume();
    assert_eq!(next(&mut other), ":1");
    assert_eq!(ask(&mut writer, "WAIT 5 200"), "1", "there are not so many");
}
