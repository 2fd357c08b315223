//! Nodes die, stop and change their roles: what clients of the broken shard get, and that others do not notice.

use std::time::{Duration, Instant};

use redplane_testkit::{Client, Cluster, Reply, Role, until};

use crate::front::{Front, since};
use crate::load::{Load, assert_clean, held, tag_on};
use crate::stage::{PATIENCE, ask};

/// What a client may get while a node is away.
const FAILURES: &[&str] = &[
    "upstream failure",
    "CLUSTERDOWN",
    "finished with",
    "READONLY",
    "no upstream host",
];

fn timed(client: &mut Client, words: &[&str]) -> (Reply, Duration) {
    let start = Instant::now();
    let reply = client.command(words).expect("an answer");
    (reply, since(start))
}

/// Waits until a write to this key is acknowledged, and says how long that took.
fn until_written(client: &mut Client, key: &str) -> Duration {
    let start = Instant::now();
    until(&format!("SET {key} to work again"), PATIENCE, || {
        client
            .command(&["SET", key, "1"])
            .is_ok_and(|reply| !reply.is_error())
    });
    since(start)
}

/// A failover in agreement with the master. Redis gives an attempt up after five seconds, as on a busy machine.
pub(crate) fn promote(cluster: &Cluster, port: u16) {
    let node = cluster.by_port(port).expect("one of ours");
    let mut asked = None::<Instant>;
    until("the replica to be promoted", PATIENCE, || {
        if asked.is_none_or(|at| since(at) > Duration::from_secs(6)) {
            node.run("CLUSTER FAILOVER");
            asked = Some(Instant::now());
        }
        node.role() == Role::Master
    });
}

#[test]
fn a_promoted_replica_takes_over_under_load() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let master = cluster.masters()[0].port();
    let replica = cluster.replica_of(master);
    let tags = [tag_on(&cluster, master), "w".to_owned(), "x".to_owned()];
    let load = Load::start(front.port, &tags);
    load.go_on(5);
    promote(&cluster, replica);
    load.go_on(10);
    cluster.wait_until_whole();
    promote(&cluster, master);
    load.go_on(10);
    let tallies = load.finish();
    cluster.wait_until_whole();
    assert_clean(&tallies, &cluster, FAILURES, &front.proxy.process().output());
    for tally in &tallies {
        let errors: u64 = tally.errors.values().sum();
        let commands = tally.rounds * 40;
        assert!(
            errors * 50 < commands,
            "{errors} errors in {commands} commands: {:?}",
            tally.errors
        );
    }
}

#[test]
fn a_killed_master_stalls_only_its_own_shard() {
    let mut cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 5s, enable_redirection: true");
    let dead = cluster.masters()[0].port();
    let others: Vec<u16> = cluster.masters()[1..].iter().map(|node| node.port()).collect();
    let tags: Vec<String> = others.iter().map(|port| tag_on(&cluster, *port)).collect();
    let key = tag_on(&cluster, dead);
    let replica = cluster.replica_of(dead);
    let mut client = front.client();
    assert_eq!(ask(&mut client, &format!("SET {key} 1")), "OK");
    let load = Load::start(front.port, &tags);
    load.go_on(3);
    cluster.node_mut(dead).kill();
    // Nobody waits for the timeout of the dead node.
    let mut slow = Duration::ZERO;
    for _ in 0..20 {
        let (reply, took) = timed(&mut client, &["SET", &key, "2"]);
        assert!(
            reply.is_error(),
            "the dead node's slots have no other master yet: {reply}"
        );
        slow = slow.max(took);
    }
    assert!(slow < Duration::from_secs(1), "an error took {slow:?}");
    load.go_on(20);
    cluster.wait_until_promoted(replica);
    let recovered = until_written(&mut client, &key);
    load.go_on(5);
    let tallies = load.finish();
    assert!(
        recovered < Duration::from_secs(5),
        "writes came back {recovered:?} after the promotion"
    );
    let held = held(&cluster);
    for tally in &tallies {
        assert!(
            tally.errors.is_empty() && tally.wrong.is_empty(),
            "{:?} {:?}",
            tally.errors,
            tally.wrong
        );
        assert!(
            tally.slowest < Duration::from_secs(2),
            "a pipeline to another shard took {:?}",
            tally.slowest
        );
        assert_eq!(tally.lost(&held), [""; 0]);
    }
}

#[test]
fn a_paused_node_costs_one_timeout_and_then_fails_fast() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 1s, enable_redirection: true");
    let node = cluster.masters()[0];
    let (key, other) = (
        tag_on(&cluster, node.port()),
        tag_on(&cluster, cluster.masters()[1].port()),
    );
    let mut client = front.client();
    assert_eq!(ask(&mut client, &format!("SET {key} 1")), "OK");
    // The cluster itself must not promote a replica meanwhile.
    for node in cluster.nodes() {
        node.run("CONFIG SET cluster-node-timeout 60000");
    }
    node.pause();
    let (reply, first) = timed(&mut client, &["GET", &key]);
    assert_eq!(reply.to_string(), "-upstream failure");
    let fits = Duration::from_millis(900)..Duration::from_millis(1800);
    assert!(fits.contains(&first), "the first error took {first:?}");
    let mut times = Vec::new();
    for _ in 0..20 {
        let (reply, took) = timed(&mut client, &["GET", &key]);
        assert_eq!(reply.to_string(), "-upstream failure");
        times.push(took);
    }
    let fast = times
        .iter()
        .filter(|took| **took < Duration::from_millis(200))
        .count();
    assert_eq!(fast, times.len(), "errors after the first: {times:?}");
    let (reply, took) = timed(&mut client, &["SET", &other, "1"]);
    assert!(
        !reply.is_error() && took < Duration::from_millis(500),
        "another shard: {reply} in {took:?}"
    );
    node.resume();
    let recovered = until_written(&mut client, &key);
    assert!(
        recovered < Duration::from_secs(5),
        "writes came back after {recovered:?}"
    );
}

#[test]
fn clients_survive_a_restart_of_the_whole_cluster() {
    let mut cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, "op_timeout: 1s, enable_redirection: true");
    let mut client = front.client();
    assert_eq!(ask(&mut client, "SET before 1"), "OK");
    let ports: Vec<u16> = cluster.nodes().iter().map(|node| node.port()).collect();
    ports.iter().for_each(|port| cluster.node_mut(*port).kill());
    let (reply, took) = timed(&mut client, &["GET", "before"]);
    assert!(
        reply.is_error() && took < Duration::from_secs(1),
        "{reply} after {took:?}"
    );
    ports.iter().for_each(|port| cluster.node_mut(*port).restart());
    cluster.wait_until_whole();
    let mut slowest = Duration::ZERO;
    for key in ["a", "b", "c", "d", "e", "f"] {
        slowest = slowest.max(until_written(&mut client, key));
    }
    assert!(
        slowest < Duration::from_secs(5),
        "writes came back after {slowest:?}"
    );
    assert_eq!(ask(&mut front.client(), "PING"), "PONG");
}
