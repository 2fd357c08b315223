//! The rules of proto-JSON, the other ways to name a message, and redaction.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where its input is not what it says"
)]

use prost::Message;
use redplane_proto::legacy::{udpa, xds};
use redplane_proto::pb::envoy::config::bootstrap::v3::Bootstrap;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use redplane_proto::pb::envoy::config::cluster::v3::Cluster;
use redplane_proto::pb::envoy::config::core::v3::transport_socket::ConfigType;
use redplane_proto::istio::metadata_exchange::MetadataExchange;
use redplane_proto::pb::envoy::config::rbac::v3::permission::Rule;
use redplane_proto::pb::envoy::config::rbac::v3::{Permission, Policy};
use redplane_proto::pb::envoy::config::route::v3::Route;
use redplane_proto::pb::envoy::extensions::clusters::redis::v3::RedisClusterConfig;
use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::redis_proxy::conn_pool_settings::ReadPolicy;
use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::RedisProxy;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::{DownstreamTlsContext, Secret};
use redplane_proto::pb::google::protobuf::{Duration, Struct};
use redplane_proto::{Any, Json, ResolveError, from_struct, from_struct_lenient, resolve, resolve_lenient, type_url};
use serde_json::{Value, json};

const POLICY: &str = "type.googleapis.com/envoy.config.rbac.v3.Policy";
const V2_REDIS_PROXY: &str = "type.googleapis.com/envoy.config.filter.network.redis_proxy.v2.RedisProxy";

fn structure(value: &Value) -> Struct {
    let any = Json::load()
        .any(json!({"@type": type_url::STRUCT, "value": value}))
        .unwrap();
    Struct::decode(any.value.as_slice()).unwrap()
}

fn typed_struct(url: &str, value: &Value) -> Any {
    let typed = udpa::TypedStruct {
        type_url: url.to_owned(),
        value: Some(structure(value)),
    };
    Any {
        type_url: type_url::TYPED_STRUCT_UDPA.to_owned(),
        value: typed.encode_to_vec(),
    }
}

fn error(value: Value) -> String {
    Json::load().message::<Cluster>(value).unwrap_err().to_string()
}

#[test]
fn reads_what_the_json_mapping_allows() {
    let json = Json::load();
    let snake = json!({"name": "a", "type": "STRICT_DNS", "connect_timeout": "0.25s", "lb_policy": "MAGLEV",
        "max_requests_per_connection": "1", "per_connection_buffer_limit_bytes": 4.0,
        "maglev_lb_config": {"table_size": "65537"}, "outlier_detection": null,
        "alt_stat_name": "x", "metadata": {"filter_metadata": {"istio": {"n": 1.5, "none": null, "l": [1, "a", {}]}}}});
    let camel = json!({"name": "a", "type": 1, "connectTimeout": "0.250s", "lbPolicy": 5,
        "maxRequestsPerConnection": 1, "perConnectionBufferLimitBytes": "4",
        "maglevLbConfig": {"tableSize": 65537},
        "altStatName": "x", "metadata": {"filterMetadata": {"istio": {"n": 1.5, "none": null, "l": [1, "a", {}]}}}});
    let cluster: Cluster = json.message(snake).unwrap();
    assert_eq!(cluster, json.message(camel).unwrap());
    assert_eq!(
        cluster.connect_timeout,
        Some(Duration {
            seconds: 0,
            nanos: 250_000_000
        })
    );
    assert_eq!(cluster.lb_policy(), LbPolicy::Maglev);
    assert_eq!(
        cluster.cluster_discovery_type,
        Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into()))
    );
    assert_eq!(
        json.message_value(&cluster)["maglev_lb_config"]["table_size"],
        "65537"
    );
}

#[test]
fn errors_name_the_path() {
    let endpoint = json!({"load_assignment": {"endpoints": [{}, {"lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"port_value": "x"}}}}]}]}});
    assert_eq!(
        error(endpoint),
        "load_assignment.endpoints[1].lb_endpoints[0].endpoint.address.socket_address.port_value: \
         \"x\" is not a whole number from 0 to 4294967295"
    );
    assert_eq!(
        error(json!({"connect_timeout": "5"})),
        "connect_timeout: \"5\" is not a duration such as \"5s\""
    );
    assert_eq!(
        error(json!({"connect_timeout": "5\u{e9}s"})),
        "connect_timeout: \"5\u{e9}s\" is not a duration such as \"5s\""
    );
    assert_eq!(error(json!({"name": 5})), "name: 5 is not a string");
    assert_eq!(
        error(json!({"lb_policy": "BEST"})),
        "lb_policy: \"BEST\" is not a value of envoy.config.cluster.v3.Cluster.LbPolicy"
    );
    assert_eq!(
        error(json!({"nam": "a"})),
        "nam: envoy.config.cluster.v3.Cluster has no such field"
    );
    assert_eq!(
        error(json!({"alt_stat_name": "a", "altStatName": "a"})),
        "altStatName: is given twice"
    );
    assert_eq!(
        error(json!({"type": "EDS", "cluster_type": {"name": "a"}})),
        "cluster_type: cannot stand beside type: both are cluster_discovery_type"
    );
    assert_eq!(error(json!([])), "(root): a list is not an object");
    assert_eq!(
        error(json!({"transport_socket": {"typed_config": {"@type": type_url::UPSTREAM_TLS, "sni": 1}}})),
        "transport_socket.typed_config.sni: 1 is not a string"
    );
    assert_eq!(
        error(json!({"transport_socket": {"typed_config": {"sni": 1}}})),
        "transport_socket.typed_config: has no @type"
    );
}

#[test]
fn unknown_fields_are_counted_and_named() {
    let value = json!({"name": "a", "new": {"x": 1}, "load_assignment": {"endpoints": [{"newer": 1}]},
        "transport_socket": {"name": "t", "typed_config": {"@type": type_url::UPSTREAM_TLS, "sni": "s", "newest": []}}});
    let read = Json::load().message_lenient::<Cluster>(&value).unwrap();
    assert_eq!(read.message.name, "a");
    assert_eq!(read.ignored.count, 3);
    let mut paths = read.ignored.paths;
    paths.sort();
    assert_eq!(
        paths,
        [
            "load_assignment.endpoints[0].newer",
            "new",
            "transport_socket.typed_config.newest"
        ]
    );
}

#[test]
fn nesting_has_an_end() {
    let mut value = json!({});
    for _ in 0..120 {
        value = json!({"m": value});
    }
    let metadata = json!({"metadata": {"filter_metadata": {"istio": value}}});
    assert_eq!(
        error(metadata),
        "metadata.filter_metadata.istio: is nested too deep"
    );

    let mut any = Any {
        type_url: type_url::CLUSTER.to_owned(),
        value: Vec::new(),
    };
    for _ in 0..5_000 {
        any = Any {
            type_url: "type.googleapis.com/google.protobuf.Any".to_owned(),
            value: any.encode_to_vec(),
        };
    }
    assert!(Json::load().value(&any).is_object());
}

#[test]
fn the_deepest_message_that_decodes_prints() {
    let mut permission = Permission::default();
    for _ in 0..90 {
        permission = Permission {
            rule: Some(Rule::NotRule(Box::new(permission))),
        };
    }
    let policy = Policy {
        permissions: vec![permission],
        ..Policy::default()
    };
    let mut any = Any {
        type_url: POLICY.to_owned(),
        value: policy.encode_to_vec(),
    };
    for _ in 0..148 {
        any = Any {
            type_url: "type.googleapis.com/google.protobuf.Any".to_owned(),
            value: any.encode_to_vec(),
        };
    }
    let printed = Json::load().value(&any).to_string();
    assert_eq!(printed.matches("not_rule").count(), 90);
}

#[test]
fn istio_types_that_istioctl_lacks_print_as_typed_struct() {
    let json = Json::load();
    let config = MetadataExchange {
        protocol: "istio-peer-exchange".to_owned(),
        ..MetadataExchange::default()
    };
    let any = Any {
        type_url: type_url::METADATA_EXCHANGE.to_owned(),
        value: config.encode_to_vec(),
    };
    let printed = json.value(&any);
    assert_eq!(
        printed,
        json!({"@type": type_url::TYPED_STRUCT_UDPA, "type_url": type_url::METADATA_EXCHANGE,
            "value": {"protocol": "istio-peer-exchange"}})
    );
    assert_eq!(resolve(&json.any(&printed).unwrap()).unwrap(), any);
}

#[test]
fn an_unknown_type_prints_and_comes_back() {
    let json = Json::load();
    let any = Any {
        type_url: "type.googleapis.com/com.example.New".to_owned(),
        value: b"\x0a\x01a".to_vec(),
    };
    let printed = json.value(&any);
    assert_eq!(printed, json!({"@type": any.type_url, "value": "CgFh"}));
    assert_eq!(json.any(printed).unwrap(), any);

    let written = json!({"@type": any.type_url, "colour": "red", "n": 1});
    let kept = json.any(&written).unwrap();
    let expected = json!({"@type": type_url::TYPED_STRUCT_UDPA, "type_url": any.type_url, "value": {"colour": "red", "n": 1}});
    assert_eq!(json.value(&kept), expected);
    assert_eq!(json.resolve(&kept).unwrap().any, kept);

    let broken = Any {
        type_url: type_url::CLUSTER.to_owned(),
        value: b"\xff\xff".to_vec(),
    };
    assert_eq!(json.value(&broken)["@type"], type_url::CLUSTER);
}

#[test]
fn a_typed_struct_of_v2_redis_proxy_resolves() {
    let value = json!({"stat_prefix": "redis", "cluster": "main",
        "settings": {"op_timeout": "5s", "readPolicy": "REPLICA", "max_buffer_size_before_flush": 1024},
        "prefix_routes": {"routes": [{"prefix": "a", "cluster": "b"}]}});
    let resolved = resolve(&typed_struct(V2_REDIS_PROXY, &value)).unwrap();
    assert_eq!(resolved.type_url, type_url::REDIS_PROXY);
    let proxy = RedisProxy::decode(resolved.value.as_slice()).unwrap();
    let settings = proxy.settings.clone().unwrap();
    assert_eq!(settings.read_policy(), ReadPolicy::Replica);
    assert_eq!(
        (
            settings.max_buffer_size_before_flush,
            settings.op_timeout.unwrap().seconds
        ),
        (1024, 5)
    );
    let routes = proxy.prefix_routes.unwrap();
    assert_eq!(
        (
            routes.routes.len(),
            routes.catch_all_route.unwrap().cluster.as_str()
        ),
        (1, "main")
    );
}

#[test]
fn catch_all_cluster_becomes_a_route_on_the_wire_too() {
    let value =
        json!({"@type": V2_REDIS_PROXY, "stat_prefix": "r", "prefix_routes": {"catch_all_cluster": "c"}});
    let any = Json::load().any(value).unwrap();
    assert_eq!(any.type_url, V2_REDIS_PROXY);
    let proxy = RedisProxy::decode(resolve(&any).unwrap().value.as_slice()).unwrap();
    assert_eq!(proxy.prefix_routes.unwrap().catch_all_route.unwrap().cluster, "c");
}

#[test]
fn both_typed_structs_and_one_value_too_much_resolve() {
    let config = json!({"cluster_refresh_rate": "5s", "redirectRefreshThreshold": 5});
    let nested = json!({"value": config});
    let url = "type.googleapis.com/envoy.config.cluster.redis.RedisClusterConfig";
    let plain = resolve(&typed_struct(url, &config)).unwrap();
    assert_eq!(plain.type_url, type_url::REDIS_CLUSTER_CONFIG);
    assert_eq!(resolve(&typed_struct(url, &nested)).unwrap(), plain);
    let typed = xds::TypedStruct {
        type_url: url.to_owned(),
        value: Some(structure(&config)),
    };
    let any = Any {
        type_url: type_url::TYPED_STRUCT_XDS.to_owned(),
        value: typed.encode_to_vec(),
    };
    assert_eq!(resolve(&any).unwrap(), plain);

    let read: RedisClusterConfig = from_struct(&structure(&config)).unwrap();
    assert_eq!(read, RedisClusterConfig::decode(plain.value.as_slice()).unwrap());
    assert_eq!(read.redirect_refresh_threshold.map(|n| n.value), Some(5));
    assert_eq!(
        from_struct::<RedisClusterConfig>(&structure(&nested)).unwrap(),
        read
    );
}

#[test]
fn a_struct_that_does_not_fit_is_refused_by_path() {
    let wrong = structure(&json!({"cluster_refresh_rate": 5}));
    let error = from_struct::<RedisClusterConfig>(&wrong).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cluster_refresh_rate: 5 is not a duration such as \"5s\""
    );
    let unknown = structure(&json!({"cluster_refresh_rat": "5s"}));
    assert_eq!(
        from_struct::<RedisClusterConfig>(&unknown).unwrap_err().path(),
        "cluster_refresh_rat"
    );
    assert_eq!(
        from_struct_lenient::<RedisClusterConfig>(&unknown)
            .unwrap()
            .ignored
            .paths,
        ["cluster_refresh_rat"]
    );

    let refused = resolve(&typed_struct(
        V2_REDIS_PROXY,
        &json!({"settings": {"op_timeout": 5}}),
    ))
    .unwrap_err();
    assert!(
        matches!(&refused, ResolveError::Value { error, .. } if error.path() == "settings.op_timeout"),
        "{refused}"
    );
    let lenient = resolve_lenient(&typed_struct(
        V2_REDIS_PROXY,
        &json!({"settings": {"fast": true}}),
    ))
    .unwrap();
    assert_eq!(lenient.ignored.paths, ["settings.fast"]);
}

#[test]
fn a_v2_cluster_becomes_v3() {
    let value = json!({"@type": "type.googleapis.com/envoy.api.v2.Cluster", "name": "old", "type": "STATIC",
        "hosts": [{"socket_address": {"address": "127.0.0.1", "port_value": 6379}}],
        "tlsContext": {"sni": "redis.example"},
        "extension_protocol_options": {"envoy.redis_proxy": {"auth_password": {"inline_string": "hunter2"}}}});
    let json = Json::load();
    let any = json.any(value).unwrap();
    let shown = json.value(&any);
    assert_eq!(shown["@type"], type_url::CLUSTER);
    let resolved = json.resolve(&any).unwrap();
    assert_eq!(
        (resolved.any.type_url.as_str(), resolved.ignored.count),
        (type_url::CLUSTER, 0)
    );
    let cluster = Cluster::decode(resolved.any.value.as_slice()).unwrap();
    assert_eq!(
        cluster.load_assignment.as_ref().unwrap().endpoints[0]
            .lb_endpoints
            .len(),
        1
    );
    let Some(ConfigType::TypedConfig(tls)) = &cluster.transport_socket.as_ref().unwrap().config_type else {
        panic!()
    };
    assert_eq!(tls.type_url, type_url::UPSTREAM_TLS);
    let options = &cluster.typed_extension_protocol_options["envoy.redis_proxy"];
    assert_eq!(options.type_url, type_url::STRUCT);
    let printed = json.value(&resolved.any).to_string();
    assert!(
        !printed.contains("hunter2") && !shown.to_string().contains("hunter2"),
        "{printed} {shown}"
    );
}

#[test]
fn old_fields_of_a_bootstrap_are_read() {
    let bootstrap = json!({"node": {"id": "a", "build_version": "b"}, "static_resources": {"listeners": [
        {"name": "l", "deprecated_v1": {"bind_to_port": false}, "use_original_dst": true, "filter_chains": [
            {"tls_context": {}, "filters": [{"name": "envoy.redis_proxy", "config": {"stat_prefix": "r"}}]}]}]}});
    let read = Json::load().message_lenient::<Bootstrap>(&bootstrap).unwrap();
    assert_eq!(
        read.ignored.paths,
        ["envoy.config.core.v3.Node.hidden_envoy_deprecated_build_version"]
    );
    let listener = &read.message.static_resources.unwrap().listeners[0];
    assert_eq!(listener.bind_to_port.map(|flag| flag.value), Some(false));
    assert_eq!(listener.use_original_dst.map(|flag| flag.value), Some(true));
    let chain = &listener.filter_chains[0];
    assert!(chain.transport_socket.is_some());
    let shown = Json::load().message_value(&chain.filters[0]);
    assert_eq!(
        shown["typed_config"],
        json!({"@type": type_url::STRUCT, "value": {"stat_prefix": "r"}})
    );
}

#[test]
fn old_matchers_become_new_ones() {
    let route = json!({"@type": "type.googleapis.com/envoy.api.v2.route.Route",
        "match": {"regex": "/a.*", "headers": [{"name": "x", "regex_match": "b+"}]},
        "per_filter_config": {"f": {"k": "v"}}});
    let resolved = resolve(&Json::load().any(route).unwrap()).unwrap();
    let shown = Json::load().message_value(&Route::decode(resolved.value.as_slice()).unwrap());
    assert_eq!(shown["match"]["safe_regex"]["regex"], "/a.*");
    assert_eq!(shown["match"]["headers"][0]["safe_regex_match"]["regex"], "b+");
    assert_eq!(shown["typed_per_filter_config"]["f"]["value"]["k"], "v");
}

#[test]
fn secrets_do_not_print() {
    let json = Json::load();
    let proxy = json!({"stat_prefix": "r", "downstream_auth_passwords": [{"inline_string": "hunter2"}],
        "downstream_auth_username": {"inline_bytes": "aHVudGVyMg=="}});
    let options =
        json!({"@type": type_url::REDIS_PROTOCOL_OPTIONS, "auth_password": {"filename": "hunter2"}});
    let cluster = json!({"name": "c", "typed_extension_protocol_options": {"envoy.filters.network.redis_proxy": options}});
    let read: RedisProxy = json.message(&proxy).unwrap();
    let shown = json.message_value(&read);
    assert_eq!(
        shown["downstream_auth_passwords"],
        json!([{"inline_string": "[redacted]"}])
    );
    assert_eq!(
        shown["downstream_auth_username"],
        json!({"inline_bytes": "W3JlZGFjdGVkXQ=="})
    );
    assert_eq!(shown["stat_prefix"], "r");
    let shown = json.message_value(&json.message::<Cluster>(&cluster).unwrap());
    assert_eq!(
        shown["typed_extension_protocol_options"]["envoy.filters.network.redis_proxy"]["auth_password"]["filename"],
        "[redacted]"
    );
    let typed = json.value(&typed_struct(
        V2_REDIS_PROXY,
        &json!({"downstreamAuthPassword": {"inlineString": "hunter2"}}),
    ));
    assert_eq!(
        typed["value"],
        json!({"downstreamAuthPassword": {"inlineString": "[redacted]"}})
    );
    let nested = json!({"clusters": [{"typed_extension_protocol_options": {"r": options}}]});
    let url = "type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap.StaticResources";
    let typed = json.value(&typed_struct(url, &nested)).to_string();
    assert!(
        !typed.contains("hunter2") && typed.contains("[redacted]"),
        "{typed}"
    );
    let unknown = json
        .value(&typed_struct("type.googleapis.com/com.example.New", &options))
        .to_string();
    assert!(!unknown.contains("hunter2"), "{unknown}");
    let mut sentinel = typed_struct(
        type_url::SENTINEL_CLUSTER_CONFIG,
        &json!({"master_name": "m", "auth_password": {"inline_string": "hunter2"}}),
    );
    sentinel.type_url = type_url::TYPED_STRUCT_XDS.to_owned();
    assert_eq!(
        json.value(&sentinel)["value"],
        json!({"master_name": "m", "auth_password": {"inline_string": "[redacted]"}})
    );
}

#[test]
fn private_keys_do_not_print() {
    let json = Json::load();
    let certificate = json!({"certificate_chain": {"inline_string": "public"},
        "private_key": {"inline_string": "hunter2"}, "password": {"environment_variable": "hunter2"}});
    let secret: Secret = json
        .message(json!({"name": "default", "tls_certificate": certificate}))
        .unwrap();
    let shown = json.message_value(&secret);
    assert_eq!(
        shown["tls_certificate"]["private_key"],
        json!({"inline_string": "[redacted]"})
    );
    assert_eq!(
        shown["tls_certificate"]["certificate_chain"],
        json!({"inline_string": "public"})
    );
    let context = json!({"common_tls_context": {"tls_certificates": [certificate]}});
    let context: DownstreamTlsContext = json.message(context).unwrap();
    assert!(!json.message_value(&context).to_string().contains("hunter2"));
}
