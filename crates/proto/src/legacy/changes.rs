//! What became of each field that v3 dropped: a table, and one small function per kind of change.
//!
//! Follows Envoy 1.17, the last release that read v2. A field whose successor is already set is not carried over.

use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, Value};

use super::HIDDEN;
use crate::pb::envoy::config::core::v3::{Address, TransportSocket, transport_socket};
use crate::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use crate::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use crate::pb::envoy::config::listener::v3::listener::DeprecatedV1;
use crate::pb::envoy::extensions::filters::network::redis_proxy::v3::redis_proxy::PrefixRoutes;
use crate::pb::envoy::extensions::filters::network::redis_proxy::v3::redis_proxy::prefix_routes::Route;
use crate::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use crate::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use crate::pb::google::protobuf::{Any, BoolValue};
use crate::type_url;

/// How an old field is rewritten.
enum Change {
    /// A Struct becomes the `Any` of a Struct.
    Config,
    /// The same for every value of a map.
    ConfigMap,
    /// A pattern becomes a RegexMatcher.
    Regex,
    /// Words become string matchers that compare exactly.
    Exact,
    /// Patterns become string matchers.
    RegexList,
    /// A word becomes one string matcher that compares exactly.
    ExactOne,
    /// A TLS context of this type URL becomes a transport socket.
    Tls(&'static str),
    /// Addresses become the endpoints of one locality.
    Hosts,
    /// A cluster's name becomes a catch-all route.
    CatchAll,
    /// The same, two levels further down.
    PrefixRoutes,
    /// Either flag says that the port is not bound.
    BindToPort,
}

/// Message (without `envoy.`), old field, its successor, and how to get from one to the other.
#[rustfmt::skip]
const CHANGES: &[(&str, &str, &str, Change)] = &[
    ("config.accesslog.v3.AccessLog", "config", "typed_config", Change::Config),
    ("config.accesslog.v3.ExtensionFilter", "config", "typed_config", Change::Config),
    ("config.cluster.v3.Cluster", "hosts", "load_assignment", Change::Hosts),
    ("config.cluster.v3.Cluster", "tls_context", "transport_socket", Change::Tls(type_url::UPSTREAM_TLS)),
    ("config.cluster.v3.Cluster", "extension_protocol_options", "typed_extension_protocol_options", Change::ConfigMap),
    ("config.core.v3.HealthCheck.CustomHealthCheck", "config", "typed_config", Change::Config),
    ("config.core.v3.TransportSocket", "config", "typed_config", Change::Config),
    ("config.listener.v3.Filter", "config", "typed_config", Change::Config),
    ("config.listener.v3.FilterChain", "tls_context", "transport_socket", Change::Tls(type_url::DOWNSTREAM_TLS)),
    ("config.listener.v3.Listener", "", "", Change::BindToPort),
    ("config.listener.v3.ListenerFilter", "config", "typed_config", Change::Config),
    ("config.metrics.v3.StatsSink", "config", "typed_config", Change::Config),
    ("config.overload.v3.ResourceMonitor", "config", "typed_config", Change::Config),
    ("config.route.v3.CorsPolicy", "allow_origin", "allow_origin_string_match", Change::Exact),
    ("config.route.v3.CorsPolicy", "allow_origin_regex", "allow_origin_string_match", Change::RegexList),
    ("config.route.v3.HeaderMatcher", "regex_match", "safe_regex_match", Change::Regex),
    ("config.route.v3.QueryParameterMatcher", "value", "string_match", Change::ExactOne),
    ("config.route.v3.Route", "per_filter_config", "typed_per_filter_config", Change::ConfigMap),
    ("config.route.v3.RouteMatch", "regex", "safe_regex", Change::Regex),
    ("config.route.v3.VirtualHost", "per_filter_config", "typed_per_filter_config", Change::ConfigMap),
    ("config.route.v3.WeightedCluster.ClusterWeight", "per_filter_config", "typed_per_filter_config", Change::ConfigMap),
    ("config.trace.v3.Tracing.Http", "config", "typed_config", Change::Config),
    ("extensions.filters.network.http_connection_manager.v3.HttpFilter", "config", "typed_config", Change::Config),
    ("extensions.filters.network.redis_proxy.v3.RedisProxy", "cluster", "prefix_routes", Change::PrefixRoutes),
    ("extensions.filters.network.redis_proxy.v3.RedisProxy.PrefixRoutes", "catch_all_cluster", "catch_all_route", Change::CatchAll),
    ("extensions.transport_sockets.tls.v3.CertificateValidationContext", "verify_subject_alt_name", "match_subject_alt_names", Change::Exact),
    ("type.matcher.v3.StringMatcher", "regex", "safe_regex", Change::Regex),
];

pub(super) fn apply(full_name: &str, message: &mut DynamicMessage) {
    let Some(name) = full_name.strip_prefix("envoy.") else {
        return;
    };
    for (_, from, to, change) in CHANGES.iter().filter(|row| row.0 == name) {
        match change {
            Change::BindToPort => bind_to_port(message),
            Change::Exact | Change::RegexList => string_matchers(message, from, to, change),
            // A successor that is set already says the same in newer words: the old field stays, and is counted.
            _ if message.has_field_by_name(to) && !matches!(change, Change::PrefixRoutes) => {}
            _ => single(message, from, to, change),
        }
    }
}

fn single(message: &mut DynamicMessage, from: &str, to: &str, change: &Change) {
    let hidden = format!("{HIDDEN}{from}");
    if !message.has_field_by_name(&hidden) {
        return;
    }
    let Some(old) = message.take_field_by_name(&hidden) else {
        return;
    };
    match change {
        Change::Config => put(message, to, old.as_message().map(struct_as_any)),
        Change::ConfigMap => put_map(message, to, &old),
        Change::Regex => put(message, to, old.as_str().map(regex)),
        Change::ExactOne => put(message, to, old.as_str().map(exact)),
        Change::Tls(url) => put(
            message,
            to,
            old.as_message().map(|context| transport_socket(url, context)),
        ),
        Change::Hosts => hosts(message, &old),
        Change::CatchAll => put(message, to, old.as_str().map(route_to)),
        Change::PrefixRoutes => prefix_routes(message, old.as_str().unwrap_or_default()),
        Change::Exact | Change::RegexList | Change::BindToPort => {}
    }
}

/// Sets a message field from its typed form.
fn put<M: Message>(message: &mut DynamicMessage, field: &str, typed: Option<M>) {
    let (Some(typed), Some(Value::Message(mut target))) = (typed, default_of(message, field)) else {
        return;
    };
    if target.transcode_from(&typed).is_ok() {
        message.set_field_by_name(field, Value::Message(target));
    }
}

fn default_of(message: &DynamicMessage, field: &str) -> Option<Value> {
    let field = message.descriptor().get_field_by_name(field)?;
    Some(Value::default_value(&field.kind()))
}

fn struct_as_any(config: &DynamicMessage) -> Any {
    Any {
        type_url: type_url::STRUCT.to_owned(),
        value: config.encode_to_vec(),
    }
}

fn put_map(message: &mut DynamicMessage, field: &str, old: &Value) {
    let descriptor = message.descriptor();
    let Some(target) = descriptor.get_field_by_name(field) else {
        return;
    };
    let Kind::Message(entry) = target.kind() else {
        return;
    };
    let kind = entry.map_entry_value_field().kind();
    let convert = |(key, value): (&MapKey, &Value)| {
        let Value::Message(mut any) = Value::default_value(&kind) else {
            return None;
        };
        any.transcode_from(&struct_as_any(value.as_message()?)).ok()?;
        Some((key.clone(), Value::Message(any)))
    };
    let map = old.as_map().into_iter().flatten().filter_map(convert).collect();
    message.set_field(&target, Value::Map(map));
}

fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.to_owned(),
        ..RegexMatcher::default()
    }
}

fn exact(text: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::Exact(text.to_owned())),
        ..StringMatcher::default()
    }
}

fn string_matchers(message: &mut DynamicMessage, from: &str, to: &str, change: &Change) {
    let Some(old) = message.take_field_by_name(&format!("{HIDDEN}{from}")) else {
        return;
    };
    let Some(Value::Message(empty)) = default_of(message, to) else {
        return;
    };
    for text in old.as_list().into_iter().flatten().filter_map(Value::as_str) {
        let typed = match change {
            Change::RegexList => StringMatcher {
                match_pattern: Some(MatchPattern::SafeRegex(regex(text))),
                ..StringMatcher::default()
            },
            _ => exact(text),
        };
        let mut matcher = empty.clone();
        if let (Ok(()), Some(Value::List(list))) =
            (matcher.transcode_from(&typed), message.get_field_by_name_mut(to))
        {
            list.push(Value::Message(matcher));
        }
    }
}

fn transport_socket(url: &str, context: &DynamicMessage) -> TransportSocket {
    let any = Any {
        type_url: url.to_owned(),
        value: context.encode_to_vec(),
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(any)),
    }
}

fn hosts(cluster: &mut DynamicMessage, hosts: &Value) {
    let name = cluster
        .get_field_by_name("name")
        .and_then(|name| name.as_str().map(str::to_owned));
    let addresses = hosts
        .as_list()
        .into_iter()
        .flatten()
        .filter_map(Value::as_message);
    let lb_endpoints = addresses
        .filter_map(|address| address.transcode_to().ok())
        .map(endpoint)
        .collect();
    let locality = LocalityLbEndpoints {
        lb_endpoints,
        ..LocalityLbEndpoints::default()
    };
    let assignment = ClusterLoadAssignment {
        cluster_name: name.unwrap_or_default(),
        endpoints: vec![locality],
        ..ClusterLoadAssignment::default()
    };
    put(cluster, "load_assignment", Some(assignment));
}

fn endpoint(address: Address) -> LbEndpoint {
    let endpoint = Endpoint {
        address: Some(address),
        ..Endpoint::default()
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..LbEndpoint::default()
    }
}

fn route_to(cluster: &str) -> Route {
    Route {
        cluster: cluster.to_owned(),
        ..Route::default()
    }
}

/// Envoy 1.13: `cluster` is the catch-all route unless there is one.
fn prefix_routes(redis_proxy: &mut DynamicMessage, cluster: &str) {
    let existing = redis_proxy.get_field_by_name("prefix_routes");
    let existing =
        existing.and_then(|routes| routes.as_message().and_then(|routes| routes.transcode_to().ok()));
    let mut routes: PrefixRoutes = existing.unwrap_or_default();
    routes.catch_all_route.get_or_insert_with(|| route_to(cluster));
    put(redis_proxy, "prefix_routes", Some(routes));
}

fn bind_to_port(listener: &mut DynamicMessage) {
    if !listener.has_field_by_name("deprecated_v1") {
        return;
    }
    let old = listener.get_field_by_name("deprecated_v1");
    let old = old.and_then(|old| {
        old.as_message()
            .and_then(|old| old.transcode_to::<DeprecatedV1>().ok())
    });
    let Some(flag) = old.and_then(|old| old.bind_to_port) else {
        return;
    };
    if !flag.value || !listener.has_field_by_name("bind_to_port") {
        put(listener, "bind_to_port", Some(BoolValue { value: flag.value }));
    }
}
