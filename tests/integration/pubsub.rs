//! Publish and subscribe over a real cluster: every node's messages, one subscription upstream for all clients of a
//! worker, and what becomes of subscriptions when nodes fail and slots move.

use std::collections::BTreeMap;
use std::time::Duration;

use redplane_testkit::{Client, Cluster, Redis, Reply, command_bytes, until};

use crate::front::Front;
use crate::stage::{PATIENCE, ask};

const SETTINGS: &str = "op_timeout: 5s, enable_redirection: true";

/// Sends a command whose reply is an array or an integer.
fn call(client: &mut Client, line: &str) -> Reply {
    let words: Vec<&str> = line.split(' ').collect();
    client
        .command(&words)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn texts(reply: &Reply) -> Vec<String> {
    reply
        .elements()
        .iter()
        .map(|part| part.text().unwrap_or_else(|| part.to_string()))
        .collect()
}

/// A client that is subscribed to this.
fn subscriber(front: &Front, line: &str) -> Client {
    let mut client = front.client();
    let count = line.split(' ').count() - 1;
    let words: Vec<&str> = line.split(' ').collect();
    client.send(&command_bytes(&words)).expect("it is connected");
    let confirmations = client.read_replies(count);
    for confirmation in &confirmations {
        assert_eq!(texts(confirmation)[0], words[0].to_lowercase(), "{confirmation}");
    }
    assert_eq!(confirmations.len(), count, "{line}");
    client
}

/// The payloads of the next messages, by channel.
fn messages(client: &mut Client, count: usize) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in client.read_replies(count) {
        let mut parts = texts(&message);
        let (payload, channel) = (parts.pop().expect("a payload"), parts.pop().expect("a channel"));
        found.entry(channel).or_default().push(payload);
    }
    found
}

/// Publishes until somebody hears it, and takes all of it in; afterwards each message must come once.
fn until_heard(publisher: &mut Client, listener: &mut Client, publish: &str, channel: &str) {
    until(&format!("{publish} {channel} to be heard"), PATIENCE, || {
        call(publisher, &format!("{publish} {channel} again")).integer() == Some(1)
            && !listener.read_until_quiet(Duration::from_millis(200)).is_empty()
    });
    listener.read_until_quiet(Duration::from_millis(300));
    assert_eq!(
        call(publisher, &format!("{publish} {channel} once")).integer(),
        Some(1)
    );
    let got = listener.read_until_quiet(Duration::from_millis(300));
    assert_eq!(got.len(), 1, "{channel}: {got:?}");
}

/// How many subscriptions the masters count.
fn counted(cluster: &Cluster, channel: &str) -> i64 {
    let of = |node: &&Redis| {
        let reply = node.command(&["PUBSUB", "NUMSUB", channel]);
        reply.elements().get(1).and_then(Reply::integer).unwrap_or(0)
    };
    cluster.masters().iter().map(of).sum()
}

#[test]
fn a_thousand_clients_are_one_subscription_for_each_worker() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let mut clients: Vec<Client> = (0..1000).map(|_| subscriber(&front, "SUBSCRIBE news")).collect();
    let upstream = counted(&cluster, "news");
    assert!(
        (1..=2).contains(&upstream),
        "{upstream} subscriptions for 2 workers"
    );
    let mut publisher = front.client();
    assert_eq!(call(&mut publisher, "PUBLISH news hello").integer(), Some(1000));
    assert_eq!(
        texts(&call(&mut publisher, "PUBSUB NUMSUB news")),
        ["news", "1000"]
    );
    assert_eq!(texts(&call(&mut publisher, "PUBSUB CHANNELS")), ["news"]);
    for client in &mut clients {
        assert_eq!(
            messages(client, 1),
            BTreeMap::from([("news".into(), vec!["hello".into()])])
        );
    }
    // What is published at any node comes once.
    for node in cluster.nodes() {
        node.command(&["PUBLISH", "news", "direct"]);
    }
    for client in &mut clients {
        assert_eq!(
            messages(client, cluster.nodes().len())["news"].len(),
            cluster.nodes().len()
        );
    }
    drop(clients);
    until("the servers to count nobody", PATIENCE, || {
        counted(&cluster, "news") == 0
    });
    assert_eq!(call(&mut publisher, "PUBLISH news nobody").integer(), Some(0));
}

#[test]
fn shard_channels_follow_their_slots() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let names: Vec<String> = (0..60).map(|at| format!("s{at}")).collect();
    let mut listener = subscriber(&front, &format!("SSUBSCRIBE {}", names.join(" ")));
    let (from, to) = (cluster.masters()[0].port(), cluster.masters()[1].port());
    let owners = || {
        names
            .iter()
            .map(|name| cluster.master_of(name).port())
            .collect::<Vec<u16>>()
    };
    let before = owners();
    cluster.reshard(from, to, 2500);
    let after = owners();
    assert_ne!(before, after, "some of the channels moved");
    let mut publisher = front.client();
    for (name, _) in names
        .iter()
        .zip(before.iter().zip(&after))
        .filter(|(_, (a, b))| a != b)
        .take(5)
    {
        until_heard(&mut publisher, &mut listener, "SPUBLISH", name);
    }
    for name in &names {
        until_heard_once(&mut publisher, &mut listener, name);
    }
    // Nothing of the moves was shown.
    assert!(listener.read_until_quiet(Duration::from_millis(300)).is_empty());
}

fn until_heard_once(publisher: &mut Client, listener: &mut Client, name: &str) {
    assert_eq!(
        call(publisher, &format!("SPUBLISH {name} {name}")).integer(),
        Some(1),
        "{name}"
    );
    assert_eq!(
        texts(&listener.read_replies(1).remove(0)),
        ["smessage", name, name]
    );
}

#[test]
fn subscriptions_outlive_a_failover() {
    let mut cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    let names: Vec<String> = (0..12).map(|at| format!("ch{at}")).collect();
    let mut listener = subscriber(&front, &format!("SUBSCRIBE {}", names.join(" ")));
    let mut publisher = front.client();
    let replica = cluster.replicas()[0].port();
    cluster.failover(replica);
    cluster.wait_until_whole();
    for name in &names {
        until_heard(&mut publisher, &mut listener, "PUBLISH", name);
    }
    let dead = cluster.masters()[0].port();
    let replica = cluster.replica_of(dead);
    cluster.node_mut(dead).kill();
    cluster.wait_until_promoted(replica);
    for name in &names {
        until_heard(&mut publisher, &mut listener, "PUBLISH", name);
    }
    // Two nodes have gone, and of all that the client was told nothing but messages.
    assert_eq!(
        texts(&call(&mut listener, "UNSUBSCRIBE ch0"))[..2],
        ["unsubscribe", "ch0"]
    );
}

#[test]
fn events_come_from_all_primaries() {
    let cluster = Cluster::three_and_three();
    let front = Front::of(&cluster, SETTINGS);
    for node in cluster.nodes() {
        node.command(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
    }
    let mut events = subscriber(&front, "PSUBSCRIBE __keyevent@0__:set");
    let mut all = subscriber(&front, "PSUBSCRIBE *");
    let mut client = front.client();
    let keys: Vec<String> = (0..30).map(|at| format!("k{at}")).collect();
    for key in &keys {
        assert_eq!(ask(&mut client, &format!("SET {key} 1")), "OK");
    }
    let mut seen = messages(&mut events, keys.len())["__keyevent@0__:set"].clone();
    seen.sort();
    let mut expected = keys.clone();
    expected.sort();
    assert_eq!(seen, expected);
    // A keyspace and a keyevent message for each, and a published one once.
    messages(&mut all, 2 * keys.len());
    assert_eq!(call(&mut client, "PUBLISH news hello").integer(), Some(1));
    assert_eq!(
        messages(&mut all, 1),
        BTreeMap::from([("news".into(), vec!["hello".into()])])
    );
    for client in [&mut events, &mut all] {
        assert!(client.read_until_quiet(Duration::from_millis(300)).is_empty());
    }
}
