//! Connections that the kernel redirects, as in an Istio pod: a network namespace of its own with iptables, both families.

use std::process::Command;

use crate::stage::{admin, static_cluster};

/// What a pod has, on the loopback of an empty network namespace: an application at the pod's address, what comes in for
/// it goes to 15006, what goes out to 15001. The proxy's connections to the application come from 127.0.0.6 and pass.
/// There is no user 1337 here, so whatever the proxy sends elsewhere comes back to it.
const SCRIPT: &str = r#"
set -e
ip link set lo up
ip addr add 10.9.0.1/32 dev lo
ip route add default dev lo
ip -6 addr add fd00:9::1/128 dev lo nodad
ip -6 route add default dev lo
for tables in iptables ip6tables; do
  case $tables in
    iptables) own=127.0.0.6; pod=10.9.0.1; out=10.9.1.0/24 ;;
    ip6tables) own=::6; pod=fd00:9::1; out=fd00:9:1::/64; ip -6 addr add ::6/128 dev lo nodad ;;
  esac
  $tables -w -t nat -A OUTPUT -s $own -j RETURN
  $tables -w -t nat -A OUTPUT -p tcp -d $pod --dport 8080 -j REDIRECT --to-port 15006
  $tables -w -t nat -A OUTPUT -p tcp -d $out -j REDIRECT --to-port 15001
done
redis-server --bind 10.9.0.1 fd00:9::1 127.0.0.1 --port 8080 --save '' --protected-mode no > redis.log 2>&1 &
redis=$!
"$REDPLANE" -c bootstrap.yaml --concurrency 2 > redplane.log 2>&1 &
proxy=$!
trap 'kill $redis $proxy' EXIT
stat() { curl -s "http://127.0.0.1:9901/stats?filter=^$1\$" | cut -d' ' -f2; }
for i in $(seq 200); do
  [ "$(curl -s http://127.0.0.1:9901/ready)" = LIVE ] && redis-cli -p 8080 PING > /dev/null 2>&1 && break
  sleep 0.1
done
ask() { timeout 20 redis-cli -h "$1" -p "$2" PING 2>&1 | head -n 1; }
echo "inbound $(ask 10.9.0.1 8080) $(ask fd00:9::1 8080)"
echo "inbound-cx $(stat cluster.inbound.upstream_cx_total) $(stat cluster.inbound6.upstream_cx_total)"
echo "service $(ask 10.9.1.9 6379) $(ask fd00:9:1::9 6379)"
ask 10.9.1.8 7000 > /dev/null; ask fd00:9:1::8 7000 > /dev/null
echo "passes $(stat cluster.passthrough.upstream_cx_total)"
echo "left $(stat cluster.passthrough.upstream_cx_active)"
echo "again $(ask 10.9.0.1 8080)"
for tables in iptables ip6tables; do
  case $tables in
    iptables) own=127.0.0.6; pod=10.9.0.1; ip=ip; all=0.0.0.0/0 ;;
    ip6tables) own=::6; pod=fd00:9::1; ip='ip -6'; all=::/0 ;;
  esac
  $tables -w -t nat -D OUTPUT -p tcp -d $pod --dport 8080 -j REDIRECT --to-port 15006
  $tables -w -t mangle -A PREROUTING -s $own -j RETURN
  $tables -w -t mangle -A PREROUTING -p tcp -d $pod --dport 8080 -j TPROXY --on-port 15007 --tproxy-mark 1337
  $ip rule add fwmark 1337 lookup 133
  $ip route add local $all dev lo table 133
done
before=$(stat cluster.inbound.upstream_cx_total)
echo "transparent $(ask 10.9.0.1 8080) $(ask fd00:9::1 8080)"
echo "transparent-cx $(($(stat cluster.inbound.upstream_cx_total) - before))"
"#;

fn tcp_filter(cluster: &str) -> String {
    format!(
        "{{name: tcp, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: {cluster}, cluster: \
         {cluster}}}}}"
    )
}

/// A listener at these two addresses.
fn listener(name: &str, addresses: [&str; 2], port: u16, chains: &[String], more: &str) -> String {
    let [first, second] = addresses
        .map(|address| format!("address: {{socket_address: {{address: '{address}', port_value: {port}}}}}"));
    format!(
        "{{name: {name}, {first}, additional_addresses: [{{{second}}}], filter_chains: [{}]{more}}}",
        chains.join(", ")
    )
}

fn bootstrap() -> String {
    let original = |name: &str, more: &str| {
        format!(
            "{{name: {name}, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, connect_timeout: 2s{more}}}"
        )
    };
    let from = |address: &str| {
        format!(", upstream_bind_config: {{source_address: {{address: '{address}', port_value: 0}}}}")
    };
    let chain = |matching: &str, cluster: &str| {
        format!(
            "{{filter_chain_match: {{{matching}}}, filters: [{}]}}",
            tcp_filter(cluster)
        )
    };
    let any = ["0.0.0.0", "::"];
    let inbound = [
        chain(
            "prefix_ranges: [{address_prefix: 0.0.0.0, prefix_len: 0}]",
            "inbound",
        ),
        chain(
            "prefix_ranges: [{address_prefix: '::', prefix_len: 0}]",
            "inbound6",
        ),
    ];
    let filter = ", traffic_direction: INBOUND, listener_filters: [{name: envoy.filters.listener.original_dst, typed_config: \
                  {\"@type\": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}]";
    let door = ", traffic_direction: OUTBOUND, use_original_dst: true";
    let hidden = ", traffic_direction: OUTBOUND, bind_to_port: false";
    let listeners = [
        listener("virtualInbound", any, 15006, &inbound, filter),
        listener(
            "transparent",
            any,
            15007,
            &inbound,
            &format!(", transparent: true{filter}"),
        ),
        listener("virtualOutbound", any, 15001, &[chain("", "passthrough")], door),
        // Its port is that of the application: inbound connections must not end up here.
        listener("web", any, 8080, &[chain("", "passthrough")], hidden),
        listener(
            "service",
            ["10.9.1.9", "fd00:9:1::9"],
            6379,
            &[chain("", "server")],
            hidden,
        ),
    ];
    let clusters = [
        original("inbound", &from("127.0.0.6")),
        original("inbound6", &from("::6")),
        original("passthrough", ""),
        static_cluster("server", 8080),
    ];
    format!(
        "{}static_resources: {{listeners: [{}], clusters: [{}]}}\n",
        admin(9901),
        listeners.join(", "),
        clusters.join(", ")
    )
}

/// Whether this machine lets a test have a namespace and rules of its own.
fn can_redirect() -> bool {
    let rules = "ip link set lo up && iptables -w -t nat -L OUTPUT && ip6tables -w -t nat -L OUTPUT && \
                 iptables -w -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 1 && which curl redis-cli";
    let tried = Command::new("unshare").args(["-n", "sh", "-c", rules]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

#[test]
fn redirected_connections_reach_what_they_meant() {
    if !can_redirect() {
        eprintln!("SKIPPED: no network namespaces with iptables on this machine, nothing was redirected");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bootstrap.yaml"), bootstrap()).expect("it can be written");
    let told = Command::new("unshare")
        .args(["-n", "bash", "-c", SCRIPT])
        .env("REDPLANE", env!("CARGO_BIN_EXE_redplane"))
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let log = std::fs::read_to_string(folder.path().join("redplane.log")).unwrap_or_default();
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr)
    );
    let expected = [
        "inbound PONG PONG",
        "inbound-cx 1 1",
        "service PONG PONG",
        // What the proxy sends to nobody it knows comes back to it, eight times for each of the two.
        "passes 16",
        "left 0",
        "again PONG",
        "transparent PONG PONG",
        "transparent-cx 1",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected, "{log}");
}
