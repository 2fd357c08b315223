//! The forms of JSON that Envoy's reader takes beside the plain one, and those it refuses: the same here.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use redplane_config::bootstrap::Bootstrap;
use redplane_testkit::envoy_path;
use serde_json::{Value, json};

/// Where a variant stands: a pointer into the bootstrap.
const SETTINGS: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/settings";
const FILTER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0";
const LISTENER: &str = "/static_resources/listeners/0";
const CLUSTER: &str = "/static_resources/clusters/0";
const RESOURCES: &str = "/static_resources";

/// One field in one form.
struct Variant {
    within: &'static str,
    field: &'static str,
    value: Value,
}

fn variants() -> Vec<Variant> {
    let mut found = Vec::new();
    let mut add = |within, field, values: Vec<Value>| {
        found.extend(values.into_iter().map(|value| Variant { within, field, value }));
    };
    add(
        SETTINGS,
        "enable_redirection",
        vec![
            json!("true"),
            json!("yes"),
            json!("t"),
            json!("1"),
            json!("NO"),
            json!(1),
            json!(""),
            json!([true]),
            json!(null),
            json!({}),
        ],
    );
    add(SETTINGS, "enableRedirection", vec![json!(true)]);
    add(SETTINGS, "EnableRedirection", vec![json!(true)]);
    add(
        SETTINGS,
        "max_buffer_size_before_flush",
        vec![
            json!("1"),
            json!("1.0"),
            json!("1e3"),
            json!("0x10"),
            json!("+1"),
            json!("01"),
            json!(" 1"),
            json!("1.5"),
            json!(1.0),
            json!(1.5),
            json!(-1),
            json!(true),
            json!([1]),
        ],
    );
    add(
        SETTINGS,
        "read_policy",
        vec![
            json!("prefer_replica"),
            json!("Prefer_Replica"),
            json!("prefer-replica"),
            json!("preferReplica"),
            json!(2),
            json!("2"),
            json!(2.0),
            json!(2.5),
            json!(true),
            json!("NOPE"),
            json!(""),
        ],
    );
    add(
        SETTINGS,
        "buffer_flush_timeout",
        vec![
            json!("3s"),
            json!("3.5s"),
            json!(3),
            json!("3"),
            json!("3 s"),
            json!(".5s"),
            json!("5.s"),
            json!("+3s"),
            json!({"seconds": 3}),
            json!({"seconds": "3", "nanos": 5}),
            json!({}),
            json!({"x": 1}),
        ],
    );
    add(
        SETTINGS,
        "max_upstream_unknown_connections",
        vec![
            json!(5),
            json!("5"),
            json!("0x5"),
            json!({"value": "5"}),
            json!({"x": 1}),
            json!([5]),
            json!(null),
        ],
    );
    add(
        CLUSTER,
        "load_assignment",
        vec![
            json!({"cluster_name": "c", "endpoints": {"lb_endpoints": {"endpoint": {"address": {"socket_address":
                {"address": "127.0.0.1", "port_value": 1}}}}}}),
            json!({"cluster_name": "c", "endpoints": [[{"lb_endpoints": []}]]}),
            json!({"cluster_name": "c", "endpoints": 5}),
            json!({"cluster_name": "c", "endpoints": ""}),
            json!([{"cluster_name": "c"}]),
            json!({"cluster_name": 5}),
        ],
    );
    add(
        CLUSTER,
        "circuit_breakers",
        vec![
            json!({"thresholds": {"priority": "high", "max_connections": 5}}),
            json!({"thresholds": [{"priority": "DEFAULT"}, null]}),
        ],
    );
    add(
        CLUSTER,
        "metadata",
        vec![
            json!({"filter_metadata": {"a": {"b": [1, null, [2]]}}}),
            json!({"filter_metadata": {"a": null}}),
            json!({"filter_metadata": [{"a": {}}]}),
        ],
    );
    add(
        CLUSTER,
        "lb_policy",
        vec![
            json!("ring_hash"),
            json!("Maglev"),
            json!(3),
            json!("3"),
            json!("BEST"),
        ],
    );
    add(LISTENER, "traffic_direction", vec![json!("inbound"), json!("2")]);
    add(
        LISTENER,
        "bind_to_port",
        vec![json!("false"), json!(0), json!({"value": false})],
    );
    add(LISTENER, "stat_prefix", vec![json!(5), json!(null)]);
    add(
        LISTENER,
        "additional_addresses",
        vec![
            json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 18991, "protocol": "tcp"}}}),
        ],
    );
    add(FILTER, "config", vec![json!({"stat_prefix": "s"})]);
    add(
        RESOURCES,
        "clusters",
        vec![
            json!({"name": "c", "type": "static"}),
            json!([{"name": "c", "type": "strict_dns"}]),
        ],
    );
    found
}

fn bootstrap(variant: &Variant) -> String {
    let mut bootstrap = json!({"static_resources": {
        "clusters": [{"name": "c", "type": "STATIC"}],
        "listeners": [{
            "name": "l",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 18990}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.redis_proxy",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
                    "stat_prefix": "s",
                    "settings": {"op_timeout": "3s"},
                    "prefix_routes": {"catch_all_route": {"cluster": "c"}}
                }
            }]}]
        }]
    }});
    let within = bootstrap
        .pointer_mut(variant.within)
        .expect("the bootstrap has it");
    within[variant.field] = variant.value.clone();
    bootstrap.to_string()
}

/// Whether Envoy would start with the file.
fn envoy_accepts(file: &Path) -> bool {
    let output = Command::new(envoy_path())
        .args(["--mode", "validate", "-c"])
        .arg(file)
        .args(["--use-dynamic-base-id", "-l", "error"])
        .output()
        .expect("Envoy runs");
    output.status.success()
}

#[test]
fn json_is_taken_in_the_forms_that_envoy_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (variants, next, wrong) = (variants(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let judge = || {
        while let Some((at, variant)) = {
            let at = next.fetch_add(1, SeqCst);
            variants.get(at).map(|variant| (at, variant))
        } {
            let file = folder.path().join(format!("{at}.json"));
            std::fs::write(&file, bootstrap(variant)).expect("it is written");
            let theirs = envoy_accepts(&file);
            let ours = Bootstrap::load(Some(&file), None, false);
            if ours.is_ok() != theirs {
                let said = ours.err().map(|refusal| refusal.to_string());
                let shown = format!("{}: {} (Envoy: {theirs}) {said:?}", variant.field, variant.value);
                wrong.lock().expect("no judge panics").push(shown);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|_| {
            scope.spawn(judge);
        });
    });
    let wrong = wrong.into_inner().expect("no judge panics");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
