//! What becomes of connections when listeners change, go, or drain.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use redplane_listener::redis::Whose;

use super::world::{LIMIT, Told, World, client, echo, listener, one_chain, read, redis, rest, tcp};

fn to(cluster: &str) -> String {
    tcp(&format!("cluster: {cluster}"))
}

fn refused(at: SocketAddr) -> bool {
    redplane_testkit::until("the port is closed", LIMIT, || TcpStream::connect(at).is_err());
    true
}

#[test]
fn an_update_keeps_connections_and_sockets() {
    let world = World::new(2);
    world.fixed("a", &[echo("a")], "");
    world.fixed("b", &[echo("b")], "");
    let at = world.listen(&one_chain("l", &to("a"), ""));
    let mut old = client(at);
    assert_eq!(read(&mut old, 1), "a");
    // The configured port is still 0: the address is the same one.
    assert_eq!(world.add(listener(&one_chain("l", &to("b"), ""))), Ok(vec![at]));
    redplane_testkit::until("new connections see the new version", LIMIT, || {
        read(&mut client(at), 1) == "b"
    });
    old.write_all(b"still here").unwrap();
    assert_eq!(read(&mut old, 10), "still here");
    world.stat("listener_manager.listener_modified", 1);
    world.stat("listener_manager.total_listeners_active", 1);
    let refusal = world.add(listener(&one_chain("l", &to("b"), ", enable_reuse_port: false")));
    assert_eq!(
        refusal.unwrap_err(),
        "Listener l: reuse port cannot be changed during an update"
    );
    assert_eq!(read(&mut client(at), 1), "b");
}

#[test]
fn an_update_that_moves_away_closes_the_old_port() {
    let world = World::new(1);
    let at = world.listen(&one_chain("l", &redis(), ""));
    let port = redplane_testkit::free_port();
    let moved = one_chain("l", &redis(), "").replace("port_value: 0", &format!("port_value: {port}"));
    let now = world.add(listener(&moved)).unwrap();
    assert!(refused(at));
    let _client = client(now[0]);
    assert_eq!(world.given().local, Some(now[0]));
}

/// A listener with a chain for each of these source addresses.
fn by_source(chains: &[(u8, String)]) -> String {
    let chain = |(source, filter): &(u8, String)| {
        format!(
            "{{filter_chain_match: {{source_prefix_ranges: [{{address_prefix: 127.0.0.{source}, prefix_len: 32}}]}}, \
             filters: [{filter}]}}"
        )
    };
    let chains: Vec<String> = chains.iter().map(chain).collect();
    format!(
        "{{name: l, stat_prefix: l, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, \
         filter_chains: [{}]}}",
        chains.join(", ")
    )
}

/// A client with this address of its own.
fn client_from(source: u8, at: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, source], 0)).into())
        .unwrap();
    socket.connect(&at.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[test]
fn a_chain_that_goes_takes_its_connections_along_and_no_others() {
    let world = World::new(1);
    for name in ["a", "b", "c"] {
        world.fixed(name, &[echo(name)], "");
    }
    let at = world.listen(&by_source(&[(2, to("a")), (3, to("b"))]));
    let (mut two, mut three) = (client_from(2, at), client_from(3, at));
    assert_eq!((read(&mut two, 1), read(&mut three, 1)), ("a".into(), "b".into()));
    let short = Duration::from_millis(300);
    // Another chain in front of them, and other settings: both go on.
    let next = by_source(&[(9, to("c")), (2, to("c")), (3, to("b"))]);
    world.add_draining(listener(&next), short).unwrap();
    std::thread::sleep(short * 2);
    for stream in [&mut two, &mut three] {
        stream.write_all(b"on").unwrap();
        assert_eq!(read(stream, 2), "on");
    }
    assert_eq!(read(&mut client_from(2, at), 1), "c");
    // The first one goes: its connections have the drain time.
    world
        .add_draining(listener(&by_source(&[(3, to("b"))])), short)
        .unwrap();
    two.write_all(b"busy").unwrap();
    assert_eq!(read(&mut two, 4), "busy");
    assert_eq!(rest(&mut two), "");
    three.write_all(b"on").unwrap();
    assert_eq!(read(&mut three, 2), "on");
    // What has become another kind of chain goes as well; under the same match another one serves.
    world
        .add_draining(listener(&by_source(&[(3, redis())])), short)
        .unwrap();
    assert_eq!(rest(&mut three), "");
    let _redis = client_from(3, at);
    let mut drained = 0;
    let given = loop {
        match world.told() {
            Told::Drain(whose, _) => {
                assert!(matches!(whose, Whose::Chain(_)), "{whose:?}");
                drained += 1;
            }
            Told::Serve(given) => break given,
        }
    };
    assert_eq!(drained, 3, "two chains that went, and one that changed its kind");
    assert!(given.chain.starts_with("source_prefix_ranges=127.0.0.3/32"));
    world.stat("listener.l.downstream_cx_active", 1);
}

#[test]
fn a_chain_that_becomes_stricter_ends_its_connections() {
    let world = World::new(1);
    let password = redis().replace(
        "stat_prefix: r,",
        "stat_prefix: r, downstream_auth_passwords: [{inline_string: x}],",
    );
    let chain = |filter: &str| one_chain("l", filter, "");
    let at = world.listen(&chain(&redis()));
    let _client = client(at);
    let _given = world.given();
    let drained = |filter: &str| {
        world.add_draining(listener(&chain(filter)), LIMIT).unwrap();
        // Whoever comes next tells that everything before has been dealt with.
        let _next = client(at);
        let drained = matches!(world.told(), Told::Drain(Whose::Chain(_), _));
        if drained {
            let _given = world.given();
        }
        drained
    };
    assert!(!drained(&redis().replace("5s", "6s")), "another setting");
    assert!(drained(&password), "a password");
    assert!(!drained(&password.replace("5s", "6s")), "another setting");
    assert!(!drained(&redis()), "no password any more");
}

#[test]
fn removal_drains() {
    let world = World::new(1);
    world.fixed("a", &[echo("a")], "");
    let tcp_at = world.listen(&one_chain("t", &to("a"), ""));
    let redis_at = world.listen(&one_chain("r", &redis(), ""));
    let mut stream = client(tcp_at);
    assert_eq!(read(&mut stream, 1), "a");
    let _redis = client(redis_at);
    let _given = world.given();
    world.stat("listener.t.downstream_cx_active", 1);
    world.stat("listener.r.worker_0.downstream_cx_active", 1);

    world.remove("r", Duration::from_secs(7));
    assert!(refused(redis_at));
    let Told::Drain(whose, grace) = world.told() else {
        panic!("the driver is told to drain")
    };
    assert_eq!(
        (whose, grace),
        (Whose::Listener("r".into()), Duration::from_secs(7))
    );

    world.remove("t", Duration::from_secs(3));
    assert!(refused(tcp_at));
    world.stat("listener_manager.total_listeners_draining", 1);
    stream.write_all(b"busy").unwrap();
    assert_eq!(read(&mut stream, 4), "busy");
    let mut end = Vec::new();
    let _ = stream.read_to_end(&mut end);
    world.stat("listener_manager.total_listeners_draining", 0);
    assert!(world.workers.bound().is_empty());
}

#[test]
fn drain_listeners() {
    let world = World::new(1);
    world.fixed("a", &[echo("a")], "");
    let inbound = world.listen(&one_chain("in", &to("a"), ", traffic_direction: INBOUND"));
    let other = world.listen(&one_chain("out", &to("a"), ""));
    let mut stream = client(inbound);
    assert_eq!(read(&mut stream, 1), "a");

    // Connections are drained, and accepting goes on.
    world.workers.drain(true, true, true, Duration::ZERO);
    assert!(matches!(world.told(), Told::Drain(whose, _) if whose == Whose::Listener("in".into())));
    assert_eq!(read(&mut client(inbound), 1), "a");
    // The same, then the port closes.
    world.workers.drain(true, true, false, Duration::from_millis(50));
    assert!(matches!(world.told(), Told::Drain(whose, _) if whose == Whose::Listener("in".into())));
    assert!(refused(inbound));
    assert_eq!(read(&mut client(other), 1), "a");
    stream.write_all(b"live").unwrap();
    assert_eq!(read(&mut stream, 4), "live");
    // A push does not open it again.
    let again = world.add(listener(&one_chain(
        "in",
        &to("a"),
        ", traffic_direction: INBOUND",
    )));
    assert!(again.is_ok() && refused(inbound));

    world.workers.drain(false, false, false, LIMIT);
    assert!(refused(other));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), "bye");
    assert_eq!(world.workers.bound().len(), 2, "they are still shown");
}

#[test]
fn stopping_ends_everything() {
    let world = World::new(2);
    world.fixed("a", &[echo("a")], "");
    let at = world.listen(&one_chain("l", &to("a"), ""));
    let mut stream = client(at);
    assert_eq!(read(&mut stream, 1), "a");
    world.workers.stop();
    assert!(TcpStream::connect(at).is_err());
    let mut end = Vec::new();
    let _ = stream.read_to_end(&mut end);
    assert!(end.is_empty());
}
