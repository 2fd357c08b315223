//! The same YAML, read by a real Istiod and by this crate: what both push is compared resource by resource.
//!
//! Left out here on purpose, and so removed from Istiod's side before comparing:
//! - inbound clusters, `virtualInbound` and `virtualOutbound`, HTTP listeners and routes;
//! - in clusters: metadata exchange (`filters`), mesh TLS (`transport_socket_matches`), HTTP options
//!   (`typed_extension_protocol_options`), the c-ares tuning (`typed_dns_resolver_config`);
//! - the DestinationRule of mesh `mtls`, the Gateway and VirtualService of mesh `gateway`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use prost::{Message, Name};
use redplane_control::{Mode, Options, World};
use redplane_proto::Json;
use redplane_proto::pb::envoy::config::cluster::v3::Cluster;
use redplane_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use redplane_proto::pb::envoy::config::listener::v3::Listener;
use redplane_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use serde_json::Value;

const SIDECARS: [&str; 5] = ["plain", "sharding", "mirror", "mtls", "none"];
const REDIRECT: [&str; 4] = ["plain", "sharding", "mirror", "mtls"];

fn mesh_dir(mesh: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/istio-pushes")
        .join(mesh)
}

fn pushed<M: Message + Default>(mesh: &str, kind: &str) -> Vec<M> {
    let path = mesh_dir(mesh).join(format!("delta-{kind}.pb"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let response = DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap();
    let decode = |any: &redplane_proto::Any| M::decode(any.value.as_slice()).unwrap();
    response
        .resources
        .iter()
        .map(|resource| decode(resource.resource.as_ref().unwrap()))
        .collect()
}

fn built(mesh: &str) -> World {
    let mode = if mesh == "none" {
        Mode::None
    } else {
        Mode::Redirect
    };
    let options = Options {
        mode,
        bind: false,
        ..Options::default()
    };
    World::with_options(mesh_dir(mesh).join("input"), &options).unwrap()
}

/// Resources by name, printed, so that the order of fields inside an Any plays no part.
fn printed<M: Message + Name>(resources: &[M], name: impl Fn(&M) -> &str) -> BTreeMap<String, Value> {
    let json = Json::load();
    resources
        .iter()
        .map(|message| (name(message).to_owned(), json.message_value(message)))
        .collect()
}

fn without_what_is_left_out(mut clusters: Vec<Cluster>) -> Vec<Cluster> {
    clusters.retain(|cluster| {
        !cluster.name.starts_with("inbound|") && cluster.name != "InboundPassthroughCluster"
    });
    for cluster in &mut clusters {
        cluster.filters.clear();
        cluster.transport_socket_matches.clear();
        cluster.typed_extension_protocol_options.clear();
        cluster.typed_dns_resolver_config = None;
    }
    clusters
}

fn assert_same(mesh: &str, ours: &BTreeMap<String, Value>, theirs: &BTreeMap<String, Value>) {
    let names = |map: &BTreeMap<String, Value>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs), "{mesh}: names");
    for (name, theirs) in theirs {
        assert_eq!(&ours[name], theirs, "{mesh}: {name}");
    }
}

#[test]
fn clusters_are_those_of_istiod() {
    for mesh in SIDECARS {
        let mut ours = printed(built(mesh).clusters(), |cluster| &cluster.name);
        let theirs = without_what_is_left_out(pushed(mesh, "cds"));
        let mut theirs = printed(&theirs, |cluster| &cluster.name);
        if mesh == "mtls" {
            let ruled = "outbound|6379||redis-mirror.redis.svc.cluster.local";
            assert!(ours.remove(ruled).is_some() && theirs.remove(ruled).is_some());
        }
        assert_same(mesh, &ours, &theirs);
    }
}

/// A gateway gets the same service clusters and the same patched one, but no way to the open net.
#[test]
fn clusters_of_a_gateway_are_those_of_istiod() {
    let mut ours = printed(built("gateway").clusters(), |cluster| &cluster.name);
    ours.remove("PassthroughCluster");
    let theirs = without_what_is_left_out(pushed("gateway", "cds"));
    assert_same("gateway", &ours, &printed(&theirs, |cluster| &cluster.name));
}

#[test]
fn endpoints_are_those_of_istiod() {
    for mesh in SIDECARS.into_iter().chain(["gateway"]) {
        let name = |assignment: &ClusterLoadAssignment| -> String { assignment.cluster_name.clone() };
        let json = Json::load();
        let map = |all: &[ClusterLoadAssignment]| -> BTreeMap<String, Value> {
            all.iter()
                .map(|one| (name(one), json.message_value(one)))
                .collect()
        };
        assert_same(mesh, &map(built(mesh).endpoints()), &map(&pushed(mesh, "eds")));
    }
}

fn tcp_listeners(mut listeners: Vec<Listener>) -> Vec<Listener> {
    listeners.retain(|listener| {
        let http = |filter: &str| filter == "envoy.filters.network.http_connection_manager";
        let mut filters = listener.filter_chains.iter().flat_map(|chain| &chain.filters);
        !listener.name.starts_with("virtual") && !filters.any(|filter| http(&filter.name))
    });
    listeners
}

#[test]
fn tcp_listeners_are_those_of_istiod() {
    for mesh in SIDECARS {
        let ours = printed(built(mesh).listeners(), |listener| &listener.name);
        let theirs = tcp_listeners(pushed(mesh, "lds"));
        assert_same(mesh, &ours, &printed(&theirs, |listener| &listener.name));
    }
}

#[test]
fn without_iptables_the_only_difference_is_that_listeners_bind() {
    for mesh in REDIRECT {
        let bound = World::from_dir(mesh_dir(mesh).join("input")).unwrap();
        assert!(
            bound
                .listeners()
                .iter()
                .all(|listener| listener.bind_to_port.is_none())
        );
        let mut bound = bound.listeners().to_vec();
        for (bound, unbound) in bound.iter_mut().zip(built(mesh).listeners()) {
            bound.bind_to_port = unbound.bind_to_port;
            bound.max_connections_to_accept_per_socket_event = None;
            assert_eq!(bound, unbound);
        }
    }
}

#[test]
fn what_was_left_out_is_said() {
    let said = |mesh: &str, text: &str| {
        let notes: Vec<String> = built(mesh).notes().iter().map(ToString::to_string).collect();
        assert!(
            notes.iter().any(|note| note.contains(text)),
            "{mesh}: {text} not in {notes:#?}"
        );
    };
    said(
        "mtls",
        "30-mtls.yaml:1: PeerAuthentication istio-system/default: ignored",
    );
    said("mtls", "DestinationRule redis/mirror: ignored");
    said("gateway", "context Gateway is not served here");
    said(
        "plain",
        "ServiceEntry app/web: port 80: no listener, HTTP is not served here",
    );
    let mirror = built("mirror");
    let met_nothing = |note: &redplane_control::Finding| note.text.contains("met nothing");
    assert!(!mirror.notes().iter().any(met_nothing), "{:?}", mirror.notes());
}
