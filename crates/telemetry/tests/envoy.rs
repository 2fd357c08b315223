//! Names, kinds and labels, judged by a real Envoy 1.40: what it prints for a redis_proxy, a tcp_proxy, their clusters
//! and listeners must be what the schemas print.

// Helpers of tests are tests: a failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use redplane_telemetry::stats::{
    cluster, cluster_manager, filesystem, http, listener, listener_http, listener_manager, listener_worker,
    redis_cluster, redis_command, redis_proxy, runtime, server, tcp, upstream_command, watchdog,
};
use redplane_telemetry::{Query, Registry, Schema, Scope, Table};
use redplane_testkit::{Client, Proxy, ProxyKind, Redis, free_port};

const REDIS_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy";
const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

struct Ports {
    admin: u16,
    redis: u16,
    tcp: u16,
    upstream: u16,
}

fn bootstrap(ports: &Ports) -> String {
    let address = |port| format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}");
    let listener = |name: &str, port, filter: &str, config: &str| {
        format!(
            "  - name: {name}\n    address: {}\n    filter_chains: [{{filters: [{{name: {filter}, typed_config: \
             {{{config}}}}}]}}]\n",
            address(port)
        )
    };
    let redis = format!(
        "\"@type\": {REDIS_PROXY}, stat_prefix: p, settings: {{op_timeout: 1s, enable_command_stats: true}}, \
         prefix_routes: {{catch_all_route: {{cluster: c}}}}"
    );
    let tcp = format!("\"@type\": {TCP_PROXY}, stat_prefix: t, cluster: c");
    format!(
        "admin: {{address: {}}}\nstatic_resources:\n  listeners:\n{}{}  clusters:\n  - name: c\n    type: STATIC\n    \
         load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {}}}}}]}}]}}\n",
        address(ports.admin),
        listener("r", ports.redis, "envoy.filters.network.redis_proxy", &redis),
        listener("t", ports.tcp, "envoy.filters.network.tcp_proxy", &tcp),
        address(ports.upstream),
    )
}

/// The scopes that redplane makes for the same configuration.
fn registry(ports: &Ports, commands: Arc<[Box<str>]>) -> (Registry, Vec<Arc<Scope>>, Vec<Arc<Table>>) {
    let registry = Registry::new();
    let (redis, tcp_listener) = (
        format!("listener.127.0.0.1_{}.", ports.redis),
        format!("listener.127.0.0.1_{}.", ports.tcp),
    );
    let worker = |listener: &str| format!("{listener}worker_0.");
    let scopes: Vec<(String, &'static Schema)> = vec![
        ("server.".into(), &server::SCHEMA),
        ("server.main_thread.".into(), &watchdog::SCHEMA),
        ("server.worker_0.".into(), &watchdog::SCHEMA),
        ("main_thread.".into(), &watchdog::SCHEMA),
        ("workers.".into(), &watchdog::SCHEMA),
        ("cluster_manager.".into(), &cluster_manager::SCHEMA),
        ("listener_manager.".into(), &listener_manager::SCHEMA),
        ("runtime.".into(), &runtime::SCHEMA),
        ("filesystem.".into(), &filesystem::SCHEMA),
        ("http.admin.".into(), &http::SCHEMA),
        ("listener.admin.".into(), &listener::SCHEMA),
        ("listener.admin.http.admin.".into(), &listener_http::SCHEMA),
        ("listener.admin.main_thread.".into(), &listener_worker::SCHEMA),
        (worker(&redis), &listener_worker::SCHEMA),
        (worker(&tcp_listener), &listener_worker::SCHEMA),
        (redis, &listener::SCHEMA),
        (tcp_listener, &listener::SCHEMA),
        ("redis.p.".into(), &redis_proxy::SCHEMA),
        ("tcp.t.".into(), &tcp::SCHEMA),
        ("cluster.c.".into(), &cluster::SCHEMA),
        ("cluster.c.redis_cluster.".into(), &redis_cluster::SCHEMA),
    ];
    let scopes = scopes
        .into_iter()
        .map(|(prefix, schema)| registry.scope(&prefix, schema))
        .collect();
    let sent: Arc<[Box<str>]> = ["get".into(), "set".into()].into();
    let tables = vec![
        registry.table("redis.p.command.", commands, &redis_command::SCHEMA),
        registry.table(
            "cluster.c.redis_cluster.upstream_commands.",
            sent,
            &upstream_command::SCHEMA,
        ),
    ];
    (registry, scopes, tables)
}

/// Groups of which redplane has nothing to tell, or of which it tells elsewhere.
fn left_out(name: &str) -> bool {
    ["envoy.overload", "http.async-client", "http1.", "thread_local_cluster_manager", "overload."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        // An admin listener has no filter chains that could be discovered.
        || (name.starts_with("listener.admin") && name.ends_with("extension_config_missing"))
        // Envoy makes it with the first failure; ours is there at 0.
        || (name.contains(".upstream_commands.") && name.ends_with(".failure"))
        // Ours alone: Envoy drops the reply to AUTH.
        || name.ends_with(".upstream_auth_failure")
}

fn names(page: &str) -> BTreeSet<String> {
    let names = page
        .lines()
        .filter_map(|line| line.rsplit_once(": "))
        .map(|(name, _)| name);
    names.filter(|name| !left_out(name)).map(str::to_owned).collect()
}

/// Kind, family and labels of every sample, without values and bounds.
fn samples(page: &str) -> BTreeSet<String> {
    let left_out = [
        "envoy_overload",
        "async-client",
        "envoy_http1",
        "clusters_inflated",
        "envoy_envoy",
        "et_failure",
        "upstream_auth_failure",
    ];
    let mut kind = "";
    let mut samples = BTreeSet::new();
    for line in page.lines().filter(|line| !line.contains("le=\"")) {
        let (sample, last) = line.rsplit_once(' ').unwrap();
        let admin = line.contains("listener_admin") && line.contains("extension_config_missing");
        if line.starts_with('#') {
            kind = last;
        } else if !admin && !left_out.iter().any(|word| line.contains(word)) {
            samples.insert(format!("{kind} {sample}"));
        }
    }
    samples
}

#[test]
fn the_same_stats_as_envoy() {
    let backend = Redis::plain();
    let ports = Ports {
        admin: free_port(),
        redis: free_port(),
        tcp: free_port(),
        upstream: backend.port(),
    };
    let envoy = Proxy::start(&ProxyKind::Envoy, &bootstrap(&ports), ports.admin);
    let mut client = Client::connect((std::net::Ipv4Addr::LOCALHOST, ports.redis).into()).unwrap();
    client.command(&["SET", "a", "b"]).unwrap();
    client.command(&["GET", "a"]).unwrap();
    let page = envoy.page("/stats").body;
    let prefix = "redis.p.command.";
    let commands: BTreeSet<Box<str>> = names(&page)
        .iter()
        .filter_map(|name| Some(name.strip_prefix(prefix)?.rsplit_once('.')?.0.into()))
        .collect();
    assert!(commands.len() > 180, "{}", commands.len());
    let (registry, _scopes, _tables) = registry(&ports, commands.into_iter().collect());
    let query = Query::default();
    let (theirs, ours) = (names(&page), names(&registry.print_text(&query)));
    let difference: Vec<_> = theirs.symmetric_difference(&ours).collect();
    assert!(difference.is_empty(), "only with one of the two: {difference:#?}");
    let theirs = samples(&envoy.page("/stats/prometheus").body);
    let ours = samples(&registry.print_prometheus(&query));
    let difference: Vec<_> = theirs.symmetric_difference(&ours).collect();
    assert!(difference.is_empty(), "only with one of the two: {difference:#?}");
}
