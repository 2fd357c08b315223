//! The launchers against the real programs: what other tests rely on is proved here once.

use std::process::Command;
use std::time::Duration;

use redplane_testkit::{
    Act, Authority, Backend, Client, Cluster, Proxy, ProxyKind, Redis, RedisConfig, Role, command_bytes,
    free_port, until,
};

/// A bootstrap with one redis_proxy listener before one static host.
fn bootstrap(admin: u16, listen: u16, upstream: u16, op_timeout: &str) -> String {
    format!(
        r#"
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
static_resources:
  listeners:
  - name: redis
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {listen} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: test
          settings: {{ op_timeout: {op_timeout} }}
          prefix_routes: {{ catch_all_route: {{ cluster: one }} }}
  clusters:
  - name: one
    connect_timeout: 1s
    type: STATIC
    lb_policy: MAGLEV
    load_assignment:
      cluster_name: one
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }}
"#
    )
}

#[test]
fn a_cluster_forms_fails_over_and_reshards() {
    let mut cluster = Cluster::three_and_three();
    assert_eq!((cluster.masters().len(), cluster.replicas().len()), (3, 3));

    // A command finds its node, and commandstats say which one it was.
    cluster.reset_stats();
    assert_eq!(cluster.run("SET a 1").text().unwrap(), "OK");
    let owner = cluster.master_of("a").port();
    let on: Vec<_> = cluster
        .calls("set")
        .into_iter()
        .filter(|(_, role, n)| *role == Role::Master && *n > 0)
        .collect();
    assert!(
        on.iter().any(|(port, _, _)| *port == owner),
        "{on:?} without {owner}"
    );

    // A replica is promoted in agreement.
    cluster.wait_until_replicated();
    let replica = cluster.replica_of(owner);
    cluster.failover(replica);
    cluster.wait_until_whole();
    assert_eq!(cluster.master_of("a").port(), replica);

    // Slots move.
    let masters: Vec<u16> = cluster.masters().iter().map(|n| n.port()).collect();
    let before = slots_of(&cluster, masters[0]);
    cluster.reshard(masters[0], masters[1], 10);
    cluster.wait_until_whole();
    assert_eq!(slots_of(&cluster, masters[0]), before - 10);

    // A replica takes over by itself when its master dies, and the old master comes back as its replica.
    cluster.wait_until_replicated();
    cluster.node_mut(replica).kill();
    cluster.wait_until_promoted(owner);
    cluster.node_mut(replica).restart();
    until("the old master to follow", Duration::from_secs(30), || {
        cluster.by_port(replica).unwrap().role() == Role::Replica
    });
    cluster.wait_until_whole();
    assert_eq!(cluster.run("GET a").text().unwrap(), "1");
}

fn slots_of(cluster: &Cluster, master: u16) -> i64 {
    let ranges = cluster.slots();
    ranges
        .iter()
        .filter(|(_, _, nodes)| nodes[0] == master)
        .map(|(start, end, _)| end - start + 1)
        .sum()
}

#[test]
fn a_cluster_with_tls_a_password_and_host_names() {
    let authority = Authority::new();
    let config = RedisConfig {
        password: Some("secret".to_owned()),
        tls: Some(authority.issue("redis", &["localhost", "127.0.0.1"])),
        announce_hostname: Some("localhost".to_owned()),
        ..RedisConfig::default()
    };
    let cluster = Cluster::start(3, 0, &config);
    let node = &cluster.nodes()[0];
    let mut stranger = Client::connect(node.addr()).unwrap();
    assert!(
        stranger
            .command(&["GET", "a"])
            .unwrap()
            .text()
            .unwrap()
            .starts_with("NOAUTH")
    );

    // By TLS the slot map names hosts and TLS ports.
    let output = Command::new("redis-cli")
        .args([
            "--tls",
            "--no-auth-warning",
            "-a",
            "secret",
            "-h",
            "localhost",
            "--cacert",
        ])
        .arg(authority.ca())
        .args(["-p", &node.tls_port().unwrap().to_string(), "CLUSTER", "SLOTS"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.lines().any(|line| line == "localhost"), "{text}");
    assert!(
        text.lines()
            .any(|line| line == node.tls_port().unwrap().to_string()),
        "{text}"
    );
}

#[test]
fn a_paused_server_says_nothing_and_goes_on_later() {
    let redis = Redis::plain();
    let mut client = redis.client().patience(Duration::from_millis(200));
    redis.pause();
    assert!(client.command(&["PING"]).is_err());
    redis.resume();
    assert_eq!(client.read_replies(1).len(), 1);
    assert!(redis.process().cpu_time() < Duration::from_secs(5));
    assert!(redis.process().resident_bytes() > 1 << 20);
}

#[test]
fn envoy_stands_before_a_scripted_backend() {
    let backend = Backend::start(|request| match request.name().as_str() {
        "get" => Act::reply("$2\r\nhi"),
        "strlen" => vec![Act::Close],
        _ => Act::reply("+OK"),
    });
    let (admin, listen) = (free_port(), free_port());
    let text = bootstrap(admin, listen, backend.addr().port(), "2s");
    let envoy = Proxy::start(&ProxyKind::Envoy, &text, admin);
    let mut client = Client::connect(([127, 0, 0, 1], listen).into()).unwrap();
    assert_eq!(client.command(&["GET", "a"]).unwrap().to_string(), "\"hi\"");
    assert_eq!(
        client.command(&["STRLEN", "a"]).unwrap().to_string(),
        "-upstream failure"
    );
    client
        .send(&[command_bytes(&["SET", "a", "1"]), command_bytes(&["PING"])].concat())
        .unwrap();
    assert_eq!(client.read_replies(2).len(), 2);

    assert_eq!(backend.wait_for_requests(3)[2].line(), "SET a 1");
    assert_eq!(
        (backend.connections(), envoy.stat("redis.test.command.get.total")),
        (2, Some(1))
    );
    assert!(envoy.page("/server_info").body.contains("LIVE"));
}

#[test]
fn a_quiet_log_holds_only_what_was_announced() {
    let (admin, listen) = (free_port(), free_port());
    let text = bootstrap(admin, listen, free_port(), "2s")
        .replace("op_timeout: 2s", "op_timeout: 2s, enable_redirection: true");
    let mut envoy = Proxy::start(&ProxyKind::Envoy, &text, admin).with_quiet_log(&[]);
    let loud = envoy.unannounced();
    assert!(loud.iter().any(|line| line.contains("redirection")), "{loud:?}");
    // Announced, the same lines pass, and dropping the proxy does not fail the test.
    envoy = envoy.with_quiet_log(&["redirection", "[warning]"]);
    assert!(envoy.unannounced().is_empty());
}
