//! Why is this reply late? Whoever asks is told for which reasons clients rest and where the oldest request waits.

use std::sync::Arc;
use std::time::Duration;

use redplane_proxy::{Peers, Waiting, WaitsAt};

use super::failing::keys;
use super::ground::{Ground, at, even};
use super::node::Fabric;
use super::world::World;

/// Asks from another thread, as the admin page does, while the worker goes on.
fn look(world: &mut World, peers: &Arc<Peers>) -> Waiting {
    let own = Arc::clone(peers);
    let asked = std::thread::spawn(move || own.waiting(Duration::from_secs(30)));
    while !asked.is_finished() {
        world.step(10);
    }
    let mut answers = asked.join().unwrap();
    assert_eq!(answers.len(), 1, "there is one worker");
    answers.remove(0)
}

#[test]
fn the_oldest_request_of_each_client_is_found() {
    let (ground, _cluster) = Ground::three_shards();
    let peers = Peers::new(1, 1000);
    let mut world = World::among(&ground, Fabric::new(&even(3)), 1, (&peers, 0));
    let [slow, fast, _] = keys();
    let (first, second) = (world.connect(), world.connect());
    assert!(look(&mut world, &peers).clients.is_empty(), "nobody waits");
    world.call(first, &format!("GET {slow}"));
    world.fabric.node(at(1)).stalled = true;
    for words in [
        format!("SET {slow} 1"),
        format!("GET {fast}"),
        format!("GET {slow}"),
    ] {
        world.ask(first, &words);
    }
    world.calm();
    world.pass(20_000);
    world.ask(second, &format!("MGET {fast} {slow}"));
    world.calm();
    let found = look(&mut world, &peers);
    let [first, second] = &found.clients[..] else {
        panic!("{found:?}");
    };
    assert_eq!((first.owed, second.owed, found.left_out), (3, 1, 0));
    let oldest = first.oldest.as_ref().unwrap();
    assert_eq!((oldest.command.as_str(), oldest.attempt), ("set", 1));
    assert!(oldest.age >= Duration::from_millis(20), "{oldest:?}");
    let place = |ahead| WaitsAt::Server {
        cluster: "c".to_owned(),
        host: at(1).to_string(),
        connection: 0,
        connected: true,
        ahead,
    };
    assert_eq!(oldest.place, place(0));
    let oldest = second.oldest.as_ref().unwrap();
    assert_eq!((oldest.command.as_str(), &oldest.place), ("mget", &place(2)));
    assert!(first.backlog > 0, "the reply that came early waits for its turn");
}

#[test]
fn reasons_to_rest_have_names() {
    let (ground, _cluster) = Ground::three_shards();
    let peers = Peers::new(1, 1000);
    let mut world = World::among(&ground, Fabric::new(&even(3)), 1, (&peers, 0));
    let [key, ..] = keys();
    let peer = world.connect();
    world.call(peer, &format!("GET {key}"));
    world.fabric.node(at(1)).stalled = true;
    let mut frame = Vec::new();
    redplane_resp::encode::request(&mut frame, &[b"SET", key.as_bytes(), &vec![b'x'; 9_000_000]]);
    world.send(peer, &frame);
    world.ask(peer, "PING");
    world.calm();
    let found = look(&mut world, &peers);
    assert_eq!(found.clients[0].rests, ["upstream"]);
    world.fabric.node(at(1)).stalled = false;
    world.calm();
    world.got(peer);
    world.call(peer, "CLIENT PAUSE 100");
    world.ask(peer, "GET k");
    world.calm();
    let found = look(&mut world, &peers);
    assert_eq!(found.clients[0].rests, ["pause"]);
    assert_eq!(
        (found.clients[0].owed, found.clients[0].oldest.is_some()),
        (0, false)
    );
}
