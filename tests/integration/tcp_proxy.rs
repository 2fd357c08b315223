//! Listeners as sockets: tcp_proxy in front of Redis, several listeners and addresses, IPv6, Unix sockets.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use redplane_testkit::{Client, Proxy, Redis, RedisConfig, command_bytes, free_port, until};

use crate::front::{all_to, hosts, listener, redis_filter, serve, serve_as, since};
use crate::stage::{PATIENCE, ask, at, client};

fn tcp_filter(fields: &str) -> String {
    format!(
        "{{name: tcp, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, {fields}}}}}"
    )
}

fn tcp_front(fields: &str, redis: &Redis) -> (Proxy, u16) {
    let port = free_port();
    let clusters = [hosts("c", &[redis.port()], "")];
    let proxy = serve(&[listener("tcp", port, &tcp_filter(fields))], &clusters);
    (proxy, port)
}

#[test]
fn connections_are_spread_by_weight() {
    let (heavy, light) = (Redis::plain(), Redis::plain());
    let port = free_port();
    let weighted = "weighted_clusters: {clusters: [{name: heavy, weight: 3}, {name: light, weight: 1}]}";
    let clusters = [
        hosts("heavy", &[heavy.port()], ""),
        hosts("light", &[light.port()], ""),
    ];
    let proxy = serve(&[listener("tcp", port, &tcp_filter(weighted))], &clusters);
    heavy.reset_stats();
    light.reset_stats();
    for _ in 0..200 {
        assert_eq!(ask(&mut client(port), "ECHO x"), "x");
    }
    let counts = (heavy.calls("echo"), light.calls("echo"));
    assert_eq!(counts.0 + counts.1, 200, "{counts:?}");
    // Six standard deviations about 50.
    assert!((13..=87).contains(&counts.1), "{counts:?}");
    assert!(proxy.stat("tcp.t.downstream_cx_total").unwrap_or(0) >= 200);
}

/// Sends, closes the sending side as `printf … | nc` does, and reads to the end.
fn through_nc(port: u16, bytes: &[u8]) -> (String, bool) {
    let mut client = client(port);
    client.send(bytes).expect("it reads");
    client.half_close();
    let (reply, closed) = client.read_until_close();
    (String::from_utf8_lossy(&reply).into_owned(), closed)
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answers() {
    let redis = Redis::plain();
    let (raw, port) = (free_port(), free_port());
    let listeners = [
        listener("tcp", raw, &tcp_filter("cluster: c")),
        listener("redis", port, &redis_filter("r", "op_timeout: 5s", &all_to("c"))),
    ];
    let _proxy = serve(&listeners, &[hosts("c", &[redis.port()], "")]);
    let value = "v".repeat(3_000_000);
    redis.command(&["SET", "large", &value]);
    for port in [raw, port] {
        let (reply, closed) = through_nc(port, b"SET a 1\r\nINCR a\r\nPING\r\n");
        assert_eq!((reply.as_str(), closed), ("+OK\r\n:2\r\n+PONG\r\n", true));
        let (reply, closed) = through_nc(port, &command_bytes(&["GET", "large"]));
        assert!(
            closed && reply.len() == value.len() + 12,
            "{} bytes, closed: {closed}",
            reply.len()
        );
    }
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    let redis = Redis::plain();
    let (proxy, port) = tcp_front("cluster: c, idle_timeout: 0.5s", &redis);
    let mut busy = client(port);
    let mut idle = client(port);
    assert_eq!(ask(&mut idle, "PING"), "PONG");
    let start = Instant::now();
    let mut asked = 0;
    until("the idle timeout", PATIENCE, || {
        assert_eq!(
            ask(&mut busy, "PING"),
            "PONG",
            "after {asked} requests in {:?}",
            since(start)
        );
        asked += 1;
        proxy.stat("tcp.t.idle_timeout") == Some(1)
    });
    let took = since(start);
    let (_, closed) = idle.read_until_close();
    let fits = Duration::from_millis(450)..Duration::from_secs(3);
    assert!(closed && fits.contains(&took), "closed: {closed} after {took:?}");
    assert_eq!(ask(&mut busy, "PING"), "PONG");
}

#[test]
fn a_server_that_is_not_there_closes_the_connection() {
    let port = free_port();
    let clusters = [hosts("dead", &[free_port()], "")];
    let proxy = serve(&[listener("tcp", port, &tcp_filter("cluster: dead"))], &clusters);
    let start = Instant::now();
    let (reply, closed) = through_nc(port, b"PING\r\n");
    assert_eq!((reply.as_str(), closed), ("", true));
    assert!(since(start) < Duration::from_secs(3), "{:?}", since(start));
    assert!(proxy.stat("cluster.dead.upstream_cx_connect_fail").unwrap_or(0) > 0);
}

#[test]
fn one_listener_serves_several_addresses_and_many_listeners_serve_at_once() {
    let redis = Redis::plain();
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("c"));
    let (first, second, third, six) = (free_port(), free_port(), free_port(), free_port());
    let several = format!(
        "{{name: several, {}, additional_addresses: [{{{}}}, {{address: {{socket_address: {{address: '::1', \
         port_value: {third}}}}}}}], filter_chains: [{{filters: [{filter}]}}]}}",
        at(first),
        at(second)
    );
    let on_six = format!(
        "{{name: six, address: {{socket_address: {{address: '::1', port_value: {six}}}}}, filter_chains: \
         [{{filters: [{filter}]}}]}}"
    );
    let mut ports: Vec<u16> = (0..8).map(|_| free_port()).collect();
    let mut listeners = vec![several, on_six];
    listeners.extend(
        ports
            .iter()
            .map(|port| listener(&format!("l{port}"), *port, &filter)),
    );
    let proxy = serve_as(
        "node: {id: n, cluster: c}\n",
        "2",
        &listeners,
        &[hosts("c", &[redis.port()], "")],
    );
    ports.extend([first, second]);
    for port in ports {
        assert_eq!(ask(&mut client(port), &format!("SET port {port}")), "OK");
        assert_eq!(redis.run("GET port").text(), Some(port.to_string()));
    }
    for port in [third, six] {
        let mut client = Client::connect((Ipv6Addr::LOCALHOST, port).into()).expect("it listens");
        assert_eq!(ask(&mut client, &format!("SET port {port}")), "OK");
    }
    let page = proxy.page("/listeners").body;
    for address in [
        format!("127.0.0.1:{second}"),
        format!("[::1]:{third}"),
        format!("[::1]:{six}"),
    ] {
        assert!(page.contains(&address), "{address} in\n{page}");
    }
    // Both workers accept on each address.
    let mut open: Vec<TcpStream> = Vec::new();
    until("both workers to have clients", PATIENCE, || {
        open.push(TcpStream::connect(("127.0.0.1", first)).expect("it listens"));
        let name = |worker: u32| format!("listener.127.0.0.1_{first}.worker_{worker}.downstream_cx_total");
        (0..2).all(|worker| proxy.stat(&name(worker)).unwrap_or(0) > 0)
    });
}

#[test]
fn a_unix_socket_is_a_listener_too() {
    let redis = Redis::plain();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redis.sock");
    let text = format!(
        "{{name: pipe, address: {{pipe: {{path: {}}}}}, filter_chains: [{{filters: [{}]}}]}}",
        path.display(),
        redis_filter("r", "op_timeout: 5s", &all_to("c"))
    );
    let proxy = serve(&[text], &[hosts("c", &[redis.port()], "")]);
    let mut stream = None;
    until("the socket", PATIENCE, || {
        stream = UnixStream::connect(&path).ok();
        stream.is_some()
    });
    let mut stream = stream.expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.write_all(b"SET a 1\r\nGET a\r\n").expect("it reads");
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).expect("an answer");
    assert_eq!(&reply, b"+OK\r\n$1\r\n1\r\n");
    assert!(proxy.page("/listeners").body.contains("redis.sock"));
}

#[test]
fn a_server_may_be_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("server.sock");
    let redis = Redis::start(RedisConfig {
        directives: vec![("unixsocket".to_owned(), path.display().to_string())],
        ..RedisConfig::default()
    });
    let (raw, port) = (free_port(), free_port());
    let listeners = [
        listener("tcp", raw, &tcp_filter("cluster: c")),
        listener("redis", port, &redis_filter("r", "op_timeout: 5s", &all_to("c"))),
    ];
    let cluster = hosts("c", &[redis.port()], "").replace(
        &at(redis.port()),
        &format!("address: {{pipe: {{path: {}}}}}", path.display()),
    );
    let _proxy = serve(&listeners, &[cluster]);
    let mut through = [client(port), client(raw)];
    assert_eq!(ask(&mut through[0], "SET a 1"), "OK");
    assert_eq!(ask(&mut through[1], "GET a"), "1");
    let clients = redis.run("CLIENT LIST").text().unwrap_or_default();
    assert_eq!(
        clients.matches("server.sock:0").count(),
        4,
        "addr and laddr of two: {clients}"
    );
}
