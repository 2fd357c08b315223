//! Assignments: what is read, skipped and refused.

use super::*;
use crate::sample::{message, refusal};

fn read(yaml: &str) -> Result<Assignment, Invalid> {
    Assignment::from_proto(&message(yaml), &mut Ignored::default())
}

/// An assignment of one locality.
fn locality(yaml: &str) -> Result<Locality, Invalid> {
    read(&format!("cluster_name: c\nendpoints: [{yaml}]"))
        .map(|mut assignment| assignment.localities.remove(0))
}

fn at(port: u16, more: &str) -> String {
    format!("{{endpoint: {{address: {{socket_address: {{address: 10.0.0.1, port_value: {port}}}}}}}{more}}}")
}

#[test]
fn an_endpoint_with_everything() {
    let metadata = ", load_balancing_weight: 3, health_status: DRAINING, metadata: {filter_metadata: {\
        envoy.transport_socket_match: {tlsMode: istio, n: 5, b: true}, istio: {workload: 'w;ns;n;r;c'}}}";
    let yaml = format!(
        "{{locality: {{region: r, zone: z, sub_zone: s}}, priority: 1, load_balancing_weight: 9, lb_endpoints: [{}]}}",
        at(6379, metadata)
    );
    let locality = locality(&yaml).unwrap();
    assert_eq!(
        (
            locality.region.as_str(),
            locality.zone.as_str(),
            locality.sub_zone.as_str()
        ),
        ("r", "z", "s")
    );
    assert_eq!((locality.weight, locality.priority), (9, 1));
    let endpoint = &locality.endpoints[0];
    assert_eq!(
        (endpoint.address.to_string().as_str(), endpoint.weight),
        ("10.0.0.1:6379", 3)
    );
    assert_eq!(endpoint.health, Health::Draining);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        endpoint.socket_match,
        [pair("b", "true"), pair("n", "5"), pair("tlsMode", "istio")]
    );
    assert_eq!(endpoint.workload.as_deref(), Some("w;ns;n;r;c"));
}

#[test]
fn defaults() {
    let assignment = read(&format!(
        "cluster_name: c\nendpoints: [{{lb_endpoints: [{}]}}]",
        at(1, "")
    ))
    .unwrap();
    assert_eq!(assignment.overprovisioning_factor, 140);
    let endpoint = assignment.endpoints().next().unwrap();
    assert_eq!((endpoint.weight, endpoint.health), (1, Health::Healthy));
    assert_eq!(assignment.localities[0].weight, 0);
}

#[test]
fn the_first_of_equal_addresses_counts() {
    let yaml = format!(
        "cluster_name: c\nendpoints: [{{lb_endpoints: [{}, {}]}}, {{lb_endpoints: [{}, {}]}}]",
        at(1, ", load_balancing_weight: 7"),
        at(1, ""),
        at(1, ""),
        at(2, "")
    );
    let assignment = read(&yaml).unwrap();
    let weights: Vec<_> = assignment.localities.iter().map(|l| l.endpoints.len()).collect();
    assert_eq!(weights, [1, 1]);
    assert_eq!(assignment.endpoints().next().unwrap().weight, 7);
}

#[test]
fn what_lies_inside_envoy_is_skipped_and_noted() {
    let inner = "{endpoint: {address: {envoy_internal_address: {server_listener_name: connect_originate}}}}";
    let yaml = format!(
        "cluster_name: c\nendpoints: [{{lb_endpoints: [{inner}, {}]}}]",
        at(1, "")
    );
    let mut ignored = Ignored::default();
    let assignment = Assignment::from_proto(&message(&yaml), &mut ignored).unwrap();
    assert_eq!(assignment.endpoints().count(), 1);
    assert_eq!(
        ignored.0,
        ["endpoints[0].lb_endpoints[0].endpoint.address.envoy_internal_address"]
    );
}

#[test]
fn refusals_name_the_field() {
    let none = "cluster_name: value length must be at least 1 characters";
    assert_eq!(refusal(read("{}")), none);
    let text = refusal(locality(&format!(
        "{{lb_endpoints: [{}]}}",
        at(1, ", load_balancing_weight: 0")
    )));
    let weight = "load_balancing_weight: value must be greater than or equal to 1";
    assert_eq!(text, format!("endpoints[0].lb_endpoints[0].{weight}"));
    assert_eq!(
        refusal(locality("{load_balancing_weight: 0}")),
        format!("endpoints[0].{weight}")
    );
    let priority = "endpoints[0].priority: value must be less than or equal to 128";
    assert_eq!(refusal(locality("{priority: 129}")), priority);
    let health = refusal(locality(&format!(
        "{{lb_endpoints: [{}]}}",
        at(1, ", health_status: 99")
    )));
    assert_eq!(
        health,
        "endpoints[0].lb_endpoints[0].health_status: value must be one of the defined enum values"
    );
    let policy = refusal(read("cluster_name: c\npolicy: {overprovisioning_factor: 0}"));
    assert_eq!(
        policy,
        "policy.overprovisioning_factor: value must be greater than 0"
    );
    let nothing = refusal(locality("{lb_endpoints: [{}]}"));
    assert_eq!(
        nothing,
        "endpoints[0].lb_endpoints[0].host_identifier: value is required"
    );
    let heavy = "{load_balancing_weight: 4294967295}, {load_balancing_weight: 1}";
    let heavy = refusal(read(&format!("cluster_name: c\nendpoints: [{heavy}]")));
    assert!(
        heavy.starts_with("endpoints[1].load_balancing_weight: The sum of weights"),
        "{heavy}"
    );
    let name = "{endpoint: {address: {socket_address: {address: redis.ns, port_value: 1}}}}";
    let name = refusal(locality(&format!("{{lb_endpoints: [{name}]}}")));
    let path = "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address";
    assert!(
        name.starts_with(&format!("{path}: malformed IP address: redis.ns")),
        "{name}"
    );
}
