//! RedisProxy: defaults, each refusal with its path, and the wrappings of the message.

use std::time::Duration;

use redplane_proto::legacy;
use redplane_proto::pack;
use redplane_proto::pb::google::protobuf::Any;

use super::*;
use crate::cluster::DnsFamily;
use crate::sample::{message, refusal};

const MINIMAL: &str = "
stat_prefix: redis_stats
settings: {op_timeout: 5s}
prefix_routes: {catch_all_route: {cluster: c}}
";

fn read(yaml: &str) -> Result<RedisProxy, Invalid> {
    RedisProxy::from_proto(&message(yaml), &mut Ignored::default())
}

/// The minimal filter with one more top-level field.
fn with(field: &str) -> Result<RedisProxy, Invalid> {
    read(&format!("{MINIMAL}{field}"))
}

/// The minimal filter with these settings.
fn settings(settings: &str) -> Result<Arc<Settings>, Invalid> {
    let yaml =
        format!("stat_prefix: s\nsettings: {settings}\nprefix_routes: {{catch_all_route: {{cluster: c}}}}");
    read(&yaml).map(|proxy| proxy.settings)
}

fn routes(routes: &str) -> Result<Routes, Invalid> {
    read(&format!(
        "stat_prefix: s\nsettings: {{op_timeout: 5s}}\nprefix_routes: {routes}"
    ))
    .map(|proxy| proxy.routes)
}

#[test]
fn defaults_are_envoys() {
    let proxy = read(MINIMAL).unwrap();
    assert_eq!(proxy.stat_prefix, "redis_stats");
    assert_eq!(
        *proxy.settings,
        Settings {
            op_timeout: Duration::from_secs(5),
            enable_hashtagging: false,
            enable_redirection: false,
            max_buffer_size_before_flush: 0,
            buffer_flush_timeout: Duration::from_millis(3),
            max_upstream_unknown_connections: 100,
            read_policy: ReadPolicy::Master,
            enable_command_stats: false,
            connection_rate_limit: None,
            dns_cache: None,
        }
    );
    assert_eq!(proxy.routes.catch_all.unwrap().cluster, "c");
    assert!(proxy.auth.is_none() && proxy.faults.is_empty() && proxy.custom_commands.is_empty());
    assert_eq!(proxy.protocol, Protocol::Resp2);
    assert!(!proxy.latency_in_micros);
}

#[test]
fn the_filter_itself() {
    assert_eq!(refusal(read("{}")), "settings: value is required");
    let no_prefix = "settings: {op_timeout: 5s}\nprefix_routes: {catch_all_route: {cluster: c}}";
    assert_eq!(
        refusal(read(no_prefix)),
        "stat_prefix: value length must be at least 1 characters"
    );
    let nowhere = "prefix_routes: cannot configure a redis-proxy without any upstream";
    assert_eq!(
        refusal(read("stat_prefix: s\nsettings: {op_timeout: 5s}")),
        nowhere
    );
    assert_eq!(refusal(routes("{}")), nowhere);
    assert_eq!(with("protocol_version: RESP3").unwrap().protocol, Protocol::Resp3);
    let undefined = "protocol_version: value must be one of the defined enum values";
    assert_eq!(refusal(with("protocol_version: 9")), undefined);
}

#[test]
fn settings_in_full() {
    let full = settings(
        "{op_timeout: 0.0019s, enable_hashtagging: true, enable_redirection: true, max_buffer_size_before_flush: 1024, \
         buffer_flush_timeout: 0.010s, max_upstream_unknown_connections: 0, enable_command_stats: true, \
         read_policy: LOCAL_ZONE_AFFINITY_REPLICAS_AND_PRIMARY, connection_rate_limit: {connection_rate_limit_per_sec: 7}, \
         dns_cache_config: {name: dns, dns_lookup_family: V4_ONLY}}",
    )
    .unwrap();
    assert_eq!(full.op_timeout, Duration::from_millis(1));
    assert_eq!(full.buffer_flush_timeout, Duration::from_millis(10));
    assert_eq!(full.max_upstream_unknown_connections, 0);
    assert_eq!(full.read_policy, ReadPolicy::LocalZoneAffinityReplicasAndPrimary);
    assert_eq!(full.connection_rate_limit, Some(7));
    assert!(
        full.dns_cache == Some(DnsFamily::V4Only)
            && full.enable_command_stats
            && full.enable_hashtagging
            && full.enable_redirection
    );
    assert_eq!(settings("{op_timeout: 0s}").unwrap().op_timeout, Duration::ZERO);
}

#[test]
fn settings_that_are_refused() {
    assert_eq!(refusal(settings("{}")), "settings.op_timeout: value is required");
    let negative = refusal(settings("{op_timeout: -1s}"));
    assert!(
        negative.starts_with("settings.op_timeout: Expected positive duration"),
        "{negative}"
    );
    let policy = "settings.read_policy: value must be one of the defined enum values";
    assert_eq!(refusal(settings("{op_timeout: 5s, read_policy: 7}")), policy);
    let rate = "settings.connection_rate_limit.connection_rate_limit_per_sec: value must be greater than 0";
    assert_eq!(
        refusal(settings("{op_timeout: 5s, connection_rate_limit: {}}")),
        rate
    );
    let cache = "settings.dns_cache_config.name: value length must be at least 1 characters";
    assert_eq!(refusal(settings("{op_timeout: 5s, dns_cache_config: {}}")), cache);
}

#[test]
fn routes_stand_longest_first() {
    let routes = routes(
        "{case_insensitive: true, routes: [{prefix: '', cluster: a}, {prefix: Long, cluster: b, remove_prefix: true}, \
         {prefix: lo, cluster: c, read_command_policy: {cluster: r}, key_formatter: 'x:%KEY%'}]}",
    )
    .unwrap();
    let prefixes: Vec<_> = routes
        .prefixes
        .iter()
        .map(|route| route.prefix.as_slice())
        .collect();
    assert_eq!(prefixes, [b"long".as_slice(), b"lo", b""]);
    assert!(routes.case_insensitive && routes.prefixes[0].remove_prefix && routes.catch_all.is_none());
    assert_eq!(routes.prefixes[1].read_cluster.as_deref(), Some("r"));
    let formatter = routes.prefixes[1].key_formatter.as_ref().unwrap();
    assert_eq!(formatter.0, [KeyPiece::Literal(b"x:".to_vec()), KeyPiece::Key]);
}

#[test]
fn routes_that_are_refused() {
    let twice = "{routes: [{prefix: a, cluster: c}, {prefix: b, cluster: c}, {prefix: a, cluster: c}]}";
    assert_eq!(
        refusal(routes(twice)),
        "prefix_routes.routes[2].prefix: prefix `a` already exists"
    );
    let folded = "{case_insensitive: true, routes: [{prefix: a, cluster: c}, {prefix: A, cluster: c}]}";
    assert_eq!(
        refusal(routes(folded)),
        "prefix_routes.routes[1].prefix: prefix `a` already exists"
    );
    assert!(routes("{routes: [{prefix: a, cluster: c}, {prefix: A, cluster: c}]}").is_ok());
    let long = "x".repeat(1001);
    let reason = "prefix_routes.routes[0].prefix: value length must be at most 1000 bytes";
    assert_eq!(
        refusal(routes(&format!("{{routes: [{{prefix: {long}, cluster: c}}]}}"))),
        reason
    );
    let no_cluster = "prefix_routes.catch_all_route.cluster: value length must be at least 1 characters";
    assert_eq!(refusal(routes("{catch_all_route: {}}")), no_cluster);
    let read =
        "prefix_routes.routes[0].read_command_policy.cluster: value length must be at least 1 characters";
    assert_eq!(
        refusal(routes("{routes: [{cluster: c, read_command_policy: {}}]}")),
        read
    );
    let key = "prefix_routes.catch_all_route.key_formatter: operator `%NOPE%` is not supported in keys";
    assert_eq!(
        refusal(routes("{catch_all_route: {cluster: c, key_formatter: '%NOPE%'}}")),
        key
    );
}

#[test]
fn mirrors() {
    let route = |mirror: &str| {
        routes(&format!(
            "{{catch_all_route: {{cluster: c, request_mirror_policy: [{mirror}]}}}}"
        ))
    };
    let mirrors = |mirror: &str| route(mirror).unwrap().catch_all.unwrap().mirrors;
    let whole = Mirror {
        cluster: "m".into(),
        parts_per_million: 1_000_000,
        exclude_read_commands: true,
    };
    assert_eq!(mirrors("{cluster: m, exclude_read_commands: true}"), [whole]);
    let half = "{cluster: m, runtime_fraction: {default_value: {numerator: 50}, runtime_key: k}}";
    assert_eq!(mirrors(half)[0].parts_per_million, 500_000);
    let at = "prefix_routes.catch_all_route.request_mirror_policy[0]";
    assert_eq!(
        refusal(route("{}")),
        format!("{at}.cluster: value length must be at least 1 characters")
    );
    let fraction = refusal(route("{cluster: m, runtime_fraction: {}}"));
    assert_eq!(
        fraction,
        format!("{at}.runtime_fraction.default_value: value is required")
    );
}

#[test]
fn faults() {
    let one = |fault: &str| with(&format!("faults: [{fault}]")).map(|proxy| proxy.faults[0].clone());
    let delay =
        one("{fault_enabled: {default_value: {numerator: 500}}, delay: 0.2s, commands: [GET, '']}").unwrap();
    let expected = Fault {
        kind: FaultKind::Delay,
        parts_per_million: 1_000_000,
        delay: Duration::from_millis(200),
        commands: vec!["get".into(), String::new()],
    };
    assert_eq!(delay, expected);
    let error =
        one("{fault_type: ERROR, fault_enabled: {default_value: {numerator: 1, denominator: MILLION}}}");
    assert_eq!(
        (error.clone().unwrap().kind, error.unwrap().parts_per_million),
        (FaultKind::Error, 1)
    );
    assert_eq!(refusal(one("{}")), "faults[0].fault_enabled: value is required");
    let kind = refusal(one("{fault_type: 5, fault_enabled: {default_value: {}}}"));
    assert_eq!(
        kind,
        "faults[0].fault_type: value must be one of the defined enum values"
    );
}

#[test]
fn auth_is_on_when_something_is_configured() {
    let auth = |yaml: &str| with(yaml).unwrap().auth;
    assert!(auth("downstream_auth_passwords: [{inline_string: ''}]").is_none());
    assert!(auth("downstream_auth_username: {inline_string: ''}").is_none());
    let passwords = |yaml: &str| match auth(yaml) {
        Some(DownstreamAuth::Passwords(passwords)) => passwords,
        other => panic!("{other:?}"),
    };
    let both = passwords(
        "downstream_auth_password: {inline_string: old}\ndownstream_auth_passwords: [{inline_string: new}]",
    );
    assert_eq!(both.passwords, [b"new".to_vec(), b"old".to_vec()]);
    let nobody = passwords("downstream_auth_username: {inline_string: usr}");
    assert_eq!(
        (nobody.username.as_deref(), nobody.passwords.len()),
        (Some("usr"), 0)
    );
    assert_eq!(format!("{nobody:?}"), "Passwords([redacted])");
}

#[test]
fn auth_that_is_refused() {
    let gone = refusal(with(
        "downstream_auth_passwords: [{inline_string: a}, {filename: /nonexistent/p}]",
    ));
    assert!(
        gone.starts_with("downstream_auth_passwords[1].filename: Invalid path: /nonexistent/p"),
        "{gone}"
    );
    let empty = refusal(with("downstream_auth_password: {}"));
    assert_eq!(empty, "downstream_auth_password.specifier: value is required");
}

#[test]
fn an_external_provider() {
    let provider = |yaml: &str| with(&format!("external_auth_provider: {{{yaml}}}"));
    let external = |yaml: &str| match provider(yaml).unwrap().auth {
        Some(DownstreamAuth::External(external)) => external,
        other => panic!("{other:?}"),
    };
    let plain = external("grpc_service: {envoy_grpc: {cluster_name: a}}");
    assert_eq!(
        *plain,
        ExternalAuth {
            cluster: "a".into(),
            authority: "a".into(),
            timeout: Duration::from_millis(200),
            metadata: Vec::new(),
            expires: false,
        }
    );
    let full = external(
        "enable_auth_expiration: true, grpc_service: {timeout: 2s, envoy_grpc: {cluster_name: a, authority: b}, \
         initial_metadata: [{key: X-Token, value: s3cret}]}",
    );
    assert_eq!(full.metadata, [("x-token".to_owned(), "s3cret".to_owned())]);
    assert!(full.expires && full.authority == "b" && full.timeout == Duration::from_secs(2));
    assert!(!format!("{full:?}").contains("s3cret"));
    for (yaml, reason) in [
        ("", "grpc_service: value is required"),
        (
            "grpc_service: {}",
            "grpc_service.target_specifier: value is required",
        ),
        (
            "grpc_service: {envoy_grpc: {}}",
            "grpc_service.envoy_grpc.cluster_name: value length must be at least 1 characters",
        ),
        (
            "grpc_service: {google_grpc: {target_uri: x, stat_prefix: x}}",
            "grpc_service.google_grpc: is not supported, use envoy_grpc",
        ),
        (
            "grpc_service: {envoy_grpc: {cluster_name: a}, initial_metadata: [{key: 'a b'}]}",
            "grpc_service.initial_metadata[0].key: `a b` is not the name of a text header",
        ),
    ] {
        assert_eq!(
            refusal(provider(yaml)),
            format!("external_auth_provider.{reason}")
        );
    }
}

#[test]
fn what_has_no_effect_is_noted() {
    let mut ignored = Ignored::default();
    let yaml = format!(
        "{MINIMAL}custom_commands: [json.get, JSON.SET]\n\
         faults: [{{fault_enabled: {{runtime_key: k, default_value: {{}}}}}}]"
    );
    RedisProxy::from_proto(&message(&yaml), &mut ignored).unwrap();
    let expected = [
        "custom_commands[1]: `JSON.SET` is not in lower case and matches nothing",
        "faults[0].fault_enabled.runtime_key",
    ];
    assert_eq!(ignored.0, expected);
}

#[test]
fn the_wrapping_does_not_matter() {
    let plain = pack(&message::<proto::RedisProxy>(MINIMAL));
    let v2 = "type.googleapis.com/envoy.config.filter.network.redis_proxy.v2.RedisProxy";
    let old = Any {
        type_url: v2.into(),
        value: plain.value.clone(),
    };
    let typed = legacy::udpa::TypedStruct {
        type_url: v2.into(),
        value: Some(message(MINIMAL)),
    };
    let typed = Any {
        type_url: type_url::TYPED_STRUCT_UDPA.into(),
        value: prost::Message::encode_to_vec(&typed),
    };
    let expected = read(MINIMAL).unwrap();
    for any in [plain, old, typed] {
        assert_eq!(
            RedisProxy::from_any(&any, &mut Ignored::default()).unwrap(),
            expected
        );
    }
    let other = Any {
        type_url: type_url::TCP_PROXY.into(),
        value: Vec::new(),
    };
    let reason = refusal(RedisProxy::from_any(&other, &mut Ignored::default()));
    assert!(reason.contains("expected RedisProxy"), "{reason}");
    let broken = Any {
        type_url: type_url::REDIS_PROXY.into(),
        value: vec![0xff; 5],
    };
    assert!(RedisProxy::from_any(&broken, &mut Ignored::default()).is_err());
}
