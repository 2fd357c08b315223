//! Patches against a world of one service, read from YAML as a user writes it.

use prost::Message;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, LbPolicy};
use redplane_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use redplane_proto::pb::envoy::config::listener::v3::{Filter, Listener};
use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::RedisProxy;
use redplane_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;

use crate::options::Options;
use crate::world::World;

const SERVICE: &str = "
kind: Service
metadata: {name: redis, namespace: db}
spec: {clusterIP: 10.0.0.1, ports: [{name: tcp, port: 6379}, {name: tcp-two, port: 6380}]}
";

/// The world of the service and one EnvoyFilter with these patches.
fn world_with(patches: &str) -> World {
    read(patches).unwrap_or_else(|faults| panic!("{faults}"))
}

fn read(patches: &str) -> Result<World, crate::Faults> {
    let head = "kind: EnvoyFilter\nmetadata: {name: f, namespace: istio-system}\nspec:\n  configPatches:\n";
    World::from_text(&format!("{SERVICE}---\n{head}{patches}"), &Options::default())
}

fn patch(apply_to: &str, conditions: &str, operation: &str, value: &str) -> String {
    format!(
        "  - applyTo: {apply_to}\n    match: {conditions}\n    patch: {{operation: {operation}, value: {value}}}\n"
    )
}

fn on_tcp_proxy(operation: &str, value: &str) -> String {
    let conditions =
        "{listener: {name: 10.0.0.1_6379, filterChain: {filter: {name: envoy.filters.network.tcp_proxy}}}}";
    patch("NETWORK_FILTER", conditions, operation, value)
}

fn names(world: &World, listener: &str) -> Vec<String> {
    let listener: &Listener = world.listeners().iter().find(|l| l.name == listener).unwrap();
    listener.filter_chains[0]
        .filters
        .iter()
        .map(|filter| filter.name.clone())
        .collect()
}

fn config<M: Message + Default>(filter: &Filter) -> M {
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        panic!("no typed_config")
    };
    M::decode(any.value.as_slice()).unwrap()
}

fn first_filter(world: &World) -> &Filter {
    &world.listeners()[0].filter_chains[0].filters[0]
}

fn notes(world: &World) -> String {
    world.notes().iter().map(|note| format!("{note}\n")).collect()
}

#[test]
fn network_filters_are_put_where_the_operation_says() {
    let tcp = "envoy.filters.network.tcp_proxy";
    let cases: [(&str, &[&str]); 6] = [
        ("ADD", &[tcp, "new"]),
        ("INSERT_FIRST", &["new", tcp]),
        ("INSERT_BEFORE", &["new", tcp]),
        ("INSERT_AFTER", &[tcp, "new"]),
        ("REPLACE", &["new"]),
        ("REMOVE", &[]),
    ];
    for (operation, expected) in cases {
        let world = world_with(&on_tcp_proxy(operation, "{name: new}"));
        assert_eq!(names(&world, "10.0.0.1_6379"), expected, "{operation}");
        assert_eq!(
            names(&world, "10.0.0.1_6380"),
            [tcp],
            "{operation}: the other listener"
        );
        assert_eq!(notes(&world), "");
    }
}

#[test]
fn listeners_match_by_port_and_old_filter_names() {
    let by_port = "{context: SIDECAR_OUTBOUND, listener: {portNumber: 6380, filterChain: {filter: {name: envoy.tcp_proxy}}}}";
    let world = world_with(&patch("NETWORK_FILTER", by_port, "REPLACE", "{name: new}"));
    assert_eq!(names(&world, "10.0.0.1_6380"), ["new"]);
    assert_eq!(
        names(&world, "10.0.0.1_6379"),
        ["envoy.filters.network.tcp_proxy"]
    );
}

#[test]
fn a_patch_that_meets_nothing_is_noted_with_its_line() {
    let elsewhere = "{listener: {name: 10.9.9.9_6379, filterChain: {filter: {name: envoy.tcp_proxy}}}}";
    let no_filter = "{listener: {name: 10.0.0.1_6379}}";
    for conditions in [elsewhere, no_filter] {
        let world = world_with(&patch("NETWORK_FILTER", conditions, "REPLACE", "{name: new}"));
        let notes = notes(&world);
        assert!(
            notes.starts_with("text:10: EnvoyFilter istio-system/f configPatches[0]: met nothing"),
            "{notes}"
        );
    }
    let world = world_with(&patch("CLUSTER", "{cluster: {service: nobody}}", "REMOVE", "{}"));
    assert!(notes(&world).contains("met nothing"));
}

#[test]
fn what_is_not_served_is_named() {
    let world = world_with(
        &[
            patch("HTTP_FILTER", "{}", "ADD", "{}"),
            patch("NETWORK_FILTER", "{context: SIDECAR_INBOUND}", "ADD", "{name: x}"),
            patch(
                "CLUSTER",
                "{proxy: {proxyVersion: x}, cluster: {portNumber: 6379, zone: y}}",
                "REMOVE",
                "{}",
            ),
        ]
        .concat(),
    );
    let notes = notes(&world);
    for text in [
        "configPatches[0]: ignored: applyTo HTTP_FILTER",
        "configPatches[1]: not applied: context SidecarInbound",
        "configPatches[2]: ignored: match.proxy",
        "configPatches[2]: ignored: match.cluster.zone",
    ] {
        assert!(notes.contains(text), "{text} not in {notes}");
    }
}

#[test]
fn filters_of_one_type_merge() {
    let redis = "{name: envoy.redis_proxy, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy, stat_prefix: one, downstream_auth_passwords: [{inline_string: secret}], settings: {op_timeout: 5s, enable_hashtagging: true}}}";
    let more = "{name: envoy.filters.network.redis_proxy, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy, settings: {opTimeout: 0.25s, enable_redirection: true}, downstream_auth_passwords: [{inline_string: other}]}}";
    let merge =
        "{listener: {portNumber: 6379, filterChain: {filter: {name: envoy.filters.network.redis_proxy}}}}";
    let world = world_with(
        &[
            on_tcp_proxy("REPLACE", redis),
            patch("NETWORK_FILTER", merge, "MERGE", more),
        ]
        .concat(),
    );
    let filter = first_filter(&world);
    let merged: RedisProxy = config(filter);
    let settings = merged.settings.unwrap();
    assert_eq!(filter.name, "envoy.filters.network.redis_proxy");
    assert_eq!(merged.stat_prefix, "one");
    let timeout = settings.op_timeout.unwrap();
    assert_eq!(
        (timeout.seconds, timeout.nanos),
        (0, 250_000_000),
        "a duration is replaced, not summed"
    );
    assert!(settings.enable_hashtagging && settings.enable_redirection);
    assert_eq!(
        merged.downstream_auth_passwords.len(),
        2,
        "lists append, and nothing was redacted on the way"
    );
}

#[test]
fn filters_of_two_types_do_not_merge() {
    let redis = "{name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy}}";
    let faults = read(&on_tcp_proxy("MERGE", redis)).unwrap_err();
    assert!(faults.to_string().contains("cannot merge"), "{faults}");
}

#[test]
fn merging_only_a_timeout_leaves_the_rest() {
    let value = "{name: envoy.filters.network.tcp_proxy, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, idle_timeout: 600s}}";
    let tcp: TcpProxy = config(first_filter(&world_with(&on_tcp_proxy("MERGE", value))));
    assert_eq!(tcp.stat_prefix, "outbound|6379||redis.db.svc.cluster.local");
    assert_eq!(tcp.idle_timeout.unwrap().seconds, 600);
}

#[test]
fn clusters_merge_and_a_oneof_changes_its_member() {
    let value =
        "{connect_timeout: 0.5s, lb_policy: CLUSTER_PROVIDED, cluster_type: {name: envoy.clusters.redis}}";
    let to = "{cluster: {service: redis.db.svc.cluster.local, portNumber: 6379}}";
    let world = world_with(&patch("CLUSTER", to, "MERGE", value));
    let cluster = &world.clusters()[0];
    assert_eq!(cluster.name, "outbound|6379||redis.db.svc.cluster.local");
    let timeout = cluster.connect_timeout.unwrap();
    assert_eq!((timeout.seconds, timeout.nanos), (0, 500_000_000));
    assert_eq!(cluster.lb_policy(), LbPolicy::ClusterProvided);
    assert!(
        matches!(&cluster.cluster_discovery_type, Some(ClusterDiscoveryType::ClusterType(t)) if t.name == "envoy.clusters.redis")
    );
    assert_eq!(
        world.clusters()[1].connect_timeout.unwrap().seconds,
        10,
        "the other port's cluster"
    );
}

#[test]
fn clusters_are_added_once_and_removed() {
    let world = world_with(
        &[
            patch(
                "CLUSTER",
                "{}",
                "INSERT_FIRST",
                "{name: mine, connect_timeout: 1s}",
            ),
            patch("CLUSTER", "{}", "ADD", "{name: mine, connect_timeout: 2s}"),
            patch("CLUSTER", "{cluster: {portNumber: 6380}}", "REMOVE", "{}"),
        ]
        .concat(),
    );
    let names: Vec<_> = world
        .clusters()
        .iter()
        .map(|cluster| cluster.name.as_str())
        .collect();
    let expected = [
        "outbound|6379||redis.db.svc.cluster.local",
        "BlackHoleCluster",
        "PassthroughCluster",
        "mine",
    ];
    assert_eq!(names, expected);
    assert_eq!(world.clusters()[3].connect_timeout.unwrap().seconds, 1);
    assert!(notes(&world).contains("a cluster mine is there already"));
}

#[test]
fn fields_of_other_releases_are_dropped_and_noted_and_wrong_values_refused() {
    let world = world_with(&patch("CLUSTER", "{}", "ADD", "{name: mine, no_such_field: 1}"));
    assert!(notes(&world).contains("no_such_field"), "{}", notes(&world));
    let faults = read(&patch(
        "CLUSTER",
        "{}",
        "ADD",
        "{name: mine, connect_timeout: fast}",
    ))
    .unwrap_err();
    assert_eq!(faults.0[0].location.line, 10);
    assert!(faults.to_string().contains("connect_timeout"), "{faults}");
    assert!(
        read(&patch("CLUSTER", "{}", "ADD", "{connect_timeout: 1s}")).is_err(),
        "no name"
    );
    assert!(
        read(&patch("CLUSTER", "{}", "REPLACE", "{name: x}")).is_err(),
        "no such operation"
    );
    assert!(
        read(&patch("CLUSTER", "{}", "UPSERT", "{name: x}")).is_err(),
        "no such word"
    );
}

#[test]
fn the_order_is_root_namespace_priority_name() {
    let filter = |name: &str, namespace: &str, priority: i32| {
        let patch = patch(
            "NETWORK_FILTER",
            "{listener: {portNumber: 6379}}",
            "ADD",
            &format!("{{name: {name}}}"),
        );
        format!(
            "---\nkind: EnvoyFilter\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  priority: {priority}\n  configPatches:\n{patch}"
        )
    };
    let text = [
        SERVICE.to_owned(),
        filter("late", "istio-system", 5),
        filter("local", "db", -10),
        filter("b", "istio-system", 0),
        filter("a", "istio-system", 0),
    ]
    .concat();
    let options = Options {
        namespace: Some("db".to_owned()),
        ..Options::default()
    };
    let world = World::from_text(&text, &options).unwrap();
    assert_eq!(names(&world, "10.0.0.1_6379")[1..], ["a", "b", "late", "local"]);
    let elsewhere = Options {
        namespace: Some("web".to_owned()),
        ..Options::default()
    };
    let world = World::from_text(&text, &elsewhere).unwrap();
    assert_eq!(names(&world, "10.0.0.1_6379")[1..], ["a", "b", "late"]);
    assert!(notes(&world).contains("not applied: the proxy is in namespace web"));
}

#[test]
fn workload_selectors_are_respected_when_labels_are_known() {
    let patches = patch("CLUSTER", "{}", "ADD", "{name: mine}");
    let text = format!(
        "kind: EnvoyFilter\nmetadata: {{name: f, namespace: istio-system}}\nspec:\n  workloadSelector: {{labels: {{app: a}}}}\n  configPatches:\n{patches}"
    );
    let with_label = |value: &str| {
        let labels = [("app".to_owned(), value.to_owned())].into();
        let world = World::from_text(
            &text,
            &Options {
                labels,
                ..Options::default()
            },
        )
        .unwrap();
        world.clusters().iter().any(|cluster| cluster.name == "mine")
    };
    assert!(with_label("a") && !with_label("b"));
    let world = World::from_text(&text, &Options::default()).unwrap();
    assert!(notes(&world).contains("ignored: spec.workloadSelector"));
}
