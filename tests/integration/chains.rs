//! Filter chains that come, change and go under open connections: whom a client talks to, and when it is sent away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use redplane_testkit::{Proxy, Redis, free_port, until};

use crate::stage::{PATIENCE, admin, at, local, redplane, static_cluster, static_resources};

/// redplane with clusters of its bootstrap and one listener that comes from a file.
struct FromFile {
    proxy: Proxy,
    path: PathBuf,
    port: u16,
    version: u64,
    folder: tempfile::TempDir,
}

impl FromFile {
    fn new(clusters: &[(&str, &Redis)], chains: &[String], drain_time: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, admin_port) = (folder.path().join("lds.yaml"), free_port());
        let clusters: Vec<String> = clusters
            .iter()
            .map(|(name, redis)| static_cluster(name, redis.port()))
            .collect();
        let bootstrap = format!(
            "node: {{id: n, cluster: c}}\n{}static_resources: {{clusters: [{}]}}\ndynamic_resources: {{lds_config: \
             {{path_config_source: {{path: {}}}, resource_api_version: V3}}}}\n",
            admin(admin_port),
            clusters.join(", "),
            path.display()
        );
        let port = free_port();
        write(&path, port, 1, chains);
        let flags = ["--drain-time-s", &drain_time.to_string(), "--concurrency", "2"];
        let proxy = Proxy::start_without_waiting(&redplane(), &bootstrap, admin_port, &flags);
        Self {
            proxy: proxy.wait_until_ready(),
            path,
            port,
            version: 1,
            folder,
        }
    }

    /// Changes the chains and waits until they live.
    fn push(&mut self, chains: &[String]) {
        let name = "listener_manager.lds.update_success";
        let before = self.proxy.stat(name);
        self.version += 1;
        write(&self.path, self.port, self.version, chains);
        until("the update to be taken", PATIENCE, || {
            self.proxy.stat(name) > before
        });
    }
}

fn write(path: &std::path::Path, port: u16, version: u64, chains: &[String]) {
    let text = format!(
        "version_info: '{version}'\nresources:\n- {{\"@type\": type.googleapis.com/envoy.config.listener.v3.Listener, \
         name: l, {}, filter_chains: [{}]}}\n",
        at(port).replace("127.0.0.1", "0.0.0.0"),
        chains.join(", ")
    );
    let next = path.with_extension("next");
    std::fs::write(&next, text).expect("it can be written");
    std::fs::rename(&next, path).expect("it can be renamed");
}

/// A chain for clients of one address, with these filters and fields.
fn chain(source: u8, filters: &str, more: &str) -> String {
    format!(
        "{{filter_chain_match: {{source_prefix_ranges: [{{address_prefix: 127.0.0.{source}, prefix_len: 32}}]}}, \
         filters: [{filters}]{more}}}"
    )
}

fn redis_filter(cluster: &str, more: &str) -> String {
    format!(
        "{{name: redis, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy, stat_prefix: {cluster}, \
         settings: {{op_timeout: 5s}}, prefix_routes: {{catch_all_route: {{cluster: {cluster}}}}}{more}}}}}"
    )
}

fn tcp_filter(cluster: &str) -> String {
    format!(
        "{{name: tcp, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: {cluster}}}}}"
    )
}

/// A client with an address of its own.
struct From(TcpStream);

impl From {
    fn new(source: u8, port: u16) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let own = SocketAddr::from(([127, 0, 0, source], 0));
        socket.bind(&own.into()).expect("the whole of 127/8 is ours");
        socket.connect(&local(port).into()).expect("it listens");
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
        Self(stream)
    }

    /// The reply to a command; `None` when the connection is closed.
    fn ask(&mut self, line: &str) -> Option<String> {
        self.0.write_all(format!("{line}\r\n").as_bytes()).ok()?;
        let mut reply = [0; 256];
        match self.0.read(&mut reply) {
            Ok(0) | Err(_) => None,
            Ok(length) => Some(String::from_utf8_lossy(&reply[..length]).into_owned()),
        }
    }

    /// Whether the other side ends the connection within its drain time and some more.
    fn is_sent_away(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

fn with_name(name: &str) -> Redis {
    let redis = Redis::plain();
    let mut client = redplane_testkit::Client::connect(local(redis.port())).expect("it listens");
    client.command(&["SET", "who", name]).expect("it is taken");
    redis
}

const A: &str = "$1\r\nA\r\n";
const B: &str = "$1\r\nB\r\n";

#[test]
fn a_client_stays_with_its_chain_wherever_that_stands() {
    let (one, two) = (with_name("A"), with_name("B"));
    let clusters = [("a", &one), ("b", &two)];
    let (a, b) = (
        chain(2, &redis_filter("a", ""), ""),
        chain(3, &redis_filter("b", ""), ""),
    );
    let other = chain(9, &redis_filter("b", ""), "");
    let mut house = FromFile::new(&clusters, &[a.clone(), b.clone()], 600);
    let (mut x, mut y) = (From::new(2, house.port), From::new(3, house.port));
    for order in [
        vec![a.clone(), b.clone()],
        vec![other.clone(), a.clone(), b.clone()],
        vec![b.clone(), a.clone()],
        vec![b.clone(), other, a],
    ] {
        house.push(&order);
        assert_eq!(x.ask("GET who").as_deref(), Some(A));
        assert_eq!(y.ask("GET who").as_deref(), Some(B));
    }
    // Only its settings: the open client gets them.
    house.push(&[b.clone(), chain(2, &redis_filter("b", ""), "")]);
    assert_eq!(x.ask("GET who").as_deref(), Some(B));
    // Its chain is gone: what it sends meanwhile never reaches another chain's cluster.
    house.push(&[chain(
        3,
        &redis_filter("a", ", downstream_auth_passwords: [{inline_string: pw}]"),
        "",
    )]);
    assert_eq!(x.ask("GET who").as_deref(), Some(B));
    assert_eq!(x.ask("GET who"), None, "closed behind its next command");
    assert_eq!(
        y.ask("GET who").as_deref(),
        Some(B),
        "as it was when it came, without a password"
    );
    assert_eq!(y.ask("GET who"), None);
    let mut late = From::new(3, house.port);
    assert!(
        late.ask("GET who")
            .is_some_and(|reply| reply.starts_with("-NOAUTH"))
    );
}

#[test]
fn connections_end_with_their_chain() {
    let (one, two) = (with_name("A"), with_name("B"));
    let clusters = [("a", &one), ("b", &two)];
    let keep = chain(3, &redis_filter("b", ""), "");
    let before = chain(2, &redis_filter("a", ""), "");
    let authority = redplane_testkit::Authority::new();
    let identity = authority.issue("server", &["redis.test"]);
    let tls = format!(
        ", transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
         {{tls_certificates: [{{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}]}}}}}}",
        identity.cert.display(),
        identity.key.display()
    );
    let rbac = "{name: rbac, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, \
                stat_prefix: r, rules: {action: DENY, policies: {all: {permissions: [{any: true}], principals: [{any: \
                true}]}}}}}";
    let redis = redis_filter("a", "");
    for (case, after) in [
        ("removed", None),
        ("another kind", Some(chain(2, &tcp_filter("b"), ""))),
        ("TLS", Some(chain(2, &redis, &tls))),
        ("access rules", Some(chain(2, &format!("{rbac}, {redis}"), ""))),
        (
            "a password",
            Some(chain(
                2,
                &redis_filter("a", ", downstream_auth_passwords: [{inline_string: pw}]"),
                "",
            )),
        ),
    ] {
        let mut house = FromFile::new(&clusters, &[before.clone(), keep.clone()], 1);
        let (mut busy, mut idle) = (From::new(2, house.port), From::new(2, house.port));
        let mut neighbour = From::new(3, house.port);
        for (client, name) in [(&mut busy, A), (&mut idle, A), (&mut neighbour, B)] {
            assert_eq!(client.ask("GET who").as_deref(), Some(name), "{case}");
        }
        let begun = Instant::now();
        let after: Vec<String> = [keep.clone()].into_iter().chain(after).collect();
        house.push(&after);
        assert_eq!(busy.ask("GET who").as_deref(), Some(A), "{case}: as when it came");
        assert_eq!(
            busy.ask("GET who"),
            None,
            "{case}: closed behind its next command"
        );
        assert!(idle.is_sent_away(), "{case}");
        let waited = Instant::now().duration_since(begun);
        assert!(
            waited >= Duration::from_millis(900),
            "{case}: {waited:?} is not the drain time"
        );
        assert_eq!(neighbour.ask("GET who").as_deref(), Some(B), "{case}");
    }
}

/// What is not served is said at load and by validation, not only by refused connections.
#[test]
fn a_chain_that_is_not_served_is_named() {
    let limit = "{name: limit, typed_config: {\"@type\": \
                 type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz, stat_prefix: c, \
                 grpc_service: {envoy_grpc: {cluster_name: a}}}}";
    let redis = with_name("A");
    let chains = [chain(2, &format!("{limit}, {}", redis_filter("a", "")), "")];
    let house = FromFile::new(&[("a", &redis)], &chains, 1);
    let reason = "filter `limit` is not enforced here, so that nobody is let in";
    let mut client = From::new(2, house.port);
    assert_eq!(client.ask("GET who"), None);
    let log = house.proxy.process().output();
    assert!(
        log.contains("a filter chain is not served") && log.contains(reason),
        "{log}"
    );
    let dump = house.proxy.page("/config_dump").body;
    let chain = "filter chain 'source_prefix_ranges=127.0.0.2/32' is not served";
    assert!(dump.contains(&format!("{chain}: {reason}")), "{dump}");
    let file = house.folder.path().join("static.yaml");
    let listener = format!(
        "{{name: l, {}, filter_chains: [{{filters: [{limit}, {}]}}]}}",
        at(free_port()),
        redis_filter("a", "")
    );
    let clusters = [static_cluster("a", redis.port())];
    let text = admin(free_port()) + &static_resources(&[listener], &clusters);
    std::fs::write(&file, text).expect("it can be written");
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_redplane"))
        .args(["--mode", "validate", "-c"])
        .arg(&file)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        told.contains(&format!("listener 'l': chain 'any' is not served: {reason}")),
        "{told}"
    );
}

/// A client accepted under one world is served by it, whatever is pushed meanwhile.
#[test]
fn a_push_drops_no_connection() {
    let redis = Redis::plain();
    let chains = [
        [chain(1, &tcp_filter("a"), "")],
        [chain(1, &redis_filter("a", ""), "")],
    ];
    let mut house = FromFile::new(&[("a", &redis)], &chains[0], 600);
    let port = house.port;
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                while !over.load(Relaxed) {
                    match From::new(1, port).ask("PING") {
                        Some(reply) if reply == "+PONG\r\n" => drop(served.fetch_add(1, Relaxed)),
                        other => failed.push(other),
                    }
                    std::thread::sleep(Duration::from_millis(4));
                }
                failed
            })
        })
        .collect();
    for push in 1..=60 {
        house.push(&chains[push % 2]);
    }
    over.store(true, Relaxed);
    let failed: Vec<_> = clients
        .into_iter()
        .flat_map(|client| client.join().expect("it does not panic"))
        .collect();
    assert!(failed.is_empty(), "{} of {served:?}: {failed:?}", failed.len());
    assert!(
        served.load(Relaxed) > 1000,
        "{served:?} connections are too few to prove anything"
    );
}
