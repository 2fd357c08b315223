//! A thousand pushes under a stream of connections, with the real Redis driver: no client is dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use redplane_listener::{MakeDriver, redis};
use redplane_proxy::{Context, Peers};
use redplane_upstream::Dns;
use redplane_world::Store;

use super::world::{LIMIT, World, listener, one_chain, redis, tcp};

const WORKERS: usize = 2;

fn driver(store: &Store, registry: &redplane_telemetry::Registry) -> MakeDriver {
    let context = Context {
        store: Arc::new(store.clone()),
        registry: registry.clone(),
        zone: "".into(),
        seed: 7,
        peers: Peers::new(WORKERS, 1000),
        worker: 0,
        scripts: Arc::default(),
    };
    Arc::new(move |worker| {
        let context = Context {
            worker,
            ..context.clone()
        };
        redis::start(context, Dns::system())
    })
}

/// What stands behind tcp_proxy: answers each line as Redis answers PING.
fn pong() -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            std::thread::spawn(move || {
                while matches!(stream.read(&mut [0; 64]), Ok(1..)) {
                    if stream.write_all(b"+PONG\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

fn ping(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(LIMIT))?;
    // A reset at the end leaves no port behind that must rest.
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 7];
    stream.read_exact(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

#[test]
fn a_thousand_pushes_drop_no_connection() {
    let world = World::with_driver(WORKERS, driver);
    world.fixed("c", &[pong()], "");
    let chains = [tcp("cluster: c"), redis()].map(|filter| one_chain("l", &filter, ""));
    let at = world.listen(&chains[0]);
    let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let client = || {
        let mut failed = Vec::new();
        while !over.load(Relaxed) {
            match ping(at) {
                Ok(reply) if reply == "+PONG\r\n" => drop(served.fetch_add(1, Relaxed)),
                other => failed.push(other),
            }
        }
        failed
    };
    let failed: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(client)).collect();
        for push in 1..=1000 {
            let before = served.load(Relaxed);
            world
                .add_draining(listener(&chains[push % 2]), LIMIT * 60)
                .unwrap();
            // Some connections come under every push, however busy the machine is.
            redplane_testkit::until("clients to be served", LIMIT, || served.load(Relaxed) > before);
        }
        over.store(true, Relaxed);
        let clients = clients.into_iter();
        clients.flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{} of {served:?}: {failed:?}", failed.len());
}
