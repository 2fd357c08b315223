//! Sentinel clusters: every way to send the configuration, and each refusal with its path.

use super::*;
use crate::cluster::{Cluster, Discovery};
use crate::sample::{message, refusal};

const TYPED: &str = "'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: \
    type.googleapis.com/redplane.clusters.sentinel.v3.SentinelClusterConfig";
const STRUCT: &str = "'@type': type.googleapis.com/google.protobuf.Struct";

fn read(typed_config: &str) -> Result<Cluster, Invalid> {
    Cluster::from_proto(&message(&format!(
        "{{name: c, lb_policy: CLUSTER_PROVIDED, load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: \
         [{{endpoint: {{address: {{socket_address: {{address: sentinel.ns, port_value: 26379}}}}}}}}]}}]}}, \
         cluster_type: {{name: redplane.clusters.sentinel{typed_config}}}}}"
    )))
}

fn sentinel(typed_config: &str) -> Result<SentinelCluster, Invalid> {
    match read(typed_config)?.discovery {
        Discovery::Sentinel(sentinel) => Ok(sentinel),
        other => panic!("{other:?} is no Sentinel cluster"),
    }
}

fn valued(kind: &str, value: &str) -> Result<SentinelCluster, Invalid> {
    sentinel(&format!(", typed_config: {{{kind}, value: {{{value}}}}}"))
}

#[test]
fn every_wrapping_says_the_same() {
    let direct = sentinel(
        ", typed_config: {'@type': type.googleapis.com/redplane.clusters.sentinel.v3.SentinelClusterConfig, \
         master_name: mymaster}",
    )
    .unwrap();
    assert_eq!(direct.master_name, "mymaster");
    assert_eq!(direct.refresh_rate, Duration::from_secs(5));
    assert_eq!(direct.refresh_timeout, Duration::from_secs(3));
    assert_eq!(direct.sentinels.endpoints().count(), 1);
    assert_eq!(direct, valued(TYPED, "master_name: mymaster").unwrap());
    assert_eq!(direct, valued(STRUCT, "master_name: mymaster").unwrap());
}

#[test]
fn fields_are_read() {
    let fields = "masterName: m-1.a_b, refresh_rate: 1.5s, refresh_timeout: 0.2s, auth_username: {inline_string: u}, \
                  auth_password: {inline_string: secret}";
    let sentinel = valued(TYPED, fields).unwrap();
    assert_eq!(sentinel.master_name, "m-1.a_b");
    assert_eq!(sentinel.refresh_rate, Duration::from_millis(1500));
    assert_eq!(sentinel.refresh_timeout, Duration::from_millis(200));
    assert_eq!(
        (sentinel.username.as_str(), &sentinel.password[..]),
        ("u", &b"secret"[..])
    );
    assert!(!format!("{sentinel:?}").contains("secret"));
}

#[test]
fn mistakes_are_refused_with_their_path() {
    let cases = [
        (
            TYPED,
            "",
            "cluster_type.typed_config.master_name: value length must be at least 1 characters",
        ),
        (
            TYPED,
            "master_name: 'a b'",
            "cluster_type.typed_config.master_name: ' ' cannot stand",
        ),
        (
            TYPED,
            "master_name: m, refresh_rate: 0s",
            "cluster_type.typed_config.refresh_rate: value must be greater",
        ),
        (
            TYPED,
            "master_name: m, quorum: 2",
            "cluster_type.typed_config.quorum: no such field",
        ),
        (
            STRUCT,
            "master_name: m, quorum: 2",
            "cluster_type.typed_config.value.quorum: ",
        ),
        (
            TYPED,
            "master_name: m, auth_password: {}",
            "cluster_type.typed_config.auth_password.specifier: ",
        ),
        (
            TYPED,
            "master_name: m, auth_username: {inline_string: u}",
            "cluster_type.typed_config.auth_password: value is required",
        ),
    ];
    for (kind, value, start) in cases {
        let refusal = refusal(valued(kind, value));
        assert!(refusal.starts_with(start), "{value}: {refusal}");
    }
    let none = refusal(sentinel(""));
    assert!(
        none.starts_with("cluster_type.typed_config: value is required"),
        "{none}"
    );
    let other = ", typed_config: {'@type': type.googleapis.com/envoy.extensions.clusters.redis.v3.RedisClusterConfig}";
    assert!(refusal(sentinel(other)).contains("expected SentinelClusterConfig, found envoy."));
}

#[test]
fn a_sentinel_and_the_cluster_s_own_policy_are_needed() {
    let refused = |yaml: &str| refusal(Cluster::from_proto(&message(yaml)));
    let typed = format!("{{{TYPED}, value: {{master_name: m}}}}");
    let none = refused(&format!(
        "{{name: c, lb_policy: CLUSTER_PROVIDED, cluster_type: {{name: redplane.clusters.sentinel, typed_config: \
         {typed}}}}}"
    ));
    assert!(none.starts_with("load_assignment: "), "{none}");
    let address = "{address: {socket_address: {address: 127.0.0.1, port_value: 1}}}";
    let policy = refused(&format!(
        "{{name: c, load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [{{endpoint: {address}}}]}}]}}, \
         cluster_type: {{name: redplane.clusters.sentinel, typed_config: {typed}}}}}"
    ));
    assert!(
        policy.starts_with("lb_policy: must be CLUSTER_PROVIDED"),
        "{policy}"
    );
}
