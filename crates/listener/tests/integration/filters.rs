//! Listener filters in order, on raw sockets: what the first bytes decide, and what is told about the peer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use redplane_listener::redis::Stream;

use super::world::{World, client, echo, listener, read, redis, tcp};

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.listener";

fn filter(name: &str, kind: &str, fields: &str) -> String {
    format!("{{name: {name}, typed_config: {{'@type': {FILTERS}.{name}.v3.{kind}{fields}}}}}")
}

fn http() -> String {
    filter("http_inspector", "HttpInspector", "")
}

fn proxy_protocol(fields: &str) -> String {
    filter("proxy_protocol", "ProxyProtocol", fields)
}

/// A listener with these listener filters and chains.
fn yaml(filters: &[String], chains: &[String], more: &str) -> String {
    format!(
        "{{name: l, stat_prefix: l, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, \
         listener_filters: [{}], filter_chains: [{}]{more}}}",
        filters.join(", "),
        chains.join(", ")
    )
}

fn chain(matching: &str, filter: &str) -> String {
    format!("{{filter_chain_match: {{{matching}}}, filters: [{filter}]}}")
}

/// What the Redis driver was given, with its first bytes.
fn redis_got(world: &World, length: usize) -> (String, Option<SocketAddr>, Option<SocketAddr>) {
    let given = world.given();
    let Stream::Tcp(mut stream) = given.stream else {
        panic!("TCP stays TCP")
    };
    stream.set_nonblocking(false).unwrap();
    (read(&mut stream, length), given.remote, given.local)
}

#[test]
fn http_and_resp_are_told_apart_on_one_port() {
    let world = World::new(1);
    for name in ["one", "old", "two"] {
        world.fixed(name, &[echo(name)], "");
    }
    let chains = [
        chain("application_protocols: [http/1.1]", &tcp("cluster: one")),
        chain("application_protocols: [http/1.0]", &tcp("cluster: old")),
        chain("application_protocols: [h2c]", &tcp("cluster: two")),
        chain("", &redis()),
    ];
    let at = world.listen(&yaml(&[http()], &chains, ", listener_filters_timeout: 0s"));
    for (request, name) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "one"),
        ("GET / HTTP/1.0\r\n\r\n", "old"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "two"),
    ] {
        let mut whole = client(at);
        whole.write_all(request.as_bytes()).unwrap();
        assert_eq!(read(&mut whole, 3), name, "{request}");
        let mut cut = client(at);
        for byte in request.as_bytes() {
            cut.write_all(&[*byte]).unwrap();
            cut.set_nodelay(true).unwrap();
        }
        assert_eq!(read(&mut cut, 3), name, "{request} byte by byte");
    }
    for command in ["*1\r\n$4\r\nPING\r\n", "PING\r\n", "GET k\r\n"] {
        let mut plain = client(at);
        plain.write_all(command.as_bytes()).unwrap();
        assert_eq!(redis_got(&world, command.len()).0, command);
    }
    // The first byte is enough; nobody waits for a line here.
    let mut slow = client(at);
    slow.write_all(b"*").unwrap();
    assert_eq!(redis_got(&world, 1).0, "*");
    world.stat("http_inspector.http11_found", 2);
    world.stat("http_inspector.http2_found", 2);
    world.stat("http_inspector.http_not_found", 4);
}

#[test]
fn the_proxy_in_front_tells_the_addresses() {
    let world = World::new(1);
    let chains = [
        chain(
            "source_prefix_ranges: [{address_prefix: 192.0.2.0, prefix_len: 24}]",
            &redis(),
        ),
        chain("", &tcp("cluster: none")),
    ];
    let at = world.listen(&yaml(&[proxy_protocol("")], &chains, ""));
    let mut one = client(at);
    one.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 5555 6379\r\nPI")
        .unwrap();
    one.write_all(b"NG\r\n").unwrap();
    let told = |ip: &str| Some(ip.parse::<SocketAddr>().unwrap());
    let (bytes, remote, local) = redis_got(&world, 6);
    assert_eq!(
        (bytes.as_str(), remote, local),
        ("PING\r\n", told("192.0.2.7:5555"), told("10.0.0.1:6379"))
    );
    let mut two = client(at);
    two.write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x0a\0\0\x01\0\x07\x18\xebPING\r\n")
        .unwrap();
    let (bytes, remote, _) = redis_got(&world, 6);
    assert_eq!((bytes.as_str(), remote), ("PING\r\n", told("192.0.2.9:7")));
    // A client that sends no header is not let in, nor is one that sends nonsense.
    for bad in [&b"PING\r\n"[..], b"PROXY TCP4 192.0.2.7\r\n"] {
        let mut other = client(at);
        other.write_all(bad).unwrap();
        assert!(matches!(other.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    world.stat("proxy_proto.versions.v1.found", 1);
    world.stat("proxy_proto.versions.v2.found", 1);
    world.stat("proxy_proto.versions.v1.error", 1);
    world.stat("proxy_proto.not_found_disallowed", 1);
    world.stat("listener.l.downstream_listener_filter_error", 2);
}

#[test]
fn the_header_may_be_optional_and_others_look_behind_it() {
    let world = World::new(1);
    world.fixed("web", &[echo("web")], "");
    let chains = [
        chain("application_protocols: [http/1.1]", &tcp("cluster: web")),
        chain("", &redis()),
    ];
    let optional = proxy_protocol(", allow_requests_without_proxy_protocol: true");
    let at = world.listen(&yaml(&[optional, http()], &chains, ""));
    let mut web = client(at);
    web.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 5555 6379\r\nGET / HTTP/1.1\r\n\r\n")
        .unwrap();
    assert_eq!(read(&mut web, 6), "webGET");
    let mut plain = client(at);
    plain.write_all(b"*1\r\n").unwrap();
    let (bytes, remote, _) = redis_got(&world, 4);
    assert_eq!((bytes.as_str(), remote), ("*1\r\n", plain.local_addr().ok()));
    world.stat("proxy_proto.not_found_allowed", 1);
}

/// Only `use_original_dst` hands off; the filter alone tells where a client meant to go.
#[test]
fn inbound_stays_inbound() {
    let world = World::new(1);
    let port = redplane_testkit::free_port();
    let named = |name: &str, ip: &str, more: &str| {
        format!(
            "{{name: {name}, address: {{socket_address: {{address: {ip}, port_value: {port}}}}}, \
             filter_chains: [{}]{more}}}",
            chain("", &redis())
        )
    };
    let add = |yaml: &str| drop(world.add(listener(yaml)).unwrap());
    let to = |ip: [u8; 4]| {
        let _client: TcpStream = client((ip, port).into());
        world.given().listener
    };
    let original = filter("original_dst", "OriginalDst", "");
    add(&named(
        "out",
        "127.0.0.3",
        ", bind_to_port: false, traffic_direction: OUTBOUND",
    ));
    add(&named(
        "door",
        "0.0.0.0",
        &format!(", listener_filters: [{original}]"),
    ));
    assert_eq!(to([127, 0, 0, 3]), "door");
    add(&named(
        "door",
        "0.0.0.0",
        ", use_original_dst: true, traffic_direction: INBOUND",
    ));
    assert_eq!(to([127, 0, 0, 3]), "door");
    add(&named(
        "door",
        "0.0.0.0",
        ", use_original_dst: true, traffic_direction: OUTBOUND",
    ));
    assert_eq!(to([127, 0, 0, 3]), "out");
}

#[test]
fn sni_cluster_takes_the_server_name() {
    let world = World::new(1);
    world.fixed("hidden", &[echo("hidden")], "");
    let sni = "{name: sni, typed_config: {'@type': \
               type.googleapis.com/envoy.extensions.filters.network.sni_cluster.v3.SniCluster}}";
    let chains = [chain("", &format!("{sni}, {}", tcp("cluster: none")))];
    let inspector = filter("tls_inspector", "TlsInspector", "");
    let at = world.listen(&yaml(&[inspector], &chains, ""));
    let mut named = client(at);
    named.write_all(&hello("hidden")).unwrap();
    assert_eq!(read(&mut named, 6), "hidden");
    let mut other = client(at);
    other.write_all(b"*1\r\n").unwrap();
    assert!(matches!(other.read(&mut [0; 1]), Ok(0) | Err(_)));
}

fn hello(name: &'static str) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client = rustls::ClientConnection::new(config.into(), name.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}
