//! Network RBAC beside Envoy: who is let in under the policies of a recorded push, what is counted and what is logged.

use std::path::Path;
use std::process::Command;

use redplane_testkit::{Authority, Identity, Proxy, ProxyKind, Redis, free_port, until};

use crate::stage::{PATIENCE, admin, at, redplane, static_cluster};

const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";

/// The filters that Istiod pushed for the TCP port of a workload with an ALLOW, a DENY and a dry-run DENY policy: those
/// of `authorization.istio.io` objects, their HTTP-only parts cut. `PORT` is the port that is allowed.
const PUSHED: [&str; 2] = [
    r#"{stat_prefix: tcp., shadow_rules_stat_prefix: istio_dry_run_deny_, rules: {action: DENY, policies: {
        "ns[store]-policy[shop-deny]-rule[0]": {permissions: [{and_rules: {rules: [{any: true}]}}], principals: [{and_ids: {ids: [
            {not_id: {or_ids: {ids: [{authenticated: {principal_name: {safe_regex: {regex: "spiffe://cluster.local/ns/(redis|guest)/.*"}}}}]}}}]}}]},
        "ns[store]-policy[shop-deny]-rule[1]": {permissions: [{and_rules: {rules: [{or_rules: {rules: [
            {requested_server_name: {suffix: .forbidden.example.com}}]}}]}}], principals: [{and_ids: {ids: [{any: true}]}}]}}},
      shadow_rules: {action: DENY, policies: {"ns[store]-policy[shop-audit]-rule[0]": {
        permissions: [{and_rules: {rules: [{any: true}]}}], principals: [{and_ids: {ids: [{any: true}]}}]}}}}"#,
    r#"{stat_prefix: tcp., shadow_rules_stat_prefix: istio_dry_run_allow_, rules: {policies: {
        "ns[store]-policy[shop-allow]-rule[2]": {permissions: [{and_rules: {rules: [{or_rules: {rules: [{destination_port: PORT}]}}]}}],
          principals: [{and_ids: {ids: [{or_ids: {ids: [{authenticated: {principal_name: {safe_regex: {regex: ".*/ns/redis/.*"}}}}]}}]}}]}}}}"#,
];

/// A proxy with the pushed filters in front of a Redis, by TLS on one port and in plain text on another, and by the
/// Redis filter on a third.
struct Guarded {
    proxy: Proxy,
    tls: u16,
    plain: u16,
    redis: u16,
    log: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

fn filters(port: u16, terminal: &str) -> String {
    let guard = |rules: &str| {
        let fields = rules
            .trim()
            .trim_start_matches('{')
            .replace("PORT", &port.to_string());
        format!("{{name: rbac, typed_config: {{\"@type\": {RBAC}, {fields}}}, ")
    };
    format!("filters: [{}{}{terminal}]", guard(PUSHED[0]), guard(PUSHED[1]))
}

fn tcp(log: &Path) -> String {
    format!(
        "{{name: tcp, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: t, cluster: c, access_log: [{{name: f, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {}, log_format: {{text_format: \
         \"%CONNECTION_TERMINATION_DETAILS% %DOWNSTREAM_PEER_SUBJECT%\\n\"}}}}}}]}}}}",
        log.display()
    )
}

impl Guarded {
    fn start(kind: &ProxyKind, server: &Identity, redis: &Redis) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let (tls, plain, port, admin_port) = (free_port(), free_port(), free_port(), free_port());
        let socket = format!(
            "transport_socket: {{name: tls, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
             {{tls_certificates: [{{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}], \
             validation_context: {{trusted_ca: {{filename: {}}}}}}}}}}}",
            server.cert.display(),
            server.key.display(),
            server.ca.display()
        );
        let redis_proxy = "{name: redis, typed_config: {\"@type\": \
                           type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy, stat_prefix: r, \
                           settings: {op_timeout: 5s}, prefix_routes: {catch_all_route: {cluster: c}}}}";
        let listener = |name: &str, port: u16, terminal: &str, more: &str| {
            let inspector = "listener_filters: [{name: i, typed_config: {\"@type\": \
                             type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]";
            format!(
                "{{name: {name}, {}, {inspector}, filter_chains: [{{{}{more}}}]}}",
                at(port),
                filters(port, terminal)
            )
        };
        let listeners = [
            listener("tls", tls, &tcp(&log), &format!(", {socket}")),
            listener("plain", plain, &tcp(&log), ""),
            listener("redis", port, redis_proxy, &format!(", {socket}")),
        ];
        let bootstrap = format!(
            "{}static_resources: {{listeners: [{}], clusters: [{}]}}\n",
            admin(admin_port),
            listeners.join(", "),
            static_cluster("c", redis.port())
        );
        Self {
            proxy: Proxy::start(kind, &bootstrap, admin_port),
            tls,
            plain,
            redis: port,
            log,
            _folder: folder,
        }
    }

    /// What was counted under a name, once it is no less than this.
    fn counted(&self, name: &str, least: u64) -> u64 {
        until(&format!("{name} at {least}"), PATIENCE, || {
            self.proxy.stat(name).is_some_and(|value| value >= least)
        });
        self.proxy.stat(name).expect("it was there")
    }

    /// The lines of the log, sorted.
    fn logged(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }
}

/// Whether a client is served: by TLS with this certificate, or in plain text.
fn is_served(port: u16, identity: Option<Option<&Identity>>, ca: &Path, name: &str) -> bool {
    let mut client = Command::new("redis-cli");
    client.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    if let Some(identity) = identity {
        client.arg("--tls").arg("--cacert").arg(ca).args(["--sni", name]);
        if let Some(identity) = identity {
            client
                .arg("--cert")
                .arg(&identity.cert)
                .arg("--key")
                .arg(&identity.key);
        }
    }
    let output = client.arg("PING").output().expect("redis-cli runs");
    String::from_utf8_lossy(&output.stdout).trim() == "PONG"
}

#[test]
fn envoy_lets_in_and_keeps_out_the_same_clients() {
    let redis = Redis::plain();
    let authority = Authority::new();
    let server = authority.issue("server", &["redis.test", "127.0.0.1"]);
    let app = authority.issue("app", &["spiffe://cluster.local/ns/redis/sa/app"]);
    let guest = authority.issue("guest", &["spiffe://cluster.local/ns/guest/sa/g"]);
    let stranger = authority.issue("stranger", &["spiffe://cluster.local/ns/other/sa/o"]);
    // Names that only look like the ones that are let in.
    let look_alike = authority.issue(
        "look-alike",
        &[
            "spiffe://evil/?spiffe://cluster.local/ns/redis/sa/app",
            "*.redis.svc",
        ],
    );
    let clients: [(&str, Option<Option<&Identity>>, &str, bool); 7] = [
        ("app", Some(Some(&app)), "redis.test", true),
        (
            "app, a forbidden name",
            Some(Some(&app)),
            "x.forbidden.example.com",
            false,
        ),
        ("guest", Some(Some(&guest)), "redis.test", false),
        ("stranger", Some(Some(&stranger)), "redis.test", false),
        ("look-alike", Some(Some(&look_alike)), "redis.test", false),
        ("no certificate", Some(None), "redis.test", false),
        ("plain text", None, "", false),
    ];
    let proxies = [ProxyKind::Envoy, redplane()].map(|kind| Guarded::start(&kind, &server, &redis));
    let [envoy, ours] = &proxies;
    for (case, identity, name, expected) in clients {
        for proxy in &proxies {
            let port = if identity.is_some() {
                proxy.tls
            } else {
                proxy.plain
            };
            let served = is_served(port, identity, authority.ca(), name);
            assert_eq!(served, expected, "{case} of {:?}", proxy.proxy.process().name());
            if identity.is_some() {
                let served = is_served(proxy.redis, identity, authority.ca(), name);
                assert_eq!(
                    served,
                    expected,
                    "{case} of {:?}, Redis",
                    proxy.proxy.process().name()
                );
            }
        }
    }
    // Seven clients on the listeners of tcp_proxy, six of them on that of Redis as well; a client that is sent away may come
    // again. The first filter denies before the second is asked.
    for (name, least) in [
        ("tcp.rbac.istio_dry_run_deny_.shadow_denied", 13),
        ("tcp.rbac.denied", 11),
        ("tcp.rbac.allowed", 6),
    ] {
        assert_eq!(ours.counted(name, least), envoy.counted(name, least), "{name}");
    }
    until("both to have logged the same", PATIENCE, || {
        envoy.logged().len() >= 7 && ours.logged() == envoy.logged()
    });
    let lines = ours.logged();
    for rule in [
        "ns[store]-policy[shop-deny]-rule[0]",
        "ns[store]-policy[shop-deny]-rule[1]",
        "none",
    ] {
        let details = format!("rbac_access_denied_matched_policy[{rule}]");
        assert!(
            lines.iter().any(|line| line.starts_with(&details)),
            "{details} in {lines:#?}"
        );
    }
}
