//! redplane in front of Redis, without a control plane: bootstraps put together from texts, one listener or several.

use std::time::{Duration, Instant};

use redplane_testkit::{Client, Cluster, Proxy, free_port};

use crate::stage::{admin, at, client, redplane, static_resources};

/// Refreshes fast enough for a test, and at the first sign of a change.
pub(crate) const EAGER: &str = "cluster_refresh_rate: 1s, cluster_refresh_timeout: 1s, redirect_refresh_interval: \
                                0.2s, redirect_refresh_threshold: 1, failure_refresh_threshold: 1";

/// A filter of type redis_proxy: its settings, and its further fields (routes among them).
pub(crate) fn redis_filter(stat_prefix: &str, settings: &str, fields: &str) -> String {
    format!(
        "{{name: redis, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy, stat_prefix: {stat_prefix}, \
         settings: {{{settings}}}, {fields}}}}}"
    )
}

/// The routes of a filter that sends everything to one cluster.
pub(crate) fn all_to(cluster: &str) -> String {
    format!("prefix_routes: {{catch_all_route: {{cluster: {cluster}}}}}")
}

/// A listener of one chain with one filter.
pub(crate) fn listener(name: &str, port: u16, filter: &str) -> String {
    format!(
        "{{name: {name}, {}, filter_chains: [{{filters: [{filter}]}}]}}",
        at(port)
    )
}

/// A static cluster of these hosts with further fields.
pub(crate) fn hosts(name: &str, ports: &[u16], fields: &str) -> String {
    format!(
        "{{name: {name}, type: STATIC, connect_timeout: 1s, load_assignment: {{cluster_name: {name}, endpoints: \
         [{{lb_endpoints: [{}]}}]}}{fields}}}",
        endpoints(ports)
    )
}

/// An `envoy.clusters.redis` that is found through these seeds; `discovery` are fields of its own configuration.
pub(crate) fn discovered(name: &str, seeds: &[u16], discovery: &str, fields: &str) -> String {
    format!(
        "{{name: {name}, connect_timeout: 1s, lb_policy: CLUSTER_PROVIDED, load_assignment: {{cluster_name: {name}, \
         endpoints: [{{lb_endpoints: [{}]}}]}}, cluster_type: {{name: envoy.clusters.redis, typed_config: {{\"@type\": \
         type.googleapis.com/google.protobuf.Struct, value: {{{discovery}}}}}}}{fields}}}",
        endpoints(seeds)
    )
}

pub(crate) fn endpoints(ports: &[u16]) -> String {
    let one = |port: &u16| format!("{{endpoint: {{{}}}}}", at(*port));
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The seeds of a cluster: all its nodes.
pub(crate) fn seeds(cluster: &Cluster) -> Vec<u16> {
    cluster
        .nodes()
        .iter()
        .map(redplane_testkit::Redis::port)
        .collect()
}

/// Starts redplane with these listeners and clusters, with one worker so that what workers do each by itself (limits,
/// buffers, chances) can be counted.
pub(crate) fn serve(listeners: &[String], clusters: &[String]) -> Proxy {
    serve_as("node: {id: n, cluster: c}\n", "1", listeners, clusters)
}

/// The same with another head of the bootstrap (its node) and so many workers.
pub(crate) fn serve_as(head: &str, workers: &str, listeners: &[String], clusters: &[String]) -> Proxy {
    let admin_port = free_port();
    let text = format!(
        "{head}{}{}",
        admin(admin_port),
        static_resources(listeners, clusters)
    );
    let flags = ["--concurrency", workers];
    Proxy::start_without_waiting(&redplane(), &text, admin_port, &flags).wait_until_ready()
}

/// The time that has passed.
pub(crate) fn since(start: Instant) -> Duration {
    Instant::now() - start
}

/// redplane with one Redis listener.
pub(crate) struct Front {
    pub(crate) proxy: Proxy,
    pub(crate) port: u16,
}

impl Front {
    /// Starts it with one filter in front of these clusters.
    pub(crate) fn start(filter: &str, clusters: &[String]) -> Self {
        let port = free_port();
        let proxy = serve(&[listener("redis", port, filter)], clusters);
        Self { proxy, port }
    }

    /// Starts it in front of a real cluster with these settings.
    pub(crate) fn of(cluster: &Cluster, settings: &str) -> Self {
        let upstream = discovered("c", &seeds(cluster), EAGER, "");
        let filter = redis_filter("r", settings, &all_to("c"));
        let port = free_port();
        let listeners = [listener("redis", port, &filter)];
        let proxy = serve_as("node: {id: n, cluster: c}\n", "2", &listeners, &[upstream]);
        let front = Self { proxy, port };
        crate::stage::until_answered(front.port, "SET there yes", "OK");
        front
    }

    /// A new client.
    pub(crate) fn client(&self) -> Client {
        client(self.port)
    }

    /// A counter or gauge; 0 when it is not there.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        self.proxy.stat(name).unwrap_or(0)
    }
}
