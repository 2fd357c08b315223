//! tcp_proxy between real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};

use super::world::{World, client, echo, one_chain, read, rest, tcp};

/// An address that refuses connections.
fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], redplane_testkit::free_port()).into()
}

#[test]
fn each_direction_has_its_own_end() {
    let world = World::new(2);
    let cluster = world.fixed("a", &[echo("a")], "");
    let at = world.listen(&one_chain("l", &tcp("cluster: a"), ""));
    let mut stream = client(at);
    assert_eq!(read(&mut stream, 1), "a");
    let text = "x".repeat(3_000_000);
    let mut writer = stream.try_clone().unwrap();
    let sent = text.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(sent.as_bytes()).unwrap();
        // The host's last word comes after this end.
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(rest(&mut stream), format!("{text}bye"));
    writing.join().unwrap();
    world.stat("tcp.t.downstream_cx_rx_bytes_total", 3_000_000);
    world.stat("tcp.t.downstream_cx_tx_bytes_total", 3_000_004);
    world.stat("cluster.a.upstream_cx_rx_bytes_total", 3_000_004);
    world.stat("cluster.a.upstream_cx_tx_bytes_total", 3_000_000);
    world.stat("cluster.a.upstream_cx_destroy", 1);
    world.stat("listener.l.downstream_cx_active", 0);
    let host = &cluster.topology().hosts[0];
    assert_eq!(host.stats.cx_active.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn the_host_may_end_first() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::new(1);
    world.fixed("a", &[server.local_addr().unwrap()], "");
    let at = world.listen(&one_chain("l", &tcp("cluster: a"), ""));
    let mut stream = client(at);
    let (mut host, _) = server.accept().unwrap();
    host.write_all(b"last word").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), "last word");
    stream.write_all(b"goes on").unwrap();
    assert_eq!(read(&mut host, 7), "goes on");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut host), "");
    world.stat("cluster.a.upstream_cx_destroy_remote", 1);
}

#[test]
fn a_slow_client_slows_the_host() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::new(1);
    world.fixed("a", &[server.local_addr().unwrap()], "");
    let at = world.listen(&one_chain("l", &tcp("cluster: a"), ""));
    let mut stream = client(at);
    let (mut host, _) = server.accept().unwrap();
    host.set_write_timeout(Some(std::time::Duration::from_millis(300)))
        .unwrap();
    let block = vec![7; 1 << 20];
    let mut sent = 0_usize;
    // Until nobody takes any more: what lies between is bounded.
    while let Ok(length) = host.write(&block) {
        sent += length;
        assert!(sent < 64 << 20, "{sent} bytes are held somewhere");
    }
    drop(host);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), sent);
}

#[test]
fn time_limits() {
    let world = World::new(1);
    world.fixed("a", &[echo("a")], "");
    let at = world.listen(&one_chain("idle", &tcp("cluster: a, idle_timeout: 1s"), ""));
    assert_eq!(rest(&mut client(at)), "a");
    world.stat("tcp.t.idle_timeout", 1);
    world.stat("cluster.a.upstream_cx_idle_timeout", 1);
    let fields = "cluster: a, max_downstream_connection_duration: 2s";
    let at = world.listen(&one_chain("long", &tcp(fields), ""));
    assert_eq!(rest(&mut client(at)), "a");
    world.stat("tcp.t.max_downstream_connection_duration", 1);
}

#[test]
fn weights() {
    let world = World::new(1);
    world.fixed("a", &[echo("a")], "");
    world.fixed("b", &[echo("b")], "");
    let fields = "weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: 3}]}";
    let at = world.listen(&one_chain("l", &tcp(fields), ""));
    let picked: Vec<String> = (0..200).map(|_| read(&mut client(at), 1)).collect();
    let share = picked.iter().filter(|name| *name == "b").count();
    assert!(
        (110..=190).contains(&share),
        "{share} of 200 for a share of 3 in 4"
    );
}

#[test]
fn without_a_host() {
    let world = World::new(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = format!(
        "access_log: [{{name: file, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: '{}', log_format: \
         {{text_format_source: {{inline_string: \"%RESPONSE_FLAGS% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_HOST%\\n\"}}}}}}}}]",
        path.display()
    );
    let refusing = nobody();
    world.fixed("none", &[], "");
    world.fixed("refusing", &[refusing], "");
    world.cluster("{name: original, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED}");
    for cluster in ["unknown", "none", "refusing", "original"] {
        let filter = tcp(&format!("cluster: {cluster}, max_connect_attempts: 3, {log}"));
        let at = world.listen(&one_chain(cluster, &filter, ""));
        assert_eq!(rest(&mut client(at)), "", "{cluster}");
        world.stat(&format!("listener.{cluster}.downstream_cx_destroy"), 1);
    }
    world.stat("tcp.t.downstream_cx_no_route", 1);
    world.stat("cluster.none.upstream_cx_none_healthy", 1);
    world.stat("cluster.refusing.upstream_cx_connect_fail", 3);
    world.stat("cluster.refusing.upstream_cx_total", 3);
    world.stat("cluster.refusing.upstream_cx_connect_attempts_exceeded", 1);
    world.stat("cluster.original.upstream_cx_none_healthy", 1);
    world.files.flush();
    let text = std::fs::read_to_string(&path).unwrap();
    let expected = format!("NC - -\nUH none -\nUF,URX refusing {refusing}\nUH original -\n");
    assert_eq!(text, expected);
}

#[test]
fn a_second_attempt_finds_another_host() {
    let world = World::new(1);
    world.fixed("a", &[nobody(), echo("a")], "");
    let at = world.listen(&one_chain("l", &tcp("cluster: a, max_connect_attempts: 20"), ""));
    for _ in 0..10 {
        assert_eq!(read(&mut client(at), 1), "a");
    }
}

#[test]
fn a_dead_host_costs_no_client_its_connection() {
    let world = World::new(1);
    world.fixed("a", &[nobody(), echo("a")], "");
    let at = world.listen(&one_chain("l", &tcp("cluster: a"), ""));
    for _ in 0..40 {
        assert_eq!(read(&mut client(at), 1), "a");
    }
    // There is nobody else to be tried, so once is enough.
    world.fixed("dead", &[nobody()], "");
    let at = world.listen(&one_chain("m", &tcp("cluster: dead"), ""));
    assert_eq!(rest(&mut client(at)), "");
    world.stat("cluster.dead.upstream_cx_total", 1);
    world.stat("cluster.dead.upstream_cx_connect_attempts_exceeded", 1);
}

#[test]
fn a_cluster_has_so_many_connections() {
    let world = World::new(2);
    let limits = ", circuit_breakers: {thresholds: [{max_connections: 2}]}";
    world.fixed("a", &[echo("a")], limits);
    let at = world.listen(&one_chain("l", &tcp("cluster: a"), ""));
    let mut open = [client(at), client(at)];
    for stream in &mut open {
        assert_eq!(read(stream, 1), "a");
    }
    assert_eq!(rest(&mut client(at)), "");
    world.stat("cluster.a.upstream_cx_overflow", 1);
    drop(open);
    world.stat("cluster.a.upstream_cx_active", 0);
    assert_eq!(read(&mut client(at), 1), "a");
}

/// Whatever the configuration says: what this process sends to itself comes to an end.
#[test]
fn a_connection_that_goes_round_ends() {
    let world = World::new(2);
    let at: SocketAddr = ([127, 0, 0, 1], redplane_testkit::free_port()).into();
    world.fixed("self", &[at], "");
    let yaml = one_chain("l", &tcp("cluster: self"), "");
    world.listen(&yaml.replace("port_value: 0", &format!("port_value: {}", at.port())));
    for _ in 0..5 {
        assert_eq!(rest(&mut client(at)), "");
    }
    world.stat("cluster.self.upstream_cx_active", 0);
    let dialled = world.registry.value("cluster.self.upstream_cx_total").unwrap();
    assert_eq!(dialled, 5 * 8, "each client passes eight times");
}

#[test]
fn a_cluster_that_comes_later_is_found() {
    let world = World::new(1);
    let at = world.listen(&one_chain("l", &tcp("cluster: a"), ""));
    assert_eq!(rest(&mut client(at)), "");
    world.fixed("a", &[echo("a")], "");
    assert_eq!(read(&mut client(at), 1), "a");
}

#[test]
fn towards_tls() {
    let authority = redplane_testkit::Authority::new();
    let identity = authority.issue("server", &["redis.example.com"]);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    let config = super::tls::server_config(&identity);
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            let session = rustls::ServerConnection::new(std::sync::Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream);
            let _ = stream.write_all(b"t");
            let mut buffer = [0; 16];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let _ = stream.write_all(&buffer[..length]);
            }
            stream.conn.send_close_notify();
            let _ = stream.conn.complete_io(&mut stream.sock);
        }
    });
    let world = World::new(1);
    let socket = format!(
        ", transport_socket: {{name: tls, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: redis.example.com, \
         common_tls_context: {{validation_context: {{trusted_ca: {{filename: '{}'}}}}}}}}}}",
        identity.ca.display()
    );
    world.fixed("a", &[at], &socket);
    let front = world.listen(&one_chain("l", &tcp("cluster: a"), ""));
    let mut stream = client(front);
    assert_eq!(read(&mut stream, 1), "t");
    stream.write_all(b"through TLS").unwrap();
    assert_eq!(read(&mut stream, 11), "through TLS");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), "");
}
