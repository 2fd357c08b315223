//! RING_HASH and MAGLEV choose the host that Envoy chooses: 10,000 keys through a real Envoy for each variant.

use std::net::SocketAddr;

use redplane_command::{hash_tag, murmur2};
use redplane_config::cluster::{CommonLb, Discovery, LbPolicy, RingHashFunction};
use redplane_config::endpoint::{Assignment, Endpoint, Health, Locality};
use redplane_resp::encode::request;
use redplane_resp::value::decode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::envoy::Envoy;
use super::model::{config, ip, localities, locality, ports, start};
use super::scripted::Scripted;

const KEYS: usize = 10_000;

/// One cluster behind one redis_proxy listener.
struct Variant {
    name: &'static str,
    policy: LbPolicy,
    assignment: Assignment,
    hashtags: bool,
    locality_weighted: bool,
    panic_threshold: u32,
}

fn ring(minimum_size: u64, function: RingHashFunction, use_hostname: bool) -> LbPolicy {
    LbPolicy::RingHash {
        minimum_size,
        maximum_size: 8 << 20,
        function,
        use_hostname,
    }
}

fn maglev(table_size: u64, use_hostname: bool) -> LbPolicy {
    LbPolicy::Maglev {
        table_size,
        use_hostname,
    }
}

fn endpoints(hosts: &[SocketAddr], weights: &[u32]) -> Vec<Endpoint> {
    let endpoint = |(at, host): (usize, &SocketAddr)| Endpoint {
        weight: weights.get(at).copied().unwrap_or(1),
        hostname: format!("node-{at}.redis"),
        ..ip(*host)
    };
    hosts.iter().enumerate().map(endpoint).collect()
}

fn variants(hosts: &[SocketAddr]) -> Vec<Variant> {
    let even = || localities(vec![locality(endpoints(hosts, &[]))]);
    let weighted = || localities(vec![locality(endpoints(hosts, &[1, 7, 3, 2, 13]))]);
    let zone = |zone: &str, weight, hosts: &[SocketAddr]| Locality {
        zone: zone.into(),
        weight,
        ..locality(endpoints(hosts, &[2, 1]))
    };
    let zones = || {
        localities(vec![
            zone("c", 5, &hosts[..2]),
            zone("a", 3, &hosts[2..4]),
            zone("b", 1, &hosts[4..]),
        ])
    };
    let failing = || {
        let mut first = locality(endpoints(&hosts[..3], &[]));
        first.endpoints[0].health = Health::Unhealthy;
        first.endpoints[1].health = Health::Unhealthy;
        localities(vec![
            first,
            Locality {
                priority: 1,
                ..locality(endpoints(&hosts[3..], &[]))
            },
        ])
    };
    let panicking = || {
        let mut all = locality(endpoints(hosts, &[]));
        all.endpoints
            .iter_mut()
            .take(3)
            .for_each(|endpoint| endpoint.health = Health::Unhealthy);
        localities(vec![all])
    };
    let variant = |name, policy, assignment| Variant {
        name,
        policy,
        assignment,
        hashtags: false,
        locality_weighted: false,
        panic_threshold: 5000,
    };
    let xx = RingHashFunction::XxHash;
    vec![
        variant("ring", ring(1024, xx, false), even()),
        Variant {
            hashtags: true,
            ..variant("ring_tags", ring(1024, xx, false), even())
        },
        variant("ring_weighted", ring(1024, xx, false), weighted()),
        variant("ring_small", ring(13, xx, false), weighted()),
        variant("ring_large", ring(20_011, xx, false), weighted()),
        variant(
            "ring_murmur",
            ring(1024, RingHashFunction::MurmurHash2, false),
            weighted(),
        ),
        variant("ring_names", ring(1024, xx, true), weighted()),
        Variant {
            locality_weighted: true,
            ..variant("ring_zones", ring(1024, xx, false), zones())
        },
        variant("ring_failing", ring(1024, xx, false), failing()),
        variant("ring_panic", ring(1024, xx, false), panicking()),
        Variant {
            panic_threshold: 0,
            ..variant("ring_no_panic", ring(1024, xx, false), panicking())
        },
        variant("maglev", maglev(65537, false), even()),
        Variant {
            hashtags: true,
            ..variant("maglev_tags", maglev(65537, false), even())
        },
        variant("maglev_weighted", maglev(65537, false), weighted()),
        variant("maglev_small", maglev(251, false), weighted()),
        variant("maglev_names", maglev(65537, true), weighted()),
        Variant {
            locality_weighted: true,
            ..variant("maglev_zones", maglev(65537, false), zones())
        },
        variant("maglev_failing", maglev(65537, false), failing()),
    ]
}

/// Keys of many shapes: short, long, tagged, with empty and open braces, and not UTF-8.
fn keys() -> Vec<Vec<u8>> {
    let key = |i: usize| match i % 8 {
        0 => format!("key:{i}").into_bytes(),
        1 => format!("user:{{{}}}:{i}", i % 50).into_bytes(),
        2 => format!("{i}").into_bytes(),
        3 => format!("{{}}{i}").into_bytes(),
        4 => format!("open{{{i}").into_bytes(),
        5 => format!("{}{i}", "long".repeat(i % 40)).into_bytes(),
        6 => [&[0xff, 0x00, 0x0d, 0x0a][..], &i.to_be_bytes()].concat(),
        _ => format!("a{{b}}{{{i}}}").into_bytes(),
    };
    (0..KEYS).map(key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ring_hash_and_maglev_choose_as_envoy_does() {
    let mut servers = Vec::new();
    for index in 0..5 {
        let reply = format!("$1\r\n{index}\r\n").into_bytes();
        servers.push(Scripted::start(move |_| reply.clone()).await);
    }
    let hosts: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let variants = variants(&hosts);
    let ports = ports(variants.len());
    let _envoy = Envoy::start(&bootstrap(&variants, &ports), &ports).await;
    let keys = keys();
    for (variant, port) in variants.iter().zip(&ports) {
        let theirs = through(*port, &keys).await;
        let ours = chosen(variant, &keys, &hosts);
        let wrong = (0..KEYS).filter(|at| theirs[*at] != ours[*at]).count();
        assert_eq!(
            wrong, 0,
            "{}: {wrong} of {KEYS} keys go to another host",
            variant.name
        );
        let used = (0..5).filter(|host| theirs.contains(host)).count();
        assert!(
            used > 1,
            "{}: all keys went to one host, which proves nothing",
            variant.name
        );
    }
}

/// The server that each key reaches through Envoy.
async fn through(port: u16, keys: &[Vec<u8>]) -> Vec<usize> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut found = Vec::new();
    for batch in keys.chunks(500) {
        let mut bytes = Vec::new();
        batch.iter().for_each(|key| request(&mut bytes, &[b"GET", key]));
        stream.write_all(&bytes).await.unwrap();
        let (mut input, mut replies) = (Vec::new(), 0);
        while replies < batch.len() {
            assert!(
                stream.read_buf(&mut input).await.unwrap() > 0,
                "Envoy closed the connection"
            );
            while let Some((reply, used)) = decode(&input).unwrap() {
                input.drain(..used);
                let text = String::from_utf8_lossy(reply.text().unwrap_or_default()).into_owned();
                found.push(text.parse().unwrap_or_else(|_| panic!("Envoy answers {reply:?}")));
                replies += 1;
            }
        }
    }
    found
}

/// The server that each key reaches through us.
fn chosen(variant: &Variant, keys: &[Vec<u8>], hosts: &[SocketAddr]) -> Vec<usize> {
    let mut config = config(
        variant.name,
        Discovery::Fixed(variant.assignment.clone()),
        variant.policy,
    );
    config.common_lb = CommonLb {
        panic_threshold: variant.panic_threshold,
        locality_weighted: variant.locality_weighted,
    };
    let cluster = start(config);
    let topology = cluster.topology();
    let choose = |key: &Vec<u8>| {
        let hashed = if variant.hashtags { hash_tag(key) } else { key };
        let at = topology.by_hash(murmur2(hashed), 0).unwrap();
        hosts
            .iter()
            .position(|host| topology.hosts[at].address.ip() == Some(*host))
            .unwrap()
    };
    keys.iter().map(choose).collect()
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn bootstrap(variants: &[Variant], ports: &[u16]) -> Value {
    let listeners: Vec<Value> = variants
        .iter()
        .zip(ports)
        .map(|(variant, port)| listener(variant, *port))
        .collect();
    let clusters: Vec<Value> = variants.iter().map(cluster).collect();
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}

fn listener(variant: &Variant, port: u16) -> Value {
    json!({
        "name": variant.name,
        "address": address(SocketAddr::from(([127, 0, 0, 1], port))),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.redis_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
                "stat_prefix": variant.name,
                "settings": {"op_timeout": "20s", "enable_hashtagging": variant.hashtags},
                "prefix_routes": {"catch_all_route": {"cluster": variant.name}},
            },
        }]}],
    })
}

fn cluster(variant: &Variant) -> Value {
    let mut cluster = json!({
        "name": variant.name,
        // Envoy hashes host names of DNS clusters only; addresses are literals all the same.
        "type": if by_name(variant.policy) { "STRICT_DNS" } else { "STATIC" },
        "load_assignment": {
            "cluster_name": variant.name,
            "endpoints": variant.assignment.localities.iter().map(locality_json).collect::<Vec<_>>(),
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": f64::from(variant.panic_threshold) / 100.0}},
    });
    if variant.locality_weighted {
        cluster["common_lb_config"]["locality_weighted_lb_config"] = json!({});
    }
    let mut consistent = |use_hostname: bool| {
        cluster["common_lb_config"]["consistent_hashing_lb_config"] =
            json!({"use_hostname_for_hashing": use_hostname});
    };
    match variant.policy {
        LbPolicy::RingHash {
            minimum_size,
            function,
            use_hostname,
            ..
        } => {
            consistent(use_hostname);
            let function = if function == RingHashFunction::XxHash {
                "XX_HASH"
            } else {
                "MURMUR_HASH_2"
            };
            cluster["lb_policy"] = json!("RING_HASH");
            cluster["ring_hash_lb_config"] =
                json!({"minimum_ring_size": minimum_size, "hash_function": function});
        }
        LbPolicy::Maglev {
            table_size,
            use_hostname,
        } => {
            consistent(use_hostname);
            cluster["lb_policy"] = json!("MAGLEV");
            cluster["maglev_lb_config"] = json!({"table_size": table_size});
        }
        other => panic!("{other:?} does not hash"),
    }
    cluster
}

fn by_name(policy: LbPolicy) -> bool {
    matches!(
        policy,
        LbPolicy::RingHash {
            use_hostname: true,
            ..
        } | LbPolicy::Maglev {
            use_hostname: true,
            ..
        }
    )
}

fn locality_json(locality: &Locality) -> Value {
    let endpoint = |endpoint: &Endpoint| {
        let redplane_config::Address::Ip(socket) = endpoint.address else {
            panic!("not an address")
        };
        json!({
            "endpoint": {"address": address(socket), "hostname": endpoint.hostname},
            "load_balancing_weight": endpoint.weight,
            "health_status": if endpoint.health == Health::Unhealthy { "UNHEALTHY" } else { "HEALTHY" },
        })
    };
    json!({
        "locality": {"zone": locality.zone},
        "load_balancing_weight": locality.weight,
        "priority": locality.priority,
        "lb_endpoints": locality.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
