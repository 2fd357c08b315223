//! What a configuration limits, holds back, rewrites or counts, seen from the server's side.

use std::time::{Duration, Instant};

use redplane_testkit::{Act, Backend, Redis, Reply, command_bytes, until};

use crate::front::{Front, all_to, hosts, redis_filter, since};
use crate::stage::{PATIENCE, ask};

/// A server that answers every command with its own words.
fn parrot() -> Backend {
    Backend::start(|request| Act::bulk(request.line().as_bytes()))
}

fn in_front_of(backend: &Backend, settings: &str, fields: &str) -> Front {
    let fields = format!("{}{fields}", all_to("c"));
    let clusters = [hosts("c", &[backend.addr().port()], "")];
    Front::start(&redis_filter("r", settings, &fields), &clusters)
}

#[test]
fn few_bytes_are_held_until_the_timeout_and_many_are_not() {
    let backend = parrot();
    let settings = "op_timeout: 5s, max_buffer_size_before_flush: 1024, buffer_flush_timeout: 0.3s";
    let front = in_front_of(&backend, settings, "");
    let (mut one, mut two) = (front.client(), front.client());
    // The first opens the connection.
    assert_eq!(ask(&mut one, "GET open"), "GET open");
    let start = Instant::now();
    one.send(&command_bytes(&["GET", "a"])).expect("it reads");
    two.send(&command_bytes(&["GET", "b"])).expect("it reads");
    assert_eq!(one.read_replies(1).len(), 1);
    let took = since(start);
    let fits = Duration::from_millis(250)..Duration::from_millis(900);
    assert!(fits.contains(&took), "held for {took:?}");
    assert_eq!(two.read_replies(1).len(), 1);
    let together = since(start) - took;
    assert!(
        together < Duration::from_millis(100),
        "the other came {together:?} later"
    );
    let many: Vec<u8> = (0..60)
        .flat_map(|_| command_bytes(&["GET", "a-key-of-some-length"]))
        .collect();
    let start = Instant::now();
    one.send(&many).expect("it reads");
    assert_eq!(one.read_replies(60).len(), 60);
    let took = since(start);
    assert!(
        took < Duration::from_millis(200),
        "{} bytes took {took:?}",
        many.len()
    );
}

#[test]
fn new_connections_come_at_a_limited_rate() {
    let backend = Backend::start(|request| {
        let mut acts = Act::bulk(request.line().as_bytes());
        acts.push(Act::Close);
        acts
    });
    let limit = "op_timeout: 5s, connection_rate_limit: {connection_rate_limit_per_sec: 2}";
    let front = in_front_of(&backend, limit, "");
    let mut client = front.client();
    let closed = || front.stat("cluster.c.upstream_cx_active") == 0;
    let replies: Vec<String> = (0..6)
        .map(|_| {
            until("the server's close to be seen", PATIENCE, closed);
            ask(&mut client, "GET a")
        })
        .collect();
    assert_eq!(replies[..2], ["GET a", "GET a"], "{replies:?}");
    assert!(
        replies[2..].iter().any(|reply| reply == "no upstream host"),
        "{replies:?}"
    );
    assert!(front.stat("cluster.c.redis_cluster.connection_rate_limited") > 0);
    until("the next token", PATIENCE, || {
        ask(&mut client, "GET b") == "GET b"
    });
}

#[test]
fn only_so_many_unknown_hosts_are_followed_to() {
    let (near, far) = (parrot(), parrot());
    let ports = [near.addr().port(), far.addr().port()];
    let backend = Backend::start(move |request| match request.word(1).as_str() {
        "near" => Act::reply(&format!("-MOVED 1 127.0.0.1:{}", ports[0])),
        "far" => Act::reply(&format!("-MOVED 2 127.0.0.1:{}", ports[1])),
        _ => Act::reply("+OK"),
    });
    let limit = "op_timeout: 5s, enable_redirection: true, max_upstream_unknown_connections: 1";
    let front = in_front_of(&backend, limit, "");
    let mut client = front.client();
    assert_eq!(ask(&mut client, "GET near"), "GET near");
    // As from Envoy, the client gets the redirection that could not be followed.
    assert_eq!(
        ask(&mut client, "GET far"),
        format!("MOVED 2 127.0.0.1:{}", ports[1])
    );
    assert_eq!(ask(&mut client, "GET near"), "GET near");
    assert_eq!(
        front.stat("cluster.c.redis_cluster.max_upstream_unknown_connections_reached"),
        1
    );
    assert_eq!(
        front.stat("cluster.c.upstream_internal_redirect_succeeded_total"),
        2
    );
    assert_eq!(front.stat("cluster.c.upstream_internal_redirect_failed_total"), 1);
    assert_eq!(far.connections(), 0);
}

#[test]
fn faults_delay_and_fail_as_often_as_told() {
    let backend = parrot();
    let fault = |kind: &str, percent: u32, more: &str| {
        format!("{{fault_type: {kind}, fault_enabled: {{default_value: {{numerator: {percent}}}}}, {more}}}")
    };
    let faults = format!(
        ", faults: [{}, {}, {}]",
        fault("ERROR", 100, "commands: [get]"),
        fault("DELAY", 100, "delay: 0.2s, commands: [set]"),
        fault("ERROR", 50, "commands: [incr]")
    );
    let front = in_front_of(&backend, "op_timeout: 5s", &faults);
    let mut client = front.client();
    assert_eq!(ask(&mut client, "GET a"), "Fault Injected: Error");
    let start = Instant::now();
    assert_eq!(ask(&mut client, "SET a 1"), "SET a 1");
    let took = since(start);
    let fits = Duration::from_millis(200)..Duration::from_millis(700);
    assert!(fits.contains(&took), "a delay of 0.2 s took {took:?}");
    let failed = (0..400)
        .filter(|_| ask(&mut client, "INCR n").starts_with("Fault"))
        .count();
    // Six standard deviations.
    assert!((140..=260).contains(&failed), "{failed} of 400");
    assert_eq!(ask(&mut client, "TTL a"), "TTL a");
    assert_eq!(backend.requests().len(), 402 - failed);
    assert_eq!(front.stat("redis.r.command.get.error_fault"), 1);
    assert_eq!(front.stat("redis.r.command.set.delay_fault"), 1);
    assert_eq!(front.stat("redis.r.command.incr.error_fault"), failed as u64);
}

#[test]
fn custom_commands_pass_and_others_do_not() {
    let backend = parrot();
    let front = in_front_of(&backend, "op_timeout: 5s", ", custom_commands: [my.get, my.set]");
    let mut client = front.client();
    assert_eq!(ask(&mut client, "MY.GET k x"), "MY.GET k x");
    assert_eq!(ask(&mut client, "my.set k"), "my.set k");
    let unknown = ask(&mut client, "MY.DEL k");
    assert!(unknown.starts_with("ERR unknown command 'MY.DEL'"), "{unknown}");
    // The third is redplane's own: whether the server knows the command.
    assert_eq!(backend.requests().len(), 3);
    assert_eq!(front.stat("redis.r.command.my.get.total"), 1);
    assert_eq!(front.stat("redis.r.splitter.unsupported_command"), 1);
}

#[test]
fn keys_are_routed_and_rewritten_by_their_prefix() {
    let (users, carts, rest) = (Redis::plain(), Redis::plain(), Redis::plain());
    let routes = "prefix_routes: {case_insensitive: true, routes: [{prefix: 'User:', remove_prefix: true, cluster: \
                  users}, {prefix: 'cart:', cluster: carts, key_formatter: 'v2/%KEY%'}, {prefix: 'cart:old:', \
                  remove_prefix: true, cluster: carts}], catch_all_route: {cluster: rest}}";
    let clusters = [
        hosts("users", &[users.port()], ""),
        hosts("carts", &[carts.port()], ""),
        hosts("rest", &[rest.port()], ""),
    ];
    let front = Front::start(&redis_filter("r", "op_timeout: 5s", routes), &clusters);
    let mut client = front.client();
    for key in ["user:A", "USER:b", "cart:1", "CART:OLD:2", "other", "usher"] {
        assert_eq!(ask(&mut client, &format!("SET {key} {key}")), "OK");
    }
    let keys = |server: &Redis| {
        let reply = server.run("KEYS *");
        let mut keys: Vec<String> = reply.elements().iter().filter_map(Reply::text).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&users), ["A", "b"]);
    assert_eq!(keys(&carts), ["2", "v2/cart:1"]);
    assert_eq!(keys(&rest), ["other", "usher"]);
    // One command over three clusters, each key rewritten by its own route.
    let read = client
        .command(&["MGET", "user:b", "cart:1", "other", "user:A", "none"])
        .expect("an answer");
    assert_eq!(
        read.to_string(),
        "[ \"USER:b\" \"cart:1\" \"other\" \"user:A\" nil ]"
    );
    assert_eq!(ask(&mut client, "DEL user:A cart:old:2 other none"), "3");
    assert_eq!(
        (keys(&users).len(), keys(&carts).len(), keys(&rest).len()),
        (1, 1, 1)
    );
}

#[test]
fn commands_are_counted_and_timed_on_both_sides() {
    let backend = Backend::start(|request| {
        let mut acts = vec![Act::Delay(Duration::from_millis(20))];
        acts.extend(match request.name().as_str() {
            "get" => Act::bulk(b"v"),
            _ => Act::reply("-ERR no"),
        });
        acts
    });
    let front = in_front_of(
        &backend,
        "op_timeout: 5s, enable_command_stats: true",
        ", latency_in_micros: true",
    );
    let mut client = front.client();
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "GET a"), "v");
    }
    assert_eq!(ask(&mut client, "INCR a"), "ERR no");
    let expected = [
        ("redis.r.downstream_rq_total", 4),
        ("redis.r.command.get.total", 3),
        ("redis.r.command.get.success", 3),
        ("redis.r.command.incr.success", 1),
        ("cluster.c.redis_cluster.upstream_commands.get.total", 3),
        ("cluster.c.redis_cluster.upstream_commands.get.success", 3),
        ("cluster.c.redis_cluster.upstream_commands.incr.failure", 1),
    ];
    for (name, value) in expected {
        assert_eq!(front.proxy.stat(name), Some(value), "{name}");
    }
    let page = front.proxy.page("/stats/prometheus").body;
    let number = |name: &str| {
        let found = page.lines().find_map(|line| line.strip_prefix(name));
        found
            .and_then(|value| value.trim().parse::<f64>().ok())
            .unwrap_or_else(|| panic!("{name} in\n{page}"))
    };
    let client_side = "{envoy_redis_prefix=\"r\"}";
    let server_side = "{envoy_cluster_name=\"c\"}";
    assert_eq!(
        number(&format!("envoy_redis_command_get_total{client_side}")),
        3.0
    );
    let upstream = "envoy_cluster_redis_cluster_upstream_commands_get";
    assert_eq!(number(&format!("{upstream}_total{server_side}")), 3.0);
    // Three times 20 ms, in microseconds on both sides.
    for name in [
        format!("envoy_redis_command_get_latency_sum{client_side}"),
        format!("{upstream}_latency_sum{server_side}"),
    ] {
        let sum = number(&name);
        assert!((55_000.0..3_000_000.0).contains(&sum), "{name} is {sum}");
    }
    assert_eq!(
        number(&format!("envoy_redis_command_get_latency_count{client_side}")),
        3.0
    );
}
