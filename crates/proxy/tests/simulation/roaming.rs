//! Commands for all servers, over the clusters of many routes that come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use redplane_config::redis_proxy::{RedisProxy, Route, Routes};
use redplane_upstream::Cluster;

use super::ground::{Ground, at, proxy, route};
use super::node::Fabric;
use super::walking::{page, walk};
use super::world::World;

/// So many clusters of one host each, with ten keys on each.
fn clusters(ground: &Ground, count: u8) -> (Vec<Arc<Cluster>>, Fabric) {
    let hosts: Vec<_> = (1..=count).map(at).collect();
    let mut fabric = Fabric::plain(&hosts);
    for (number, host) in (1..).zip(&hosts) {
        for key in 0..10 {
            let name = format!("{number}:key{key}");
            fabric.node(*host).data.insert(name.into(), b"v".to_vec());
        }
    }
    let named = (1..).zip(&hosts);
    let clusters = named.map(|(number, host): (u8, _)| ground.hashed(&number.to_string(), &[*host]));
    (clusters.collect(), fabric)
}

/// A route for each of these numbers, and the cluster `1` for the rest.
fn routes(numbers: &[u8]) -> RedisProxy {
    let prefix = |number: &u8| Route {
        prefix: format!("{number}:").into(),
        ..route(&number.to_string())
    };
    RedisProxy {
        routes: Routes {
            catch_all: Some(route("1")),
            prefixes: numbers.iter().map(prefix).collect(),
            case_insensitive: false,
        },
        ..proxy("1")
    }
}

fn publish(ground: &Ground, clusters: &[Arc<Cluster>], numbers: &[u8]) {
    let all: Vec<&Arc<Cluster>> = clusters.iter().collect();
    ground.publish(&all, &routes(numbers));
}

fn of_cluster(found: &BTreeMap<String, usize>, number: u8) -> usize {
    let prefix = format!("{number}:");
    found.keys().filter(|key| key.starts_with(&prefix)).count()
}

#[test]
fn more_clusters_than_a_cursor_can_number_are_scanned() {
    let ground = Ground::new();
    let (all, fabric) = clusters(&ground, 40);
    publish(&ground, &all, &(2..=40).collect::<Vec<_>>());
    let mut world = World::new(&ground, fabric, 1);
    let found = walk(&mut world, |_, _| {});
    assert_eq!(found.len(), 400);
    assert!(found.values().all(|times| *times == 1));
    let peer = world.connect();
    assert_eq!(world.call(peer, "DBSIZE"), ":400\r\n");
    assert_eq!(page(&mut world, peer, "0", 1000).1.len(), 400);
    world.call(peer, "FLUSHALL");
    assert_eq!(world.call(peer, "DBSIZE"), ":0\r\n");
    assert_eq!(world.call(peer, "RANDOMKEY"), "$-1\r\n");
}

#[test]
fn routes_that_come_and_go_hide_no_key_of_those_that_stay() {
    for (before, after) in [
        (vec![2, 3, 4, 5, 6], vec![3, 4, 5, 6]),
        (vec![3, 4, 5, 6], vec![2, 3, 4, 5, 6]),
        (vec![2, 3, 4, 5, 6], vec![6, 5, 4, 3, 2]),
        (vec![2, 3, 6], vec![6]),
        (vec![2, 3, 4, 5, 6], vec![]),
    ] {
        let ground = Ground::new();
        let (all, fabric) = clusters(&ground, 6);
        for change in 1..8 {
            publish(&ground, &all, &before);
            let mut world = World::new(&ground, fabric_again(&fabric), 1);
            let mut pages = 0;
            let found = walk(&mut world, |world, _| {
                pages += 1;
                if pages == change {
                    publish(&ground, &all, &after);
                    world.pass(1_000);
                }
            });
            for number in after.iter().filter(|number| before.contains(number)).chain(&[1]) {
                assert_eq!(
                    of_cluster(&found, *number),
                    10,
                    "{before:?} {after:?} {change} {number}"
                );
            }
        }
    }
}

#[test]
fn a_host_that_falls_ill_hides_no_key_of_the_others() {
    let ground = Ground::new();
    let hosts = [at(1), at(2), at(3)];
    let fleet = ground.hashed("1", &hosts);
    let ailing = ground.hashed_but("1", &hosts, Some(at(1)));
    ground.publish(&[&fleet], &proxy("1"));
    let mut fabric = Fabric::plain(&hosts);
    for (number, host) in (1..).zip(hosts) {
        for key in 0..100 {
            let name = format!("{number}:key{key}");
            fabric.node(host).data.insert(name.into(), b"v".to_vec());
        }
    }
    let mut world = World::new(&ground, fabric, 1);
    let found = walk(&mut world, |world, found| {
        // In the midst of the second host.
        if (1..99).contains(&of_cluster(found, 2)) {
            fleet.republish(Arc::clone(&ailing.topology()));
            world.pass(1_000);
        }
    });
    assert_eq!((of_cluster(&found, 2), of_cluster(&found, 3)), (100, 100));
}

/// The same nodes with the same keys.
fn fabric_again(fabric: &Fabric) -> Fabric {
    let hosts: Vec<_> = fabric.nodes.keys().copied().collect();
    let mut copy = Fabric::plain(&hosts);
    for host in hosts {
        copy.node(host).data.clone_from(&fabric.nodes[&host].data);
    }
    copy
}

#[test]
fn a_server_that_is_away_is_not_left_out_in_silence() {
    let ground = Ground::new();
    let (all, fabric) = clusters(&ground, 2);
    let nobody = ground.hashed("3", &[]);
    ground.publish(&[&all[0], &all[1], &nobody], &routes(&[2, 3]));
    let mut world = World::new(&ground, fabric, 1);
    let peer = world.connect();
    for command in ["DBSIZE", "KEYS *", "FLUSHALL"] {
        assert_eq!(world.call(peer, command), "-no upstream host\r\n", "{command}");
    }
    assert!(world.call(peer, "RANDOMKEY").starts_with('$'));
    // A cluster that does not exist has no keys.
    ground.publish(&[&all[0]], &routes(&[2, 3]));
    world.pass(1_000);
    assert_eq!(world.call(peer, "DBSIZE"), ":0\r\n");
}
