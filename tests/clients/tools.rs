//! The tools that come with Redis, against a plain Redis, through real Envoy and through redplane.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use redplane_testkit::{Cluster, Proxy, ProxyKind, Redis, free_port};

#[test]
fn the_tools_of_redis_work_unchanged() {
    let (plain, cluster) = (Redis::plain(), Cluster::three_and_three());
    let proxies = [("envoy", ProxyKind::Envoy), ("redplane", super::redplane())].map(|(name, kind)| {
        let (admin, listen) = (free_port(), free_port());
        let bootstrap = super::bootstrap(&cluster, admin, listen);
        let proxy = Proxy::start(&kind, &bootstrap, admin);
        (name, proxy, SocketAddr::from((Ipv4Addr::LOCALHOST, listen)))
    });
    let proxied = proxies.iter().map(|(name, _, address)| (*name, *address));
    for (name, address) in std::iter::once(("redis", plain.addr())).chain(proxied) {
        redis_cli(name, address);
        redis_cli_pipe(name, address);
        redis_benchmark(name, address, 1);
        redis_benchmark(name, address, 16);
        cluster.flush();
        plain.run("FLUSHALL");
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
