//! No input ends the process: arbitrary bytes, and real resources with some bytes changed, are read or refused.

// A test without its recorded pushes must fail.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use prost::Message;
use redplane_config::Ignored;
use redplane_config::bootstrap::Bootstrap;
use redplane_config::cluster::Cluster;
use redplane_config::endpoint::Assignment;
use redplane_config::listener::Listener;
use redplane_config::redis_proxy::RedisProxy;
use redplane_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use redplane_proto::{Any, Json, type_url};

/// The resources of every recorded push, and the descriptors, so that they are decoded once.
static RECORDED: LazyLock<(Vec<Any>, Json)> = LazyLock::new(|| {
    let pushes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/istio-pushes");
    let mut resources = Vec::new();
    for mesh in ["gateway", "mtls", "none", "sharding"] {
        for kind in ["cds", "eds", "lds"] {
            let bytes = fs::read(pushes.join(mesh).join(format!("sotw-{kind}.pb"))).unwrap();
            resources.extend(DiscoveryResponse::decode(bytes.as_slice()).unwrap().resources);
        }
    }
    (resources, Json::load())
});

/// One change of a resource's bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        8 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => at().prop_map(Change::Remove),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => at().prop_map(Change::Cut),
        1 => at().prop_map(Change::Repeat),
    ]
}

fn apply(change: &Change, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match change {
        Change::Set(at, byte) => bytes[at.index(len)] = *byte,
        Change::Remove(at) => {
            bytes.remove(at.index(len));
        }
        Change::Insert(at, more) => {
            let at = at.index(len);
            bytes.splice(at..at, more.iter().copied());
        }
        Change::Cut(at) => bytes.truncate(at.index(len)),
        Change::Repeat(at) => bytes.extend_from_within(at.index(len)..),
    }
}

/// Reads bytes as every kind of message there is.
fn read_all(bytes: &[u8]) {
    let mut ignored = Ignored::default();
    if let Ok(message) = Message::decode(bytes) {
        let _ = Cluster::from_proto(&message);
    }
    if let Ok(message) = Message::decode(bytes) {
        let _ = Listener::from_proto(&message);
    }
    if let Ok(message) = Message::decode(bytes) {
        let _ = Assignment::from_proto(&message, &mut ignored);
    }
    if let Ok(message) = Message::decode(bytes) {
        let _ = Bootstrap::from_proto(&message);
    }
    for url in [
        type_url::REDIS_PROXY,
        type_url::TYPED_STRUCT_UDPA,
        type_url::TCP_PROXY,
    ] {
        let any = Any {
            type_url: url.to_owned(),
            value: bytes.to_vec(),
        };
        let _ = RedisProxy::from_any(&any, &mut ignored);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _descriptors = &RECORDED.1;
        read_all(&bytes);
    }

    #[test]
    fn changed_resources(
        resource in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let mut bytes = resource.get(&RECORDED.0).value.clone();
        changes.iter().for_each(|change| apply(change, &mut bytes));
        read_all(&bytes);
    }
}

/// A policy list inside a policy list, as deep as bytes allow.
#[test]
fn deep_nesting_is_bounded() {
    use redplane_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
    use redplane_proto::pb::envoy::config::cluster::v3::{Cluster as Proto, LoadBalancingPolicy};
    use redplane_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
    use redplane_proto::pb::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;

    let mut policy = LoadBalancingPolicy::default();
    for _ in 0..2_000 {
        let wrr = WrrLocality {
            endpoint_picking_policy: Some(policy),
        };
        let type_url = <WrrLocality as prost::Name>::type_url();
        let typed_config = Some(Any {
            type_url,
            value: wrr.encode_to_vec(),
        });
        let config = TypedExtensionConfig {
            name: "p".to_owned(),
            typed_config,
        };
        policy = LoadBalancingPolicy {
            policies: vec![Policy {
                typed_extension_config: Some(config),
            }],
        };
    }
    let message = Proto {
        name: "c".to_owned(),
        load_balancing_policy: Some(policy),
        ..Proto::default()
    };
    assert!(!Cluster::from_proto(&message).unwrap().ignored.0.is_empty());
}
