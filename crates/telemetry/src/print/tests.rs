//! The expected shapes are what Envoy 1.40 prints for a static bootstrap with a redis_proxy listener.

use std::sync::Arc;

use redplane_config_core::matcher::StringMatcher;

use super::*;
use crate::names::{BucketSetting, Matcher, StatsConfig};
use crate::stats::{cluster, listener_worker, redis_cluster, redis_command, redis_proxy, server};
use crate::{Pattern, Registry};

fn lines(page: &str) -> Vec<&str> {
    page.lines().collect()
}

fn used() -> Query {
    Query {
        used_only: true,
        ..Query::default()
    }
}

fn filter(pattern: &str) -> Query {
    Query {
        filter: Some(Pattern::search(pattern).unwrap()),
        ..Query::default()
    }
}

#[test]
fn text_has_readouts_then_scalars_then_histograms() {
    let registry = Registry::new();
    let filter = registry.scope("redis.p.", &redis_proxy::SCHEMA).block();
    let pool = registry
        .scope("cluster.c.redis_cluster.", &redis_cluster::SCHEMA)
        .block();
    registry.text("cluster_manager.cds.version_text", "2026-01-01/1");
    filter.inc(redis_proxy::DOWNSTREAM_RQ_TOTAL);
    filter.set(redis_proxy::DOWNSTREAM_CX_ACTIVE, 0);
    pool.record(redis_cluster::UPSTREAM_RQ_TIME, 2);
    registry.tick();
    pool.record(redis_cluster::UPSTREAM_RQ_TIME, 8);
    assert_eq!(
        lines(&registry.print_text(&used())),
        [
            "cluster_manager.cds.version_text: \"2026-01-01/1\"",
            "redis.p.downstream_cx_active: 0",
            "redis.p.downstream_rq_total: 1",
            "cluster.c.redis_cluster.upstream_commands.upstream_rq_time: P0(2,2) P25(2,2) P50(2,2) P75(2,8) \
             P90(2,8) P95(2,8) P99(2,8) P99.5(2,8) P99.9(2,8) P100(2,8)",
        ]
    );
}

#[test]
fn all_names_of_a_filter_are_printed_at_zero() {
    let registry = Registry::new();
    let _filter = registry.scope("redis.p.", &redis_proxy::SCHEMA);
    let rows: Arc<[Box<str>]> = ["get".into(), "bf.add".into()].into();
    let _commands = registry.table("redis.p.command.", rows, &redis_command::SCHEMA);
    let page = registry.print_text(&Query::default());
    for line in [
        "redis.p.downstream_cx_drain_close: 0",
        "redis.p.splitter.invalid_request: 0",
        "redis.p.command.get.delay_fault: 0",
        "redis.p.command.bf.add.total: 0",
        "redis.p.command.get.latency: No recorded values",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in {page}");
    }
    assert_eq!(page.lines().count(), 13 + 2 * 6);
    assert_eq!(registry.print_text(&used()), "");
}

#[test]
fn a_filter_is_searched_not_anchored() {
    let registry = Registry::new();
    let block = registry.scope("server.", &server::SCHEMA).block();
    block.set(server::STATE, 0);
    block.set(server::LIVE, 1);
    let query = Query {
        used_only: true,
        ..filter(r"^(server\.state|listener_manager\.workers_started)")
    };
    assert_eq!(registry.print_text(&query), "server.state: 0\n");
    assert_eq!(
        registry.print_text(&Query {
            used_only: true,
            ..filter("ive$")
        }),
        "server.live: 1\n"
    );
    let inverted = Query {
        used_only: true,
        invert_filter: true,
        ..filter("ive$")
    };
    assert_eq!(registry.print_text(&inverted), "server.state: 0\n");
    let gauges = Query {
        kinds: Kinds::Counters,
        ..used()
    };
    assert_eq!(registry.print_text(&gauges), "");
}

#[test]
fn json_has_envoys_shape() {
    let registry = Registry::new();
    let pool = registry
        .scope("cluster.c.redis_cluster.", &redis_cluster::SCHEMA)
        .block();
    pool.record(redis_cluster::UPSTREAM_RQ_TIME, 7);
    pool.inc(redis_cluster::UPSTREAM_CX_DRAINED);
    let page: serde_json::Value = serde_json::from_str(&registry.print_json(&used())).unwrap();
    let stats = page["stats"].as_array().unwrap();
    assert_eq!(
        stats[0].to_string(),
        r#"{"name":"cluster.c.redis_cluster.upstream_cx_drained","value":1}"#
    );
    let histograms = &stats[1]["histograms"];
    assert_eq!(
        histograms["supported_quantiles"].to_string(),
        "[0,25,50,75,90,95,99,99.5,99.9,100]"
    );
    let computed = &histograms["computed_quantiles"][0];
    assert_eq!(
        computed["name"],
        "cluster.c.redis_cluster.upstream_commands.upstream_rq_time"
    );
    assert_eq!(
        computed["values"][9].to_string(),
        r#"{"cumulative":7,"interval":null}"#
    );
    assert_eq!(Registry::new().print_json(&Query::default()), r#"{"stats":[]}"#);
}

#[test]
fn prometheus_families_carry_envoys_default_labels() {
    let registry = Registry::new();
    let rows: Arc<[Box<str>]> = ["get".into(), "bf.add".into()].into();
    let commands = registry
        .table("redis.p.command.", rows, &redis_command::SCHEMA)
        .block();
    commands[0].inc(redis_command::TOTAL);
    commands[1].inc(redis_command::TOTAL);
    let workers: Vec<_> = [28802, 28803]
        .map(|port| {
            let prefix = format!("listener.127.0.0.1_{port}.worker_0.");
            let block = registry.scope(&prefix, &listener_worker::SCHEMA).block();
            block.inc(listener_worker::DOWNSTREAM_CX_TOTAL);
            block
        })
        .into();
    let server = registry.scope("server.", &server::SCHEMA).block();
    server.set(server::LIVE, 1);
    let clusters = ["a", "b"].map(|name| {
        let block = registry
            .scope(&format!("cluster.{name}."), &cluster::SCHEMA)
            .block();
        block.inc(cluster::UPSTREAM_CX_TOTAL);
        block
    });
    assert_eq!(
        lines(&registry.print_prometheus(&used())),
        [
            "# TYPE envoy_cluster_upstream_cx_total counter",
            r#"envoy_cluster_upstream_cx_total{envoy_cluster_name="a"} 1"#,
            r#"envoy_cluster_upstream_cx_total{envoy_cluster_name="b"} 1"#,
            "# TYPE envoy_listener_worker_downstream_cx_total counter",
            r#"envoy_listener_worker_downstream_cx_total{envoy_worker_id="0",envoy_listener_address="127.0.0.1_28802"} 1"#,
            r#"envoy_listener_worker_downstream_cx_total{envoy_worker_id="0",envoy_listener_address="127.0.0.1_28803"} 1"#,
            "# TYPE envoy_redis_command_bf_add_total counter",
            r#"envoy_redis_command_bf_add_total{envoy_redis_prefix="p"} 1"#,
            "# TYPE envoy_redis_command_get_total counter",
            r#"envoy_redis_command_get_total{envoy_redis_prefix="p"} 1"#,
            "# TYPE envoy_server_live gauge",
            "envoy_server_live{} 1",
        ]
    );
    drop((workers, clusters));
}

#[test]
fn prometheus_histograms_are_cumulative() {
    let registry = Registry::new();
    registry.configure(StatsConfig {
        buckets: vec![BucketSetting {
            matcher: StringMatcher::Suffix("upstream_rq_time".to_owned()),
            buckets: vec![1.0, 10.0, 2500.5],
        }],
        ..StatsConfig::default()
    });
    let pool = registry
        .scope("cluster.c.redis_cluster.", &redis_cluster::SCHEMA)
        .block();
    for value in [0, 5, 5, 100, 1_000_000] {
        pool.record(redis_cluster::UPSTREAM_RQ_TIME, value);
    }
    let name = "envoy_cluster_redis_cluster_upstream_commands_upstream_rq_time";
    assert_eq!(
        lines(&registry.print_prometheus(&Query {
            kinds: Kinds::Histograms,
            ..used()
        })),
        [
            format!("# TYPE {name} histogram"),
            format!("{name}_bucket{{envoy_cluster_name=\"c\",le=\"1\"}} 1"),
            format!("{name}_bucket{{envoy_cluster_name=\"c\",le=\"10\"}} 3"),
            format!("{name}_bucket{{envoy_cluster_name=\"c\",le=\"2500.5\"}} 4"),
            format!("{name}_bucket{{envoy_cluster_name=\"c\",le=\"+Inf\"}} 5"),
            format!("{name}_sum{{envoy_cluster_name=\"c\"}} 1000110"),
            format!("{name}_count{{envoy_cluster_name=\"c\"}} 5"),
        ]
    );
}

#[test]
fn prometheus_texts_and_custom_namespaces() {
    crate::schema! {
        mod requests {
            requests_total: Counter,
        }
    }
    let registry = Registry::new();
    registry.text("control_plane.identifier", "a\"b");
    let block = registry.scope("istiocustom.istio_", &requests::SCHEMA).block();
    block.inc(requests::REQUESTS_TOTAL);
    let query = Query {
        text_readouts: true,
        ..Query::default()
    };
    assert_eq!(
        lines(&registry.print_prometheus(&query)),
        [
            "# TYPE istio_requests_total counter",
            "istio_requests_total{} 1",
            "# TYPE envoy_control_plane_identifier gauge",
            r#"envoy_control_plane_identifier{text_value="a\"b"} 0"#,
        ]
    );
    assert!(
        !registry
            .print_prometheus(&Query::default())
            .contains("identifier")
    );
}

#[test]
fn the_matcher_hides_and_shows() {
    let registry = Registry::new();
    let _server = registry.scope("server.", &server::SCHEMA);
    let _filter = registry.scope("redis.p.", &redis_proxy::SCHEMA);
    let matcher = Matcher::Inclusion(vec![StringMatcher::Prefix("redis".to_owned())]);
    registry.configure(StatsConfig {
        matcher,
        ..StatsConfig::default()
    });
    let page = registry.print_text(&Query::default());
    assert!(
        page.lines().all(|line| line.starts_with("redis.p.")) && page.lines().count() == 13,
        "{page}"
    );
    registry.configure(StatsConfig {
        matcher: Matcher::None,
        ..StatsConfig::default()
    });
    assert_eq!(registry.print_text(&Query::default()), "");
}

#[test]
fn bucket_modes_of_the_text_page() {
    let registry = Registry::new();
    let pool = registry.scope("c.", &redis_cluster::SCHEMA).block();
    pool.record_many(redis_cluster::UPSTREAM_RQ_TIME, 3, 2);
    pool.record(redis_cluster::UPSTREAM_RQ_TIME, 7);
    registry.tick();
    let page = |buckets| registry.print_text(&Query { buckets, ..used() });
    assert!(page(BucketMode::Cumulative).contains("B1(0,0) B5(2,2) B10(3,3) B25(3,3)"));
    assert!(page(BucketMode::Disjoint).contains("B1(0,0) B5(2,2) B10(1,1) B25(0,0)"));
}

#[test]
fn a_name_from_two_scopes_is_printed_once() {
    crate::schema! {
        mod other {
            upstream_cx_total: Counter,
        }
    }
    let registry = Registry::new();
    let one = registry.scope("cluster.c.", &cluster::SCHEMA).block();
    let two = registry.scope("cluster.c.", &other::SCHEMA).block();
    one.inc(cluster::UPSTREAM_CX_TOTAL);
    two.inc(other::UPSTREAM_CX_TOTAL);
    assert_eq!(registry.print_text(&used()), "cluster.c.upstream_cx_total: 2\n");
}
