//! TcpProxy: defaults and refusals.

use super::*;
use crate::sample::{message, refusal};

fn read(yaml: &str) -> Result<TcpProxy, Invalid> {
    TcpProxy::from_proto(&message(yaml), &mut Ignored::default())
}

fn with(field: &str) -> Result<TcpProxy, Invalid> {
    read(&format!("stat_prefix: s\ncluster: c\n{field}"))
}

fn weighted(clusters: &str) -> Result<TcpProxy, Invalid> {
    read(&format!(
        "stat_prefix: s\nweighted_clusters: {{clusters: {clusters}}}"
    ))
}

#[test]
fn defaults_are_envoys() {
    let proxy = with("").unwrap();
    assert_eq!(
        proxy.clusters,
        [WeightedCluster {
            cluster: "c".into(),
            weight: 1
        }]
    );
    assert_eq!(proxy.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(
        (proxy.max_connect_attempts, proxy.max_connection_duration),
        (None, None)
    );
    assert!(proxy.access_log.is_empty());
}

#[test]
fn values() {
    assert_eq!(with("idle_timeout: 0s").unwrap().idle_timeout, None);
    assert_eq!(
        with("idle_timeout: 7s").unwrap().idle_timeout,
        Some(Duration::from_secs(7))
    );
    let limited = with("max_downstream_connection_duration: 2s\nmax_connect_attempts: 3").unwrap();
    assert_eq!(
        (limited.max_connection_duration, limited.max_connect_attempts),
        (Some(Duration::from_secs(2)), Some(3))
    );
    let two = weighted("[{name: a, weight: 1}, {name: b, weight: 3}]")
        .unwrap()
        .clusters;
    assert_eq!(two.iter().map(|member| member.weight).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn refusals_name_the_field() {
    assert_eq!(
        refusal(read("cluster: c")),
        "stat_prefix: value length must be at least 1 characters"
    );
    assert_eq!(
        refusal(read("stat_prefix: s")),
        "cluster_specifier: value is required"
    );
    let zero = "weighted_clusters.clusters[0].weight: value must be greater than or equal to 1";
    assert_eq!(refusal(weighted("[{name: a}]")), zero);
    let empty = "weighted_clusters.clusters: value must contain at least 1 item(s)";
    assert_eq!(refusal(weighted("[]")), empty);
    let heavy = refusal(weighted("[{name: a, weight: 4294967295}, {name: b, weight: 1}]"));
    assert_eq!(
        heavy,
        "weighted_clusters.clusters: the sum of weights exceeds 4294967295"
    );
    let attempts = "max_connect_attempts: value must be greater than or equal to 1";
    assert_eq!(refusal(with("max_connect_attempts: 0")), attempts);
    let limit = "max_downstream_connection_duration: value must be greater than or equal to 1ms";
    assert_eq!(refusal(with("max_downstream_connection_duration: 0s")), limit);
    assert_eq!(
        refusal(with("tunneling_config: {hostname: h}")),
        "tunneling_config: tunnels are not supported"
    );
}
