//! Commands that only the servers know. Renaming makes such names on any server: the table has never heard of them.

use redplane_testkit::{Client, Cluster, RedisConfig};

use crate::front::Front;
use crate::load::tag_on;
use crate::stage::ask;

const SETTINGS: &str = "op_timeout: 5s, enable_redirection: true";

fn renamed() -> Cluster {
    let names = [
        ("GET", "FETCH"),
        ("OBJECT", "THING"),
        ("MULTI", "XMULTI"),
        ("DBSIZE", "HOWMANY"),
        ("LCS", "COMMON"),
    ];
    let directives = names.map(|(name, own)| ("rename-command".to_owned(), format!("{name} {own}")));
    let config = RedisConfig {
        directives: directives.to_vec(),
        ..RedisConfig::default()
    };
    Cluster::start(3, 0, &config)
}

fn each_protocol(front: &Front, check: impl Fn(&mut Client)) {
    for protocol in ["2", "3"] {
        let mut client = front.client();
        client.command(&["HELLO", protocol]).expect("an answer");
        check(&mut client);
    }
}

#[test]
fn names_that_only_the_servers_know_are_served() {
    let cluster = renamed();
    let front = Front::of(&cluster, SETTINGS);
    let keys: Vec<String> = cluster
        .masters()
        .iter()
        .map(|node| tag_on(&cluster, node.port()))
        .collect();
    each_protocol(&front, |client| {
        for key in &keys {
            assert_eq!(ask(client, &format!("SET {key} {key}")), "OK");
            assert_eq!(ask(client, &format!("FETCH {key}")), *key);
            assert_eq!(ask(client, &format!("THING encoding {key}")), "embstr");
        }
        assert_eq!(
            ask(client, "howmany"),
            "4",
            "its tips say that all shards are asked"
        );
        assert_eq!(ask(client, &format!("COMMON {0} {0}", keys[0])), keys[0]);
        let crossing = ask(client, &format!("COMMON {} {}", keys[0], keys[1]));
        assert_eq!(crossing, "CROSSSLOT Keys in request don't hash to the same slot");
        assert_eq!(
            ask(client, "FETCH"),
            "ERR wrong number of arguments for 'get' command"
        );
        assert_eq!(
            ask(client, "THING nosuch k"),
            "ERR unknown subcommand 'nosuch'. Try THING HELP."
        );
    });
    let asked: u64 = cluster
        .nodes()
        .iter()
        .map(|node| node.calls("command|info"))
        .sum();
    // Four names, two workers, two protocols.
    assert!((4..=16).contains(&asked), "{asked} questions");
}

#[test]
fn names_that_would_harm_or_that_nobody_knows_are_not() {
    let cluster = renamed();
    let front = Front::of(&cluster, SETTINGS);
    each_protocol(&front, |client| {
        let refusal = ask(client, "XMULTI");
        assert!(
            refusal.starts_with("ERR 'xmulti' is not offered by the proxy"),
            "{refusal}"
        );
        let unknown = "ERR unknown command 'NoSuch', with args beginning with: 'a' ";
        assert_eq!(ask(client, "NoSuch a"), unknown);
        // The table knows it, but these servers do not: they say so themselves.
        assert_eq!(
            ask(client, "GET a"),
            "ERR unknown command 'GET', with args beginning with: 'a' "
        );
    });
    let begun: u64 = cluster.nodes().iter().map(|node| node.calls("multi")).sum();
    assert_eq!(begun, 0);
}
