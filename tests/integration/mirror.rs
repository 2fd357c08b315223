//! Mirroring: what a mirror gets, and that its state is nothing to the client.

use std::time::{Duration, Instant};

use redplane_testkit::{Client, Cluster, Redis, until};

use crate::front::{EAGER, Front, discovered, hosts, redis_filter, seeds, since};
use crate::stage::{PATIENCE, ask, until_answered};

/// A filter that sends everything to `main` and copies to `mirror`.
fn mirrored(policy: &str) -> String {
    let routes = format!(
        "prefix_routes: {{catch_all_route: {{cluster: main, request_mirror_policy: [{{cluster: mirror{policy}}}]}}}}"
    );
    redis_filter("r", "op_timeout: 1s, enable_redirection: true", &routes)
}

fn two_servers(policy: &str) -> (Front, Redis, Redis) {
    let (main, mirror) = (Redis::plain(), Redis::plain());
    let clusters = [
        hosts("main", &[main.port()], ""),
        hosts("mirror", &[mirror.port()], ""),
    ];
    (Front::start(&mirrored(policy), &clusters), main, mirror)
}

fn until_calls(server: &Redis, command: &str, count: u64) {
    until(&format!("{count} {command} on the mirror"), PATIENCE, || {
        server.calls(command) >= count
    });
    assert_eq!(server.calls(command), count, "{command}");
}

#[test]
fn a_mirror_of_a_cluster_gets_writes_and_no_reads() {
    let (cluster, mirror) = (Cluster::three_and_three(), Redis::plain());
    let clusters = [
        discovered("main", &seeds(&cluster), EAGER, ""),
        hosts("mirror", &[mirror.port()], ""),
    ];
    let front = Front::start(&mirrored(", exclude_read_commands: true"), &clusters);
    until_answered(front.port, "EXISTS nothing", "0");
    let mut client = front.client();
    for at in 0..50 {
        assert_eq!(ask(&mut client, &format!("SET k{at} {at}")), "OK");
        assert_eq!(ask(&mut client, &format!("GET k{at}")), at.to_string());
    }
    until_calls(&mirror, "set", 50);
    assert_eq!(ask(&mut client, "MSET a 1 b 2 c 3 d 4"), "OK");
    assert_eq!(ask(&mut client, "DEL a k0 k1"), "3");
    assert_eq!(ask(&mut client, "HSET h f v"), "1");
    client.command(&["MGET", "b", "c", "d"]).expect("an answer");
    for (line, reply) in [("MULTI", "OK"), ("SET {t}x 1", "QUEUED"), ("INCR {t}x", "QUEUED")] {
        assert_eq!(ask(&mut client, line), reply);
    }
    let done = client.command(&["EXEC"]).expect("an answer");
    assert_eq!(done.to_string(), "[ <+OK> :2 ]");
    until("the transaction on the mirror", PATIENCE, || {
        mirror.run("GET {t}x").text().as_deref() == Some("2")
    });
    let held = mirror.run("MGET b c d k2 {t}x").to_string();
    assert_eq!(held, "[ \"2\" \"3\" \"4\" \"2\" \"2\" ]");
    let stats = mirror.commandstats();
    // The one GET and the one MGET are this test's own.
    assert_eq!(
        (stats.get("get").copied(), stats.get("mget").copied()),
        (Some(1), Some(1)),
        "{stats:?}"
    );
    assert_eq!(
        (stats.get("multi"), stats.get("exec")),
        (Some(&1), Some(&1)),
        "{stats:?}"
    );
    assert_eq!(mirror.run("DBSIZE").integer(), Some(53), "{stats:?}");
}

#[test]
fn without_exclusion_reads_are_mirrored_too() {
    let (front, _main, mirror) = two_servers("");
    let mut client = front.client();
    for _ in 0..20 {
        ask(&mut client, "SET k v");
        ask(&mut client, "GET k");
    }
    until_calls(&mirror, "get", 20);
    until_calls(&mirror, "set", 20);
}

#[test]
fn half_of_the_requests_means_about_half() {
    let policy = ", runtime_fraction: {default_value: {numerator: 50}}";
    let (front, main, mirror) = two_servers(policy);
    let mut client = front.client();
    for at in 0..1000 {
        ask(&mut client, &format!("SET k{at} v"));
    }
    assert_eq!(main.calls("set"), 1000);
    let settled = || front.stat("cluster.mirror.upstream_rq_active") == 0;
    until("the mirror to have answered", PATIENCE, settled);
    let count = mirror.calls("set");
    // Six standard deviations.
    assert!((405..=595).contains(&count), "{count} of 1000");
}

/// The slowest of so many writes.
fn slowest(client: &mut Client, writes: usize) -> Duration {
    let value = "v".repeat(16 * 1024);
    let one = |at: usize| {
        let start = Instant::now();
        assert_eq!(ask(client, &format!("SET k{at} {value}")), "OK");
        since(start)
    };
    (0..writes).map(one).max().unwrap_or_default()
}

#[test]
fn a_mirror_that_hangs_costs_the_client_nothing() {
    let (front, _main, mirror) = two_servers("");
    let mut client = front.client();
    assert_eq!(ask(&mut client, "SET a 1"), "OK");
    until_calls(&mirror, "set", 1);
    mirror.pause();
    // More than a mirror may hold.
    let slow = slowest(&mut client, 1000);
    assert!(slow < Duration::from_millis(500), "a write took {slow:?}");
    let lost = front.stat("cluster.mirror.upstream_rq_pending_overflow");
    assert!(lost > 0, "nothing was counted as lost");
    until("the hanging mirror to be given up", PATIENCE, || {
        front.stat("cluster.mirror.upstream_rq_timeout") > 0
    });
    let slow = slowest(&mut client, 100);
    assert!(slow < Duration::from_millis(500), "a write took {slow:?}");
    mirror.resume();
    until("the mirror to get writes again", PATIENCE, || {
        ask(&mut client, "SET again 1");
        mirror.run("EXISTS again").integer() == Some(1)
    });
}

#[test]
fn a_dead_mirror_is_counted_and_comes_back() {
    let (front, _main, mut mirror) = two_servers("");
    let mut client = front.client();
    assert_eq!(ask(&mut client, "SET a 1"), "OK");
    mirror.kill();
    let slow = slowest(&mut client, 200);
    assert!(slow < Duration::from_millis(500), "a write took {slow:?}");
    let counted = || {
        let names = ["upstream_cx_connect_fail", "upstream_rq_pending_overflow"];
        names.map(|name| front.stat(&format!("cluster.mirror.{name}")))
    };
    assert!(counted().iter().all(|count| *count > 0), "{:?}", counted());
    assert_eq!(front.stat("redis.r.command.set.error"), 0);
    mirror.restart();
    until("the mirror to get writes again", PATIENCE, || {
        ask(&mut client, "SET again 1");
        mirror.run("EXISTS again").integer() == Some(1)
    });
}

#[test]
fn a_mirror_gets_the_scripts_that_it_lacks() {
    let (front, _main, mirror) = two_servers("");
    until_answered(front.port, "SET there yes", "OK");
    let mut client = front.client();
    let body = "return(redis.call('incr',KEYS[1]))";
    assert_eq!(ask(&mut client, &format!("EVAL {body} 1 k")), "1");
    let sha = ask(&mut client, &format!("SCRIPT LOAD {body}"));
    let reached = |count: &str| {
        until(&format!("{count} on the mirror"), PATIENCE, || {
            mirror.run("GET k").text().as_deref() == Some(count)
        });
    };
    reached("1");
    // It loses them, and does not say so.
    mirror.run("SCRIPT FLUSH");
    assert_eq!(ask(&mut client, &format!("EVALSHA {sha} 1 k")), "2");
    reached("2");
    // A new connection to it gives them beforehand.
    mirror.run("SCRIPT FLUSH");
    mirror.run("CLIENT KILL TYPE normal SKIPME yes");
    until("the copy's connection to go", PATIENCE, || {
        front.stat("cluster.mirror.upstream_cx_active") == 0
    });
    mirror.reset_stats();
    assert_eq!(ask(&mut client, &format!("EVALSHA {sha} 1 k")), "3");
    reached("3");
    assert_eq!((mirror.calls("evalsha"), mirror.calls("script|load")), (1, 1));
    mirror.run("SCRIPT FLUSH");
    for (line, reply) in [("MULTI", "OK"), (&format!("EVALSHA {sha} 1 k"), "QUEUED")] {
        assert_eq!(ask(&mut client, line), reply);
    }
    assert_eq!(
        client.command(&["EXEC"]).expect("an answer").to_string(),
        "[ :4 ]"
    );
    reached("4");
}
