//! Worlds and what stays the same from one to the next.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use redplane_config::listener::Listener as Config;
use redplane_proto::{Json, yaml_value};
use redplane_telemetry::Registry;
use redplane_telemetry::access_log::{Files, Options};
use redplane_upstream::tls::secrets::Secrets;
use redplane_world::{Listener, Preparer, Routes, Snapshot, Store};

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.network";

fn tcp(cluster: &str) -> String {
    format!(
        "{{name: t, typed_config: {{'@type': {FILTERS}.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: {cluster}}}}}"
    )
}

fn redis(more: &str) -> String {
    format!(
        "{{name: r, typed_config: {{'@type': {FILTERS}.redis_proxy.v3.RedisProxy, stat_prefix: r, settings: {{op_timeout: \
         5s}}, prefix_routes: {{catch_all_route: {{cluster: c}}}}{more}}}}}"
    )
}

fn chain(port: u16, filter: &str) -> String {
    format!("{{filter_chain_match: {{destination_port: {port}}}, filters: [{filter}]}}")
}

/// A listener that opens no socket, at this address.
fn listener(name: &str, address: &str, chains: &[String]) -> Arc<Config> {
    let yaml = format!(
        "{{name: {name}, bind_to_port: false, address: {{socket_address: {{address: {address}, port_value: 80}}}}, \
         filter_chains: [{}]}}",
        chains.join(", ")
    );
    let message = Json::load().message(yaml_value(&yaml).unwrap()).unwrap();
    Arc::new(Config::from_proto(&message).unwrap())
}

fn preparer() -> Preparer {
    let registry = Registry::new();
    let files = Arc::new(Files::new(registry.clone(), Options::default()));
    Preparer::new(registry, files, Secrets::default(), Routes::default())
}

fn life(listener: &Listener, id: &str) -> u64 {
    listener.chain(id).unwrap().life.number
}

#[test]
fn a_chain_lives_on_while_its_match_stays_and_it_is_no_stricter() {
    let mut preparer = preparer();
    let mut next = |chains: &[String], old: Option<&Listener>| {
        preparer.prepare(listener("l", "0.0.0.0", chains), old).unwrap()
    };
    let (one, two) = ("destination_port=1", "destination_port=2");
    let first = next(&[chain(1, &tcp("a")), chain(2, &redis(""))], None);
    let second = next(
        &[chain(2, &redis(", latency_in_micros: true")), chain(1, &tcp("b"))],
        Some(&first),
    );
    assert_eq!(
        (life(&first, one), life(&first, two)),
        (life(&second, one), life(&second, two))
    );
    assert!(first.left_behind(Some(&second)).is_empty());
    let password = ", downstream_auth_passwords: [{inline_string: x}]";
    let third = next(&[chain(1, &redis("")), chain(2, &redis(password))], Some(&second));
    assert_ne!(life(&second, one), life(&third, one), "another kind");
    assert_ne!(life(&second, two), life(&third, two), "a password");
    let left: Vec<u64> = second
        .left_behind(Some(&third))
        .iter()
        .map(|life| life.number)
        .collect();
    assert_eq!(left.len(), 2);
    let fourth = next(&[chain(2, &redis(""))], Some(&third));
    assert_eq!(life(&third, two), life(&fourth, two), "no password any more");
    assert_eq!(third.left_behind(Some(&fourth)).len(), 1);
    assert_eq!(fourth.left_behind(None).len(), 1);
}

#[test]
fn a_life_ends_once() {
    let mut preparer = preparer();
    let listener = preparer
        .prepare(listener("l", "0.0.0.0", &[chain(1, &tcp("a"))]), None)
        .unwrap();
    let life = &listener.chains[0].life;
    assert!(!life.is_draining() && !life.is_over());
    life.drain();
    assert!(life.is_draining() && !life.is_over());
    life.end();
    life.drain();
    assert!(life.is_over());
}

#[test]
fn redirected_connections_find_the_listener_of_their_destination() {
    let mut preparer = preparer();
    let mut world = Snapshot::default();
    let mut put = |world: &mut Snapshot, name: &str, address: &str| {
        let prepared = preparer.prepare(listener(name, address, &[]), None).unwrap();
        world.put_listener(Arc::new(prepared));
    };
    put(&mut world, "any", "0.0.0.0");
    put(&mut world, "one", "10.0.0.1");
    let found = |world: &Snapshot, destination: &str| {
        let listener = world.listener_at(destination.parse().unwrap());
        listener.map(|listener| listener.config.name.clone())
    };
    assert_eq!(found(&world, "10.0.0.1:80").as_deref(), Some("one"));
    assert_eq!(found(&world, "10.0.0.2:80").as_deref(), Some("any"));
    assert_eq!(found(&world, "10.0.0.1:81"), None);
    let before = world.clone();
    put(&mut world, "one", "10.0.0.3");
    assert_eq!(found(&world, "10.0.0.1:80").as_deref(), Some("any"));
    assert_eq!(found(&world, "10.0.0.3:80").as_deref(), Some("one"));
    assert!(world.remove_listener("any").is_some() && world.remove_listener("any").is_none());
    assert_eq!(found(&world, "10.0.0.2:80"), None);
    assert_eq!(
        found(&before, "10.0.0.1:80").as_deref(),
        Some("one"),
        "a world never changes"
    );
}

#[test]
fn readers_follow_the_store() {
    let store = Store::new();
    let mut reader = store.reader();
    assert_eq!(reader.load().version, 0);
    store.publish(Arc::new(Snapshot::empty(1)));
    assert_eq!((reader.load().version, store.load_full().version), (1, 1));
}
