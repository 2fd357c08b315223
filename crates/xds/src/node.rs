//! The node that goes along with the first request.
//!
//! The bootstrap's node is sent verbatim; Istiod acts on its metadata and knows the proxy by its id. Only
//! what Envoy itself adds is added: name, version and capabilities. Section "node" of Envoy's bootstrap
//! reference.

use redplane_proto::pb::envoy::config::core::v3::node::UserAgentVersionType;
use redplane_proto::pb::envoy::config::core::v3::{BuildVersion, Node};
use redplane_proto::pb::envoy::r#type::v3::SemanticVersion;
use redplane_proto::pb::google::protobuf::{Struct, Value, value};

/// The name Istiod and istioctl expect of an Envoy-compatible proxy.
pub const USER_AGENT: &str = "envoy";

/// Version of Envoy whose behaviour is followed.
pub const ENVOY_VERSION: (u32, u32, u32) = (1, 40, 0);

/// What a control plane may rely on: Envoy's own two, and what the subscription machine understands besides
/// (TTLs, and resources wrapped in state-of-the-world responses).
pub const CLIENT_FEATURES: [&str; 4] = [
    "envoy.lb.does_not_support_overprovisioning",
    "envoy.lrs.supports_send_all_clusters",
    "xds.config.resource-in-sotw",
    "xds.config.supports-resource-ttl",
];

/// The bootstrap's node with user agent, build version and client features. Only what is empty is filled in.
pub fn wire_node(bootstrap: &Node) -> Node {
    let mut node = bootstrap.clone();
    if node.user_agent_name.is_empty() {
        USER_AGENT.clone_into(&mut node.user_agent_name);
    }
    node.user_agent_version_type
        .get_or_insert_with(|| UserAgentVersionType::UserAgentBuildVersion(build_version()));
    for feature in CLIENT_FEATURES {
        if !node.client_features.iter().any(|known| known == feature) {
            node.client_features.push(feature.to_owned());
        }
    }
    node
}

/// The build version under Envoy's keys.
pub fn build_version() -> BuildVersion {
    let (major_number, minor_number, patch) = ENVOY_VERSION;
    let build = if cfg!(debug_assertions) {
        "DEBUG"
    } else {
        "RELEASE"
    };
    let metadata = [
        ("revision.sha", concat!("redplane-", env!("CARGO_PKG_VERSION"))),
        ("revision.status", "Clean"),
        ("build.type", build),
        ("ssl.version", "rustls"),
    ];
    BuildVersion {
        version: Some(SemanticVersion {
            major_number,
            minor_number,
            patch,
        }),
        metadata: Some(Struct {
            fields: metadata
                .into_iter()
                .map(|(key, text)| (key.to_owned(), string(text)))
                .collect(),
        }),
    }
}

fn string(text: &str) -> Value {
    Value {
        kind: Some(value::Kind::StringValue(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_node_is_kept_verbatim() {
        let mut metadata = Struct::default();
        metadata.fields.insert("PROXY_CONFIG".into(), string("x"));
        let bootstrap = Node {
            id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local".into(),
            cluster: "a.b".into(),
            metadata: Some(metadata),
            ..Default::default()
        };
        let node = wire_node(&bootstrap);
        assert_eq!((&node.id, &node.cluster), (&bootstrap.id, &bootstrap.cluster));
        assert_eq!(node.metadata, bootstrap.metadata);
        assert_eq!(node.user_agent_name, "envoy");
        let Some(UserAgentVersionType::UserAgentBuildVersion(build)) = &node.user_agent_version_type else {
            panic!("a build version")
        };
        assert_eq!(build.version.as_ref().unwrap().minor_number, 40);
        assert_eq!(node.client_features, CLIENT_FEATURES);
        assert_eq!(wire_node(&node), node);
    }
}
