//! Replies as real servers write them, and as they should not.

use redplane_resp::value::decode;

use super::*;

fn value(text: &str) -> Value {
    let bytes = text.replace('\n', "\r\n");
    decode(bytes.as_bytes()).unwrap().unwrap().0
}

fn read(slots: &str) -> Result<Answer, String> {
    let replies = Replies {
        slots: value(slots),
        shards: None,
        nodes: None,
    };
    Answer::read(&replies, "10.9.9.9".parse().unwrap())
}

fn row(first: i64, last: i64, host: &str, port: i64) -> String {
    format!("*3\n:{first}\n:{last}\n*2\n{host}\n:{port}\n")
}

fn bulk(text: &str) -> String {
    format!("${}\n{text}", text.len())
}

#[test]
fn rows_of_one_primary_become_one_shard() {
    let a = bulk("10.0.0.1");
    let reply = format!(
        "*3\n{}{}{}",
        row(0, 99, &a, 1),
        row(200, 299, &bulk("10.0.0.2"), 1),
        row(100, 150, &a, 1)
    );
    let answer = read(&reply).unwrap();
    assert_eq!(answer.shards.len(), 2);
    assert_eq!(answer.shards[0].ranges, [(0, 99), (100, 150)]);
    assert_eq!(answer.shards[0].primary.key(), "10.0.0.1:1");
    assert!(answer.quorum);
}

#[test]
fn hosts_are_addresses_names_or_the_node_itself() {
    let cases = [
        (bulk("10.0.0.1"), NodeAddress::Ip("10.0.0.1".parse().unwrap()), ""),
        (bulk("fd00::5"), NodeAddress::Ip("fd00::5".parse().unwrap()), ""),
        (
            bulk("node-1.redis."),
            NodeAddress::Name("node-1.redis".into()),
            "node-1.redis.",
        ),
        (bulk(""), NodeAddress::Ip("10.9.9.9".parse().unwrap()), ""),
        ("$-1".to_owned(), NodeAddress::Ip("10.9.9.9".parse().unwrap()), ""),
        ("_".to_owned(), NodeAddress::Ip("10.9.9.9".parse().unwrap()), ""),
    ];
    for (host, place, name) in cases {
        let answer = read(&format!("*1\n{}", row(0, 16383, &host, 6379))).unwrap();
        let primary = &answer.shards[0].primary;
        assert_eq!(primary.address, place);
        assert_eq!(primary.hostname, name.trim_end_matches('.'));
    }
}

#[test]
fn metadata_gives_names_and_addresses() {
    let node = |host: &str, key: &str, v: &str| {
        format!(
            "*1\n*3\n:0\n:9\n*4\n{}\n:7\n{}\n*2\n{}\n{}\n",
            bulk(host),
            bulk("id1"),
            bulk(key),
            bulk(v)
        )
    };
    let answer = read(&node("10.0.0.1", "hostname", "n1.example")).unwrap();
    assert_eq!(answer.shards[0].primary.hostname, "n1.example");
    assert_eq!(answer.shards[0].primary.key(), "id1");
    let answer = read(&node("?", "ip", "10.0.0.4")).unwrap();
    assert_eq!(
        answer.shards[0].primary.address,
        NodeAddress::Ip("10.0.0.4".parse().unwrap())
    );
    assert!(read(&node("?", "other", "x")).unwrap_err().contains("no address"));
}

#[test]
fn faulty_replies_are_refused_as_a_whole() {
    let host = bulk("10.0.0.1");
    let good = row(0, 9, &host, 1);
    let cases = [
        "-ERR This instance has cluster support disabled\n".to_owned(),
        "*0\n".to_owned(),
        "+OK\n".to_owned(),
        "*-1\n".to_owned(),
        format!("*2\n{good}:7\n"),
        format!("*2\n{good}*2\n:1\n:2\n"),
        format!("*2\n{good}{}", row(-1, 5, &host, 1)),
        format!("*2\n{good}{}", row(0, 16384, &host, 1)),
        format!("*2\n{good}{}", row(9, 3, &host, 1)),
        format!("*2\n{good}{}", row(10, 12, &host, 70000)),
        format!("*2\n{good}{}", row(10, 12, &host, 0)),
        format!("*2\n{good}{}", row(10, 12, ":5", 1)),
        format!("*2\n{good}*3\n:10\n:12\n*1\n{host}\n"),
    ];
    for case in cases {
        assert!(read(&case).is_err(), "{case}");
    }
}

#[test]
fn a_replica_without_a_port_is_left_out() {
    let a = bulk("10.0.0.1");
    let reply = format!("*1\n*5\n:0\n:9\n*2\n{a}\n:1\n*2\n{a}\n:0\n*2\n{a}\n:2\n");
    let answer = read(&reply).unwrap();
    assert_eq!(answer.shards[0].replicas.len(), 1);
    assert_eq!(answer.shards[0].replicas[0].port, 2);
}

const NODES: &str = "\
a1 10.0.0.1:6379@16379,n1.example myself,master - 0 0 7 connected 0-99 [5->-b1]
b1 10.0.0.2:6379@16379 master,fail? - 0 0 3 connected 100-199
c1 fd00::3:6379@16379,,tls-port=0,shard-id=9 master - 0 0 4 connected 200
d1 10.0.0.4:6379@16379 slave,fail a1 0 0 7 connected
e1 :0@0 master,noaddr - 0 0 1 disconnected
rubbish
";

#[test]
fn gossip_tells_epochs_and_health() {
    let gossip = Gossip::read(NODES.as_bytes());
    assert_eq!(gossip.nodes.len(), 5);
    assert_eq!(
        (gossip.nodes["a1"].epoch, gossip.nodes["a1"].hostname.as_str()),
        (7, "n1.example")
    );
    assert_eq!(gossip.nodes["b1"].health, Health::Degraded);
    assert_eq!(gossip.nodes["c1"].ip, Some("fd00::3".parse().unwrap()));
    assert_eq!(gossip.nodes["c1"].hostname, "");
    assert_eq!(
        (gossip.nodes["d1"].health, gossip.nodes["d1"].serves),
        (Health::Unhealthy, false)
    );
    assert!(gossip.quorum(), "two of three primaries with slots live");
    assert!(
        !Gossip::read(
            NODES
                .replace(
                    "c1 fd00::3:6379@16379,,tls-port=0,shard-id=9 master",
                    "c1 x:1@1 master,fail"
                )
                .as_bytes()
        )
        .quorum()
    );
}

#[test]
fn shards_tell_who_is_loading() {
    let node = |id: &str, health: &str| {
        format!(
            "*4\n{}\n{}\n{}\n{}\n",
            bulk("id"),
            bulk(id),
            bulk("health"),
            bulk(health)
        )
    };
    let reply = format!(
        "*1\n*4\n{}\n*2\n:0\n:9\n{}\n*3\n{}{}{}",
        bulk("slots"),
        bulk("nodes"),
        node("a", "online"),
        node("b", "loading"),
        node("c", "failed")
    );
    let health = shards::health(&value(&reply));
    assert_eq!(
        (health["a"], health["b"], health["c"]),
        (Health::Healthy, Health::Degraded, Health::Unhealthy)
    );
    assert!(shards::health(&value("-ERR unknown subcommand\n")).is_empty());
}

/// Whatever a server sends: an answer or a reason, never more slots than there are, and no end of the process.
#[test]
fn no_reply_is_too_strange() {
    let mut random = fastrand::Rng::with_seed(7);
    let good = format!(
        "*2\n{}{}",
        row(0, 8000, &bulk("10.0.0.1"), 1),
        row(8001, 16383, &bulk("b.example"), 2)
    );
    let good = good.replace('\n', "\r\n").into_bytes();
    for round in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            bytes[at] = if random.bool() {
                random.u8(..)
            } else {
                *random.choice(b"*$:+-_%~0123456789\r\n").unwrap()
            };
        }
        let nodes = bytes
            .iter()
            .map(|byte| byte.rotate_left(round % 8))
            .collect::<Vec<u8>>();
        let Ok(Some((slots, _))) = decode(&bytes) else {
            continue;
        };
        let shards = Some(slots.clone());
        let replies = Replies {
            slots,
            shards,
            nodes: Some(Value::Bulk(Some(nodes))),
        };
        if let Ok(answer) = Answer::read(&replies, IpAddr::from([10, 0, 0, 1])) {
            let ranges = answer.shards.iter().flat_map(|shard| &shard.ranges);
            assert!(ranges.clone().all(|(first, last)| first <= last && *last < SLOTS));
            if round % 16 == 0 {
                super::super::decide::decide(
                    &[answer.clone(), answer],
                    &super::super::decide::View::default(),
                );
            }
        }
    }
}
