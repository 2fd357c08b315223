//! Addresses: families, several of them, Unix sockets, conflicts.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;

use redplane_config::Address;
use redplane_listener::redis::Stream;

use super::world::{World, client, listener, one_chain, redis};

fn named(name: &str, address: &str, more: &str) -> String {
    format!(
        "{{name: {name}, address: {address}, filter_chains: [{{filters: [{}]}}]{more}}}",
        redis()
    )
}

fn socket(ip: &str, port: u16) -> String {
    format!("{{socket_address: {{address: '{ip}', port_value: {port}}}}}")
}

#[test]
fn both_families_and_more_addresses() {
    let world = World::new(2);
    let more = format!(
        ", additional_addresses: [{{address: {}}}, {{address: {}}}]",
        socket("::1", 0),
        socket("127.0.0.2", 0)
    );
    let bound = world
        .add(listener(&named("l", &socket("127.0.0.1", 0), &more)))
        .unwrap();
    assert_eq!(bound.len(), 3);
    assert!(bound[1].is_ipv6() && bound.iter().all(|at| at.port() != 0));
    for at in &bound {
        let client = client(*at);
        let given = world.given();
        assert_eq!((given.local, given.remote), (Some(*at), client.local_addr().ok()));
        assert_eq!((given.listener.as_str(), given.chain.as_str()), ("l", "any"));
    }
    let shown = world.workers.bound();
    assert_eq!(
        shown[0].addresses,
        bound.iter().map(|at| Address::Ip(*at)).collect::<Vec<_>>()
    );
    // An IPv6 socket leaves IPv4 to others.
    let port = world.add(listener(&named("six", &socket("::", 0), ""))).unwrap()[0].port();
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
}

#[test]
fn every_worker_gets_connections() {
    for reuse in [true, false] {
        let world = World::new(2);
        let at = world.listen(&one_chain(
            "l",
            &redis(),
            &format!(", enable_reuse_port: {reuse}"),
        ));
        let mut seen = [0, 0];
        // Which worker gets one is the kernel's choice: it takes some until both have had one.
        for _ in 0..500 {
            let _client = client(at);
            seen[world.given().worker] += 1;
            if !reuse || seen.iter().all(|count| *count > 0) {
                break;
            }
        }
        assert!(
            seen.iter().sum::<u32>() > 0 && (!reuse || seen.iter().all(|count| *count > 0)),
            "{seen:?}"
        );
    }
}

#[test]
fn unix_sockets() {
    let world = World::new(2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let pipe = |path: &str| format!("{{pipe: {{path: '{path}'}}}}");
    let yaml = named("u", &pipe(path.to_str().unwrap()), "");
    // What a process left behind that is gone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(world.add(listener(&yaml)).unwrap(), Vec::<SocketAddr>::new());
    let _client = UnixStream::connect(&path).unwrap();
    let given = world.given();
    assert!(matches!(given.stream, Stream::Unix(_)) && given.local.is_none() && given.remote.is_none());
    let taken = world
        .add(listener(&yaml.replace("name: u", "name: v")))
        .unwrap_err();
    assert!(taken.contains("duplicate address"), "{taken}");
    let other = World::new(1);
    let taken = other.add(listener(&yaml)).unwrap_err();
    assert_eq!(
        taken,
        format!("cannot bind '{}': Address already in use", path.display())
    );
    world.remove("u", std::time::Duration::ZERO);
    assert!(UnixStream::connect(&path).is_err() && !path.exists());

    let name = format!("redplane-test-{}", std::process::id());
    world
        .add(listener(&named("a", &pipe(&format!("@{name}")), "")))
        .unwrap();
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _client = UnixStream::connect_addr(&address).unwrap();
}

#[test]
fn a_conflict_is_refused_whole() {
    let world = World::new(2);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let free = redplane_testkit::free_port();
    let more = format!(
        ", additional_addresses: [{{address: {}}}]",
        socket("127.0.0.1", port)
    );
    let refusal = world
        .add(listener(&named("l", &socket("127.0.0.1", free), &more)))
        .unwrap_err();
    assert_eq!(
        refusal,
        format!("cannot bind '127.0.0.1:{port}': Address already in use")
    );
    assert!(world.workers.bound().is_empty());
    assert!(
        TcpStream::connect(("127.0.0.1", free)).is_err(),
        "nothing stays half open"
    );
    world.stat("listener_manager.listener_create_failure", 1);

    let at = world.listen(&one_chain("first", &redis(), ""));
    let again = named("second", &socket("127.0.0.1", at.port()), "");
    let _ = world.add(listener(&again)).unwrap();
    let third = named("third", &socket("127.0.0.1", at.port()), "");
    let refusal = world.add(listener(&third)).unwrap_err();
    let expected =
        format!("error adding listener: 'third' has duplicate address '{at}' as existing listener");
    assert_eq!(refusal, expected);
    world.remove("second", std::time::Duration::ZERO);
    world.remove("first", std::time::Duration::ZERO);
    // The address is free at once, whatever the workers are doing.
    assert!(world.add(listener(&third)).is_ok());
}

#[test]
fn listeners_that_do_not_bind_take_what_is_redirected_to_their_address() {
    let world = World::new(1);
    let port = redplane_testkit::free_port();
    let door = named("door", &socket("0.0.0.0", port), ", use_original_dst: true");
    world.add(listener(&door)).unwrap();
    let inner = named("inner", &socket("127.0.0.3", port), ", bind_to_port: false");
    assert!(world.add(listener(&inner)).unwrap().is_empty());
    let to = |ip: [u8; 4]| {
        let _client = client((ip, port).into());
        world.given().listener
    };
    // Nothing redirects here, so the local address is the destination.
    assert_eq!(
        (to([127, 0, 0, 3]).as_str(), to([127, 0, 0, 1]).as_str()),
        ("inner", "door")
    );
    assert_eq!(world.workers.bound().len(), 2);
}
