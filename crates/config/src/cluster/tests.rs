//! Clusters: discovery, policies, transport, and each refusal with its path.

use super::*;
use crate::sample::{message, refusal};

fn read(yaml: &str) -> Result<Cluster, Invalid> {
    Cluster::from_proto(&message(yaml))
}

/// A STATIC cluster with these fields.
fn with(fields: &str) -> Result<Cluster, Invalid> {
    read(&format!("name: c\n{fields}"))
}

const REDIS: &str = "name: c\nlb_policy: CLUSTER_PROVIDED\n\
    load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: \
    {address: redis-0.ns, port_value: 6379}}}}]}]}\n";

fn redis(typed_config: &str) -> Result<RedisCluster, Invalid> {
    let cluster = read(&format!(
        "{REDIS}cluster_type: {{name: envoy.clusters.redis{typed_config}}}"
    ))?;
    let Discovery::Redis(redis) = cluster.discovery else {
        panic!("not a Redis cluster")
    };
    Ok(redis)
}

fn policy(fields: &str) -> Result<LbPolicy, Invalid> {
    with(fields).map(|cluster| cluster.lb_policy)
}

fn typed(policy: &str, fields: &str) -> String {
    let url = "type.googleapis.com/envoy.extensions.load_balancing_policies";
    format!("{{typed_extension_config: {{name: p, typed_config: {{'@type': {url}.{policy}, {fields}}}}}}}")
}

#[test]
fn defaults_are_envoys() {
    let cluster = with("").unwrap();
    assert_eq!((cluster.name.as_str(), cluster.stat_name.as_str()), ("c", "c"));
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!(
        (cluster.lb_policy, cluster.transport),
        (LbPolicy::RoundRobin, Transport::RawBuffer)
    );
    assert_eq!(
        cluster.common_lb,
        CommonLb {
            panic_threshold: 5000,
            locality_weighted: false
        }
    );
    assert_eq!(
        (cluster.max_connections, cluster.http2, cluster.keepalive),
        (1024, false, None)
    );
    assert!(matches!(cluster.discovery, Discovery::Fixed(assignment) if assignment.localities.is_empty()));
    assert!(cluster.ignored.0.is_empty());
}

#[test]
fn plain_fields() {
    let cluster = with(
        "
alt_stat_name: 'c;'
connect_timeout: 0.25s
circuit_breakers: {thresholds: [{priority: HIGH, max_connections: 1}, {max_connections: 4294967295}]}
common_lb_config: {healthy_panic_threshold: {value: 12.5}, locality_weighted_lb_config: {}}
upstream_bind_config: {source_address: {address: 127.0.0.6, port_value: 0}}
upstream_connection_options: {tcp_keepalive: {keepalive_time: 300, keepalive_probes: 2}}
http2_protocol_options: {}
",
    )
    .unwrap();
    assert_eq!(
        (cluster.stat_name.as_str(), cluster.connect_timeout),
        ("c;", Duration::from_millis(250))
    );
    assert_eq!(
        cluster.common_lb,
        CommonLb {
            panic_threshold: 1250,
            locality_weighted: true
        }
    );
    assert_eq!(cluster.source_address, Some("127.0.0.6:0".parse().unwrap()));
    let keepalive = Keepalive {
        time: Some(Duration::from_secs(300)),
        interval: None,
        probes: Some(2),
    };
    assert_eq!(
        (cluster.keepalive, cluster.max_connections, cluster.http2),
        (Some(keepalive), u32::MAX, true)
    );
}

#[test]
fn plain_fields_that_are_refused() {
    assert_eq!(
        refusal(read("{}")),
        "name: value length must be at least 1 characters"
    );
    assert_eq!(
        refusal(with("connect_timeout: 0s")),
        "connect_timeout: value must be greater than 0s"
    );
    let kind = "type: value must be one of the defined enum values";
    assert_eq!(refusal(with("type: 77")), kind);
    let percent = "common_lb_config.healthy_panic_threshold.value: value must be inside range [0, 100]";
    assert_eq!(
        refusal(with("common_lb_config: {healthy_panic_threshold: {value: 101}}")),
        percent
    );
    assert_eq!(
        refusal(with("common_lb_config: {healthy_panic_threshold: {value: NaN}}")),
        percent
    );
    let source = refusal(with(
        "upstream_bind_config: {source_address: {address: h, port_value: 0}}",
    ));
    assert_eq!(
        source,
        "upstream_bind_config.source_address.address: malformed IP address: h:0"
    );
}

#[test]
fn static_and_dns() {
    let named = "load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: \
                 {address: redis.ns, port_value: 1}}}}]}]}";
    let refused = refusal(with(named));
    let path = "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address";
    assert!(
        refused.starts_with(&format!("{path}: malformed IP address: redis.ns")),
        "{refused}"
    );
    let more = "dns_lookup_family: V4_PREFERRED\nrespect_dns_ttl: true\ndns_refresh_rate: 60s";
    let strict = with(&format!("type: STRICT_DNS\n{more}\n{named}")).unwrap();
    let Discovery::StrictDns(dns) = strict.discovery else {
        panic!("not STRICT_DNS")
    };
    assert_eq!(
        (dns.family, dns.respect_ttl, dns.refresh_rate),
        (DnsFamily::V4Preferred, true, Duration::from_secs(60))
    );
    assert!(matches!(
        with(&format!("type: LOGICAL_DNS\n{named}")).unwrap().discovery,
        Discovery::LogicalDns(_)
    ));
    let many = refusal(with("type: LOGICAL_DNS"));
    assert!(
        many.starts_with("load_assignment: LOGICAL_DNS clusters must have a single"),
        "{many}"
    );
    let rate = "dns_refresh_rate: value must be greater than 1ms";
    assert_eq!(refusal(with("type: STRICT_DNS\ndns_refresh_rate: 0.001s")), rate);
}

#[test]
fn dns_as_an_extension() {
    let url = "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster";
    let config = format!("{{'@type': {url}, dns_lookup_family: ALL, respect_dns_ttl: true}}");
    let cluster = with(&format!(
        "cluster_type: {{name: envoy.cluster.dns, typed_config: {config}}}"
    ))
    .unwrap();
    let Discovery::StrictDns(dns) = cluster.discovery else {
        panic!("not STRICT_DNS")
    };
    assert_eq!((dns.family, dns.respect_ttl), (DnsFamily::All, true));
    let unknown = with("cluster_type: {name: envoy.clusters.nobody_knows}").unwrap();
    assert!(matches!(unknown.discovery, Discovery::StrictDns(_)));
    assert_eq!(
        unknown.ignored.0,
        ["cluster_type: envoy.clusters.nobody_knows is served as STRICT_DNS"]
    );
}

#[test]
fn eds() {
    let found = with("type: EDS\neds_cluster_config: {eds_config: {ads: {}}}")
        .unwrap()
        .discovery;
    assert_eq!(
        found,
        Discovery::Eds {
            service_name: "c".into(),
            source: ConfigSource::ads()
        }
    );
    let file = "{service_name: s, eds_config: {path_config_source: {path: /eds.yaml}}}";
    let found = with(&format!("type: EDS\neds_cluster_config: {file}"))
        .unwrap()
        .discovery;
    assert_eq!(
        found,
        Discovery::Eds {
            service_name: "s".into(),
            source: Source::Path("/eds.yaml".into()).into()
        }
    );
    assert_eq!(
        refusal(with("type: EDS")),
        "eds_cluster_config: value is required"
    );
    let rest = refusal(with(
        "type: EDS\neds_cluster_config: {eds_config: {api_config_source: {}}}",
    ));
    assert_eq!(
        rest,
        "eds_cluster_config.eds_config.api_config_source: only ads and files are supported"
    );
    let wrong = refusal(with("eds_cluster_config: {eds_config: {ads: {}}}"));
    assert_eq!(
        wrong,
        "eds_cluster_config: eds_cluster_config set in a non-EDS cluster"
    );
}

#[test]
fn redis_by_every_container() {
    let expected = redis("").unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(
        (expected.refresh_rate, expected.refresh_timeout),
        (seconds(5), seconds(3))
    );
    assert_eq!(
        (
            expected.redirect_refresh_interval,
            expected.redirect_refresh_threshold
        ),
        (seconds(5), 5)
    );
    assert_eq!(
        (
            expected.failure_refresh_threshold,
            expected.host_degraded_refresh_threshold
        ),
        (0, 0)
    );
    assert!(!expected.enable_zone_discovery);
    assert_eq!(
        expected.seeds.endpoints().next().unwrap().address.to_string(),
        "redis-0.ns:6379"
    );
    let snake = "{cluster_refresh_rate: 7s, redirect_refresh_threshold: 9, enable_zone_discovery: true}";
    let camel = "{clusterRefreshRate: 7s, redirectRefreshThreshold: '9', enableZoneDiscovery: true}";
    let expected = RedisCluster {
        refresh_rate: seconds(7),
        redirect_refresh_threshold: 9,
        enable_zone_discovery: true,
        ..expected
    };
    let url = "type.googleapis.com";
    let v3 = format!("{url}/envoy.extensions.clusters.redis.v3.RedisClusterConfig");
    let typed_struct = format!("{url}/udpa.type.v1.TypedStruct");
    let v2 = format!("{url}/envoy.config.cluster.redis.RedisClusterConfig");
    for config in [
        format!("{{'@type': {v3}, {}", &snake[1..]),
        format!("{{'@type': {url}/google.protobuf.Struct, value: {snake}}}"),
        format!("{{'@type': {url}/google.protobuf.Struct, value: {camel}}}"),
        format!("{{'@type': {url}/google.protobuf.Struct, value: {{value: {snake}}}}}"),
        format!("{{'@type': {typed_struct}, type_url: {v2}, value: {snake}}}"),
        format!("{{'@type': {typed_struct}, type_url: {v3}, value: {camel}}}"),
    ] {
        assert_eq!(
            redis(&format!(", typed_config: {config}")).unwrap(),
            expected,
            "{config}"
        );
    }
}

#[test]
fn redis_that_is_refused() {
    let of = |value: &str| {
        let any = format!("{{'@type': type.googleapis.com/google.protobuf.Struct, value: {value}}}");
        refusal(redis(&format!(", typed_config: {any}")))
    };
    let at = "cluster_type.typed_config";
    assert_eq!(
        of("{cluster_refresh_rate: 0s}"),
        format!("{at}.cluster_refresh_rate: value must be greater than 0s")
    );
    let timeout = of("{cluster_refresh_timeout: 0s}");
    assert_eq!(
        timeout,
        format!("{at}.cluster_refresh_timeout: value must be greater than 0s")
    );
    let interval = of("{redirect_refresh_interval: -1s}");
    assert!(
        interval.starts_with(&format!("{at}.redirect_refresh_interval: Expected positive")),
        "{interval}"
    );
    let half = of("{redirect_refresh_threshold: 5.5}");
    assert!(
        half.starts_with(&format!("{at}.value.redirect_refresh_threshold: ")),
        "{half}"
    );
    let other = redis(", typed_config: {'@type': type.googleapis.com/google.protobuf.Duration, value: 5s}");
    assert!(refusal(other).starts_with(&format!("{at}: expected RedisClusterConfig")));
    let by_default = REDIS.replace("lb_policy: CLUSTER_PROVIDED\n", "");
    let by_default = read(&format!(
        "{by_default}cluster_type: {{name: envoy.clusters.redis}}"
    ))
    .unwrap();
    assert_eq!(by_default.lb_policy, LbPolicy::ClusterProvided);
    assert!(by_default.ignored.0[0].starts_with("lb_policy: CLUSTER_PROVIDED is used"));
    let spread = REDIS.replace("CLUSTER_PROVIDED", "MAGLEV");
    let spread = refusal(read(&format!(
        "{spread}cluster_type: {{name: envoy.clusters.redis}}"
    )));
    assert!(
        spread.starts_with("lb_policy: must be CLUSTER_PROVIDED for envoy.clusters.redis"),
        "{spread}"
    );
}

#[test]
fn who_may_say_cluster_provided() {
    assert_eq!(
        policy("type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED").unwrap(),
        LbPolicy::ClusterProvided
    );
    let other = refusal(policy("type: ORIGINAL_DST"));
    assert!(
        other.starts_with("lb_policy: Only 'CLUSTER_PROVIDED' is allowed"),
        "{other}"
    );
    assert!(refusal(policy("lb_policy: CLUSTER_PROVIDED")).starts_with("lb_policy: "));
    let assigned = "type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\nload_assignment: {cluster_name: c}";
    assert!(refusal(policy(assigned)).starts_with("load_assignment: ORIGINAL_DST clusters must have no"));
}

#[test]
fn extensions_that_are_not_known_take_hosts_in_turn() {
    // What Istio pushes for its dynamic DNS mode.
    let url = "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig";
    let kind = format!(
        "cluster_type: {{name: envoy.clusters.dynamic_forward_proxy, typed_config: {{'@type': {url}}}}}"
    );
    let cluster = with(&format!("lb_policy: CLUSTER_PROVIDED\n{kind}")).unwrap();
    assert_eq!(
        (cluster.lb_policy, cluster.ignored.0.len()),
        (LbPolicy::RoundRobin, 2)
    );
}

#[test]
fn policies_by_enum() {
    assert_eq!(
        policy("lb_policy: LEAST_REQUEST").unwrap(),
        LbPolicy::LeastRequest { choices: 2 }
    );
    let five = "lb_policy: LEAST_REQUEST\nleast_request_lb_config: {choice_count: 5}";
    assert_eq!(policy(five).unwrap(), LbPolicy::LeastRequest { choices: 5 });
    assert_eq!(policy("lb_policy: RANDOM").unwrap(), LbPolicy::Random);
    let ring = |minimum_size, function, use_hostname| LbPolicy::RingHash {
        minimum_size,
        maximum_size: 8_388_608,
        function,
        use_hostname,
    };
    assert_eq!(
        policy("lb_policy: RING_HASH").unwrap(),
        ring(1024, RingHashFunction::XxHash, false)
    );
    let murmur = "lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 7, hash_function: MURMUR_HASH_2}\n\
                  common_lb_config: {consistent_hashing_lb_config: {use_hostname_for_hashing: true}}";
    assert_eq!(
        policy(murmur).unwrap(),
        ring(7, RingHashFunction::MurmurHash2, true)
    );
    assert_eq!(
        policy("lb_policy: MAGLEV").unwrap(),
        LbPolicy::Maglev {
            table_size: 65_537,
            use_hostname: false
        }
    );
    let other = with("lb_policy: RANDOM\nmaglev_lb_config: {table_size: 4}").unwrap();
    assert_eq!(other.ignored.0, ["maglev_lb_config"]);
    let both = with("type: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\nmaglev_lb_config: {}").unwrap();
    assert_eq!(both.ignored.0, ["maglev_lb_config"]);
}

#[test]
fn policies_that_are_refused() {
    let ring = |config: &str| {
        refusal(policy(&format!(
            "lb_policy: RING_HASH\nring_hash_lb_config: {config}"
        )))
    };
    let bound = "value must be less than or equal to 8388608";
    assert_eq!(
        ring("{maximum_ring_size: 8388609}"),
        format!("ring_hash_lb_config.maximum_ring_size: {bound}")
    );
    assert_eq!(
        ring("{minimum_ring_size: 8388609}"),
        format!("ring_hash_lb_config.minimum_ring_size: {bound}")
    );
    let crossed =
        "ring_hash_lb_config.minimum_ring_size: ring hash: minimum_ring_size (9) > maximum_ring_size (8)";
    assert_eq!(ring("{minimum_ring_size: 9, maximum_ring_size: 8}"), crossed);
    let table = |size: u64| {
        refusal(policy(&format!(
            "lb_policy: MAGLEV\nmaglev_lb_config: {{table_size: {size}}}"
        )))
    };
    let prime = "maglev_lb_config.table_size: The table size of maglev must be prime number";
    for size in [0, 1, 4, 65_536] {
        assert_eq!(table(size), prime);
    }
    assert_eq!(
        table(5_000_077),
        "maglev_lb_config.table_size: value must be less than or equal to 5000011"
    );
    let choices = refusal(policy(
        "lb_policy: LEAST_REQUEST\nleast_request_lb_config: {choice_count: 1}",
    ));
    assert_eq!(
        choices,
        "least_request_lb_config.choice_count: value must be greater than or equal to 2"
    );
    assert_eq!(
        refusal(policy("lb_policy: 4")),
        "lb_policy: value must be one of the defined enum values"
    );
    let absent = "load_balancing_policy: value is required";
    assert_eq!(refusal(policy("lb_policy: LOAD_BALANCING_POLICY_CONFIG")), absent);
}

#[test]
fn typed_policies() {
    let of = |policies: &str| with(&format!("load_balancing_policy: {{policies: [{policies}]}}"));
    let maglev = typed(
        "maglev.v3.Maglev",
        "table_size: 11, locality_weighted_lb_config: {}",
    );
    let found = of(&maglev).unwrap();
    assert_eq!(
        found.lb_policy,
        LbPolicy::Maglev {
            table_size: 11,
            use_hostname: false
        }
    );
    assert!(found.common_lb.locality_weighted);
    let wrr = typed(
        "wrr_locality.v3.WrrLocality",
        &format!("endpoint_picking_policy: {{policies: [{maglev}]}}"),
    );
    assert!(of(&wrr).unwrap().common_lb.locality_weighted);
    let least = of(&typed("least_request.v3.LeastRequest", "choice_count: 4")).unwrap();
    assert_eq!(least.lb_policy, LbPolicy::LeastRequest { choices: 4 });
    // The first one that is known, and none at all.
    let unknown = typed("pick_first.v3.PickFirst", "");
    let second = of(&format!("{unknown}, {}", typed("random.v3.Random", ""))).unwrap();
    assert_eq!((second.lb_policy, second.ignored.0.len()), (LbPolicy::Random, 1));
    assert_eq!(of(&unknown).unwrap().lb_policy, LbPolicy::RoundRobin);
    let deep = typed(
        "wrr_locality.v3.WrrLocality",
        &format!("endpoint_picking_policy: {{policies: [{wrr}]}}"),
    );
    assert_eq!(of(&deep).unwrap().lb_policy, LbPolicy::RoundRobin);
    let bad = refusal(of(&typed("maglev.v3.Maglev", "table_size: 10")));
    let path = "load_balancing_policy.policies[0].typed_extension_config.typed_config.table_size";
    assert_eq!(
        bad,
        format!("{path}: The table size of maglev must be prime number")
    );
}

fn protocol_options(fields: &str) -> Result<Cluster, Invalid> {
    let url = "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions";
    with(&format!(
        "typed_extension_protocol_options: {{envoy.filters.network.redis_proxy: {{'@type': {url}, {fields}}}}}"
    ))
}

#[test]
fn redis_credentials() {
    let at = |port: u16| format!("address: {{socket_address: {{address: 10.0.0.1, port_value: {port}}}}}");
    let auth = protocol_options(&format!(
        "auth_username: {{inline_string: u}}, auth_password: {{inline_string: p}}, \
         credentials: [{{{}, auth_password: {{inline_string: q}}}}]",
        at(1)
    ));
    let auth = auth.unwrap().redis_auth;
    assert_eq!(
        (auth.username.as_str(), auth.password.as_slice()),
        ("u", b"p".as_slice())
    );
    assert_eq!(
        auth.hosts,
        [("10.0.0.1:1".parse().unwrap(), String::new(), b"q".to_vec())]
    );
    assert_eq!(format!("{auth:?}"), "RedisAuth([redacted])");
    let key = "typed_extension_protocol_options[envoy.filters.network.redis_proxy]";
    let empty = refusal(protocol_options("auth_password: {}"));
    assert_eq!(empty, format!("{key}.auth_password.specifier: value is required"));
    assert_eq!(
        refusal(protocol_options("credentials: [{}]")),
        format!("{key}.credentials[0].address: value is required")
    );
}

#[test]
fn iam_tokens_in_place_of_passwords() {
    let user = "auth_username: {inline_string: u}";
    let iam = |fields: &str| protocol_options(&format!("{user}, aws_iam: {{cache_name: c, {fields}}}"));
    let read = |fields: &str| iam(fields).unwrap().redis_auth.aws_iam.unwrap();
    let plain = read("");
    assert_eq!(
        (plain.service_name.as_str(), plain.region.as_deref()),
        ("elasticache", None)
    );
    assert_eq!(plain.expiration_time, Duration::from_secs(60));
    let names = |iam: &AwsIam| format!("{:?}", iam.credentials);
    let whole = "[Environment, File([redacted]), WebIdentity([redacted]), Container, Instance]";
    assert_eq!(names(&plain), format!("AwsCredentials({whole})"));
    let full = read(
        "service_name: memorydb, region: eu-west-1, expiration_time: 900s, credential_provider: \
         {custom_credential_provider_chain: true, instance_profile_credential_provider: {}, \
         credentials_file_provider: {profile: p, credentials_data_source: {inline_string: '[p]'}}}",
    );
    assert_eq!(
        (full.service_name.as_str(), full.region.as_deref()),
        ("memorydb", Some("eu-west-1"))
    );
    assert_eq!(names(&full), "AwsCredentials([File([redacted]), Instance])");
    let inline = "inline_credential: {access_key_id: AKID, secret_access_key: s3cret}";
    let role = format!(
        "credential_provider: {{assume_role_credential_provider: {{role_arn: r, credential_provider: {{{inline}}}}}}}"
    );
    let AwsSource::AssumeRole { credentials, .. } = &read(&role).credentials.0[0] else {
        panic!("no role");
    };
    assert!(matches!(credentials.0[..], [AwsSource::Inline { .. }]));
    assert!(!format!("{:?}", read(&role)).contains("s3cret"));
    let both = protocol_options(&format!(
        "{user}, auth_password: {{inline_string: p}}, aws_iam: {{cache_name: c}}"
    ));
    let both = both.unwrap();
    assert!(both.redis_auth.password.is_empty());
    assert!(
        both.ignored.0.iter().any(|note| note.ends_with(".auth_password")),
        "{:?}",
        both.ignored
    );
}

#[test]
fn iam_that_is_refused() {
    let key = "typed_extension_protocol_options[envoy.filters.network.redis_proxy]";
    let user = "auth_username: {inline_string: u}";
    for (fields, reason) in [
        (
            "aws_iam: {cache_name: c}",
            "auth_username: aws_iam needs the name of its user",
        ),
        (
            &*format!("{user}, aws_iam: {{}}"),
            "aws_iam.cache_name: value length must be at least 1 characters",
        ),
        (
            &*format!("{user}, aws_iam: {{cache_name: c, expiration_time: 901s}}"),
            "aws_iam.expiration_time: value must be inside range [0s, 900s]",
        ),
        (
            &*format!(
                "{user}, aws_iam: {{cache_name: c, credential_provider: {{custom_credential_provider_chain: true}}}}"
            ),
            "aws_iam.credential_provider.custom_credential_provider_chain: a custom chain needs at least one provider",
        ),
        (
            &*format!(
                "{user}, aws_iam: {{cache_name: c, credential_provider: {{iam_roles_anywhere_credential_provider: \
                 {{role_arn: r}}}}}}"
            ),
            "aws_iam.credential_provider.iam_roles_anywhere_credential_provider: IAM Roles Anywhere is not supported",
        ),
        (
            &*format!(
                "{user}, aws_iam: {{cache_name: c, credential_provider: {{inline_credential: {{access_key_id: a}}}}}}"
            ),
            "aws_iam.credential_provider.inline_credential.secret_access_key: value length must be at least 1 characters",
        ),
    ] {
        assert_eq!(refusal(protocol_options(fields)), format!("{key}.{reason}"));
    }
}

#[test]
fn http2_by_options() {
    let url = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let with_http = |options: &str| {
        with(&format!(
            "typed_extension_protocol_options: {{k: {{'@type': {url}, {options}}}}}"
        ))
        .unwrap()
        .http2
    };
    assert!(with_http("explicit_http_config: {http2_protocol_options: {}}"));
    assert!(!with_http("explicit_http_config: {http_protocol_options: {}}"));
    assert!(!with_http(
        "use_downstream_protocol_config: {http2_protocol_options: {}}"
    ));
}

#[test]
fn transports() {
    let url = "type.googleapis.com/envoy.extensions.transport_sockets";
    let tls = format!("{{name: any, typed_config: {{'@type': {url}.tls.v3.UpstreamTlsContext, sni: s}}}}");
    let Transport::Tls(context) = with(&format!("transport_socket: {tls}")).unwrap().transport else {
        panic!("no TLS")
    };
    assert_eq!(context.sni, "s");
    let quic = format!("{{name: q, typed_config: {{'@type': {url}.quic.v3.QuicUpstreamTransport}}}}");
    let reason = "transport socket `q` is not supported".to_owned();
    assert_eq!(
        with(&format!("transport_socket: {quic}")).unwrap().transport,
        Transport::Inert(reason)
    );
    let raw = format!("{{name: raw, typed_config: {{'@type': {url}.raw_buffer.v3.RawBuffer}}}}");
    let matches = format!(
        "transport_socket_matches: [{{name: a, match: {{tlsMode: istio}}, transport_socket: {tls}}}, \
         {{name: b, match: {{}}, transport_socket: {raw}}}]"
    );
    let matches = with(&matches).unwrap().transport_matches;
    assert_eq!(matches[0].pairs, [("tlsMode".to_owned(), "istio".to_owned())]);
    assert_eq!(
        (matches[1].pairs.len(), &matches[1].transport),
        (0, &Transport::RawBuffer)
    );
    let none = refusal(with("transport_socket_matches: [{name: a}]"));
    assert_eq!(
        none,
        "transport_socket_matches[0].transport_socket: value is required"
    );
}

#[test]
fn what_has_no_effect_is_noted() {
    let cluster = with(
        "
filters: [{name: istio.metadata_exchange}]
outlier_detection: {enforcing_success_rate: 100, success_rate_minimum_hosts: 3}
health_checks: [{}]
circuit_breakers: {thresholds: [{max_retries: 3, max_connection_pools: 1}]}
cleanup_interval: 9223372035s
metadata: {filter_metadata: {istio: {}}}
",
    )
    .unwrap();
    let expected = [
        "filters[0]: istio.metadata_exchange",
        "health_checks",
        "cleanup_interval",
        "circuit_breakers.thresholds[0].max_connection_pools",
        "outlier_detection.success_rate_minimum_hosts",
        "outlier_detection.enforcing_success_rate",
    ];
    assert_eq!(cluster.ignored.0, expected);
}

#[test]
fn circuit_breakers_of_both_priorities() {
    let breakers = |yaml: &str| with(&format!("circuit_breakers: {yaml}")).map(|cluster| cluster.breakers);
    assert_eq!(with("").unwrap().breakers, Breakers::default());
    let read = breakers(
        "{thresholds: [{max_connections: 1, max_pending_requests: 2, max_requests: 3, max_retries: 4}, \
         {priority: HIGH, retry_budget: {budget_percent: {value: 50}}}, {max_connections: 9}]}",
    );
    let expected = Breakers {
        default: Thresholds {
            connections: 1,
            pending: 2,
            requests: 3,
            retries: RetryLimit::Count(4),
        },
        high: Thresholds {
            retries: RetryLimit::Budget {
                percent: 50.0,
                least: 3,
            },
            ..Thresholds::default()
        },
    };
    assert_eq!(read.unwrap(), expected);
    assert_eq!(
        refusal(breakers(
            "{thresholds: [{retry_budget: {budget_percent: {value: 101}}}]}"
        )),
        "circuit_breakers.thresholds[0].retry_budget.budget_percent: value must be inside range [0, 100]"
    );
}

#[test]
fn outliers() {
    let outlier = with("outlier_detection: {}").unwrap().outlier.unwrap();
    assert_eq!(
        (
            outlier.server_errors,
            outlier.gateway_failures.enforced,
            outlier.max_percent
        ),
        (
            Run {
                length: 5,
                enforced: 100
            },
            0,
            10
        )
    );
    assert_eq!(
        refusal(with("outlier_detection: {max_ejection_percent: 101}")),
        "outlier_detection.max_ejection_percent: value must be less than or equal to 100"
    );
}

#[test]
fn a_cluster_may_keep_logins_to_itself() {
    let own = |fields: &str| with(&format!("metadata: {{filter_metadata: {{redplane: {fields}}}}}"));
    assert!(with("").unwrap().client_logins);
    assert!(own("{}").unwrap().client_logins);
    assert!(own("{client_logins: true}").unwrap().client_logins);
    assert!(!own("{client_logins: false}").unwrap().client_logins);
    let path = "metadata.filter_metadata[redplane]";
    for (fields, expected) in [
        (
            "{client_logins: 'false'}",
            format!("{path}.client_logins: must be true or false"),
        ),
        ("{client_login: false}", format!("{path}.client_login: not known")),
    ] {
        assert_eq!(refusal(own(fields)), expected);
    }
}
