//! Istio's tags are those of a real sidecar bootstrap.

use redplane_config_core::matcher::FullRegex;

use super::*;

fn istio() -> Names {
    let tags = [
        ("cluster_name", r"^cluster(\.(.+);)"),
        (
            "http_conn_manager_prefix",
            r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
        ),
        ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
        ("response_code", r"_rq(_(\d{3}))$"),
        ("response_code_class", r"_rq(_(\dxx))$"),
        (
            "http_conn_manager_listener_prefix",
            r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        ),
        (
            "listener_address",
            r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        ),
        ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ];
    let tag = |(name, regex): (&str, &str)| Tag {
        name: name.to_owned(),
        value: TagValue::Regex(Pattern::search(regex).unwrap()),
    };
    let tags = tags.into_iter().map(tag).collect();
    Names::new(StatsConfig {
        tags,
        default_tags: false,
        ..StatsConfig::default()
    })
}

#[track_caller]
fn check(names: &Names, name: &str, plain: &str, tags: &[(&str, &str)]) {
    let tagged = names.tagged(name);
    let found: Vec<_> = tagged
        .tags
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!((tagged.name.as_str(), found.as_slice()), (plain, tags));
}

#[test]
fn istios_tags() {
    let names = istio();
    check(
        &names,
        "cluster.outbound|6379||redis.ns.svc;.upstream_cx_total",
        "cluster.upstream_cx_total",
        &[("cluster_name", "outbound|6379||redis.ns.svc")],
    );
    check(
        &names,
        "cluster.c;.upstream_rq_200",
        "cluster.upstream_rq",
        &[("cluster_name", "c"), ("response_code", "200")],
    );
    check(
        &names,
        "tcp.outbound|6379||h.downstream_cx_total",
        "tcp.downstream_cx_total",
        &[("tcp_prefix", "outbound|6379||h")],
    );
    check(
        &names,
        "listener.0.0.0.0_15001.downstream_cx_active",
        "listener.downstream_cx_active",
        &[("listener_address", "0.0.0.0_15001")],
    );
    check(
        &names,
        "redis.redis_stats.command.get.total",
        "redis.redis_stats.command.get.total",
        &[],
    );
    check(
        &names,
        "http.inbound_0.0.0.0_80;.rq",
        "http.rq",
        &[("http_conn_manager_prefix", "inbound_0.0.0.0_80")],
    );
}

#[test]
fn envoys_default_tags() {
    let names = Names::default();
    check(
        &names,
        "cluster.outbound|6379||r.ns.svc.upstream_cx_total",
        "cluster.ns.svc.upstream_cx_total",
        &[("envoy.cluster_name", "outbound|6379||r")],
    );
    check(
        &names,
        "listener.admin.downstream_cx_total",
        "listener.admin.downstream_cx_total",
        &[],
    );
    check(
        &names,
        "listener.admin.http.admin.downstream_rq_2xx",
        "listener.admin.http.downstream_rq_xx",
        &[
            ("envoy.response_code_class", "2"),
            ("envoy.http_conn_manager_prefix", "admin"),
        ],
    );
    check(
        &names,
        "server.worker_0.watchdog_miss",
        "server.worker_watchdog_miss",
        &[("envoy.worker_id", "0")],
    );
    check(
        &names,
        "tcp.tp.idle_timeout",
        "tcp.idle_timeout",
        &[("envoy.tcp_prefix", "tp")],
    );
    check(
        &names,
        "listener.[__1]_80.downstream_cx_total",
        "listener.downstream_cx_total",
        &[("envoy.listener_address", "[__1]_80")],
    );
}

#[test]
fn fixed_and_single_default_tags() {
    let tags = vec![
        Tag {
            name: "zone".to_owned(),
            value: TagValue::Fixed("z".to_owned()),
        },
        Tag {
            name: "envoy.redis_prefix".to_owned(),
            value: TagValue::Default,
        },
    ];
    let names = Names::new(StatsConfig {
        tags,
        default_tags: false,
        ..StatsConfig::default()
    });
    check(
        &names,
        "redis.p.x",
        "redis.x",
        &[("envoy.redis_prefix", "p"), ("zone", "z")],
    );
    check(&names, "cluster.c.x", "cluster.c.x", &[("zone", "z")]);
}

#[test]
fn what_is_excluded_is_not_shown() {
    let whole = StringMatcher::Regex(FullRegex::new(r"vhost\..*\.route\..*").unwrap());
    let exclusion = Matcher::Exclusion(vec![whole]);
    assert!(!exclusion.admits("vhost.a.route.b") && exclusion.admits("x.vhost.a.route.b"));
}

#[test]
fn a_prefix_is_ruled_out_only_when_nothing_below_can_match() {
    let inclusion = |matcher| Matcher::Inclusion(vec![matcher]);
    let prefix = inclusion(StringMatcher::Prefix("cluster.xds-grpc".to_owned()));
    assert!(prefix.may_admit_below("cluster.xds-grpc;.") && prefix.may_admit_below("cluster."));
    assert!(!prefix.may_admit_below("cluster.a."));
    assert!(inclusion(StringMatcher::Suffix("x".to_owned())).may_admit_below("cluster.a."));
    assert!(!inclusion(StringMatcher::Exact("server.live".to_owned())).may_admit_below("redis."));
}

#[test]
fn bad_patterns_are_refused_and_greedy_ones_give_up() {
    assert!(Pattern::search("(").is_err());
    assert!(Pattern::search(&"a".repeat(20_000)).is_err());
    let greedy = Pattern::search(r"(?=a)((a+)+)\1\1b$").unwrap();
    assert!(!greedy.matches(&format!("{}!", "a".repeat(200))));
}
