//! Clients as people use them, unchanged: redis-cli, redis-benchmark and a client library. Each runs against a plain
//! Redis, through real Envoy and through redplane, with a real cluster behind the proxies.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use redis::AsyncCommands;
use redplane_testkit::{Cluster, Proxy, ProxyKind, Redis, free_port};

/// The peers that every client is run against: a name, and where it listens.
struct Peers {
    plain: Redis,
    cluster: Cluster,
    proxies: Vec<(&'static str, Proxy, SocketAddr)>,
}

impl Peers {
    fn start() -> Self {
        let (plain, cluster) = (Redis::plain(), Cluster::three_and_three());
        let mut peers = Self {
            plain,
            cluster,
            proxies: Vec::new(),
        };
        peers.add("envoy", &ProxyKind::Envoy);
        let path = Path::new(env!("CARGO_BIN_EXE_redplane"));
        let version = Command::new(path)
            .arg("--version")
            .output()
            .expect("the binary runs");
        if version.stdout.is_empty() {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED clients: redplane does not serve yet (--version prints nothing)"
            );
        } else {
            peers.add("redplane", &ProxyKind::Redplane(path.to_owned()));
        }
        peers
    }

    fn add(&mut self, name: &'static str, kind: &ProxyKind) {
        let (admin, listen) = (free_port(), free_port());
        let bootstrap = BOOTSTRAP
            .replace("${ADMIN}", &admin.to_string())
            .replace("${LISTEN}", &listen.to_string())
            .replace("${SEED}", &self.cluster.nodes()[0].port().to_string());
        self.proxies.push((
            name,
            Proxy::start(kind, &bootstrap, admin),
            (Ipv4Addr::LOCALHOST, listen).into(),
        ));
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let proxies = self.proxies.iter().map(|(name, _, address)| (*name, *address));
        std::iter::once(("redis", self.plain.addr())).chain(proxies)
    }

    fn flush(&self) {
        self.cluster.flush();
        self.plain.run("FLUSHALL");
    }
}

const BOOTSTRAP: &str = r#"
admin: { address: { socket_address: { address: 127.0.0.1, port_value: ${ADMIN} } } }
static_resources:
  listeners:
  - name: redis
    address: { socket_address: { address: 127.0.0.1, port_value: ${LISTEN} } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: clients
          settings: { op_timeout: 5s, enable_redirection: true }
          prefix_routes: { catch_all_route: { cluster: redis } }
  clusters:
  - name: redis
    connect_timeout: 1s
    lb_policy: CLUSTER_PROVIDED
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${SEED} } } }
    cluster_type: { name: envoy.clusters.redis }
"#;

#[test]
fn clients_work_unchanged() {
    let peers = Peers::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    for (name, address) in peers.each() {
        peers.flush();
        redis_cli(name, address);
        peers.flush();
        redis_cli_pipe(name, address);
        peers.flush();
        redis_benchmark(name, address, 1);
        redis_benchmark(name, address, 16);
        peers.flush();
        runtime
            .block_on(library(address))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

fn redis_cli(name: &str, address: SocketAddr) {
    let run = |words: &[&str]| {
        let port = address.port().to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output();
        let output = output.expect("redis-cli is installed");
        assert!(output.status.success(), "{name}: redis-cli {words:?} failed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(run(&["SET", "a", "1"]), "OK", "{name}");
    assert_eq!(run(&["GET", "a"]), "1", "{name}");
    assert_eq!(run(&["MSET", "b", "2", "c", "3"]), "OK", "{name}");
    assert_eq!(run(&["MGET", "a", "b", "c", "d"]), "1\n2\n3", "{name}");
    assert_eq!(run(&["DEL", "a", "b", "c", "d"]), "3", "{name}");
    assert_eq!(run(&["-r", "3", "INCR", "n"]), "1\n2\n3", "{name}");
    assert_eq!(run(&["-n", "0", "PING"]), "PONG", "{name}");
}

/// Mass insertion: redis-cli ends it with an empty line and an ECHO, and waits for that to come back. Envoy answers
/// the empty line with an error, which redis-cli counts.
fn redis_cli_pipe(name: &str, address: SocketAddr) {
    let lines: String = (0..1000).map(|i| format!("SET key:{i} {i}\r\n")).collect();
    let mut child = Command::new("redis-cli")
        .args([
            "-p",
            &address.port().to_string(),
            "--pipe",
            "--pipe-timeout",
            "20",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed");
    let mut input = child.stdin.take().expect("the input is a pipe");
    input
        .write_all(lines.as_bytes())
        .expect("redis-cli reads its input");
    drop(input);
    let output = child.wait_with_output().expect("redis-cli ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let counts = if name == "envoy" {
        "errors: 1, replies: 1001"
    } else {
        "errors: 0, replies: 1000"
    };
    assert!(text.contains(counts), "{name}: {text}");
}

fn redis_benchmark(name: &str, address: SocketAddr, pipeline: usize) {
    let output = Command::new("redis-benchmark")
        .args([
            "-p",
            &address.port().to_string(),
            "-c",
            "50",
            "-n",
            "5000",
            "-r",
            "1000",
            "-d",
            "64",
            "-q",
        ])
        .args([
            "-P",
            &pipeline.to_string(),
            "-t",
            "set,get,incr,lpush,rpop,sadd,hset,mset",
        ])
        .output()
        .expect("redis-benchmark is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{name}: redis-benchmark -P {pipeline}: {text}"
    );
    let rates = text.matches("requests per second").count();
    assert_eq!(rates, 8, "{name}: redis-benchmark -P {pipeline}: {text}");
}

async fn library(address: SocketAddr) -> redis::RedisResult<()> {
    let client = redis::Client::open(format!("redis://{address}/"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let () = connection.set("a", "text").await?;
    assert_eq!(
        connection.get::<_, Option<String>>("a").await?.as_deref(),
        Some("text")
    );
    assert_eq!(connection.get::<_, Option<String>>("nothere").await?, None);

    let () = connection.mset(&[("k1", 1), ("k2", 2), ("k3", 3)]).await?;
    let values: Vec<Option<i64>> = connection.mget(&["k3", "k2", "k1", "k0"]).await?;
    assert_eq!(values, [Some(3), Some(2), Some(1), None]);
    assert_eq!(connection.del::<_, i64>(&["k1", "k2", "k3"]).await?, 3);

    let () = connection.hset("h", "f", 1).await?;
    let () = connection.rpush("l", &["x", "y"]).await?;
    assert_eq!(connection.lrange::<_, Vec<String>>("l", 0, -1).await?, ["x", "y"]);
    assert_eq!(connection.hincr::<_, _, _, i64>("h", "f", 5).await?, 6);

    let (first, second): (i64, i64) = redis::pipe()
        .incr("n", 1)
        .incr("n", 2)
        .query_async(&mut connection)
        .await?;
    assert_eq!((first, second), (1, 3));
    let (old, new): (i64, i64) = redis::pipe()
        .atomic()
        .get("n")
        .incr("n", 10)
        .query_async(&mut connection)
        .await?;
    assert_eq!((old, new), (3, 13));

    let wrong = connection
        .incr::<_, _, i64>("l", 1)
        .await
        .expect_err("a list is no number");
    assert_eq!(wrong.code(), Some("WRONGTYPE"));
    redis::cmd("PING").query_async(&mut connection).await
}
