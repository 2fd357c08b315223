//! What outlives the last client of a filter: connections, and what is known of servers; for a while, and not without end.

use super::failing::keys;
use super::ground::{Ground, at, even};
use super::node::{Fabric, Reach};
use super::world::World;

const MINUTE: u64 = 60_000_000;

/// A client that comes, says something and goes.
fn visit(world: &mut World, words: &[&str]) -> String {
    let peer = world.connect();
    let mut got = String::new();
    words.iter().for_each(|words| got = world.call(peer, words));
    world.break_off(peer);
    world.calm();
    got
}

#[test]
fn short_connections_share_those_to_servers() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    for node in 1..=3 {
        let script = |words: &[Vec<u8>]| (words[0] == b"hello").then(|| b"%0\r\n".to_vec());
        world.fabric.node(at(node)).script = Some(Box::new(script));
    }
    let keys = keys();
    for round in 0..20 {
        let get = format!("GET {}", keys[round % 3]);
        assert_eq!(visit(&mut world, &[&get]), "$-1\r\n");
        visit(&mut world, &["HELLO 3", &get]);
    }
    assert_eq!(world.dialled.len(), 6, "one for each server and protocol");
    world.sleep(MINUTE / 2);
    assert_eq!(world.connections(), 6);
    visit(&mut world, &["HELLO 3", "PING"]);
    world.sleep(MINUTE / 2);
    assert_eq!(world.connections(), 6, "a client came half a minute ago");
    world.sleep(MINUTE / 2);
    assert_eq!(world.connections(), 0, "nobody came for a minute");
    assert_eq!(visit(&mut world, &[&format!("GET {}", keys[0])]), "$-1\r\n");
}

#[test]
fn a_dead_server_is_not_dialled_by_each_client_anew() {
    let (ground, _cluster) = Ground::three_shards();
    let mut world = World::new(&ground, Fabric::new(&even(3)), 1);
    let [key, ..] = keys();
    world.fabric.node(at(1)).reach = Reach::Refuses;
    for _ in 0..100 {
        assert_eq!(
            visit(&mut world, &[&format!("GET {key}")]),
            "-upstream failure\r\n"
        );
    }
    assert!(world.dialled.len() < 5, "{} attempts", world.dialled.len());
}

#[test]
fn databases_that_clients_ask_for_are_kept_within_bounds() {
    let ground = Ground::new();
    let cluster = ground.hashed("c", &[at(1)]);
    ground.publish(&[&cluster], &super::ground::proxy("c"));
    let mut world = World::new(&ground, Fabric::plain(&[at(1)]), 1);
    let script = |words: &[Vec<u8>]| (words[0] == b"select").then(|| b"+OK\r\n".to_vec());
    world.fabric.node(at(1)).script = Some(Box::new(script));
    for database in 0..100 {
        let got = visit(&mut world, &[&format!("SELECT {database}"), "GET k"]);
        assert_eq!(got, "$-1\r\n", "{database}");
    }
    assert!(world.connections() < 20, "{}", world.connections());
    world.sleep(MINUTE);
    world.sleep(MINUTE);
    assert_eq!(world.connections(), 0);
}
