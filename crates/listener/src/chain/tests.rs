//! Envoy's precedence as tables: chains with their conditions, connections, and who takes them.

use std::sync::Arc;
use std::time::Duration;

use redplane_config::listener::{Direction, FilterChain, Terminal};
use redplane_config::{Address, Ignored};

use super::*;

fn listener(conditions: Vec<ChainMatch>, with_default: bool) -> Listener {
    let chain = |(index, matches)| {
        Arc::new(FilterChain {
            id: format!("{index}").into(),
            name: String::new(),
            matches,
            tls: None,
            handshake_timeout: Duration::ZERO,
            filters: Vec::new(),
            terminal: Terminal::Inert {
                reason: String::new(),
            },
        })
    };
    Listener {
        name: "l".into(),
        addresses: vec![Address::Ip("0.0.0.0:15006".parse().unwrap())],
        bind_to_port: true,
        hands_off: false,
        direction: Direction::Inbound,
        chains: conditions.into_iter().enumerate().map(chain).collect(),
        default_chain: with_default.then(|| chain((99, ChainMatch::default()))),
        filters: Vec::new(),
        listener_filters_timeout: Duration::ZERO,
        continue_on_listener_filters_timeout: true,
        reuse_port: true,
        transparent: false,
        backlog: None,
        stat_name: "l".into(),
        access_log: Vec::new(),
        ignored: Ignored::default(),
    }
}

fn open() -> ChainMatch {
    ChainMatch::default()
}

fn port(port: u16) -> ChainMatch {
    ChainMatch {
        destination_port: Some(port),
        ..open()
    }
}

fn cidr(text: &str) -> Cidr {
    let (address, length) = text.split_once('/').unwrap();
    Cidr {
        address: address.parse().unwrap(),
        prefix_len: length.parse().unwrap(),
    }
}

fn to(ranges: &[&str]) -> ChainMatch {
    ChainMatch {
        prefix_ranges: ranges.iter().map(|range| cidr(range)).collect(),
        ..open()
    }
}

fn names(list: &[&str]) -> ChainMatch {
    ChainMatch {
        server_names: list.iter().map(|name| (*name).to_owned()).collect(),
        ..open()
    }
}

fn transport(protocol: &str) -> ChainMatch {
    ChainMatch {
        transport_protocol: protocol.into(),
        ..open()
    }
}

fn speaks(transport_protocol: &str, protocols: &[&str]) -> ChainMatch {
    ChainMatch {
        application_protocols: protocols.iter().map(|name| (*name).to_owned()).collect(),
        ..transport(transport_protocol)
    }
}

fn kind(source_type: SourceType) -> ChainMatch {
    ChainMatch {
        source_type,
        ..open()
    }
}

fn from(ranges: &[&str], ports: &[u16]) -> ChainMatch {
    ChainMatch {
        source_prefix_ranges: ranges.iter().map(|range| cidr(range)).collect(),
        source_ports: ports.to_vec(),
        ..open()
    }
}

fn arrival(destination: &str, source: &str) -> ConnectionFacts {
    ConnectionFacts {
        destination: Some(destination.parse().unwrap()),
        source: Some(source.parse().unwrap()),
        ..ConnectionFacts::default()
    }
}

/// From another machine to port 6379.
fn plain() -> ConnectionFacts {
    arrival("10.1.2.3:6379", "10.9.9.9:40000")
}

fn tls(name: &str, protocols: &[&str]) -> ConnectionFacts {
    ConnectionFacts {
        is_tls: true,
        server_name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        application_protocols: protocols.iter().map(|name| name.as_bytes().to_vec()).collect(),
        ..plain()
    }
}

#[track_caller]
fn check(conditions: &[ChainMatch], cases: &[(ConnectionFacts, Option<usize>)]) {
    let listener = listener(conditions.to_vec(), false);
    for (arrival, expected) in cases {
        let choice = choose(&listener, arrival);
        assert_eq!(
            choice,
            expected.map_or(Choice::None, Choice::Chain),
            "{arrival:?}"
        );
    }
}

#[test]
fn destinations() {
    let to_port = |destination| arrival(destination, "10.9.9.9:40000");
    check(
        &[port(6379), open(), port(15006)],
        &[
            (to_port("10.1.2.3:6379"), Some(0)),
            (to_port("10.1.2.3:80"), Some(1)),
            (to_port("[fd00::1]:15006"), Some(2)),
            (ConnectionFacts::default(), Some(1)),
        ],
    );
    check(
        &[
            to(&["10.0.0.0/8"]),
            to(&["10.1.0.0/16", "fd00::/8"]),
            to(&["10.1.2.3/32"]),
            to(&["0.0.0.0/0"]),
        ],
        &[
            (to_port("10.1.2.3:1"), Some(2)),
            (to_port("10.1.2.4:1"), Some(1)),
            (to_port("10.2.0.1:1"), Some(0)),
            (to_port("192.168.0.1:1"), Some(3)),
            (to_port("[fd00::1]:1"), Some(1)),
            (to_port("[fe80::1]:1"), None),
            (ConnectionFacts::default(), None),
        ],
    );
}

#[test]
fn server_names() {
    check(
        &[
            names(&["a.example.com"]),
            names(&["*.example.com"]),
            names(&["*.com", "b.org"]),
            open(),
        ],
        &[
            (tls("a.example.com", &[]), Some(0)),
            (tls("A.Example.COM", &[]), Some(0)),
            (tls("b.example.com", &[]), Some(1)),
            (tls("c.b.example.com", &[]), Some(1)),
            (tls("example.com", &[]), Some(2)),
            (tls("b.org", &[]), Some(2)),
            (tls("c.org", &[]), Some(3)),
            (tls("", &[]), Some(3)),
            (tls("com", &[]), Some(3)),
            (plain(), Some(3)),
        ],
    );
}

/// The chains that Istio pushes for a port in permissive mode.
#[test]
fn permissive_mtls() {
    let istio = ["istio-peer-exchange", "istio"];
    let mut chains = vec![speaks("tls", &istio), transport("tls"), transport("raw_buffer")];
    chains
        .iter_mut()
        .for_each(|chain| chain.destination_port = Some(6379));
    chains.push(port(15006));
    check(
        &chains,
        &[
            (tls("", &["istio-peer-exchange", "istio"]), Some(0)),
            (tls("", &["h2", "istio"]), Some(0)),
            (tls("", &["h2"]), Some(1)),
            (tls("", &[]), Some(1)),
            (plain(), Some(2)),
            (arrival("10.1.2.3:15006", "10.9.9.9:1"), Some(3)),
            (arrival("10.1.2.3:80", "10.9.9.9:1"), None),
        ],
    );
}

#[test]
fn the_clients_order_of_protocols_decides() {
    check(
        &[speaks("", &["h2"]), speaks("", &["http/1.1"]), open()],
        &[
            (tls("", &["http/1.1", "h2"]), Some(1)),
            (tls("", &["x", "h2", "http/1.1"]), Some(0)),
            (tls("", &["x"]), Some(2)),
        ],
    );
}

#[test]
fn sources() {
    let from_source = |source| arrival("10.1.2.3:6379", source);
    check(
        &[kind(SourceType::SameIpOrLoopback), kind(SourceType::External)],
        &[
            (from_source("127.0.0.1:1"), Some(0)),
            (from_source("10.1.2.3:1"), Some(0)),
            (from_source("10.9.9.9:1"), Some(1)),
            (ConnectionFacts::default(), Some(0)),
        ],
    );
    check(
        &[kind(SourceType::SameIpOrLoopback), open()],
        &[
            (from_source("127.0.0.1:1"), Some(0)),
            (from_source("10.9.9.9:1"), Some(1)),
        ],
    );
    check(
        &[
            from(&["10.0.0.0/8"], &[]),
            from(&["10.9.0.0/16"], &[7, 8]),
            from(&[], &[9]),
        ],
        &[
            (from_source("10.9.9.9:7"), Some(1)),
            // The longer range wins before ports are looked at, and there is no way back.
            (from_source("10.9.9.9:1"), None),
            (from_source("10.8.9.9:1"), Some(0)),
            (from_source("192.168.0.1:9"), Some(2)),
            (from_source("192.168.0.1:1"), None),
        ],
    );
}

/// An earlier condition rules out what a later one would have preferred.
#[test]
fn there_is_no_way_back() {
    let mut by_port = names(&["a.example.com"]);
    by_port.destination_port = Some(6379);
    let chains = [by_port, names(&["b.example.com"]), open()];
    check(
        &chains,
        &[
            (tls("b.example.com", &[]), None),
            (tls("a.example.com", &[]), Some(0)),
        ],
    );
    let with_default = listener(chains.to_vec(), true);
    assert_eq!(choose(&with_default, &tls("b.example.com", &[])), Choice::Default);
    assert_eq!(choose(&listener(Vec::new(), false), &plain()), Choice::None);
}
