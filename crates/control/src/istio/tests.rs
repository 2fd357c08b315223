//! Services read from YAML: what Kubernetes and ServiceEntry objects turn into.

use redplane_proto::pb::envoy::config::cluster::v3::cluster::{DiscoveryType, LbPolicy};
use redplane_proto::pb::envoy::config::cluster::v3::{Cluster, cluster::ClusterDiscoveryType};
use serde_json::{Value, json};

use crate::options::{Mode, Options};
use crate::world::World;

fn world(text: &str) -> World {
    World::from_text(text, &Options::default()).unwrap_or_else(|faults| panic!("{faults}"))
}

fn fault(text: &str) -> String {
    World::from_text(text, &Options::default())
        .unwrap_err()
        .to_string()
}

fn listeners(world: &World) -> Vec<&str> {
    world
        .listeners()
        .iter()
        .map(|listener| listener.name.as_str())
        .collect()
}

fn kind(cluster: &Cluster) -> DiscoveryType {
    let Some(ClusterDiscoveryType::Type(kind)) = cluster.cluster_discovery_type else {
        panic!("{cluster:?}")
    };
    DiscoveryType::try_from(kind).unwrap()
}

/// `address:port` of every endpoint of the first assignment, locality by locality.
fn endpoints(world: &World) -> Vec<Vec<String>> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let printed = world.to_json();
    let localities = printed["endpoints"][0]["endpoints"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let host = |endpoint: &Value| {
        let socket = &endpoint["endpoint"]["address"]["socket_address"];
        format!("{}:{}", text(&socket["address"]), text(&socket["port_value"]))
    };
    localities
        .iter()
        .map(|l| l["lb_endpoints"].as_array().unwrap().iter().map(host).collect())
        .collect()
}

fn noted(world: &World, text: &str) -> bool {
    world.notes().iter().any(|note| note.text.contains(text))
}

const SERVICE: &str = "kind: Service\nmetadata: {name: r, namespace: n}\nspec: {clusterIP: 10.0.0.1, ports: [{name: tcp-a, port: 6379}]}\n";

#[test]
fn slices_win_over_endpoints_and_only_ready_addresses_count() {
    let text = format!(
        "{SERVICE}---
kind: Endpoints
metadata: {{name: r, namespace: n}}
subsets: [{{addresses: [{{ip: 9.9.9.9}}], ports: [{{name: tcp-a, port: 1}}]}}]
---
kind: EndpointSlice
metadata: {{name: r-x, namespace: n, labels: {{kubernetes.io/service-name: r}}}}
ports: [{{name: tcp-a, port: 7001}}, {{name: other, port: 1}}]
endpoints:
- {{addresses: [10.1.0.1], zone: b}}
- {{addresses: [10.1.0.2], zone: a, conditions: {{ready: true}}}}
- {{addresses: [10.1.0.3], zone: a, conditions: {{ready: false}}}}
- {{addresses: [10.1.0.1], zone: b}}
"
    );
    assert_eq!(endpoints(&world(&text)), [["10.1.0.2:7001"], ["10.1.0.1:7001"]]);
}

#[test]
fn endpoints_without_a_service_and_unread_kinds_are_noted() {
    let text =
        "kind: Endpoints\nmetadata: {name: r, namespace: n}\n---\nkind: Deployment\nmetadata: {name: d}\n";
    let world = world(text);
    assert!(noted(&world, "ignored: no Service n/r"));
    assert!(noted(&world, "Deployment default/d: ignored"));
}

#[test]
fn a_headless_service_listens_on_each_endpoint() {
    let text = "kind: Service\nmetadata: {name: r}\nspec: {clusterIP: None, ports: [{name: redis, port: 6379}]}\n---\nkind: Endpoints\nmetadata: {name: r}\nsubsets: [{addresses: [{ip: 10.1.0.1}, {ip: 10.1.0.2}], ports: [{name: redis, port: 6379}]}]\n";
    let world = world(text);
    assert_eq!(listeners(&world), ["10.1.0.1_6379", "10.1.0.2_6379"]);
    assert_eq!(kind(&world.clusters()[0]), DiscoveryType::OriginalDst);
    assert_eq!(world.clusters()[0].lb_policy(), LbPolicy::ClusterProvided);
    assert!(world.endpoints().is_empty());
}

#[test]
fn a_port_that_says_redis_is_maglev_as_istiod_has_it() {
    let text = SERVICE.replace("tcp-a", "redis-a");
    assert_eq!(world(&text).clusters()[0].lb_policy(), LbPolicy::Maglev);
}

#[test]
fn ports_without_a_protocol_are_tcp_and_udp_is_left_out() {
    let text = "kind: Service\nmetadata: {name: r}\nspec: {clusterIP: 'fd00::10', ports: [{name: client, port: 1}, {name: u, port: 2, protocol: UDP}, {name: http-x, port: 3}, {name: x, port: 4, appProtocol: tcp}]}\n";
    let world = world(text);
    assert_eq!(listeners(&world), ["fd00::10_1", "fd00::10_4"]);
    for text in [
        "port 1 declares no protocol",
        "port 2 is UDP",
        "port 3: no listener, HTTP",
    ] {
        assert!(noted(&world, text), "{text}");
    }
}

#[test]
fn a_service_without_an_address_is_a_fault() {
    assert!(
        fault("kind: Service\nmetadata: {name: r}\nspec: {ports: [{port: 1}]}\n").contains("spec.clusterIP")
    );
    assert!(fault(&SERVICE.replace("6379", "70000")).contains("Service n/r: spec"));
    assert!(
        fault("kind: ServiceEntry\nmetadata: {name: r}\nspec: {ports: [{number: 1, name: tcp}]}\n")
            .contains("spec.hosts")
    );
}

#[test]
fn service_entries_choose_their_discovery() {
    let entry = |resolution: &str, more: &str| {
        world(&format!(
            "kind: ServiceEntry\nmetadata: {{name: e}}\nspec: {{hosts: [r.example.com], addresses: [10.0.0.9, 10.0.0.0/8], ports: [{{number: 6379, name: tcp, protocol: TCP, targetPort: 7000}}], resolution: {resolution}{more}}}\n"
        ))
    };
    for (resolution, expected) in [
        ("STATIC", DiscoveryType::Eds),
        ("DNS", DiscoveryType::StrictDns),
        ("DNS_ROUND_ROBIN", DiscoveryType::LogicalDns),
        ("NONE", DiscoveryType::OriginalDst),
    ] {
        let world = entry(resolution, "");
        assert_eq!(kind(&world.clusters()[0]), expected, "{resolution}");
        assert_eq!(listeners(&world), ["10.0.0.9_6379"]);
        assert!(noted(&world, "ranges 10.0.0.0/8"));
    }
    let printed = entry("DNS", "").to_json();
    let endpoint = &printed["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    let expected = json!({"socket_address": {"address": "r.example.com", "port_value": 7000}});
    assert_eq!(endpoint["address"], expected);
    let world = entry(
        "STATIC",
        ", endpoints: [{address: 10.1.0.1, weight: 3, locality: r/z, network: far}], exportTo: ['.']",
    );
    assert_eq!(endpoints(&world), [["10.1.0.1:7000"]]);
    assert!(noted(&world, "spec.exportTo") && noted(&world, "spec.endpoints[0].network"));
}

#[test]
fn in_mode_none_the_first_service_keeps_the_port() {
    let text = format!(
        "{SERVICE}---\n{}",
        SERVICE
            .replace("name: r,", "name: s,")
            .replace("10.0.0.1", "10.0.0.2")
    );
    let options = Options {
        mode: Mode::None,
        bind: false,
        ..Options::default()
    };
    let world = World::from_text(&text, &options).unwrap();
    assert_eq!(listeners(&world), ["127.0.0.1_6379"]);
    assert!(world.listeners()[0].bind_to_port.is_none(), "NONE always binds");
    assert!(noted(&world, "Service n/s: port 6379: 127.0.0.1_6379 is taken"));
}

#[test]
fn the_offset_moves_ports_and_not_names() {
    let options = Options {
        port_offset: 1000,
        ..Options::default()
    };
    let world = World::from_text(SERVICE, &options).unwrap();
    let printed = world.to_json();
    assert_eq!(printed["listeners"][0]["name"], "10.0.0.1_6379");
    assert_eq!(
        printed["listeners"][0]["address"]["socket_address"]["port_value"],
        7379
    );
    let options = Options {
        port_offset: 60_000,
        ..Options::default()
    };
    assert!(World::from_text(SERVICE, &options).is_err());
}
