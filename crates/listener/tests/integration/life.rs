//! What becomes of connections when listeners change, go, or drain.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

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
    assert_eq!(
        world.workers.update(listener(&one_chain("l", &to("b"), ""))),
        Ok(vec![at])
    );
    redplane_testkit::until("new connections see the new version", LIMIT, || {
        read(&mut client(at), 1) == "b"
    });
    old.write_all(b"still here").unwrap();
    assert_eq!(read(&mut old, 10), "still here");
    world.stat("listener_manager.listener_modified", 1);
    world.stat("listener_manager.total_listeners_active", 1);
    let refusal = world
        .workers
        .update(listener(&one_chain("l", &to("b"), ", enable_reuse_port: false")));
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
    let now = world.workers.update(listener(&moved)).unwrap();
    assert!(refused(at));
    let _client = client(now[0]);
    assert_eq!(world.given().local, Some(now[0]));
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

    world.workers.remove("r", Duration::from_secs(7));
    assert!(refused(redis_at));
    let Told::Drain(name, grace) = world.told() else {
        panic!("the driver is told to drain")
    };
    assert_eq!((name.as_str(), grace), ("r", Duration::from_secs(7)));

    world.workers.remove("t", Duration::from_secs(3));
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
    assert!(matches!(world.told(), Told::Drain(name, _) if name == "in"));
    assert_eq!(read(&mut client(inbound), 1), "a");
    // The same, then the port closes.
    world.workers.drain(true, true, false, Duration::from_millis(50));
    assert!(matches!(world.told(), Told::Drain(name, _) if name == "in"));
    assert!(refused(inbound));
    assert_eq!(read(&mut client(other), 1), "a");
    stream.write_all(b"live").unwrap();
    assert_eq!(read(&mut stream, 4), "live");
    // A push does not open it again.
    let again = world.workers.update(listener(&one_chain(
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
