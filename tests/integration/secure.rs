//! TLS and credentials on both sides: a cluster as ElastiCache serves it, clients with certificates, names, secrets
//! that are told to nobody.

use std::process::Command;

use redplane_testkit::{
    Authority, Cluster, Identity, Proxy, Redis, RedisConfig, Reply, free_port, http_post, until,
};

use crate::front::{EAGER, Front, all_to, discovered, hosts, listener, redis_filter, serve};
use crate::reshard::Moving;
use crate::stage::{PATIENCE, ask, at, until_answered};

/// `transport_socket` towards a cluster, with these fields of the validation context.
pub(crate) fn upstream_tls(identity: &Identity, sni: &str, validation: &str) -> String {
    format!(
        ", transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: {sni}, \
         common_tls_context: {{tls_certificates: [{}], validation_context: {{trusted_ca: {{filename: {}}}{validation}}}}}}}}}",
        certificate(identity),
        identity.ca.display()
    )
}

/// `transport_socket` of a listener's chain.
fn downstream_tls(identity: &Identity, common: &str, fields: &str) -> String {
    format!(
        ", transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
         {{tls_certificates: [{}]{common}}}{fields}}}}}",
        certificate(identity)
    )
}

fn certificate(identity: &Identity) -> String {
    format!(
        "{{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}",
        identity.cert.display(),
        identity.key.display()
    )
}

/// Names that a server's certificate must have.
fn san(name: &str) -> String {
    format!(", match_typed_subject_alt_names: [{{san_type: DNS, matcher: {{exact: {name}}}}}]")
}

/// `RedisProtocolOptions` of a cluster.
pub(crate) fn credentials(fields: &str) -> String {
    format!(
        ", typed_extension_protocol_options: {{envoy.filters.network.redis_proxy: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions, {fields}}}}}"
    )
}

/// No log line and no admin page tells one of these.
#[track_caller]
pub(crate) fn assert_not_told(proxy: &Proxy, secrets: &[&str]) {
    let pages = [
        "/config_dump",
        "/clusters",
        "/clusters?format=json",
        "/listeners",
        "/stats",
        "/server_info",
        "/certs",
    ];
    let mut texts: Vec<(&str, String)> = pages.iter().map(|page| (*page, proxy.page(page).body)).collect();
    texts.push(("log", proxy.process().output()));
    for (name, text) in texts {
        for secret in secrets {
            assert!(!text.contains(secret), "{name} tells {secret}:\n{text}");
        }
    }
}

#[test]
fn a_cluster_with_tls_users_and_names_is_served() {
    let authority = Authority::new();
    let identity = authority.issue("node", &["localhost", "127.0.0.1"]);
    let config = RedisConfig {
        password: Some("default-secret".to_owned()),
        users: vec!["app on >app-secret ~* &* +@all".to_owned()],
        tls: Some(identity.clone()),
        tls_client_certificate: true,
        announce_hostname: Some("localhost".to_owned()),
        ..RedisConfig::default()
    };
    let cluster = Cluster::start(3, 1, &config);
    let seeds: Vec<u16> = cluster.nodes().iter().filter_map(Redis::tls_port).collect();
    let fields = upstream_tls(&identity, "localhost", &san("localhost"))
        + &credentials("auth_username: {inline_string: app}, auth_password: {inline_string: app-secret}");
    let settings = "op_timeout: 5s, enable_redirection: true, read_policy: REPLICA";
    let front = Front::start(
        &redis_filter("r", settings, &all_to("c")),
        &[discovered("c", &seeds, EAGER, &fields)],
    );
    http_post(front.proxy.admin(), "/logging?level=trace").expect("the page");
    until_answered(front.port, "SET k0 0", "OK");
    let mut client = front.client();
    for at in 0..50 {
        assert_eq!(ask(&mut client, &format!("SET k{at} {at}")), "OK");
    }
    cluster.wait_until_replicated();
    let mut words = vec!["MGET".to_owned()];
    words.extend((0..50).map(|at| format!("k{at}")));
    let read = client.command(&words).expect("an answer");
    let texts: Vec<String> = read.elements().iter().filter_map(Reply::text).collect();
    let expected: Vec<String> = (0..50).map(|at| at.to_string()).collect();
    assert_eq!(texts, expected, "{read}");
    let roles = cluster.calls("mget");
    assert_eq!(
        roles.iter().filter(|(_, _, calls)| *calls > 0).count(),
        3,
        "{roles:?}"
    );
    // MOVED names a host, and its TLS port.
    let moving = Moving::start(&cluster, "{moved}");
    moving.finish(&cluster);
    assert_eq!(ask(&mut client, "SET {moved} 1"), "OK");
    assert!(front.stat("cluster.c.ssl.handshake") >= 6, "data and discovery");
    assert!(front.stat("cluster.c.upstream_internal_redirect_succeeded_total") > 0);
    assert_eq!(front.stat("cluster.c.upstream_internal_redirect_failed_total"), 0);
    assert_not_told(&front.proxy, &["app-secret", "default-secret"]);
}

#[test]
fn a_server_that_is_not_who_it_should_be_gets_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = authority.issue("node", &["localhost", "127.0.0.1"]);
    let foreign = stranger.issue("foreign", &["localhost"]);
    let server = Redis::start(RedisConfig {
        tls: Some(identity.clone()),
        ..RedisConfig::default()
    });
    let port = server.tls_port().expect("it has one");
    // Each row: whose authority is trusted, the name that is wanted, and what counts the handshake.
    let rows = [
        (&identity, "localhost", "handshake"),
        (&identity, "elsewhere", "fail_verify_san"),
        (&foreign, "localhost", "fail_verify_error"),
    ];
    for (trusted, name, counter) in rows {
        let good = counter == "handshake";
        let upstream = Identity {
            ca: trusted.ca.clone(),
            ..identity.clone()
        };
        let fields = upstream_tls(&upstream, "localhost", &san(name));
        let filter = redis_filter("r", "op_timeout: 2s", &all_to("c"));
        let front = Front::start(&filter, &[hosts("c", &[port], &fields)]);
        server.reset_stats();
        let reply = ask(&mut front.client(), "SET a 1");
        let log = front.proxy.process().output();
        let expected = if good { "OK" } else { "upstream failure" };
        assert_eq!(reply, expected, "{name}\n{log}");
        assert_eq!(server.calls("set"), u64::from(good), "{name}\n{log}");
        let failed = front.stat("cluster.c.upstream_cx_connect_fail");
        assert_eq!(failed == 0, good, "{name}: {failed} failed\n{log}");
        for other in [
            "handshake",
            "fail_verify_san",
            "fail_verify_error",
            "connection_error",
        ] {
            let counted = front.stat(&format!("cluster.c.ssl.{other}"));
            assert_eq!(counted, u64::from(other == counter), "{name}: {other}\n{log}");
        }
    }
}

#[test]
fn hosts_have_credentials_of_their_own() {
    let with = |password: &str| {
        Redis::start(RedisConfig {
            password: Some(password.to_owned()),
            ..RedisConfig::default()
        })
    };
    let (one, two) = (with("first-secret"), with("second-secret"));
    let own = format!(
        "auth_password: {{inline_string: first-secret}}, credentials: [{{{}, auth_username: {{inline_string: default}}, \
         auth_password: {{inline_string: second-secret}}}}]",
        at(two.port())
    );
    let fields = format!(", lb_policy: MAGLEV{}", credentials(&own));
    let front = Front::start(
        &redis_filter("r", "op_timeout: 5s", &all_to("c")),
        &[hosts("c", &[one.port(), two.port()], &fields)],
    );
    let mut client = front.client();
    for at in 0..40 {
        assert_eq!(ask(&mut client, &format!("SET k{at} {at}")), "OK");
    }
    let counts = (one.calls("set"), two.calls("set"));
    assert!(
        counts.0 > 0 && counts.1 > 0 && counts.0 + counts.1 == 40,
        "{counts:?}"
    );
    assert_not_told(&front.proxy, &["first-secret", "second-secret"]);
}

#[test]
fn a_wrong_password_is_told_and_counted() {
    let server = Redis::start(RedisConfig {
        password: Some("right-secret".to_owned()),
        ..RedisConfig::default()
    });
    let fields = credentials("auth_password: {inline_string: wrong-secret}");
    let settings = "op_timeout: 5s, enable_command_stats: true";
    let front = Front::start(
        &redis_filter("r", settings, &all_to("c")),
        &[hosts("c", &[server.port()], &fields)],
    );
    // As from Envoy, the server's own error is what the client gets.
    let mut client = front.client();
    assert_eq!(ask(&mut client, "GET a"), "NOAUTH Authentication required.");
    let log = front.proxy.process().output();
    let told = log
        .lines()
        .any(|line| line.contains("[warning]") && line.contains("WRONGPASS"));
    assert!(told, "{log}");
    assert_eq!(
        front.stat("cluster.c.redis_cluster.upstream_commands.get.failure"),
        1
    );
    // AUTH and GET.
    let errors = format!("c::127.0.0.1:{}::rq_error::2\n", server.port());
    let page = front.proxy.page("/clusters").body;
    assert!(page.contains(&errors), "{errors} in\n{page}");
    assert_not_told(&front.proxy, &["wrong-secret"]);
}

#[test]
fn what_clients_log_in_with_is_told_to_nobody() {
    let redis = Redis::plain();
    let fields = format!(
        "{}, downstream_auth_username: {{inline_string: app}}, downstream_auth_passwords: [{{inline_string: \
         client-secret}}]",
        all_to("c")
    );
    let filter = redis_filter("r", "op_timeout: 5s", &fields);
    let front = Front::start(&filter, &[hosts("c", &[redis.port()], "")]);
    http_post(front.proxy.admin(), "/logging?level=trace").expect("the page");
    let mut client = front.client();
    assert_eq!(ask(&mut client, "GET a"), "NOAUTH Authentication required.");
    let refused = ask(&mut client, "AUTH app wrong-guess");
    assert!(refused.starts_with("WRONGPASS"), "{refused}");
    assert_eq!(ask(&mut client, "AUTH app client-secret"), "OK");
    assert_eq!(ask(&mut client, "SET a 1"), "OK");
    assert_not_told(&front.proxy, &["client-secret", "wrong-guess"]);
}

#[test]
fn discovery_with_a_wrong_password_fails_without_holding_anything_up() {
    let cluster = Cluster::start(
        3,
        0,
        &RedisConfig {
            password: Some("right-secret".to_owned()),
            ..RedisConfig::default()
        },
    );
    let seeds: Vec<u16> = cluster.nodes().iter().map(Redis::port).collect();
    let fields = credentials("auth_password: {inline_string: wrong-secret}");
    let front = Front::start(
        &redis_filter("r", "op_timeout: 5s", &all_to("c")),
        &[discovered("c", &seeds, EAGER, &fields)],
    );
    until("the failure to be counted", PATIENCE, || {
        front.stat("cluster.c.update_failure") > 0
    });
    let mut client = front.client();
    assert_eq!(ask(&mut client, "GET a"), "no upstream host");
    assert_eq!(ask(&mut client, "PING"), "PONG");
    let log = front.proxy.process().output();
    assert!(log.contains("NOAUTH") || log.contains("WRONGPASS"), "{log}");
    assert_not_told(&front.proxy, &["wrong-secret"]);
}

/// redis-cli over TLS; what it prints, errors included.
fn redis_cli(
    port: u16,
    authority: &Authority,
    sni: &str,
    identity: Option<&Identity>,
    words: &[&str],
) -> String {
    let mut command = Command::new("redis-cli");
    command
        .args(["-p", &port.to_string(), "--tls", "--sni", sni, "--cacert"])
        .arg(authority.ca());
    if let Some(identity) = identity {
        command
            .arg("--cert")
            .arg(&identity.cert)
            .arg("--key")
            .arg(&identity.key);
    }
    let output = command.args(words).output().expect("redis-cli is installed");
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).trim().to_owned()
}

#[test]
fn clients_show_their_certificates() {
    let redis = Redis::plain();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.issue("server", &["redis.example.com"]);
    let (friend, other) = (
        authority.issue("friend", &["spiffe://cluster.local/ns/a/sa/friend"]),
        authority.issue("other", &["spiffe://elsewhere/ns/a/sa/friend"]),
    );
    let forged = stranger.issue("forged", &["spiffe://cluster.local/ns/a/sa/friend"]);
    let common = format!(
        ", validation_context: {{trusted_ca: {{filename: {}}}, match_typed_subject_alt_names: [{{san_type: URI, \
         matcher: {{prefix: 'spiffe://cluster.local/'}}}}]}}",
        authority.ca().display()
    );
    let socket = downstream_tls(&server, &common, ", require_client_certificate: true");
    let port = free_port();
    let filter = redis_filter("r", "op_timeout: 5s", &all_to("c"));
    let chain = listener("l", port, &filter).replace("]}]}", &format!("]{socket}}}]}}"));
    let proxy = serve(&[chain], &[hosts("c", &[redis.port()], "")]);
    redis.reset_stats();
    let set = ["SET", "a", "1"];
    assert_eq!(
        redis_cli(port, &authority, "redis.example.com", Some(&friend), &set),
        "OK"
    );
    let rows = [
        (Some(&other), "fail_verify_san"),
        (Some(&forged), "fail_verify_error"),
        (None, "fail_verify_no_cert"),
    ];
    for (identity, counter) in rows {
        let said = redis_cli(port, &authority, "redis.example.com", identity, &set);
        assert_ne!(said, "OK", "{counter}");
        let name = format!("listener.127.0.0.1_{port}.ssl.{counter}");
        until(&name, PATIENCE, || proxy.stat(&name).unwrap_or(0) >= 1);
    }
    assert_eq!(redis.calls("set"), 1);
}

#[test]
fn chains_are_chosen_by_server_name() {
    let servers = [Redis::plain(), Redis::plain(), Redis::plain()];
    let authority = Authority::new();
    let names = ["one.example.com", "two.example.com"];
    let chain = |name: &str, cluster: &str| {
        let identity = authority.issue(cluster, &[name]);
        format!(
            "{{filter_chain_match: {{server_names: ['{name}']}}, filters: [{}]{}}}",
            redis_filter(cluster, "op_timeout: 5s", &all_to(cluster)),
            downstream_tls(&identity, "", "")
        )
    };
    let port = free_port();
    let text = format!(
        "{{name: l, {}, listener_filters: [{{name: inspector, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}}}], filter_chains: \
         [{}, {}, {}]}}",
        at(port),
        chain(names[0], "c0"),
        chain(names[1], "c1"),
        chain("*.example.com", "c2")
    );
    let clusters: Vec<String> = servers
        .iter()
        .enumerate()
        .map(|(at, server)| hosts(&format!("c{at}"), &[server.port()], ""))
        .collect();
    let _proxy = serve(&[text], &clusters);
    let wanted = [names[0], names[1], "any.example.com"];
    for (server, name) in servers.iter().zip(wanted) {
        assert_eq!(
            redis_cli(port, &authority, name, None, &["SET", "name", name]),
            "OK"
        );
        assert_eq!(server.run("GET name").text().as_deref(), Some(name));
    }
    let nobody = redis_cli(port, &authority, "other.org", None, &["SET", "name", "x"]);
    assert_ne!(nobody, "OK");
}
