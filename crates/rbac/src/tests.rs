//! Decisions by table, and what holds for any rules.

use std::net::IpAddr;

use proptest::prelude::*;
use redplane_config::Cidr;
use redplane_config::matcher::{
    FullRegex, HeaderMatcher, HeaderTest, MetadataMatcher, StringMatcher, ValueMatcher,
};
use redplane_config::rbac::{Action, Condition, MetadataSource, Policy, Rules};
use redplane_config::tls::{SanKind, SanMatcher};
use serde_json::{Value, json};

use crate::condition::holds;
use crate::{Connection, Decision, Metadata, Peer, Request, decide, details, shadow_metadata};

fn exact(text: &str) -> StringMatcher {
    StringMatcher::Exact(text.to_owned())
}

fn cidr(address: &str, prefix_len: u8) -> Cidr {
    Cidr {
        address: address.parse().unwrap(),
        prefix_len,
    }
}

fn object(value: Value) -> Metadata {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn connection<'a>(uri_sans: &'a [String], dns_sans: &'a [String], subject: &'a str) -> Connection<'a> {
    Connection {
        direct_remote: "10.1.0.31".parse().ok(),
        remote: "10.9.9.9".parse().ok(),
        destination: "10.1.0.11:6379".parse().ok(),
        server_name: "redis.example.com",
        tls: Some(Peer {
            is_validated: !subject.is_empty(),
            uri_sans,
            dns_sans,
            subject,
        }),
    }
}

#[test]
fn facts_of_a_connection() {
    let uris = ["spiffe://cluster.local/ns/redis/sa/app".to_owned()];
    let dns_names = ["*.client.svc".to_owned()];
    let tls = connection(&uris, &dns_names, "CN=app,O=x");
    let plain = Connection { tls: None, ..tls };
    let anonymous = connection(&[], &[], "");
    let name = |text| Condition::Authenticated(Some(text));
    let regex = |pattern: &str| StringMatcher::Regex(FullRegex::new(pattern).unwrap());
    let dns = |text: &str| SanMatcher {
        kind: SanKind::Dns,
        text: exact(text),
    };
    let cases = [
        (name(exact("spiffe://cluster.local/ns/redis/sa/app")), tls, true),
        (name(exact("SPIFFE://cluster.local/ns/redis/sa/app")), tls, false),
        (name(regex(".*/ns/redis/.*")), tls, true),
        (name(regex("/ns/redis/")), tls, false),
        (
            name(StringMatcher::Prefix("spiffe://cluster.local/ns/redi".into())),
            tls,
            true,
        ),
        // A wildcard of the certificate stands for itself in `authenticated`, for one label in `mtls_authenticated`.
        (name(exact("a.client.svc")), tls, false),
        (name(exact("*.client.svc")), tls, true),
        (Condition::Certificate(Some(dns("a.client.svc"))), tls, true),
        (Condition::Certificate(Some(dns("a.b.client.svc"))), tls, false),
        (name(exact("CN=app,O=x")), tls, true),
        (name(exact("CN=app")), tls, false),
        (name(exact("")), tls, false),
        (Condition::Authenticated(None), tls, true),
        (Condition::Authenticated(None), anonymous, true),
        (Condition::Authenticated(None), plain, false),
        (name(regex(".*")), plain, false),
        (Condition::Certificate(None), tls, true),
        (Condition::Certificate(None), anonymous, false),
        (Condition::Certificate(None), plain, false),
        (Condition::DirectRemoteIp(cidr("10.1.0.0", 16)), tls, true),
        (Condition::DirectRemoteIp(cidr("10.9.0.0", 16)), tls, false),
        (Condition::SourceIp(cidr("10.9.0.0", 16)), tls, true),
        (Condition::RemoteIp(cidr("10.9.0.0", 16)), tls, true),
        (Condition::RemoteIp(cidr("::", 0)), tls, false),
        (Condition::DestinationIp(cidr("10.1.0.11", 32)), tls, true),
        (Condition::DestinationIp(cidr("10.1.0.12", 32)), tls, false),
        (Condition::DestinationPort(6379), tls, true),
        (Condition::DestinationPort(15006), tls, false),
        (Condition::DestinationPorts(6000..6379), tls, false),
        (Condition::DestinationPorts(6379..6380), tls, true),
        (
            Condition::ServerName(StringMatcher::Suffix(".example.com".into())),
            tls,
            true,
        ),
        (Condition::ServerName(exact("")), tls, false),
    ];
    for (condition, facts, expected) in cases {
        assert_eq!(holds(&condition, &facts, None), Some(expected), "{condition:?}");
    }
    let mapped = Connection {
        direct_remote: "::ffff:10.1.0.31".parse().ok(),
        ..plain
    };
    assert_eq!(
        holds(&Condition::DirectRemoteIp(cidr("10.1.0.0", 16)), &mapped, None),
        Some(true)
    );
    let unix = Connection::default();
    for condition in [
        Condition::DirectRemoteIp(cidr("0.0.0.0", 0)),
        Condition::DestinationPort(0),
    ] {
        assert_eq!(holds(&condition, &unix, None), Some(false));
    }
}

fn header(name: &str, text: StringMatcher) -> Condition {
    Condition::Header(HeaderMatcher {
        name: name.to_owned(),
        test: HeaderTest::Text(text),
        invert: false,
        missing_as_empty: false,
    })
}

/// What a request with these headers and this metadata says to the condition.
fn asked(condition: &Condition, headers: &[(&str, &str)], metadata: &Metadata) -> Option<bool> {
    let lookup = |name: &str, each: &mut dyn FnMut(&[u8])| {
        let values = headers.iter().filter(|(header, _)| *header == name);
        values.for_each(|(_, value)| each(value.as_bytes()));
    };
    let request = Request {
        remote: "192.0.2.1".parse::<IpAddr>().ok(),
        headers: &lookup,
        metadata,
        route_metadata: None,
    };
    holds(condition, &connection(&[], &[], ""), Some(&request))
}

#[test]
fn facts_of_a_request() {
    let path = |text| Condition::UrlPath(text);
    let prefix = |text: &str| StringMatcher::Prefix(text.into());
    let get = &[
        (":method", "GET"),
        (":path", "/api/x?a=/admin#b"),
        ("x-tier", "gold"),
        ("x-tier", "tin"),
    ][..];
    let cases = [
        (header(":method", exact("GET")), get, true),
        (header(":method", exact("get")), get, false),
        (header("x-tier", exact("gold")), get, true),
        (header("x-tier", exact("tin")), get, true),
        (header("x-tier", exact("gold,tin")), get, false),
        (header("x-none", exact("")), get, false),
        (path(exact("/api/x")), get, true),
        (path(prefix("/api/")), get, true),
        (path(StringMatcher::Contains("admin".into())), get, false),
        (path(exact("/API/x")), get, false),
        (path(prefix("/")), &[], false),
        (path(exact("/a")), &[(":path", "/a#f")], true),
        (path(exact("/a")), &[(":path", "/a/../b")], false),
        (Condition::RemoteIp(cidr("192.0.2.0", 24)), get, true),
        (Condition::SourceIp(cidr("192.0.2.0", 24)), get, false),
    ];
    for (condition, headers, expected) in cases {
        assert_eq!(
            asked(&condition, headers, &Metadata::new()),
            Some(expected),
            "{condition:?}"
        );
        if !matches!(condition, Condition::RemoteIp(_) | Condition::SourceIp(_)) {
            assert_eq!(
                holds(&condition, &connection(&[], &[], ""), None),
                None,
                "{condition:?} of a connection"
            );
        }
    }
}

#[test]
fn metadata_of_a_request() {
    let metadata = object(json!({"jwt": {"payload": {
        "iss": "i", "group": ["admins", "x"], "n": 1.5, "b": true, "nil": null, "deep": {"a.b": "c"}
    }}}));
    let at = |path: &[&str], value, invert| {
        let matcher = MetadataMatcher {
            filter: "jwt".into(),
            path: path.iter().map(|&key| key.to_owned()).collect(),
            value,
            invert,
        };
        Condition::Metadata(MetadataSource::Dynamic, matcher)
    };
    let text = |text: &str| ValueMatcher::Text(exact(text));
    let one_of = |inner| ValueMatcher::OneOf(Box::new(inner));
    let cases = [
        (at(&["payload", "iss"], text("i"), false), true),
        (at(&["payload", "iss"], text("i"), true), false),
        (at(&["payload", "none"], text("i"), true), true),
        (at(&["payload", "none"], text(""), false), false),
        (at(&["payload", "group"], one_of(text("admins")), false), true),
        (at(&["payload", "group"], text("admins"), false), false),
        (at(&["payload", "iss"], one_of(text("i")), false), false),
        (
            at(
                &["payload", "iss"],
                ValueMatcher::Any(vec![one_of(text("i")), text("i")]),
                false,
            ),
            true,
        ),
        (at(&["payload", "n"], ValueMatcher::Range(1.5..2.0), false), true),
        (at(&["payload", "n"], ValueMatcher::Range(1.0..1.5), false), false),
        (at(&["payload", "n"], ValueMatcher::Number(1.5), false), true),
        (at(&["payload", "b"], ValueMatcher::Bool(true), false), true),
        (at(&["payload", "b"], ValueMatcher::Bool(false), false), false),
        (at(&["payload", "nil"], ValueMatcher::Null, false), true),
        (at(&["payload", "none"], ValueMatcher::Null, false), false),
        (at(&["payload", "b"], ValueMatcher::Present(true), false), true),
        (
            at(&["payload", "none"], ValueMatcher::Present(true), false),
            false,
        ),
        (at(&["payload", "deep", "a.b"], text("c"), false), true),
        (at(&["payload", "iss", "x"], text("i"), false), false),
    ];
    for (condition, expected) in cases {
        assert_eq!(asked(&condition, &[], &metadata), Some(expected), "{condition:?}");
    }
}

fn rules(action: Action, policies: &[(&str, Condition)]) -> Rules {
    let policy = |(name, principals): &(&str, Condition)| Policy {
        name: (*name).to_owned(),
        permissions: Condition::Always,
        principals: principals.clone(),
    };
    Rules {
        action,
        policies: policies.iter().map(policy).collect(),
    }
}

#[test]
fn actions() {
    let (yes, no, unknown) = (
        Condition::Always,
        Condition::Not(Box::new(Condition::Always)),
        Condition::Unknown("x".into()),
    );
    let cases = [
        (Action::Allow, vec![], false, None),
        (Action::Deny, vec![], true, None),
        (Action::Log, vec![], true, None),
        (Action::Allow, vec![("a", yes.clone())], true, Some("a")),
        (Action::Deny, vec![("a", yes.clone())], false, Some("a")),
        (Action::Log, vec![("a", yes.clone())], true, Some("a")),
        (
            Action::Allow,
            vec![("a", no.clone()), ("b", yes.clone())],
            true,
            Some("b"),
        ),
        (Action::Deny, vec![("a", no.clone())], true, None),
        (Action::Allow, vec![("a", unknown.clone())], false, None),
        (Action::Deny, vec![("a", unknown.clone())], false, Some("a")),
        (Action::Log, vec![("a", unknown.clone())], true, None),
        // What is unknown twice denied is unknown still.
        (
            Action::Allow,
            vec![("a", Condition::Not(Box::new(unknown.clone())))],
            false,
            None,
        ),
        (
            Action::Deny,
            vec![("a", Condition::Not(Box::new(unknown.clone())))],
            false,
            Some("a"),
        ),
        // What does not depend on it stays sure.
        (
            Action::Allow,
            vec![("a", Condition::Any(vec![unknown.clone(), yes.clone()]))],
            true,
            Some("a"),
        ),
        (
            Action::Deny,
            vec![("a", Condition::All(vec![unknown.clone(), no]))],
            true,
            None,
        ),
        (Action::Allow, vec![("a", unknown), ("b", yes)], true, Some("b")),
    ];
    for (action, policies, is_allowed, policy) in cases {
        let rules = rules(action, &policies);
        let decision = decide(&rules, &Connection::default(), None);
        assert_eq!(decision, Decision { is_allowed, policy }, "{rules:?}");
    }
}

#[test]
fn what_is_told_of_a_decision() {
    let denied = Decision {
        is_allowed: false,
        policy: Some("ns[a b]-policy[x]-rule[0]"),
    };
    assert_eq!(
        details(&denied),
        "rbac_access_denied_matched_policy[ns[a_b]-policy[x]-rule[0]]"
    );
    let nobody = Decision {
        policy: None,
        ..denied
    };
    assert_eq!(details(&nobody), "rbac_access_denied_matched_policy[none]");
    assert_eq!(
        shadow_metadata("p_", &denied),
        [
            (
                "p_shadow_effective_policy_id".to_owned(),
                json!("ns[a b]-policy[x]-rule[0]")
            ),
            ("p_shadow_engine_result".to_owned(), json!("denied")),
        ]
    );
    assert_eq!(shadow_metadata("", &nobody).len(), 1);
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        Just(Condition::Always),
        Just(Condition::Unknown("x".into())),
        Just(Condition::Authenticated(None)),
        Just(Condition::DestinationPort(6379)),
        Just(Condition::DestinationPort(1)),
        Just(header("a", exact("b"))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Condition::All),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Condition::Any),
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    })
}

/// The condition with all that is unknown replaced.
fn with_unknown(condition: &Condition, is_true: bool) -> Condition {
    let each = |list: &[Condition]| list.iter().map(|one| with_unknown(one, is_true)).collect();
    match condition {
        Condition::Unknown(_) | Condition::Header(_) if is_true => Condition::Always,
        Condition::Unknown(_) | Condition::Header(_) => Condition::Not(Box::new(Condition::Always)),
        Condition::All(list) => Condition::All(each(list)),
        Condition::Any(list) => Condition::Any(each(list)),
        Condition::Not(inner) => Condition::Not(Box::new(with_unknown(inner, is_true))),
        other => other.clone(),
    }
}

proptest! {
    /// Whatever the unknown would have been, nobody is let in whom the rules would have kept out.
    #[test]
    fn what_is_unknown_lets_nobody_in(condition in any_condition(), deny in any::<bool>(), truth in any::<bool>()) {
        let action = if deny { Action::Deny } else { Action::Allow };
        let connection = connection(&[], &[], "");
        let blind = rules(action, &[("p", condition.clone())]);
        let seeing = rules(action, &[("p", with_unknown(&condition, truth))]);
        if decide(&blind, &connection, None).is_allowed {
            prop_assert!(decide(&seeing, &connection, None).is_allowed);
        }
    }

    #[test]
    fn allow_and_deny_are_opposites(condition in any_condition()) {
        let sure = with_unknown(&condition, true);
        let connection = connection(&[], &[], "");
        let allow = decide(&rules(Action::Allow, &[("p", sure.clone())]), &connection, None).is_allowed;
        let deny = decide(&rules(Action::Deny, &[("p", sure)]), &connection, None).is_allowed;
        prop_assert_ne!(allow, deny);
    }
}
