//! The neutral form of requests and responses, to and from delta and state-of-the-world messages.
//!
//! Total: whatever a server sends becomes a [`Response`]; a resource that cannot be named arrives without a
//! name and is refused later. A resource's own message is never decoded beyond its name, which all xDS types
//! carry as field 1.

use std::time::Duration;

use prost::Message as _;
use redplane_proto::pb;
use redplane_proto::pb::envoy::config::core::v3::{ControlPlane, Node};
use redplane_proto::pb::envoy::service::discovery::v3 as discovery;
use redplane_proto::pb::google::protobuf::Any;
use redplane_proto::pb::google::rpc::Status;

use crate::subscriptions::{Arrived, Body, Purpose, Request, Response};
use crate::type_url;
use crate::update::Rejected;

/// gRPC code INTERNAL, which Envoy puts into every NACK.
const INTERNAL: i32 = 13;

/// A request as a delta message. A state-of-the-world body becomes a plain subscription to its names.
pub fn delta_request(request: Request, node: &Node) -> discovery::DeltaDiscoveryRequest {
    let (subscribe, unsubscribe, initial_versions) = match request.body {
        Body::Delta {
            subscribe,
            unsubscribe,
            initial_versions,
        } => (subscribe, unsubscribe, initial_versions),
        Body::Sotw { names, .. } => (names, Vec::new(), std::collections::BTreeMap::new()),
    };
    discovery::DeltaDiscoveryRequest {
        node: request.node.then(|| node.clone()),
        type_url: request.type_url,
        resource_names_subscribe: subscribe,
        resource_names_unsubscribe: unsubscribe,
        initial_resource_versions: initial_versions.into_iter().collect(),
        response_nonce: request.nonce,
        error_detail: error_detail(request.purpose),
        ..Default::default()
    }
}

/// A request as a state-of-the-world message. A delta body becomes a request for the names it subscribes.
pub fn sotw_request(request: Request, node: &Node) -> discovery::DiscoveryRequest {
    let (version_info, resource_names) = match request.body {
        Body::Sotw { version, names } => (version, names),
        Body::Delta { subscribe, .. } => (String::new(), subscribe),
    };
    discovery::DiscoveryRequest {
        version_info,
        node: request.node.then(|| node.clone()),
        resource_names,
        type_url: request.type_url,
        response_nonce: request.nonce,
        error_detail: error_detail(request.purpose),
        ..Default::default()
    }
}

/// A delta response in the neutral form.
pub fn delta_response(response: discovery::DeltaDiscoveryResponse) -> Response {
    let names = response
        .removed_resource_names
        .into_iter()
        .map(|removed| removed.name);
    Response {
        type_url: response.type_url,
        version: response.system_version_info,
        nonce: response.nonce,
        resources: response.resources.into_iter().map(unwrap).collect(),
        removed: response.removed_resources.into_iter().chain(names).collect(),
        errors: errors(response.resource_errors),
        control_plane: identifier(response.control_plane),
    }
}

/// A state-of-the-world response in the neutral form. Its version is the version of each resource that has
/// none.
pub fn sotw_response(response: discovery::DiscoveryResponse) -> Response {
    let version = response.version_info;
    let resources = response
        .resources
        .into_iter()
        .map(|body| sotw_resource(body, &version))
        .collect();
    Response {
        type_url: response.type_url,
        nonce: response.nonce,
        resources,
        removed: Vec::new(),
        errors: errors(response.resource_errors),
        control_plane: identifier(response.control_plane),
        version,
    }
}

fn sotw_resource(body: Any, version: &str) -> Arrived {
    if body.type_url != type_url::WRAPPER {
        return Arrived {
            name: name_of(&body),
            version: version.to_owned(),
            body: Some(body),
            ttl: None,
        };
    }
    match discovery::Resource::decode(body.value.as_slice()) {
        Ok(wrapper) => unwrap(wrapper),
        Err(_) => Arrived {
            name: None,
            version: String::new(),
            body: None,
            ttl: None,
        },
    }
}

fn unwrap(resource: discovery::Resource) -> Arrived {
    let named = Some(resource.name).filter(|name| !name.is_empty());
    let name = named
        .or_else(|| resource.resource_name.map(|name| name.name))
        .or_else(|| resource.resource.as_ref().and_then(name_of));
    Arrived {
        name,
        version: resource.version,
        body: resource.resource,
        ttl: resource.ttl.map(duration),
    }
}

/// The name inside a resource: field 1 of clusters, load assignments, listeners, routes, secrets and
/// extensions alike.
pub fn name_of(body: &Any) -> Option<String> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    Named::decode(body.value.as_slice()).ok().map(|named| named.name)
}

fn duration(wire: pb::google::protobuf::Duration) -> Duration {
    let seconds = u64::try_from(wire.seconds).unwrap_or(0);
    let nanos = u32::try_from(wire.nanos).unwrap_or(0).min(999_999_999);
    Duration::new(seconds, nanos)
}

fn error_detail(purpose: Purpose) -> Option<Status> {
    match purpose {
        Purpose::Nack(message) => Some(Status {
            code: INTERNAL,
            message,
            ..Default::default()
        }),
        Purpose::First | Purpose::Change | Purpose::Ack => None,
    }
}

fn errors(reported: Vec<discovery::ResourceError>) -> Vec<Rejected> {
    reported
        .into_iter()
        .map(|error| {
            let name = error.resource_name.map_or_else(String::new, |name| name.name);
            let detail = error.error_detail.unwrap_or_default();
            Rejected::new(name, format!("code {}: {}", detail.code, detail.message))
        })
        .collect()
}

fn identifier(control_plane: Option<ControlPlane>) -> String {
    control_plane.map_or_else(String::new, |plane| plane.identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, message: &impl prost::Message) -> Any {
        Any {
            type_url: type_url.to_owned(),
            value: message.encode_to_vec(),
        }
    }

    fn cluster(name: &str) -> Any {
        let message = pb::envoy::config::cluster::v3::Cluster {
            name: name.into(),
            ..Default::default()
        };
        any(type_url::CLUSTER, &message)
    }

    #[test]
    fn a_nack_has_code_13_and_the_node_only_when_asked() {
        let node = Node {
            id: "n".into(),
            ..Default::default()
        };
        let request = |node| Request {
            type_url: type_url::CLUSTER.into(),
            node,
            nonce: "7".into(),
            purpose: Purpose::Nack("bad".into()),
            body: Body::Sotw {
                version: "1".into(),
                names: vec!["a".into()],
            },
        };
        let wire = sotw_request(request(true), &node);
        assert_eq!(wire.node.as_ref(), Some(&node));
        assert_eq!(wire.version_info, "1");
        let detail = wire.error_detail.unwrap();
        assert_eq!((detail.code, detail.message.as_str()), (13, "bad"));
        assert_eq!(sotw_request(request(false), &node).node, None);
    }

    #[test]
    fn a_wrapped_resource_brings_its_own_name_version_and_ttl() {
        let wrapper = discovery::Resource {
            name: "outer".into(),
            version: "5".into(),
            resource: Some(cluster("inner")),
            ttl: Some(pb::google::protobuf::Duration { seconds: 3, nanos: 0 }),
            ..Default::default()
        };
        let response = sotw_response(discovery::DiscoveryResponse {
            version_info: "9".into(),
            resources: vec![any(type_url::WRAPPER, &wrapper), cluster("plain")],
            ..Default::default()
        });
        let [wrapped, plain] = response.resources.as_slice() else {
            panic!("two resources")
        };
        assert_eq!(wrapped.name.as_deref(), Some("outer"));
        assert_eq!(wrapped.version, "5");
        assert_eq!(wrapped.ttl, Some(Duration::from_secs(3)));
        assert_eq!(
            (plain.name.as_deref(), plain.version.as_str()),
            (Some("plain"), "9")
        );
    }

    #[test]
    fn garbage_has_no_name_and_ends_nothing() {
        for value in [vec![0xff; 9], vec![0x0a, 0x05, 1], vec![0x0a, 0x02, 0xff, 0xfe]] {
            let body = Any {
                type_url: type_url::LISTENER.into(),
                value,
            };
            assert_eq!(name_of(&body), None);
        }
        let negative = pb::google::protobuf::Duration {
            seconds: -1,
            nanos: -1,
        };
        assert_eq!(duration(negative), Duration::ZERO);
    }
}
