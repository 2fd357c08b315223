//! Listeners: chains, filters, listener filters, access logs, and each refusal with its path.

use super::*;
use crate::http::RouteSource;
use crate::sample::{message, refusal};

const ADDRESS: &str = "address: {socket_address: {address: 0.0.0.0, port_value: 6379}}";
const TCP: &str = "{name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
                   stat_prefix: s, cluster: c}}";
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";

fn read(yaml: &str) -> Result<Listener, Invalid> {
    Listener::from_proto(&message(yaml))
}

/// A listener with these fields.
fn with(fields: &str) -> Result<Listener, Invalid> {
    read(&format!("name: l\n{ADDRESS}\n{fields}"))
}

fn kinds(listener: &Listener) -> Vec<ListenerFilterKind> {
    listener
        .filters
        .iter()
        .map(|filter| filter.kind.clone())
        .collect()
}

/// A listener with one chain of these filters.
fn filters(list: &str) -> Result<Listener, Invalid> {
    with(&format!("filter_chains: [{{filters: [{list}]}}]"))
}

/// Why the only chain is inert.
fn inert(listener: Result<Listener, Invalid>) -> String {
    match &listener.unwrap().chains[0].terminal {
        Terminal::Inert { reason } => reason.clone(),
        other => panic!("is served: {other:?}"),
    }
}

fn matching(condition: &str) -> Result<ChainMatch, Invalid> {
    with(&format!("filter_chains: [{{filter_chain_match: {condition}}}]"))
        .map(|listener| listener.chains[0].matches.clone())
}

#[test]
fn defaults_are_envoys() {
    let listener = read(ADDRESS).unwrap();
    assert_eq!(
        (listener.name.as_str(), listener.stat_name.as_str()),
        ("0.0.0.0_6379", "0.0.0.0_6379")
    );
    assert_eq!(listener.addresses[0].to_string(), "0.0.0.0:6379");
    assert!(listener.bind_to_port && listener.reuse_port && !listener.hands_off);
    assert!(listener.filters.is_empty());
    assert_eq!(listener.listener_filters_timeout, Duration::from_secs(15));
    assert!(!listener.continue_on_listener_filters_timeout && listener.backlog.is_none());
    assert_eq!(
        (listener.direction, listener.chains.len()),
        (Direction::Unspecified, 0)
    );
    assert!(listener.default_chain.is_none() && listener.ignored.0.is_empty());
    let v6 = read("address: {socket_address: {address: '::', port_value: 15001}}").unwrap();
    assert_eq!(v6.stat_name, "[__]_15001");
}

#[test]
fn plain_fields() {
    let listener = with(
        "
stat_prefix: p
additional_addresses: [{address: {socket_address: {address: '::1', port_value: 1}}}]
enable_reuse_port: false
traffic_direction: OUTBOUND
listener_filters_timeout: 0s
continue_on_listener_filters_timeout: true
tcp_backlog_size: 128
transparent: true
use_original_dst: true
",
    )
    .unwrap();
    assert_eq!((listener.stat_name.as_str(), listener.addresses.len()), ("p", 2));
    assert!(
        listener.transparent
            && !listener.reuse_port
            && listener.hands_off
            && listener.listener_filters_timeout.is_zero()
    );
    assert_eq!(kinds(&listener), [ListenerFilterKind::OriginalDst]);
    assert_eq!(
        (listener.direction, listener.backlog),
        (Direction::Outbound, Some(128))
    );
}

#[test]
fn either_flag_keeps_it_from_binding() {
    assert!(!with("bind_to_port: false").unwrap().bind_to_port);
    assert!(!with("deprecated_v1: {bind_to_port: false}").unwrap().bind_to_port);
    assert!(
        !with("deprecated_v1: {bind_to_port: false}\nbind_to_port: true")
            .unwrap()
            .bind_to_port
    );
    assert!(with("deprecated_v1: {}").unwrap().bind_to_port);
}

#[test]
fn addresses_that_are_not_bound() {
    assert_eq!(refusal(read("name: l")), "address: value is required");
    let name = refusal(read("address: {socket_address: {address: h, port_value: 1}}"));
    assert_eq!(name, "address.socket_address.address: malformed IP address: h");
    let udp = read("address: {socket_address: {protocol: UDP, address: 0.0.0.0, port_value: 443}}").unwrap();
    assert!(udp.addresses.is_empty() && !udp.bind_to_port && udp.ignored.0[0].contains("UDP is not served"));
    let inner = read("name: connect_originate\ninternal_listener: {}").unwrap();
    assert!(inner.addresses.is_empty() && !inner.bind_to_port);
    assert_eq!(
        (inner.stat_name.as_str(), inner.ignored.0.as_slice()),
        ("connect_originate", &["listener_specifier".to_owned()][..])
    );
}

#[test]
fn terminals() {
    let tcp = filters(TCP).unwrap();
    assert!(matches!(&tcp.chains[0].terminal, Terminal::Tcp(proxy) if proxy.stat_prefix == "s"));
    let typed = "type.googleapis.com/udpa.type.v1.TypedStruct";
    let v2 = "type.googleapis.com/envoy.config.filter.network.redis_proxy.v2.RedisProxy";
    let redis =
        "{stat_prefix: r, settings: {op_timeout: 5s}, prefix_routes: {catch_all_route: {cluster: c}}}";
    let redis =
        format!("{{name: anything, typed_config: {{'@type': {typed}, type_url: {v2}, value: {redis}}}}}");
    let redis = filters(&redis).unwrap();
    assert!(matches!(&redis.chains[0].terminal, Terminal::Redis(proxy) if proxy.stat_prefix == "r"));
    assert_eq!(inert(filters("")), "the chain has no filters");
    assert_eq!(
        inert(filters("{name: istio.stats}")),
        "filter `istio.stats` is not served"
    );
    let http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "{name: r, typed_config: {'@type': \
                  type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
    let http = |routes: &str| {
        let fields = format!("stat_prefix: s, http_filters: [{router}], {routes}");
        filters(&format!(
            "{{name: h, typed_config: {{'@type': {http}, {fields}}}}}"
        ))
    };
    let inline = http("route_config: {}").unwrap();
    assert!(matches!(&inline.chains[0].terminal, Terminal::Http(manager) if manager.stat_prefix == "s"));
    let by_name = http("rds: {route_config_name: x, config_source: {ads: {}}}").unwrap();
    assert!(matches!(
        &by_name.chains[0].terminal,
        Terminal::Http(manager) if matches!(&manager.routes, RouteSource::Rds { name, .. } if name == "x")
    ));
    let by_host = http("route_config: {vhds: {config_source: {ads: {}}}}").unwrap_err();
    assert!(
        by_host.path.ends_with("typed_config.route_config.vhds"),
        "{by_host}"
    );
    let tunnel = TCP.replace("cluster: c", "cluster: c, tunneling_config: {hostname: h}");
    assert_eq!(inert(filters(&tunnel)), "filter `t`: tunnels are not supported");
    assert_eq!(
        inert(filters("{name: e, config_discovery: {}}")),
        "filter `e` comes by ECDS"
    );
}

#[test]
fn terminals_that_are_refused() {
    let at = "filter_chains[0].filters";
    let name = refusal(filters("{name: ''}"));
    assert_eq!(
        name,
        format!("{at}[0].name: value length must be at least 1 characters")
    );
    let empty = refusal(filters("{name: envoy.filters.network.tcp_proxy}"));
    assert_eq!(
        empty,
        format!("{at}[0].typed_config.stat_prefix: value length must be at least 1 characters")
    );
    let early = refusal(filters(&format!("{TCP}, {TCP}")));
    assert_eq!(
        early,
        format!("{at}[0]: terminal filter named t must be the last filter in a network filter chain")
    );
    let late = refusal(filters(&format!(
        "{{name: r, typed_config: {{'@type': {RBAC}, stat_prefix: s}}}}"
    )));
    assert_eq!(
        late,
        format!("{at}[0]: non-terminal filter named r is the last filter in a network filter chain")
    );
    let deep = TCP.replace("cluster: c", "idle_timeout: -1s");
    let deep = refusal(with(&format!(
        "default_filter_chain: {{filters: [{{name: istio.stats}}, {deep}]}}"
    )));
    assert!(
        deep.starts_with("default_filter_chain.filters[1].typed_config.cluster_specifier"),
        "{deep}"
    );
}

#[test]
fn guards_close_the_chain() {
    let rbac = |fields: &str| {
        filters(&format!(
            "{{name: rbac, typed_config: {{'@type': {RBAC}, {fields}}}}}, {TCP}"
        ))
    };
    let closed = "filter `rbac` is not enforced here, so that nobody is let in";
    let served = rbac("stat_prefix: s, rules: {action: DENY}").unwrap();
    assert!(matches!(served.chains[0].terminal, Terminal::Tcp(_)) && served.ignored.0.is_empty());
    let [NetworkFilter::Rbac(filter)] = &served.chains[0].filters[..] else {
        panic!("{:?}", served.chains[0].filters);
    };
    assert_eq!(
        (filter.stat_prefix.as_str(), filter.rules.as_ref().unwrap().action),
        ("s", crate::rbac::Action::Deny)
    );
    let tree = rbac("stat_prefix: s, matcher: {}").unwrap();
    let note =
        "filter_chains[0].filters[0].typed_config.matcher: matcher trees are not evaluated, nobody is let in";
    assert_eq!(tree.ignored.0, [note]);
    let prefix =
        "filter_chains[0].filters[0].typed_config.stat_prefix: value length must be at least 1 characters";
    assert_eq!(refusal(rbac("rules: {}")), prefix);
    let authz = "type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz";
    let authz = format!("{{name: rbac, typed_config: {{'@type': {authz}, stat_prefix: s}}}}, {TCP}");
    assert_eq!(inert(filters(&authz)), closed);
    let ecds = format!("{{name: rbac, config_discovery: {{type_urls: ['{RBAC}']}}}}, {TCP}");
    assert_eq!(inert(filters(&ecds)), closed);
}

#[test]
fn what_only_watches_is_left_out() {
    let stats = "{name: istio.stats, typed_config: {'@type': type.googleapis.com/stats.PluginConfig}}";
    let ecds = "{name: w, config_discovery: {type_urls: [type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm]}}";
    let listener = filters(&format!("{stats}, {ecds}, {{name: envoy.wasm}}, {TCP}")).unwrap();
    assert!(matches!(listener.chains[0].terminal, Terminal::Tcp(_)));
    let expected = [
        "filter_chains[0].filters[0].typed_config: istio.stats is left out",
        "filter_chains[0].filters[1].config_discovery: w is left out",
        "filter_chains[0].filters[2].typed_config: envoy.wasm is left out",
    ];
    assert_eq!(listener.ignored.0, expected);
}

#[test]
fn chains_are_known_by_their_conditions() {
    let chain = |name: &str, condition: &str| format!("{{name: '{name}', filter_chain_match: {condition}}}");
    let one = chain("a", "{destination_port: 1, server_names: ['*.c', B.c]}");
    let two = chain(
        "a",
        "{source_type: EXTERNAL, source_ports: [7, 5], prefix_ranges: [{address_prefix: 10.1.1.1, prefix_len: 8}]}",
    );
    let rest = chain("", "{}");
    let ids = |list: &[&String]| -> Vec<String> {
        let list: Vec<&str> = list.iter().map(|chain| chain.as_str()).collect();
        let listener = with(&format!("filter_chains: [{}]", list.join(", "))).unwrap();
        listener.chains.iter().map(|chain| chain.id.to_string()).collect()
    };
    let first = "destination_port=1 server_names=*.c,b.c";
    let second = "prefix_ranges=10.0.0.0/8 source_type=external source_ports=5,7";
    assert_eq!(ids(&[&one, &two, &rest]), [first, second, "any"]);
    assert_eq!(ids(&[&rest, &two]), ["any", second]);
    let other_order = chain("b", "{server_names: [b.c, '*.c'], destination_port: 1}");
    assert_eq!(ids(&[&other_order]), [first]);
    let listener = with("default_filter_chain: {name: x}").unwrap();
    let default = listener.default_chain.unwrap();
    assert_eq!((&*default.id, default.name.as_str()), ("default", "x"));
    let duplicate = "filter_chains[1].filter_chain_match: multiple filter chains with the same matching rules are defined";
    for pair in ["{name: a}, {name: b}".to_owned(), format!("{one}, {other_order}")] {
        assert_eq!(refusal(with(&format!("filter_chains: [{pair}]"))), duplicate);
    }
}

#[test]
fn filters_in_front_come_in_order() {
    let url = "type.googleapis.com/envoy.extensions.filters.network";
    let sni = format!("{{name: s, typed_config: {{'@type': {url}.sni_cluster.v3.SniCluster}}}}");
    let listener = filters(&format!("{{name: envoy.wasm}}, {sni}, {TCP}")).unwrap();
    let bare = NetworkFilter::WithoutEffect {
        name: "envoy.wasm".to_owned(),
    };
    assert_eq!(listener.chains[0].filters, [bare, NetworkFilter::SniCluster]);
    let limit = |fields: &str| {
        let typed = format!("'@type': {url}.connection_limit.v3.ConnectionLimit, stat_prefix: s{fields}");
        filters(&format!("{{name: l, typed_config: {{{typed}}}}}, {TCP}"))
    };
    let limited = limit(", max_connections: 1").unwrap();
    let NetworkFilter::Limit(limit_of_one) = &limited.chains[0].filters[0] else {
        panic!("{limited:?}");
    };
    assert_eq!(limit_of_one.max, 1);
    assert!(limit("").unwrap_err().path.ends_with("max_connections"));
    let service = format!("{{name: l, typed_config: {{'@type': {url}.ratelimit.v3.RateLimit}}}}");
    assert_eq!(
        inert(filters(&format!("{service}, {TCP}"))),
        "filter `l` is not enforced here, so that nobody is let in"
    );
}

#[test]
fn conditions() {
    let all = matching(
        "{destination_port: 6379, server_names: ['*.Example.com', a.b], transport_protocol: tls, \
         application_protocols: [istio], source_type: EXTERNAL, source_ports: [1, 65535], \
         prefix_ranges: [{address_prefix: 10.1.2.3, prefix_len: 8}, {address_prefix: 'fd00::1', prefix_len: 64}], \
         source_prefix_ranges: [{address_prefix: 1.2.3.4, prefix_len: 99}, {address_prefix: '::1'}]}",
    )
    .unwrap();
    assert_eq!(all.destination_port, Some(6379));
    assert_eq!(all.server_names, ["*.example.com", "a.b"]);
    assert_eq!(
        (all.source_type, all.source_ports.as_slice()),
        (SourceType::External, &[1, 65535][..])
    );
    let cidr = |address: &str, prefix_len| crate::Cidr {
        address: address.parse().unwrap(),
        prefix_len,
    };
    assert_eq!(all.prefix_ranges, [cidr("10.0.0.0", 8), cidr("fd00::", 64)]);
    assert_eq!(all.source_prefix_ranges, [cidr("1.2.3.4", 32), cidr("::", 0)]);
}

#[test]
fn conditions_that_are_refused() {
    let at = "filter_chains[0].filter_chain_match";
    for (condition, expected) in [
        (
            "{destination_port: 0}",
            "destination_port: value must be inside range [1, 65535]",
        ),
        (
            "{source_ports: [1, 65536]}",
            "source_ports[1]: value must be inside range [1, 65535]",
        ),
        (
            "{address_suffix: x}",
            "address_suffix: contains unimplemented fields",
        ),
        ("{suffix_len: 1}", "suffix_len: contains unimplemented fields"),
        (
            "{direct_source_prefix_ranges: [{address_prefix: '::'}]}",
            "direct_source_prefix_ranges: is not supported",
        ),
        (
            "{prefix_ranges: [{address_prefix: x}]}",
            "prefix_ranges[0].address_prefix: malformed IP address: x",
        ),
        (
            "{source_type: 9}",
            "source_type: value must be one of the defined enum values",
        ),
        (
            "{prefix_ranges: [{address_prefix: '::', prefix_len: 129}]}",
            "prefix_ranges[0].prefix_len: value must be less than or equal to 128",
        ),
        (
            "{server_names: ['a*.b']}",
            "server_names[0]: partial wildcards are not supported in \"server_names\": a*.b",
        ),
    ] {
        assert_eq!(refusal(matching(condition)), format!("{at}.{expected}"));
    }
}

#[test]
fn a_matcher_tree_serves_no_chain() {
    let listener = with(&format!(
        "filter_chain_matcher: {{}}\nfilter_chains: [{{filters: [{TCP}]}}]"
    ))
    .unwrap();
    assert_eq!(inert(Ok(listener)), "filter_chain_matcher is not supported");
}

#[test]
fn listener_filters() {
    let url = "type.googleapis.com/envoy.extensions.filters.listener";
    let listener = with(&format!(
        "listener_filters: [{{name: p, typed_config: {{'@type': {url}.proxy_protocol.v3.ProxyProtocol, \
         allow_requests_without_proxy_protocol: true, disallowed_versions: [V1]}}}}, \
         {{name: o, typed_config: {{'@type': {url}.original_dst.v3.OriginalDst}}}}, \
         {{name: s, typed_config: {{'@type': {url}.original_src.v3.OriginalSrc}}}}, \
         {{name: envoy.filters.listener.tls_inspector}}, {{name: envoy.listener.http_inspector}}]"
    ))
    .unwrap();
    let inspector = |max_client_hello| ListenerFilterKind::TlsInspector(TlsInspector { max_client_hello });
    assert_eq!(
        kinds(&listener),
        [
            ListenerFilterKind::ProxyProtocol(ProxyProtocol {
                optional: true,
                refuses_v1: true,
                refuses_v2: false
            }),
            ListenerFilterKind::OriginalDst,
            inspector(16384),
            ListenerFilterKind::HttpInspector,
        ]
    );
    assert!(!listener.hands_off, "the filter alone hands nothing off");
    assert_eq!(
        listener.ignored.0,
        ["listener_filters[2].typed_config.s is left out"]
    );
    let old = with("filter_chains: [{use_proxy_proto: true}]").unwrap();
    assert_eq!(
        kinds(&old),
        [ListenerFilterKind::ProxyProtocol(ProxyProtocol::default())]
    );
    let hello = |size: u32| {
        with(&format!(
            "listener_filters: [{{name: t, typed_config: {{'@type': {url}.tls_inspector.v3.TlsInspector, \
             max_client_hello_size: {size}}}}}]"
        ))
    };
    assert_eq!(kinds(&hello(300).unwrap()), [inspector(300)]);
    assert_eq!(
        refusal(hello(16385)),
        "listener_filters[0].typed_config.max_client_hello_size: value must be inside range [256, 16384]"
    );
    let disabled = "listener_filters: [{name: tls_inspector, filter_disabled: {any_match: true}}]";
    assert_eq!(with(disabled).unwrap().filters[0].disabled, Some(Predicate::Any));
    let rule = "listener_filters[0].filter_disabled.rule: value is required";
    assert_eq!(
        refusal(with(
            "listener_filters: [{name: tls_inspector, filter_disabled: {}}]"
        )),
        rule
    );
    let name = "listener_filters[0].name: value length must be at least 1 characters";
    assert_eq!(refusal(with("listener_filters: [{}]")), name);
}

#[test]
fn chain_transport() {
    let url = "type.googleapis.com/envoy.extensions.transport_sockets";
    let chain = |socket: &str| {
        with(&format!(
            "filter_chains: [{{filters: [{TCP}], transport_socket: {socket}}}]"
        ))
    };
    let raw = chain(&format!(
        "{{name: r, typed_config: {{'@type': {url}.raw_buffer.v3.RawBuffer}}}}"
    ))
    .unwrap();
    assert!(raw.chains[0].tls.is_none() && matches!(raw.chains[0].terminal, Terminal::Tcp(_)));
    let quic = format!("{{name: q, typed_config: {{'@type': {url}.quic.v3.QuicDownstreamTransport}}}}");
    assert_eq!(inert(chain(&quic)), "transport_socket: `q` is not supported");
    let tls = |context: &str| {
        chain(&format!(
            "{{name: t, typed_config: {{'@type': {url}.tls.v3.DownstreamTlsContext, {context}}}}}"
        ))
    };
    let secret =
        "common_tls_context: {tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}}}]}";
    let named = tls(secret).unwrap();
    let names: Vec<&str> = named.chains[0]
        .tls
        .as_ref()
        .unwrap()
        .secrets()
        .map(|(_, secret)| &*secret.name)
        .collect();
    assert_eq!(names, ["default"]);
    let kubernetes = secret
        .replace("default", "'kubernetes://cert'")
        .replace("ads: {}", "path: /x");
    assert_eq!(
        inert(tls(&kubernetes)),
        "transport_socket: secret `kubernetes://cert` is a Kubernetes secret, which comes over ads only"
    );
    let none = "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates: \
                No TLS certificates found for server context";
    assert_eq!(refusal(tls("")), none);
}

#[test]
fn access_logs() {
    let url = "type.googleapis.com/envoy.extensions.access_loggers";
    let one = |log: &str| with(&format!("access_log: [{log}]"));
    let file = |fields: &str, filter: &str| {
        one(&format!(
            "{{name: f, typed_config: {{'@type': {url}.file.v3.FileAccessLog, path: /dev/stdout, {fields}}}{filter}}}"
        ))
    };
    let log = |listener: Result<Listener, Invalid>| listener.unwrap().access_log.remove(0);
    let nr = log(file(
        "log_format: {text_format: 'x\n'}",
        ", filter: {response_flag_filter: {flags: [NR]}}",
    ));
    assert_eq!(
        (nr.path.to_str(), nr.response_flags),
        (Some("/dev/stdout"), vec!["NR".to_owned()])
    );
    assert!(matches!(log(file("", "")).format, LogFormat::Text(text) if text.starts_with("[%START_TIME%]")));
    assert_eq!(log(file("format: y", "")).format, LogFormat::Text("y".into()));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let json = log(file("log_format: {json_format: {b: '%DURATION%', a: 5}}", ""));
    assert_eq!(
        json.format,
        LogFormat::Json(vec![pair("a", "5"), pair("b", "%DURATION%")])
    );
    let stderr = log(one(&format!(
        "{{name: s, typed_config: {{'@type': {url}.stream.v3.StderrAccessLog}}}}"
    )));
    assert_eq!(stderr.path.to_str(), Some("/dev/stderr"));
    for other in [
        one("{name: otel}"),
        file("", ", filter: {not_health_check_filter: {}}"),
    ] {
        let listener = other.unwrap();
        assert!(listener.access_log.is_empty() && listener.ignored.0[0].contains("is not written"));
    }
    let path = refusal(one(&format!(
        "{{name: f, typed_config: {{'@type': {url}.file.v3.FileAccessLog}}}}"
    )));
    assert_eq!(
        path,
        "access_log[0].typed_config.path: value length must be at least 1 characters"
    );
}

#[test]
fn a_filter_that_nobody_has_is_refused() {
    let url = "type.googleapis.com/envoy.extensions.filters.network";
    let words = "Didn't find a registered implementation for";
    for (filter, name, type_url) in [
        (
            "{name: envoy.filters.network.redis_prox}".to_owned(),
            "envoy.filters.network.redis_prox",
            String::new(),
        ),
        (
            format!("{{name: r, typed_config: {{'@type': {url}.redis_prox.v3.RedisProxy}}}}"),
            "r",
            format!("{url}.redis_prox.v3.RedisProxy").replace("type.googleapis.com/", ""),
        ),
    ] {
        for (list, at) in [(filter.clone(), 0), (format!("{filter}, {TCP}"), 0)] {
            let refused = refusal(filters(&list));
            let start = format!("filter_chains[0].filters[{at}]: {words} '{name}' with type URL: '");
            assert!(
                refused.starts_with(&start) && refused.contains(&type_url),
                "{refused}"
            );
        }
    }
}
