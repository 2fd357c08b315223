//! Secrets: late, rotated, bad, static, and what of them is told.

use redplane_testkit::{Authority, Proxy, Redis, RedisConfig, free_port, http_get, until};
use serde_json::Value;

use crate::sds::{Sds, common};
use crate::stage::{
    PATIENCE, admin, ask, client, listens, local, redis_listener, redplane, static_cluster, static_resources,
    tcp_listener, until_answered,
};

/// A chain with TLS by SDS in front of `plain`, and a cluster with TLS by SDS that leads to it.
struct Mesh {
    /// A listener that passes bytes on through TLS, a connection for each of its own.
    through: u16,
    /// A listener that speaks Redis through the same TLS.
    redis: u16,
    /// A listener that needs no secret.
    plain: u16,
    admin: u16,
    bootstrap: String,
}

impl Mesh {
    fn new(sds: &Sds, redis: &Redis) -> Self {
        let [through, front, plain, inner, admin_port] = [(); 5].map(|()| free_port());
        let url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
        let names = "match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: 'spiffe://test/'}}]";
        let inner_listener = tcp_listener("inner", inner, "r").replace(
            "filter_chains: [{",
            &format!(
                "filter_chains: [{{transport_socket: {{name: tls, typed_config: {{\"@type\": {url}.DownstreamTlsContext, \
                 require_client_certificate: true, {}}}}}, ",
                common(names)
            ),
        );
        let tls = static_cluster("tls", inner).replacen(
            '{',
            &format!(
                "{{transport_socket: {{name: tls, typed_config: {{\"@type\": {url}.UpstreamTlsContext, sni: \
                 outbound_.6379_._.r, {}}}}}, ",
                common(names)
            ),
            1,
        );
        let listeners = [
            inner_listener,
            tcp_listener("through", through, "tls"),
            redis_listener("redis", front, "tls"),
            redis_listener("plain", plain, "r"),
        ];
        let clusters = [tls, static_cluster("r", redis.port()), sds.cluster()];
        Self {
            through,
            redis: front,
            plain,
            admin: admin_port,
            bootstrap: format!(
                "node: {{id: n, cluster: c}}\n{}{}",
                admin(admin_port),
                static_resources(&listeners, &clusters)
            ),
        }
    }

    fn start(&self) -> Proxy {
        Proxy::start_without_waiting(&redplane(), &self.bootstrap, self.admin, &["--concurrency", "1"])
    }
}

fn secrets_of(proxy: &Proxy) -> Value {
    let dump: Value = serde_json::from_str(&proxy.page("/config_dump").body).expect("JSON");
    let sections = dump["configs"].as_array().expect("a list").clone();
    let of = |section: &Value| {
        section["@type"]
            .as_str()
            .is_some_and(|url| url.ends_with("SecretsConfigDump"))
    };
    sections.into_iter().find(of).expect("a section of secrets")
}

#[test]
fn a_late_secret_holds_up_what_needs_it_and_nothing_else() {
    let authority = Authority::new();
    let identity = authority.issue("first", &["spiffe://test/ns/a/sa/b"]);
    let (sds, redis) = (Sds::silent(), Redis::plain());
    let mesh = Mesh::new(&sds, &redis);
    let proxy = mesh.start();
    // Not even the socket is there.
    assert_eq!(ask(&mut client(mesh.plain), "SET a 1"), "OK");
    let ready = http_get(local(mesh.admin), "/ready").expect("the page");
    assert_eq!((ready.status, ready.body.as_str()), (503, "INITIALIZING\n"));
    let waiting = proxy.page("/init_dump").body;
    sds.listen();
    until("a stream for each name", PATIENCE, || {
        sds.heard().streams.len() >= 2
    });
    let dump = secrets_of(&proxy);
    assert_eq!(
        dump["dynamic_warming_secrets"].as_array().map(Vec::len),
        Some(2),
        "{dump}"
    );
    sds.put_roots("ROOTCA", &identity.ca);
    until("the first of them", PATIENCE, || !sds.heard().accepted.is_empty());
    assert_eq!(proxy.page("/ready").status, 503, "{waiting}");
    sds.put_certificate("default", &identity.cert, &identity.key);
    let proxy = proxy.wait_until_ready();
    until_answered(mesh.through, "GET a", "1");
    until_answered(mesh.redis, "GET a", "1");
    let mut streams = sds.heard().streams.clone();
    streams.sort();
    assert_eq!(streams, [["ROOTCA"], ["default"]], "a stream for each name");
    let stat = |name: &str| proxy.stat(name);
    assert_eq!(stat("sds.default.update_success"), Some(1));
    let dump = secrets_of(&proxy);
    let active = dump["dynamic_active_secrets"].as_array().expect("a list");
    let names: Vec<&str> = active
        .iter()
        .filter_map(|secret| secret["name"].as_str())
        .collect();
    assert_eq!(names, ["ROOTCA", "default"]);
    assert_eq!(
        active[1]["secret"]["tls_certificate"]["private_key"]["inline_bytes"],
        "W3JlZGFjdGVkXQ=="
    );
    let key = std::fs::read_to_string(&identity.key).expect("a key");
    assert!(
        !proxy
            .page("/config_dump")
            .body
            .contains(key.lines().nth(1).expect("a line of it"))
    );
}

#[test]
fn a_rotation_closes_nothing_and_new_connections_get_the_new_certificates() {
    let authorities = [Authority::new(), Authority::new()];
    let [first, second] = authorities
        .each_ref()
        .map(|authority| authority.issue("one", &["spiffe://test/ns/a/sa/b"]));
    let (sds, redis) = (Sds::start(), Redis::plain());
    sds.put_identity(&first);
    let mesh = Mesh::new(&sds, &redis);
    let proxy = mesh.start().wait_until_ready();
    until_answered(mesh.through, "PING", "PONG");
    let (mut through, mut held) = (client(mesh.through), client(mesh.redis));
    assert_eq!(ask(&mut through, "SET a 1"), "OK");
    assert_eq!(ask(&mut held, "GET a"), "1");
    let certs = |proxy: &Proxy| {
        let page: Value = serde_json::from_str(&proxy.page("/certs").body).expect("JSON");
        page["certificates"][0]["cert_chain"][0]["serial_number"].to_string()
    };
    let before = certs(&proxy);
    let stat = |name: &str| proxy.stat(name).unwrap_or(0);
    let (changes, connections) = (
        stat("cluster.tls.membership_change"),
        stat("cluster.tls.upstream_cx_total"),
    );
    for round in 0..5 {
        sds.put_identity(if round % 2 == 0 { &second } else { &first });
        until("the other certificate", PATIENCE, || {
            sds.heard().accepted.len() >= 4 + 2 * round
        });
        // Both sides have the new ones: a handshake would fail with one old and one new.
        until_answered(mesh.through, "GET a", "1");
        assert_eq!(ask(&mut through, "GET a"), "1");
        assert_eq!(ask(&mut held, "GET a"), "1");
    }
    assert_ne!(certs(&proxy), before);
    assert_eq!(stat("cluster.tls.membership_change"), changes, "no new hosts");
    assert_eq!(stat("cluster.tls.ssl.fail_verify_error"), 0);
    let opened = stat("cluster.tls.upstream_cx_total") - connections;
    assert!((5..=12).contains(&opened), "one for each new client: {opened}");
    assert_eq!(sds.heard().streams.len(), 2, "rotation is on the same streams");
    assert!(sds.heard().refusals.is_empty());
}

#[test]
fn a_bad_secret_is_refused_by_name_and_the_last_one_stays() {
    let authority = Authority::new();
    let good = authority.issue("good", &["spiffe://test/ns/a/sa/b"]);
    let other = authority.issue("other", &["spiffe://test/ns/a/sa/b"]);
    let (sds, redis) = (Sds::start(), Redis::plain());
    sds.put_identity(&good);
    let mesh = Mesh::new(&sds, &redis);
    let proxy = mesh.start().wait_until_ready();
    until_answered(mesh.through, "PING", "PONG");
    // As when the chain has been replaced, and the key not yet.
    sds.put_certificate("default", &other.cert, &good.key);
    until("a refusal", PATIENCE, || !sds.heard().refusals.is_empty());
    let refusal = sds.heard().refusals[0].clone();
    assert!(
        refusal.contains("default: tls_certificate.private_key") && !refusal.contains("PRIVATE"),
        "{refusal}"
    );
    assert_eq!(proxy.stat("sds.default.update_rejected"), Some(1));
    let dump = secrets_of(&proxy).to_string();
    assert!(dump.contains("error_state"), "{dump}");
    assert_eq!(ask(&mut client(mesh.through), "PING"), "PONG");
    // A validation context under the name of a certificate.
    sds.put_roots("default", &good.ca);
    until("another refusal", PATIENCE, || sds.heard().refusals.len() == 2);
    assert_eq!(ask(&mut client(mesh.through), "PING"), "PONG");
    sds.put_certificate("default", &other.cert, &other.key);
    until("a good one", PATIENCE, || {
        proxy.stat("sds.default.update_success") == Some(2)
    });
    assert_eq!(ask(&mut client(mesh.through), "PING"), "PONG");
}

#[test]
fn a_secret_that_never_comes_in_time_leaves_its_connections_closed() {
    let (sds, redis) = (Sds::start(), Redis::plain());
    let mut mesh = Mesh::new(&sds, &redis);
    mesh.bootstrap = mesh
        .bootstrap
        .replace("initial_fetch_timeout: 0s", "initial_fetch_timeout: 0.2s");
    let proxy = mesh.start().wait_until_ready();
    assert_eq!(ask(&mut client(mesh.plain), "PING"), "PONG");
    let mut through = client(mesh.through);
    // A closed connection is as good an answer as a reset.
    let _ = through.send(b"PING\r\n");
    assert_eq!(through.read_until_close().0, b"", "nothing is said in plain text");
    assert_eq!(proxy.stat("sds.default.init_fetch_timeout"), Some(1));
    // Then it comes after all.
    let authority = Authority::new();
    sds.put_identity(&authority.issue("late", &["spiffe://test/late"]));
    until_answered(mesh.through, "PING", "PONG");
}

#[test]
fn secrets_of_the_bootstrap_are_used() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = authority.issue("node", &["localhost"]);
    let redis = Redis::start(RedisConfig {
        tls: Some(identity.clone()),
        tls_client_certificate: true,
        ..RedisConfig::default()
    });
    let url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
    let cluster = |name: &str, roots: &str| {
        let tls = format!(
            "{{transport_socket: {{name: tls, typed_config: {{\"@type\": {url}.UpstreamTlsContext, common_tls_context: \
             {{tls_certificate_sds_secret_configs: [{{name: own}}], validation_context_sds_secret_config: {{name: \
             {roots}}}}}}}}}, "
        );
        static_cluster(name, redis.tls_port().expect("it has one")).replacen('{', &tls, 1)
    };
    let [good, bad, admin_port] = [(); 3].map(|()| free_port());
    let secrets = format!(
        "secrets: [{{name: own, tls_certificate: {{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}}}, \
         {{name: vc, validation_context: {{trusted_ca: {{filename: {}}}}}}}, \
         {{name: strange, validation_context: {{trusted_ca: {{filename: {}}}}}}}], ",
        identity.cert.display(),
        identity.key.display(),
        identity.ca.display(),
        stranger.ca().display()
    );
    let resources = static_resources(
        &[redis_listener("good", good, "c"), redis_listener("bad", bad, "s")],
        &[cluster("c", "vc"), cluster("s", "strange")],
    );
    let resources = resources.replacen('{', &format!("{{{secrets}"), 1);
    let bootstrap = admin(admin_port) + &resources;
    let proxy = Proxy::start_without_waiting(&redplane(), &bootstrap, admin_port, &[]).wait_until_ready();
    assert_eq!(ask(&mut client(good), "PING"), "PONG");
    assert_eq!(ask(&mut client(bad), "GET a"), "upstream failure");
    let dump = secrets_of(&proxy);
    assert_eq!(dump["static_secrets"].as_array().map(Vec::len), Some(3), "{dump}");
    drop(proxy);
    let unknown = bootstrap.replace("{name: vc}", "{name: nobody}");
    let mut refused = Proxy::start_without_waiting(&redplane(), &unknown, free_port(), &[]);
    let mut end = None;
    until("the end of the process", PATIENCE, || {
        end = refused.process_mut().ended();
        end.is_some()
    });
    let end = end.expect("it has ended");
    assert!(
        end.contains("static_resources.clusters: 'c': Unknown static certificate validation context: nobody"),
        "{end}"
    );
}

#[test]
fn secrets_may_come_from_a_file() {
    let authority = Authority::new();
    let identity = authority.issue("node", &["localhost"]);
    let redis = Redis::start(RedisConfig {
        tls: Some(identity.clone()),
        ..RedisConfig::default()
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sds.yaml");
    let (port, admin_port) = (free_port(), free_port());
    let tls = format!(
        "{{transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: \
         {{validation_context_sds_secret_config: {{name: 'file-root:/roots', sds_config: {{initial_fetch_timeout: 0s, \
         path_config_source: {{path: {}}}}}}}}}}}}}, ",
        path.display()
    );
    let cluster = static_cluster("c", redis.tls_port().expect("it has one")).replacen('{', &tls, 1);
    let bootstrap = format!(
        "node: {{id: n, cluster: c}}\n{}{}",
        admin(admin_port),
        static_resources(&[redis_listener("l", port, "c")], &[cluster])
    );
    // A file that is not there is an answer.
    let proxy = Proxy::start_without_waiting(&redplane(), &bootstrap, admin_port, &[]).wait_until_ready();
    assert_eq!(ask(&mut client(port), "GET a"), "upstream failure");
    let secret = format!(
        "version_info: '1'\nresources:\n- {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: 'file-root:/roots', \
         validation_context: {{trusted_ca: {{filename: {}}}}}}}\n",
        identity.ca.display()
    );
    let draft = folder.path().join("draft");
    std::fs::write(&draft, secret).expect("it is written");
    std::fs::rename(&draft, &path).expect("it is there");
    until_answered(port, "PING", "PONG");
    assert!(listens(port) && proxy.page("/ready").status == 200);
}
