//! Sentinels' replies, as redis-server 7.0 words them.

use super::*;

fn bulk(text: &str) -> Value {
    Value::Bulk(Some(text.as_bytes().to_vec()))
}

fn list(words: &str) -> Value {
    Value::Array(Some(words.split(' ').map(bulk).collect()))
}

fn lists(instances: &[&str]) -> Value {
    Value::Array(Some(instances.iter().map(|words| list(words)).collect()))
}

fn replies(address: Value, replicas: &[&str]) -> Replies {
    Replies {
        address,
        master: list("name m ip 10.0.0.1 port 6379 flags master config-epoch 7"),
        replicas: lists(replicas),
        sentinels: lists(&[
            "name x ip 10.0.1.2 port 26379 flags sentinel",
            "name y ip sentinel-3 port 26380",
        ]),
    }
}

#[test]
fn master_replicas_and_sentinels_are_read() {
    let replicas = [
        "ip 10.0.0.2 port 6379 flags slave role-reported slave master-link-status ok",
        "ip redis-3 port 6380 flags slave role-reported slave master-link-status err",
        "ip 10.0.0.4 port 6379 flags s_down,slave,disconnected role-reported slave master-link-status ok",
        "ip 10.0.0.5 port 6379 flags slave role-reported master master-link-status ok",
        "ip 10.0.0.1 port 6379 flags slave role-reported slave master-link-status ok",
        "ip 10.0.0.6 port 0 flags slave",
    ];
    let answer = Answer::read(&replies(list("10.0.0.1 6379"), &replicas)).unwrap();
    let shard = &answer.shard;
    assert_eq!((shard.epoch, shard.primary.port), (7, 6379));
    assert_eq!(
        shard.primary.address,
        NodeAddress::Ip("10.0.0.1".parse().unwrap())
    );
    assert_eq!(shard.primary.health, Health::Healthy);
    let seen: Vec<_> = shard
        .replicas
        .iter()
        .map(|node| (node.key(), node.health))
        .collect();
    // The master itself, and what has no port, are no replicas.
    let expected = [
        ("10.0.0.2:6379".to_owned(), Health::Healthy),
        ("redis-3:6380".to_owned(), Health::Degraded),
        ("10.0.0.4:6379".to_owned(), Health::Unhealthy),
        ("10.0.0.5:6379".to_owned(), Health::Unhealthy),
    ];
    assert_eq!(seen, expected);
    assert_eq!(shard.replicas[1].hostname, "redis-3");
    assert_eq!(answer.sentinels.len(), 2);
}

#[test]
fn flags_of_another_master_say_nothing_about_the_promoted_one() {
    let mut down = replies(list("10.0.0.1 6379"), &[]);
    down.master = list("ip 10.0.0.1 port 6379 flags s_down,o_down,master config-epoch 1");
    assert_eq!(
        Answer::read(&down).unwrap().shard.primary.health,
        Health::Unhealthy
    );
    down.address = list("10.0.0.2 6379");
    assert_eq!(Answer::read(&down).unwrap().shard.primary.health, Health::Healthy);
}

#[test]
fn what_is_no_address_is_an_error() {
    let reason = |address: Value| Answer::read(&replies(address, &[])).unwrap_err();
    assert_eq!(reason(Value::Array(None)), "it monitors no master of this name");
    assert_eq!(
        reason(Value::Error(b"NOAUTH Authentication required.".to_vec())),
        "NOAUTH Authentication required."
    );
    for odd in [
        list("10.0.0.1"),
        list("10.0.0.1 0"),
        list("10.0.0.1 70000"),
        list(" 6379"),
        Value::Integer(1),
    ] {
        assert_eq!(reason(odd), "no address in its answer");
    }
}

#[test]
fn only_our_master_s_messages_count() {
    let said = |channel: &str, payload: &str| {
        concerns(
            &Value::Array(Some(vec![bulk("message"), bulk(channel), bulk(payload)])),
            "m",
        )
    };
    assert!(said("+switch-master", "m 10.0.0.1 6379 10.0.0.2 6379"));
    assert!(!said("+switch-master", "other 10.0.0.1 6379 10.0.0.2 6379"));
    assert!(said("+odown", "master m 10.0.0.1 6379 #quorum 2/2"));
    assert!(!said("+odown", "master m2 10.0.0.1 6379 #quorum 2/2"));
    assert!(said(
        "+sdown",
        "slave 10.0.0.2:6379 10.0.0.2 6379 @ m 10.0.0.1 6379"
    ));
    assert!(!said(
        "+sdown",
        "slave 10.0.0.2:6379 10.0.0.2 6379 @ m2 10.0.0.1 6379"
    ));
    assert!(!said("+sdown", ""));
    assert!(!concerns(&list("subscribe +sdown 1"), "m"));
    assert!(!concerns(&list("pong x"), "m"));
}

#[test]
fn a_role_is_told_or_not() {
    assert_eq!(is_master(&list("master 0")), Some(true));
    assert_eq!(is_master(&list("slave 10.0.0.1 6379 connected 1")), Some(false));
    assert_eq!(is_master(&Value::Error(b"NOPERM".to_vec())), None);
}
