//! `/clusters`: each cluster's limits and hosts, as text and as `envoy.admin.v3.Clusters`.
//!
//! A host of a Redis Cluster has lines of its own after Envoy's (`redis_role`, `redis_slots`, `redis_primary`), and a
//! member `redis` in JSON, which readers of Envoy's message ignore.

use std::fmt::Write;
use std::ops::RangeInclusive;

use redplane_telemetry::Pattern;
use serde_json::{Map, Value, json};

use super::{address_json, address_text, put};
use crate::reply::Reply;
use crate::request::Request;
use crate::{
    ClusterView, EdsHealth, HealthFlags, HostStats, HostView, RedisHostView, Role, Sources, Thresholds,
};

/// The page.
pub(crate) fn page(sources: &Sources, request: &Request) -> Reply {
    let Ok(filter) = request.params.filled("filter").map(Pattern::search).transpose() else {
        return Reply::bad_request("Invalid re2 regex");
    };
    let mut clusters = (sources.views.clusters)();
    clusters.retain(|cluster| filter.as_ref().is_none_or(|filter| filter.matches(&cluster.name)));
    if request.params.first("format") == Some("json") {
        let statuses: Vec<Value> = clusters.iter().map(cluster_json).collect();
        let mut page = Map::new();
        put(&mut page, "cluster_statuses", statuses);
        return Reply::json(&Value::Object(page));
    }
    let mut page = String::new();
    clusters
        .iter()
        .for_each(|cluster| write_cluster(&mut page, cluster));
    Reply::text(page)
}

fn write_cluster(page: &mut String, cluster: &ClusterView) {
    let name = &cluster.name;
    // Writing into a String cannot fail; the same holds below.
    let _ = writeln!(page, "{name}::observability_name::{}", cluster.observability_name);
    write_thresholds(page, name, "default", &cluster.default_priority);
    write_thresholds(page, name, "high", &cluster.high_priority);
    let _ = writeln!(page, "{name}::added_via_api::{}", cluster.added_via_api);
    if let Some(service) = &cluster.eds_service_name {
        let _ = writeln!(page, "{name}::eds_service_name::{service}");
    }
    cluster.hosts.iter().for_each(|host| write_host(page, name, host));
}

fn write_thresholds(page: &mut String, name: &str, priority: &str, limits: &Thresholds) {
    let _ = writeln!(
        page,
        "{name}::{priority}_priority::max_connections::{}",
        limits.max_connections
    );
    let _ = writeln!(
        page,
        "{name}::{priority}_priority::max_pending_requests::{}",
        limits.max_pending_requests
    );
    let _ = writeln!(
        page,
        "{name}::{priority}_priority::max_requests::{}",
        limits.max_requests
    );
    let _ = writeln!(
        page,
        "{name}::{priority}_priority::max_retries::{}",
        limits.max_retries
    );
}

fn write_host(page: &mut String, name: &str, host: &HostView) {
    let address = address_text(&host.address);
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(page, "{name}::{address}::{key}::{value}");
    };
    let HostStats {
        cx_active,
        cx_connect_fail,
        cx_total,
        rq_active,
        rq_error,
        rq_pending_active,
        rq_success,
        rq_timeout,
        rq_total,
    } = host.stats;
    line("cx_active", &cx_active);
    line("cx_connect_fail", &cx_connect_fail);
    line("cx_total", &cx_total);
    line("rq_active", &rq_active);
    line("rq_error", &rq_error);
    line("rq_pending_active", &rq_pending_active);
    line("rq_success", &rq_success);
    line("rq_timeout", &rq_timeout);
    line("rq_total", &rq_total);
    line("hostname", &host.hostname);
    line("health_flags", &health_text(&host.health));
    line("weight", &host.weight);
    line("region", &host.locality.region);
    line("zone", &host.locality.zone);
    line("sub_zone", &host.locality.sub_zone);
    line("canary", &host.canary);
    line("priority", &host.priority);
    line("success_rate", &-1);
    line("local_origin_success_rate", &-1);
    if let Some(redis) = &host.redis {
        line("redis_role", &role(redis.role));
        line("redis_slots", &slots_text(&redis.slots));
        if let Some(primary) = &redis.primary {
            line("redis_primary", primary);
        }
    }
}

/// Envoy's flags, each with its slash.
fn health_text(health: &HealthFlags) -> String {
    let flags = [
        (health.failed_active_hc, "/failed_active_hc"),
        (health.failed_outlier_check, "/failed_outlier_check"),
        (health.eds == EdsHealth::Unhealthy, "/failed_eds_health"),
        (health.degraded_active_hc, "/degraded_active_hc"),
        (health.eds == EdsHealth::Degraded, "/degraded_eds_health"),
        (health.pending_dynamic_removal, "/pending_dynamic_removal"),
        (health.pending_active_hc, "/pending_active_hc"),
        (health.active_hc_timeout, "/active_hc_timeout"),
        (health.eds == EdsHealth::Draining, "/eds_status_draining"),
    ];
    let set: String = flags
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, flag)| flag)
        .collect();
    if set.is_empty() { "healthy".to_owned() } else { set }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Replica => "replica",
        Role::Unknown => "-",
    }
}

/// `0-5460,5462`, as Redis writes them.
fn slots_text(slots: &[RangeInclusive<u16>]) -> String {
    let range = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    };
    slots.iter().map(range).collect::<Vec<_>>().join(",")
}

fn cluster_json(cluster: &ClusterView) -> Value {
    let mut status = Map::new();
    put(&mut status, "name", cluster.name.as_str());
    put(&mut status, "added_via_api", cluster.added_via_api);
    put(
        &mut status,
        "host_statuses",
        cluster.hosts.iter().map(host_json).collect::<Vec<_>>(),
    );
    let limits = [
        thresholds_json(None, &cluster.default_priority),
        thresholds_json(Some("HIGH"), &cluster.high_priority),
    ];
    status.insert("circuit_breakers".to_owned(), json!({"thresholds": limits}));
    put(
        &mut status,
        "observability_name",
        cluster.observability_name.as_str(),
    );
    put(&mut status, "eds_service_name", cluster.eds_service_name.clone());
    Value::Object(status)
}

/// Limits are wrapped numbers: 0 is printed.
fn thresholds_json(priority: Option<&str>, limits: &Thresholds) -> Value {
    let mut thresholds = Map::new();
    put(&mut thresholds, "priority", priority);
    thresholds.insert("max_connections".to_owned(), limits.max_connections.into());
    thresholds.insert(
        "max_pending_requests".to_owned(),
        limits.max_pending_requests.into(),
    );
    thresholds.insert("max_requests".to_owned(), limits.max_requests.into());
    thresholds.insert("max_retries".to_owned(), limits.max_retries.into());
    Value::Object(thresholds)
}

fn host_json(host: &HostView) -> Value {
    let mut status = Map::new();
    status.insert("address".to_owned(), address_json(&host.address));
    status.insert("stats".to_owned(), stats_json(&host.stats).into());
    status.insert("health_status".to_owned(), health_json(&host.health));
    put(&mut status, "weight", host.weight);
    put(&mut status, "hostname", host.hostname.as_str());
    put(&mut status, "priority", host.priority);
    let mut locality = Map::new();
    put(&mut locality, "region", host.locality.region.as_str());
    put(&mut locality, "zone", host.locality.zone.as_str());
    put(&mut locality, "sub_zone", host.locality.sub_zone.as_str());
    status.insert("locality".to_owned(), Value::Object(locality));
    if let Some(redis) = &host.redis {
        status.insert("redis".to_owned(), redis_json(redis));
    }
    Value::Object(status)
}

/// `SimpleMetric`s in Envoy's order; 64-bit numbers are strings.
fn stats_json(stats: &HostStats) -> Vec<Value> {
    let counters = [
        ("cx_connect_fail", stats.cx_connect_fail),
        ("cx_total", stats.cx_total),
        ("rq_error", stats.rq_error),
        ("rq_success", stats.rq_success),
        ("rq_timeout", stats.rq_timeout),
        ("rq_total", stats.rq_total),
    ];
    let gauges = [
        ("cx_active", stats.cx_active),
        ("rq_active", stats.rq_active),
        ("rq_pending_active", stats.rq_pending_active),
    ];
    let metric = |kind: Option<&str>, (name, value): (&str, u64)| {
        let mut metric = Map::new();
        put(&mut metric, "type", kind);
        if value != 0 {
            metric.insert("value".to_owned(), value.to_string().into());
        }
        metric.insert("name".to_owned(), name.into());
        Value::Object(metric)
    };
    let counters = counters.into_iter().map(|counter| metric(None, counter));
    counters
        .chain(gauges.into_iter().map(|gauge| metric(Some("GAUGE"), gauge)))
        .collect()
}

fn health_json(health: &HealthFlags) -> Value {
    let mut status = Map::new();
    put(&mut status, "failed_active_health_check", health.failed_active_hc);
    put(&mut status, "failed_outlier_check", health.failed_outlier_check);
    put(
        &mut status,
        "failed_active_degraded_check",
        health.degraded_active_hc,
    );
    put(
        &mut status,
        "pending_dynamic_removal",
        health.pending_dynamic_removal,
    );
    put(&mut status, "pending_active_hc", health.pending_active_hc);
    put(&mut status, "active_hc_timeout", health.active_hc_timeout);
    let eds = match health.eds {
        EdsHealth::Healthy => "HEALTHY",
        EdsHealth::Unhealthy => "UNHEALTHY",
        EdsHealth::Degraded => "DEGRADED",
        EdsHealth::Draining => "DRAINING",
    };
    put(&mut status, "eds_health_status", eds);
    Value::Object(status)
}

fn redis_json(redis: &RedisHostView) -> Value {
    let slots: Vec<Value> = redis
        .slots
        .iter()
        .map(|range| json!({"start": range.start(), "end": range.end()}))
        .collect();
    let mut place = Map::new();
    place.insert("role".to_owned(), role(redis.role).into());
    place.insert("slots".to_owned(), slots.into());
    put(&mut place, "primary", redis.primary.clone());
    Value::Object(place)
}
