//! The bootstrap: its parts, loading, and what is laid over it.

use std::path::Path;

use super::*;
use crate::config_source::Source;
use crate::sample::{message, refusal};

const CLUSTER: &str = "{name: xds-grpc, load_assignment: {cluster_name: xds-grpc, endpoints: [{lb_endpoints: \
                       [{endpoint: {address: {pipe: {path: ./XDS}}}}]}]}}";

fn read(yaml: &str) -> Result<Bootstrap, Invalid> {
    Bootstrap::from_proto(&message(yaml))
}

/// A bootstrap with a control plane and these `ads_config` fields.
fn ads(fields: &str) -> Result<GrpcSource, Invalid> {
    let yaml = format!(
        "static_resources: {{clusters: [{CLUSTER}]}}\ndynamic_resources: {{ads_config: {{{fields}}}}}"
    );
    read(&yaml).map(|bootstrap| bootstrap.ads.unwrap())
}

#[test]
fn nothing_is_enough() {
    let bootstrap = read("{}").unwrap();
    assert!(
        bootstrap.admin.is_none()
            && bootstrap.ads.is_none()
            && bootstrap.cds.is_none()
            && bootstrap.lds.is_none()
    );
    assert_eq!(bootstrap.stats_flush_interval, Duration::from_secs(5));
    assert!(
        bootstrap.clusters.is_empty() && bootstrap.listeners.is_empty() && bootstrap.ignored.0.is_empty()
    );
}

#[test]
fn its_parts() {
    let bootstrap = read(&format!(
        "node: {{id: i, cluster: k, locality: {{region: r, zone: z, sub_zone: s}}}}\n\
         admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 15000}}}}}}\n\
         static_resources: {{clusters: [{CLUSTER}]}}\n\
         dynamic_resources: {{cds_config: {{path: /cds.yaml}}, lds_config: {{ads: {{}}}}, ads_config: \
         {{api_type: DELTA_GRPC, grpc_services: [{{envoy_grpc: {{cluster_name: xds-grpc}}, \
         initial_metadata: [{{key: k, value: v}}]}}]}}}}"
    ))
    .unwrap();
    assert_eq!(
        (bootstrap.node.id.as_str(), bootstrap.node.zone.as_str()),
        ("i", "z")
    );
    assert_eq!(bootstrap.admin.unwrap().to_string(), "127.0.0.1:15000");
    assert_eq!(bootstrap.cds, Some(Source::Path("/cds.yaml".into()).into()));
    assert_eq!(bootstrap.lds, Some(ConfigSource::ads()));
    let expected = GrpcSource {
        delta: true,
        cluster: "xds-grpc".into(),
        node_on_first_message_only: false,
        initial_metadata: vec![("k".into(), "v".into())],
    };
    assert_eq!(bootstrap.ads, Some(expected));
}

#[test]
fn parts_that_are_refused() {
    let twice = refusal(read("static_resources: {clusters: [{name: a}, {name: a}]}"));
    assert_eq!(
        twice,
        "static_resources.clusters[1].name: cluster manager: duplicate cluster 'a'"
    );
    let deep = refusal(read("static_resources: {listeners: [{name: l}]}"));
    assert_eq!(deep, "static_resources.listeners[0].address: value is required");
    let admin = refusal(read(
        "admin: {address: {socket_address: {address: localhost, port_value: 1}}}",
    ));
    assert!(
        admin.starts_with("admin.address.socket_address.address: malformed IP address: localhost"),
        "{admin}"
    );
    let flush = "stats_flush_interval: value must be inside range [1ms, 300s)";
    assert_eq!(refusal(read("stats_flush_interval: 300s")), flush);
    assert_eq!(refusal(read("stats_flush_interval: 0s")), flush);
    let lost = read("dynamic_resources: {lds_config: {ads: {}}}").unwrap();
    assert_eq!(
        (lost.lds, lost.ignored.0.concat().as_str()),
        (None, "dynamic_resources.lds_config.ads: ads_config is not set")
    );
}

#[test]
fn control_planes_that_are_refused() {
    let at = "dynamic_resources.ads_config";
    let services = "grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]";
    assert!(!ads(&format!("api_type: GRPC, {services}")).unwrap().delta);
    assert_eq!(
        refusal(ads(&format!("api_type: REST, {services}"))),
        format!("{at}.api_type: must be GRPC or DELTA_GRPC")
    );
    let none = refusal(ads("api_type: GRPC"));
    assert_eq!(
        none,
        format!("{at}.grpc_services: value must contain at least 1 item(s)")
    );
    let google = refusal(ads("api_type: GRPC, grpc_services: [{google_grpc: {}}]"));
    assert_eq!(
        google,
        format!("{at}.grpc_services[0].google_grpc: is not supported, use envoy_grpc")
    );
    let other = refusal(ads(
        "api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}}]",
    ));
    let path = format!("{at}.grpc_services[0].envoy_grpc.cluster_name");
    assert_eq!(
        other,
        format!("{path}: 'x' does not exist among the static clusters, or is an EDS cluster")
    );
}

#[test]
fn stats_log_and_runtime() {
    let bootstrap = read("
stats_config:
  use_all_default_tags: false
  stats_tags: [{tag_name: a, regex: '^a(?=b)'}, {tag_name: b, fixed_value: v}, {tag_name: envoy.cluster_name}]
  stats_matcher: {inclusion_list: {patterns: [{prefix: server}, {safe_regex: {regex: 'vhost.*'}}]}}
  histogram_bucket_settings: [{match: {suffix: _ms}, buckets: [5, 1, 5]}]
application_log_config: {log_format: {text_format: '%v'}}
layered_runtime: {layers: [{name: static, static_layer: {b: 5, a: true}}, {name: admin, admin_layer: {}}, {name: d, disk_layer: {}}]}
").unwrap();
    let stats = &bootstrap.stats;
    let tag = |name: &str, value| StatsTag {
        name: name.into(),
        value,
    };
    let default = tag("envoy.cluster_name", TagValue::Default);
    let (regex, fixed) = (TagValue::Regex("^a(?=b)".into()), TagValue::Fixed("v".into()));
    assert_eq!(stats.tags, [tag("a", regex), tag("b", fixed), default]);
    assert!(
        !stats.use_all_default_tags
            && matches!(&stats.matcher, StatsMatcher::Inclusion(list) if list.len() == 2)
    );
    assert_eq!(stats.buckets[0].1, [1.0, 5.0]);
    assert_eq!(bootstrap.log_format, Some(LogFormat::Text("%v".into())));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        bootstrap.runtime[0],
        ("static".to_owned(), vec![pair("a", "true"), pair("b", "5")])
    );
    assert_eq!(
        (bootstrap.runtime.len(), bootstrap.ignored.0),
        (3, vec!["layered_runtime.layers[2]".to_owned()])
    );
    let at = "stats_config.stats_matcher.exclusion_list.patterns[0].match_pattern";
    let bad = refusal(read(
        "stats_config: {stats_matcher: {exclusion_list: {patterns: [{}]}}}",
    ));
    assert_eq!(bad, format!("{at}: value is required"));
}

fn file(folder: &tempfile::TempDir, name: &str, text: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn files_and_what_is_laid_over_them() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = file(
        &folder,
        "b.yaml",
        format!("node: {{id: i, cluster: k}}\nstatic_resources: {{clusters: [{CLUSTER}]}}"),
    );
    let over = r#"{"node": {"id": "j"}, "static_resources": {"clusters": [{"name": "more"}]}}"#;
    let (bootstrap, accepted) = Bootstrap::load(Some(&yaml), Some(over), false).unwrap();
    assert_eq!(
        (bootstrap.node.id.as_str(), bootstrap.node.cluster.as_str()),
        ("j", "k")
    );
    let names: Vec<_> = bootstrap
        .clusters
        .iter()
        .map(|cluster| cluster.name.as_str())
        .collect();
    assert_eq!(names, ["xds-grpc", "more"]);
    let binary = file(&folder, "b.pb", prost::Message::encode_to_vec(&accepted));
    assert_eq!(Bootstrap::load(Some(&binary), None, false).unwrap().1, accepted);
    let alone = Bootstrap::load(None, Some("node: {id: o}"), false).unwrap().0;
    assert_eq!(alone.node.id, "o");
}

#[test]
fn a_file_may_hold_twenty_thousand_clusters() {
    let cluster = |number| redplane_proto::pb::envoy::config::cluster::v3::Cluster {
        name: format!("redis-{number}.default.svc.cluster.local"),
        // As much as endpoints, settings and a listener would have.
        alt_stat_name: "x".repeat(1000),
        ..Default::default()
    };
    let message = proto::Bootstrap {
        static_resources: Some(proto::bootstrap::StaticResources {
            clusters: (0..20_000).map(cluster).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let bytes = prost::Message::encode_to_vec(&message);
    assert!(bytes.len() > 20_000_000);
    let folder = tempfile::tempdir().unwrap();
    let (bootstrap, _) = Bootstrap::load(Some(&file(&folder, "b.pb", bytes)), None, false).unwrap();
    assert_eq!(bootstrap.clusters.len(), 20_000);
}

#[test]
fn errors_name_the_file_and_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let load =
        |path: &Path, allow_unknown| Bootstrap::load(Some(path), None, allow_unknown).map(|(read, _)| read);
    let text = |path: &Path| load(path, false).unwrap_err().to_string();
    let typo = file(
        &folder,
        "typo.json",
        r#"{"static_resources": {"clusters": [{"nam": "x"}]}}"#,
    );
    let error = text(&typo);
    assert!(
        error.starts_with(typo.to_str().unwrap()) && error.contains("static_resources.clusters[0]"),
        "{error}"
    );
    let lenient = load(&file(&folder, "extra.yaml", "nod: {}\nnode: {id: i}"), true).unwrap();
    assert_eq!(
        (lenient.unknown.as_slice(), lenient.ignored.0.len()),
        (&["nod".to_owned()][..], 0)
    );
    let bad = text(&file(&folder, "bad.yaml", "static_resources: {clusters: [{}]}"));
    assert!(
        bad.ends_with(
            "bad.yaml: static_resources.clusters[0].name: value length must be at least 1 characters"
        ),
        "{bad}"
    );
    let broken = text(&file(&folder, "broken.json", "{"));
    assert!(broken.contains("broken.json: EOF"), "{broken}");
    assert!(text(Path::new("/nonexistent/x.json")).contains("Invalid path: /nonexistent/x.json"));
    let over = Bootstrap::load(None, Some("node: 5"), false)
        .unwrap_err()
        .to_string();
    assert!(over.starts_with("--config-yaml: node"), "{over}");
    assert!(Bootstrap::load(None, None, false).is_err());
}
