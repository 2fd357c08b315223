//! Who gets the reads: every read policy, counted by the servers themselves.

use std::collections::BTreeMap;

use redplane_testkit::{Act, Backend, Client, Cluster, Redis, Request, Role, free_port, until};

use crate::front::{EAGER, Front, all_to, discovered, hosts, listener, redis_filter, seeds, serve, serve_as};
use crate::stage::{PATIENCE, ask, client, until_answered};

const KEYS: usize = 60;

/// Reads that masters and replicas have had, by role.
fn reads(cluster: &Cluster, role: Role) -> Vec<u64> {
    let of_role = cluster.calls("get").into_iter().filter(|(_, is, _)| *is == role);
    of_role.map(|(_, _, calls)| calls).collect()
}

fn write_and_read(client: &mut Client) {
    for at in 0..KEYS {
        assert_eq!(ask(client, &format!("SET k{at} {at}")), "OK");
    }
}

fn read_all(client: &mut Client) {
    for at in (0..KEYS).chain(0..KEYS) {
        assert_eq!(ask(client, &format!("GET k{at}")), at.to_string());
    }
}

/// Each row: the policy, and whether masters and replicas get reads while all are well and zones are not known.
const POLICIES: [(&str, bool, bool); 7] = [
    ("MASTER", true, false),
    ("PREFER_MASTER", true, false),
    ("REPLICA", false, true),
    ("PREFER_REPLICA", false, true),
    ("ANY", true, true),
    ("LOCAL_ZONE_AFFINITY", false, true),
    ("LOCAL_ZONE_AFFINITY_REPLICAS_AND_PRIMARY", false, true),
];

#[test]
fn reads_go_where_the_policy_says_and_writes_to_masters() {
    let cluster = Cluster::three_and_three();
    let rows: Vec<_> = POLICIES.iter().map(|row| (row, free_port())).collect();
    let listeners: Vec<String> = rows
        .iter()
        .map(|((policy, ..), port)| {
            let settings = format!("op_timeout: 5s, enable_redirection: true, read_policy: {policy}");
            listener(policy, *port, &redis_filter(policy, &settings, &all_to("c")))
        })
        .collect();
    let proxy = serve(&listeners, &[discovered("c", &seeds(&cluster), EAGER, "")]);
    for ((policy, masters, replicas), port) in rows {
        until_answered(port, "SET k0 0", "OK");
        let mut client = client(port);
        cluster.reset_stats();
        write_and_read(&mut client);
        cluster.wait_until_replicated();
        read_all(&mut client);
        let (of_masters, of_replicas) = (reads(&cluster, Role::Master), reads(&cluster, Role::Replica));
        let measured = format!("{policy}: masters had {of_masters:?}, replicas {of_replicas:?}");
        for (gets, counts) in [(masters, &of_masters), (replicas, &of_replicas)] {
            assert!(counts.iter().all(|count| (*count > 0) == *gets), "{measured}");
        }
        let all: u64 = of_masters.iter().chain(&of_replicas).sum();
        assert_eq!(all, 2 * KEYS as u64, "{measured}");
        for node in cluster.nodes() {
            let errors = node.run("INFO errorstats").text().unwrap_or_default();
            assert!(
                !errors.contains("MOVED") && !errors.contains("READONLY"),
                "{policy}: {errors}"
            );
        }
        let writes: u64 = cluster.masters().iter().map(|node| node.calls("set")).sum();
        assert_eq!(writes, KEYS as u64, "{policy}");
    }
    assert_eq!(
        proxy.stat("cluster.c.upstream_internal_redirect_succeeded_total"),
        Some(0)
    );
}

#[test]
fn a_dead_replica_leaves_its_reads_to_others_where_the_policy_allows() {
    let mut cluster = Cluster::three_and_three();
    let front = Front::of(
        &cluster,
        "op_timeout: 2s, enable_redirection: true, read_policy: PREFER_REPLICA",
    );
    let mut client = front.client();
    write_and_read(&mut client);
    cluster.wait_until_replicated();
    let dead = cluster.replicas()[0].port();
    cluster.node_mut(dead).kill();
    // The cluster drops a failed replica from its table; until then reads of it fail, and fail fast.
    until("all reads to be served", PATIENCE, || {
        (0..KEYS).all(|at| ask(&mut client, &format!("GET k{at}")) == at.to_string())
    });
}

/// A cluster of one shard whose nodes each tell a zone and answer GET with their own name.
fn zoned(zones: &[(&'static str, &'static str)]) -> Vec<Backend> {
    let bound: Vec<_> = zones.iter().map(|_| Backend::bind()).collect();
    let ports: Vec<u16> = bound.iter().map(|bound| bound.addr().port()).collect();
    let node = |(port, (name, _)): (&u16, &(&str, &str))| {
        format!("*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$40\r\n{name:0>40}\r\n")
    };
    let nodes: String = ports.iter().zip(zones).map(node).collect();
    let slots = format!("*1\r\n*{}\r\n:0\r\n:16383\r\n{}", 2 + zones.len(), nodes);
    let serve = |(bound, (name, zone)): (redplane_testkit::Bound, &(&'static str, &'static str))| {
        let (slots, name, zone) = (slots.clone(), *name, *zone);
        bound.serve(move |request| answer(request, &slots, name, zone))
    };
    bound.into_iter().zip(zones).map(serve).collect()
}

fn answer(request: &Request, slots: &str, name: &str, zone: &str) -> Vec<Act> {
    match (
        request.name().as_str(),
        request.word(1).to_ascii_lowercase().as_str(),
    ) {
        ("cluster", "slots") => vec![Act::Write(slots.as_bytes().to_vec())],
        ("info", _) => Act::bulk(format!("# Server\r\navailability_zone:{zone}\r\n").as_bytes()),
        ("get", _) => Act::bulk(name.as_bytes()),
        ("readonly" | "set" | "ping", _) => Act::reply("+OK"),
        _ => Act::reply("-ERR unknown subcommand"),
    }
}

/// How often each node answered a GET through a redplane in this zone.
fn by_node(zone: &str, policy: &str, nodes: &[Backend]) -> BTreeMap<String, u32> {
    let port = free_port();
    let settings = format!("op_timeout: 5s, read_policy: {policy}");
    let listeners = [listener("r", port, &redis_filter("r", &settings, &all_to("c")))];
    let seeds: Vec<u16> = nodes.iter().map(|node| node.addr().port()).collect();
    let discovery = format!("{EAGER}, enable_zone_discovery: true");
    let head = format!("node: {{id: n, cluster: c, locality: {{zone: {zone}}}}}\n");
    let proxy = serve_as(&head, "1", &listeners, &[discovered("c", &seeds, &discovery, "")]);
    until_answered(port, "SET a 1", "OK");
    until("the zones to be known", PATIENCE, || {
        let clusters = proxy.page("/clusters").body;
        clusters.matches("::zone::").count() == nodes.len() && !clusters.contains("::zone::\n")
    });
    let mut client = client(port);
    let mut counts = BTreeMap::new();
    for at in 0..100 {
        *counts.entry(ask(&mut client, &format!("GET k{at}"))).or_default() += 1;
    }
    counts
}

#[test]
fn reads_stay_in_the_zone() {
    let spread = [("primary", "a"), ("near", "b"), ("far", "c")];
    // Each row: the zones of the nodes, our zone, the policy, and who answers.
    let rows: [(&str, &str, &[&str]); 6] = [
        ("b", "LOCAL_ZONE_AFFINITY", &["near"]),
        ("a", "LOCAL_ZONE_AFFINITY", &["far", "near"]),
        ("z", "LOCAL_ZONE_AFFINITY", &["far", "near"]),
        ("b", "LOCAL_ZONE_AFFINITY_REPLICAS_AND_PRIMARY", &["near"]),
        ("a", "LOCAL_ZONE_AFFINITY_REPLICAS_AND_PRIMARY", &["primary"]),
        ("z", "LOCAL_ZONE_AFFINITY_REPLICAS_AND_PRIMARY", &["far", "near"]),
    ];
    let nodes = zoned(&spread);
    for (zone, policy, expected) in rows {
        let counts = by_node(zone, policy, &nodes);
        let who: Vec<&str> = counts.keys().map(String::as_str).collect();
        assert_eq!(who, expected, "{policy} in zone {zone}: {counts:?}");
        assert!(
            counts.values().all(|count| *count > 20),
            "{policy} in zone {zone}: {counts:?}"
        );
    }
}

#[test]
fn read_commands_have_a_cluster_of_their_own() {
    let (main, readers) = (Redis::plain(), Redis::plain());
    readers.run("SET k read");
    let routes = "prefix_routes: {catch_all_route: {cluster: main, read_command_policy: {cluster: readers}}}";
    let clusters = [
        hosts("main", &[main.port()], ""),
        hosts("readers", &[readers.port()], ""),
    ];
    let front = Front::start(&redis_filter("r", "op_timeout: 5s", routes), &clusters);
    let mut client = front.client();
    assert_eq!(ask(&mut client, "SET k main"), "OK");
    assert_eq!(ask(&mut client, "GET k"), "read");
    assert_eq!(ask(&mut client, "EXISTS k"), "1");
    assert_eq!(ask(&mut client, "GETSET k other"), "main");
    assert_eq!(ask(&mut client, "XADD s * f v").split('-').count(), 2);
    let count = |server: &Redis| {
        let stats = server.commandstats();
        let of = |name: &str| stats.get(name).copied().unwrap_or(0);
        [of("set"), of("get"), of("exists"), of("getset"), of("xadd")]
    };
    assert_eq!(count(&main), [1, 0, 0, 1, 1]);
    assert_eq!(count(&readers), [1, 1, 1, 0, 0]);
}
