//! Recorded pushes of a current Istiod and dumps of Istio 1.7.3: they decode, print as recorded, and come back.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where its input is not what it says"
)]

use std::fs;
use std::path::{Path, PathBuf};

use prost::{Message, Name};
use redplane_proto::pb::envoy::config::bootstrap::v3::Bootstrap;
use redplane_proto::pb::envoy::config::cluster::v3::Cluster;
use redplane_proto::pb::envoy::config::core::v3::Node;
use redplane_proto::pb::envoy::config::listener::v3::Listener;
use redplane_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::RedisProxy;
use redplane_proto::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use redplane_proto::{Any, Json, type_url};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn pushes() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for mesh in fs::read_dir(root().join("tests/golden/istio-pushes")).unwrap() {
        let Ok(files) = fs::read_dir(mesh.unwrap().path()) else {
            continue;
        };
        found.extend(
            files
                .map(|file| file.unwrap().path())
                .filter(|path| path.extension().is_some_and(|e| e == "pb")),
        );
    }
    found.sort();
    assert_eq!(found.len(), 62, "recorded pushes");
    found
}

/// Every Any inside printed JSON: type URL and value.
fn anys<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| anys(value, found)),
        Value::Object(object) => {
            if object.contains_key("@type") {
                found.push(value);
            }
            object.values().for_each(|value| anys(value, found));
        }
        _ => {}
    }
}

fn check<M: Message + Name + Default + PartialEq>(json: &Json, path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    let message = M::decode(bytes.as_slice()).unwrap();
    let recorded = read(&path.with_extension("json"));
    let printed = json.message_value(&message);
    assert_eq!(printed, recorded, "{}", path.display());
    let back: M = json.message(printed).unwrap();
    assert_eq!(back.encoded_len(), message.encoded_len(), "{}", path.display());
    assert_eq!(json.message_value(&back), recorded, "{}", path.display());

    let mut found = Vec::new();
    anys(&recorded, &mut found);
    for value in &found {
        let any = json.any(*value).unwrap();
        assert_eq!(&&json.value(&any), value);
        let resolved = json.resolve(&any).unwrap();
        assert_eq!(resolved.ignored.paths, Vec::<String>::new());
        assert_ne!(resolved.any.type_url, type_url::TYPED_STRUCT_UDPA);
    }
    found.len()
}

#[test]
fn every_push_prints_as_recorded_and_comes_back() {
    let json = Json::load();
    let mut anys = 0;
    for path in pushes() {
        let name = path.file_name().unwrap().to_string_lossy();
        anys += if name.starts_with("delta") {
            check::<DeltaDiscoveryResponse>(&json, &path)
        } else {
            check::<DiscoveryResponse>(&json, &path)
        };
    }
    assert!(anys == 2_858, "{anys}");
}

#[test]
fn damaged_pushes_print_or_fail_without_a_panic() {
    let json = Json::load();
    let path = root().join("tests/golden/istio-pushes/mirror/sotw-lds.pb");
    let push = DiscoveryResponse::decode(fs::read(path).unwrap().as_slice()).unwrap();
    for any in &push.resources {
        for at in (0..any.value.len()).step_by(97) {
            let mut flipped = any.clone();
            flipped.value[at] ^= 1 << (at % 8);
            let cut = Any {
                type_url: any.type_url.clone(),
                value: any.value[..at].to_vec(),
            };
            let old = Any {
                type_url: "type.googleapis.com/envoy.api.v2.Listener".to_owned(),
                ..flipped.clone()
            };
            for damaged in [flipped, cut, old] {
                assert!(json.value(&damaged).is_object());
                drop(json.resolve(&damaged));
            }
        }
    }
}

#[test]
fn a_real_bootstrap_parses_and_loses_nothing() {
    let json = Json::load();
    let recorded = read(&root().join("tests/golden/istio-pushes/envoy-rev.json"));
    let bootstrap: Bootstrap = json.message(&recorded).unwrap();
    assert_eq!(bootstrap.static_resources.as_ref().unwrap().clusters.len(), 4);
    let printed = json.message_value(&bootstrap);
    assert_eq!(json.message::<Bootstrap>(&printed).unwrap(), bootstrap);
    for mesh in ["gateway", "mirror"] {
        let node = read(
            &root()
                .join("tests/golden/istio-pushes")
                .join(mesh)
                .join("node.json"),
        );
        let read: Node = json.message(&node).unwrap();
        assert_eq!(json.message_value(&read), node);
    }
}

/// The dumps of Istio 1.7.3 lie outside the repository, as they are not ours to publish.
fn dumps_of_1_7_3() -> Vec<PathBuf> {
    let folder = root().join("../shared/data/istio-1.7.3");
    let Ok(files) = fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no dumps of Istio 1.7.3 on this machine, v2 resources were not tested");
        return Vec::new();
    };
    files.map(|file| file.unwrap().path()).collect()
}

fn resources<'v>(json: &Json, found: &[&'v Value], last: &str) -> Vec<(Any, &'v Value)> {
    let named = found
        .iter()
        .filter(|value| value["@type"].as_str().unwrap().ends_with(last));
    named
        .map(|value| (json.resolve(&json.any(*value).unwrap()).unwrap().any, *value))
        .collect()
}

#[test]
fn the_v2_resources_of_istio_1_7_3_become_v3() {
    let json = Json::load();
    let mut redis = 0;
    for path in dumps_of_1_7_3() {
        let dump = read(&path);
        let mut found = Vec::new();
        anys(&dump, &mut found);
        for value in &found {
            let resolved = json.resolve(&json.any(*value).unwrap()).unwrap();
            assert_eq!(resolved.ignored.paths, Vec::<String>::new());
        }
        for (any, value) in resources(&json, &found, ".Cluster") {
            assert_eq!(any.type_url, type_url::CLUSTER);
            let cluster = Cluster::decode(any.value.as_slice()).unwrap();
            assert_eq!(cluster.name, value["name"].as_str().unwrap());
        }
        for (any, value) in resources(&json, &found, ".Listener") {
            assert_eq!(any.type_url, type_url::LISTENER);
            let listener = Listener::decode(any.value.as_slice()).unwrap();
            if value["deprecated_v1"]["bind_to_port"] == false {
                assert_eq!(
                    listener.bind_to_port.map(|flag| flag.value),
                    Some(false),
                    "{}",
                    listener.name
                );
            }
            if value["hidden_envoy_deprecated_use_original_dst"] == true {
                assert_eq!(listener.use_original_dst.map(|flag| flag.value), Some(true));
            }
            redis += check_redis_filters(&json, &listener);
        }
        let printed = resources(&json, &found, ".Listener");
        assert!(
            printed
                .iter()
                .all(|(any, _)| json.value(any)["@type"] == type_url::LISTENER)
        );
    }
    assert!(redis == 2 || dumps_of_1_7_3().is_empty(), "{redis}");
}

fn check_redis_filters(json: &Json, listener: &Listener) -> usize {
    let mut redis = 0;
    for filter in listener.filter_chains.iter().flat_map(|chain| &chain.filters) {
        let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
            continue;
        };
        let resolved = json.resolve(any).unwrap().any;
        if resolved.type_url == type_url::REDIS_PROXY {
            let proxy = RedisProxy::decode(resolved.value.as_slice()).unwrap();
            assert_eq!(
                proxy.prefix_routes.unwrap().catch_all_route.unwrap().cluster,
                "custom-redis-cluster"
            );
            // istioctl does not link the v2 message: the dump shows a TypedStruct.
            let shown = json.value(any);
            assert_eq!(shown["@type"], type_url::TYPED_STRUCT_UDPA);
            assert!(
                shown["type_url"]
                    .as_str()
                    .unwrap()
                    .ends_with("redis_proxy.v2.RedisProxy")
            );
            assert_eq!(shown["value"]["stat_prefix"], "redis_stats");
            redis += 1;
        }
    }
    redis
}
