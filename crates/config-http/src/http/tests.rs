//! Tables: what is read, what is refused and with which path, what is said to have no effect.

use std::time::Duration;

use redplane_proto::pb::envoy::config::route::v3::RouteConfiguration as RouteProto;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as HcmProto;

use super::filter::{FilterOverride, HttpFilter};
use super::hcm::{Codec, HttpConnectionManager};
use super::route::{Action, Domain, HostRewrite, PathMatch, PathRewrite, RouteConfiguration};
use crate::Ignored;
use crate::sample::{message, refusal};
use crate::tls::Usable;

const ROUTER: &str = "{name: r, typed_config: {'@type': \
     type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";

fn manager(fields: &str) -> (Result<Usable<HttpConnectionManager>, crate::Invalid>, Ignored) {
    let filters = if fields.contains("http_filters") {
        String::new()
    } else {
        format!("http_filters: [{ROUTER}]\n")
    };
    let routes = if fields.contains("route_config") {
        ""
    } else {
        "route_config: {}\n"
    };
    let yaml = format!("stat_prefix: p\n{routes}{filters}{fields}");
    let mut ignored = Ignored::default();
    let read = HttpConnectionManager::from_proto(&message::<HcmProto>(&yaml), &mut ignored);
    (read, ignored)
}

fn ready(fields: &str) -> HttpConnectionManager {
    match manager(fields).0.unwrap() {
        Usable::Ready(manager) => manager,
        Usable::Inert(reason) => panic!("{reason}"),
    }
}

fn routes(yaml: &str) -> Result<RouteConfiguration, crate::Invalid> {
    RouteConfiguration::from_proto(&message::<RouteProto>(yaml))
}

/// One route with these fields.
fn route(fields: &str) -> Result<Action, crate::Invalid> {
    let yaml =
        format!("virtual_hosts: [{{name: h, domains: ['*'], routes: [{{match: {{prefix: /}}, {fields}}}]}}]");
    routes(&yaml).map(|routes| routes.virtual_hosts[0].routes[0].action.clone())
}

#[test]
fn defaults_are_envoys() {
    let manager = ready("");
    assert_eq!(manager.codec, Codec::Auto);
    assert_eq!(manager.headers.server_name, "envoy");
    assert_eq!(manager.limits.header_bytes, 60 * 1024);
    assert_eq!(manager.limits.header_count, 100);
    assert_eq!(manager.timeouts.idle, Some(Duration::from_secs(3600)));
    assert_eq!(manager.timeouts.stream_idle, Some(Duration::from_secs(300)));
    assert!(manager.headers.request_id.generate && !manager.headers.use_remote_address);
    assert!(!manager.path.normalize && !manager.http1.http10);
    let Action::Forward(forward) = route("route: {cluster: c}").unwrap() else {
        panic!("forwards")
    };
    assert_eq!(forward.timeouts.response, Some(Duration::from_secs(15)));
    assert_eq!(
        (&forward.path, &forward.host),
        (&PathRewrite::Keep, &HostRewrite::Keep)
    );
}

#[test]
fn what_is_refused_has_its_path() {
    let table = [
        (
            "scoped_routes: {name: s}",
            "scoped_routes: scoped routes are not supported",
        ),
        (
            "max_request_headers_kb: 0",
            "max_request_headers_kb: value must be inside range (0, 8192]",
        ),
        ("server_name: \"a\\nb\"", "server_name: is no header value"),
        (
            "common_http_protocol_options: {max_headers_count: 0}",
            "common_http_protocol_options.max_headers_count: value must be greater than or equal to 1",
        ),
        (
            "stream_idle_timeout: -1s",
            "stream_idle_timeout: Expected positive duration: seconds: -1 nanos: 0",
        ),
        (
            "original_ip_detection_extensions: [{name: x}]",
            "original_ip_detection_extensions: is not supported",
        ),
        (
            "http_filters: []",
            "http_filters: the last filter in a http filter chain must be the router",
        ),
        (
            "strip_matching_host_port: true\nstrip_any_host_port: true",
            "strip_any_host_port: Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.",
        ),
    ];
    for (fields, expected) in table {
        let fields = if fields.starts_with("scoped") {
            format!("{fields}\n# no route_config")
        } else {
            fields.to_owned()
        };
        assert_eq!(refusal(manager(&fields).0), expected, "{fields}");
    }
}

#[test]
fn routes_that_are_refused() {
    let host = |domains: &str| {
        format!("name: r\nvirtual_hosts: [{{name: a, domains: {domains}}}, {{name: b, domains: ['*']}}]")
    };
    assert_eq!(
        refusal(routes(&host("['*']"))),
        "virtual_hosts[1].domains[0]: Only a single wildcard domain is permitted in route r"
    );
    assert_eq!(
        refusal(routes(&host("[x, X]"))),
        "virtual_hosts[0].domains[1]: Only unique values for domains are permitted. Duplicate entry of domain x in route r"
    );
    let at = "virtual_hosts[0].routes[0].";
    let table = [
        ("route: {}", "route.cluster_specifier: value is required"),
        (
            "route: {cluster: c, prefix_rewrite: /a, regex_rewrite: {pattern: {regex: b}}}",
            "route.prefix_rewrite: Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy",
        ),
        (
            "route: {weighted_clusters: {clusters: [{name: a, weight: 0}]}}",
            "route.weighted_clusters.clusters: Sum of weights in the weighted_cluster must be greater than 0.",
        ),
        (
            "direct_response: {status: 99}",
            "direct_response.status: value must be inside range [200, 600)",
        ),
        (
            "direct_response: {status: 200}, request_headers_to_add: [{header: {key: ':path', value: x}}]",
            "request_headers_to_add[0].header.key: :-prefixed or host headers may not be modified",
        ),
        (
            "direct_response: {status: 200}, response_headers_to_add: [{header: {key: a, value: '%NOBODY%'}}]",
            "response_headers_to_add[0].header.value: Not supported field in StreamInfo: NOBODY",
        ),
        (
            "route: {cluster: c, retry_policy: {retry_back_off: {base_interval: 1s, max_interval: 0.5s}}}",
            "route.retry_policy.retry_back_off.max_interval: retry_policy.max_interval must greater than or equal to the base_interval",
        ),
        (
            "route: {cluster: c, internal_redirect_policy: {}}",
            "route.internal_redirect_policy: internal redirects are not supported",
        ),
    ];
    for (fields, expected) in table {
        assert_eq!(refusal(route(fields)), format!("{at}{expected}"), "{fields}");
    }
}

#[test]
fn a_guard_closes_the_chain() {
    let filter = |kind: &str| {
        format!(
            "http_filters: [{{name: g, typed_config: {{'@type': type.googleapis.com/{kind}}}}}, {ROUTER}]"
        )
    };
    let guards = [
        "ext_authz.v3.ExtAuthz",
        "oauth2.v3.OAuth2",
        "basic_auth.v3.BasicAuth",
    ];
    for guard in guards {
        let kind = format!("envoy.extensions.filters.http.{guard}");
        assert!(
            matches!(manager(&filter(&kind)).0.unwrap(), Usable::Inert(reason) if reason.contains("not enforced")),
            "{guard}"
        );
    }
    let discovered = format!(
        "http_filters: [{{name: g, config_discovery: {{config_source: {{ads: {{}}}}, type_urls: \
         [type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC]}}}}, {ROUTER}]"
    );
    assert!(matches!(manager(&discovered).0.unwrap(), Usable::Inert(_)));
    let (watching, ignored) = manager(&filter("envoy.extensions.filters.http.lua.v3.Lua"));
    assert!(matches!(watching.unwrap(), Usable::Ready(_)));
    assert_eq!(ignored.0, ["http_filters[0].typed_config: g is left out"]);
}

#[test]
fn domains_by_their_kind() {
    let yaml = "virtual_hosts: [{name: h, domains: ['A.b', '*.C', 'd.*', '*']}]";
    let expected = [
        Domain::Exact("a.b".into()),
        Domain::Suffix(".c".into()),
        Domain::Prefix("d.".into()),
        Domain::Any,
    ];
    assert_eq!(routes(yaml).unwrap().virtual_hosts[0].domains, expected);
}

#[test]
fn what_has_no_effect_is_said() {
    let yaml = "virtual_hosts: [{name: h, domains: ['*'], hedge_policy: {}, routes: [{match: {path: /}, \
                stat_prefix: s, route: {cluster: c, hash_policy: [{filter_state: {key: k}}], \
                retry_policy: {retry_on: '5xx,nonsense'}}}]}]";
    let read = routes(yaml).unwrap();
    assert_eq!(
        read.ignored.0,
        [
            "virtual_hosts[0].hedge_policy",
            "virtual_hosts[0].routes[0].stat_prefix",
            "virtual_hosts[0].routes[0].route.retry_policy.retry_on: nonsense is not known",
            "virtual_hosts[0].routes[0].route.hash_policy[0].filter_state: nothing sets one, it hashes nothing",
        ]
    );
    assert_eq!(
        read.virtual_hosts[0].routes[0].matches.path,
        PathMatch::Exact("/".into())
    );
}

#[test]
fn access_rules_and_tokens_are_read() {
    let filters = "http_filters: [{name: t, typed_config: {'@type': \
        type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication, providers: {p: {remote_jwks: \
        {http_uri: {uri: 'http://k/', cluster: keys, timeout: 1s}}}}}}, {name: r, typed_config: {'@type': \
        type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {action: DENY}}}, ";
    let manager = ready(&format!("{filters}{ROUTER}]"));
    assert!(matches!(manager.filters[0].filter, HttpFilter::Jwt(_)));
    assert!(matches!(&manager.filters[1].filter, HttpFilter::Rbac(filter) if filter.rules.is_some()));
    assert_eq!(manager.clusters(), ["keys"]);
    let of_route = |kind: &str, fields: &str| {
        let yaml = format!(
            "typed_per_filter_config: {{f: {{'@type': type.googleapis.com/envoy.extensions.filters.http.{kind}, {fields}}}}}"
        );
        routes(&yaml).unwrap().overrides.of("f").cloned()
    };
    let off = of_route("rbac.v3.RBACPerRoute", "");
    assert!(matches!(off, Some(FilterOverride::Disabled)));
    let own = of_route("rbac.v3.RBACPerRoute", "rbac: {rules: {action: DENY}}");
    assert!(matches!(own, Some(FilterOverride::Rbac(_))));
    let free = of_route("jwt_authn.v3.PerRouteConfig", "disabled: true");
    assert!(matches!(free, Some(FilterOverride::Jwt(_))));
}

#[test]
fn what_is_accepted_without_effect_is_said() {
    let of_manager = [
        (
            "upgrade_configs: [{upgrade_type: CONNECT}]",
            "upgrade_configs[0].upgrade_type: CONNECT is not served",
        ),
        (
            "http_protocol_options: {allow_absolute_url: false}",
            "http_protocol_options.allow_absolute_url: whole URLs are taken apart in any case",
        ),
        (
            "http2_protocol_options: {allow_connect: true}",
            "http2_protocol_options.allow_connect",
        ),
        (
            "http2_protocol_options: {connection_keepalive: {connection_idle_interval: 1s}}",
            "http2_protocol_options.connection_keepalive.connection_idle_interval",
        ),
        (
            "set_current_client_cert_details: {cert: true, chain: true, uri: true}",
            "set_current_client_cert_details.cert, set_current_client_cert_details.chain",
        ),
    ];
    for (fields, expected) in of_manager {
        let (read, ignored) = manager(fields);
        read.unwrap();
        assert_eq!(ignored.0.join(", "), expected, "{fields}");
    }
    let at = "virtual_hosts[0].routes[0].route.";
    let of_route = [
        (
            "retry_policy: {per_try_idle_timeout: 1s}",
            "retry_policy.per_try_idle_timeout",
        ),
        (
            "max_stream_duration: {grpc_timeout_header_offset: 1s}",
            "max_stream_duration.grpc_timeout_header_offset",
        ),
    ];
    for (fields, expected) in of_route {
        let yaml = format!(
            "virtual_hosts: [{{name: h, domains: ['*'], routes: [{{match: {{path: /}}, route: {{cluster: c, {fields}}}}}]}}]"
        );
        assert_eq!(
            routes(&yaml).unwrap().ignored.0,
            [format!("{at}{expected}")],
            "{fields}"
        );
    }
}
