//! What stands before the first byte flows: clusters with hosts that nobody listens on, and a published configuration.
//!
//! Slot maps come through the real discovery from a scripted server, which is then stopped, so that topologies change
//! only when a test stores another one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redplane_config::cluster::{
    Cluster as Config, CommonLb, Discovery, DnsFamily, LbPolicy, RedisAuth, RedisCluster, RingHashFunction,
    Transport,
};
use redplane_config::endpoint::{Assignment, Endpoint, Health, Locality};
use redplane_config::listener::{ChainMatch, Direction, FilterChain, Listener, Terminal};
use redplane_config::redis_proxy::{Protocol, ReadPolicy, RedisProxy, Route, Routes, Settings};
use redplane_config::{Address, Ignored};
use redplane_proxy::Opened;
use redplane_telemetry::Registry;
use redplane_telemetry::access_log::{Files, Options};
use redplane_upstream::{Cluster, Context, Dns, Topology};
use redplane_world::{Preparer, Snapshot, Store};

/// First slot, last slot, primary, replicas.
pub(crate) type Row = (u16, u16, SocketAddr, Vec<SocketAddr>);

pub(crate) const LISTENER: &str = "redis";
/// The id of its only chain.
const CHAIN: &str = "any";

/// The address of a model node; no real server has it.
pub(crate) fn at(node: u8) -> SocketAddr {
    SocketAddr::from(([127, 77, 0, node], 7000))
}

/// The slots spread evenly over nodes 1 to `shards`.
pub(crate) fn even(shards: u8) -> Vec<Row> {
    let step = 16384 / u16::from(shards);
    (0..shards)
        .map(|shard| {
            let first = u16::from(shard) * step;
            let last = if shard + 1 == shards {
                16383
            } else {
                first + step - 1
            };
            (first, last, at(shard + 1), Vec::new())
        })
        .collect()
}

pub(crate) struct Ground {
    pub(crate) registry: Registry,
    pub(crate) store: Arc<Store>,
    context: Context,
    preparer: Mutex<Preparer>,
    _runtime: tokio::runtime::Runtime,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let registry = Registry::new();
        let context = {
            let _entered = runtime.enter();
            Context::new(registry.clone(), Dns::system(), "")
        };
        let files = Arc::new(Files::new(registry.clone(), Options::default()));
        Self {
            preparer: Mutex::new(Preparer::new(
                registry.clone(),
                files,
                redplane_upstream::tls::secrets::Secrets::default(),
                redplane_world::Routes::default(),
            )),
            registry,
            store: Arc::new(Store::new()),
            context,
            _runtime: runtime,
        }
    }

    /// Three shards, one listener, everything at its defaults.
    pub(crate) fn three_shards() -> (Self, Arc<Cluster>) {
        let ground = Self::new();
        let (cluster, _) = ground.slots("c", &[even(3)]);
        ground.publish(&[&cluster], &proxy("c"));
        (ground, cluster)
    }

    /// Hosts by address, keys by hash.
    pub(crate) fn hashed(&self, name: &str, hosts: &[SocketAddr]) -> Arc<Cluster> {
        self.hashed_but(name, hosts, None)
    }

    /// The same with one host that is ill.
    pub(crate) fn hashed_but(
        &self,
        name: &str,
        hosts: &[SocketAddr],
        ill: Option<SocketAddr>,
    ) -> Arc<Cluster> {
        let policy = LbPolicy::RingHash {
            minimum_size: 64,
            maximum_size: 1024,
            function: RingHashFunction::XxHash,
            use_hostname: false,
        };
        let mut hosts = assignment(hosts);
        for endpoint in &mut hosts.localities[0].endpoints {
            if ill.is_some_and(|ill| endpoint.address == Address::Ip(ill)) {
                endpoint.health = Health::Unhealthy;
            }
        }
        let config = config(name, Discovery::Fixed(hosts), policy);
        redplane_discovery::start(Arc::new(config), &self.context).unwrap()
    }

    /// A Redis Cluster and its topology in each layout; the first one is in force.
    pub(crate) fn slots(&self, name: &str, layouts: &[Vec<Row>]) -> (Arc<Cluster>, Vec<Arc<Topology>>) {
        self.slots_with(name, layouts, |_| {})
    }

    pub(crate) fn slots_with(
        &self,
        name: &str,
        layouts: &[Vec<Row>],
        adjust: impl FnOnce(&mut Config),
    ) -> (Arc<Cluster>, Vec<Arc<Topology>>) {
        let replies: Vec<Vec<u8>> = layouts.iter().map(|rows| slots_reply(rows)).collect();
        let current = Arc::new(AtomicUsize::new(0));
        let seed = script(Arc::new(Mutex::new(replies)), Arc::clone(&current));
        let settings = RedisCluster {
            seeds: assignment(&[seed]),
            family: DnsFamily::V4Only,
            refresh_rate: Duration::from_millis(2),
            refresh_timeout: Duration::from_secs(2),
            redirect_refresh_interval: Duration::from_millis(1),
            redirect_refresh_threshold: 0,
            failure_refresh_threshold: 0,
            host_degraded_refresh_threshold: 0,
            enable_zone_discovery: false,
        };
        let mut config = config(name, Discovery::Redis(settings), LbPolicy::ClusterProvided);
        adjust(&mut config);
        let cluster = redplane_discovery::start(Arc::new(config), &self.context).unwrap();
        let mut topologies = Vec::new();
        for (layout, rows) in layouts.iter().enumerate() {
            current.store(layout, SeqCst);
            topologies.push(topology_like(&cluster, rows));
        }
        cluster.stop();
        cluster.republish(topologies[0].clone());
        (cluster, topologies)
    }

    /// Publishes clusters and one listener with one chain.
    pub(crate) fn publish(&self, clusters: &[&Arc<Cluster>], proxy: &RedisProxy) {
        let before = self.store.load_full();
        let mut snapshot = Snapshot::empty(before.version + 1);
        for cluster in clusters {
            snapshot
                .clusters
                .insert_mut(cluster.name().to_owned(), Arc::clone(cluster));
        }
        let serving = before.listener(LISTENER).map(|listener| &**listener);
        let mut preparer = self.preparer.lock().unwrap();
        let prepared = preparer.prepare(Arc::new(listener(proxy)), serving).unwrap();
        snapshot.put_listener(Arc::new(prepared));
        self.store.publish(Arc::new(snapshot));
    }

    /// A counter or gauge by its whole name.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        self.registry.value(name).unwrap_or(0)
    }
}

fn topology_like(cluster: &Cluster, rows: &[Row]) -> Arc<Topology> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let topology = Arc::clone(&cluster.topology());
        let same = topology.slots().is_some_and(|map| {
            rows.iter().all(|(first, last, primary, replicas)| {
                [first, last].iter().all(|slot| {
                    map.shard_of(**slot).is_some_and(|shard| {
                        let shard = &map.shards[shard];
                        topology.hosts[shard.primary].address.ip() == Some(*primary)
                            && shard.replicas.len() == replicas.len()
                    })
                })
            }) && map.served()
                == rows
                    .iter()
                    .map(|row| usize::from(row.1 - row.0) + 1)
                    .sum::<usize>()
        });
        if same {
            return topology;
        }
        assert!(Instant::now() < end, "the layout was not taken over");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn slots_reply(rows: &[Row]) -> Vec<u8> {
    let node = |address: &SocketAddr| {
        let (ip, port) = (address.ip().to_string(), address.port());
        let id = format!("{:0>40}", format!("{ip}x{port}").replace('.', "a"));
        format!(
            "*3\r\n${}\r\n{ip}\r\n:{port}\r\n${}\r\n{id}\r\n",
            ip.len(),
            id.len()
        )
    };
    let mut reply = format!("*{}\r\n", rows.len());
    for (first, last, primary, replicas) in rows {
        reply += &format!(
            "*{}\r\n:{first}\r\n:{last}\r\n{}",
            3 + replicas.len(),
            node(primary)
        );
        replicas.iter().for_each(|replica| reply += &node(replica));
    }
    reply.into_bytes()
}

/// A server that knows CLUSTER SLOTS and nothing else.
fn script(replies: Arc<Mutex<Vec<Vec<u8>>>>, current: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (replies, current) = (Arc::clone(&replies), Arc::clone(&current));
            std::thread::spawn(move || answer(stream, &replies, &current));
        }
    });
    address
}

fn answer(mut stream: TcpStream, replies: &Mutex<Vec<Vec<u8>>>, current: &AtomicUsize) {
    let mut input = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        input.extend_from_slice(&chunk[..count]);
        let mut output = Vec::new();
        while let Ok(Some((command, used))) = redplane_resp::value::decode(&input) {
            let words = command.elements().unwrap_or_default();
            let slots = words.get(1).and_then(|word| word.text()) == Some(b"SLOTS");
            match slots {
                true => output.extend_from_slice(&replies.lock().unwrap()[current.load(SeqCst)]),
                false => output.extend_from_slice(b"-ERR unknown subcommand\r\n"),
            }
            input.drain(..used);
        }
        if stream.write_all(&output).is_err() {
            return;
        }
    }
}

fn assignment(hosts: &[SocketAddr]) -> Assignment {
    let endpoint = |address: &SocketAddr| Endpoint {
        address: Address::Ip(*address),
        hostname: String::new(),
        weight: 1,
        health: Health::Healthy,
        socket_match: Vec::new(),
        workload: None,
    };
    Assignment {
        cluster: "test".into(),
        localities: vec![Locality {
            weight: 1,
            endpoints: hosts.iter().map(endpoint).collect(),
            ..Locality::default()
        }],
        overprovisioning_factor: 140,
    }
}

fn config(name: &str, discovery: Discovery, lb_policy: LbPolicy) -> Config {
    Config {
        client_logins: true,
        name: name.to_owned(),
        stat_name: name.to_owned(),
        discovery,
        lb_policy,
        connect_timeout: Duration::from_millis(500),
        transport: Transport::RawBuffer,
        transport_matches: Vec::new(),
        redis_auth: RedisAuth::default(),
        common_lb: CommonLb {
            panic_threshold: 5000,
            locality_weighted: false,
        },
        keepalive: None,
        source_address: None,
        http2: false,
        http: redplane_config::http::HttpCluster::default(),
        http2_keepalive: None,
        max_connections: 1024,
        breakers: redplane_config::cluster::Breakers::default(),
        outlier: None,
        ignored: Ignored::default(),
    }
}

/// `ConnPoolSettings` as the tests want them.
pub(crate) fn settings() -> Settings {
    Settings {
        op_timeout: Duration::from_secs(1),
        enable_hashtagging: true,
        enable_redirection: true,
        max_buffer_size_before_flush: 0,
        buffer_flush_timeout: Duration::from_millis(3),
        max_upstream_unknown_connections: 100,
        read_policy: ReadPolicy::Master,
        enable_command_stats: true,
        connection_rate_limit: None,
        dns_cache: None,
    }
}

/// A filter whose keys all go to one cluster.
pub(crate) fn proxy(cluster: &str) -> RedisProxy {
    RedisProxy {
        stat_prefix: "p".into(),
        settings: Arc::new(settings()),
        routes: Routes {
            catch_all: Some(route(cluster)),
            ..Routes::default()
        },
        latency_in_micros: true,
        auth: None,
        faults: Vec::new(),
        custom_commands: Vec::new(),
        protocol: Protocol::Resp2,
    }
}

pub(crate) fn route(cluster: &str) -> Route {
    Route {
        cluster: cluster.into(),
        ..Route::default()
    }
}

fn listener(proxy: &RedisProxy) -> Listener {
    let chain = FilterChain {
        id: CHAIN.into(),
        name: String::new(),
        matches: ChainMatch::default(),
        tls: None,
        handshake_timeout: Duration::ZERO,
        filters: Vec::new(),
        terminal: Terminal::Redis(Arc::new(proxy.clone())),
    };
    Listener {
        name: LISTENER.into(),
        addresses: Vec::new(),
        bind_to_port: true,
        hands_off: false,
        direction: Direction::Unspecified,
        chains: vec![Arc::new(chain)],
        default_chain: None,
        filters: Vec::new(),
        listener_filters_timeout: Duration::from_secs(15),
        continue_on_listener_filters_timeout: false,
        reuse_port: true,
        transparent: false,
        backlog: None,
        stat_name: LISTENER.into(),
        access_log: Vec::new(),
        ignored: Ignored::default(),
    }
}

/// A client of the one listener.
pub(crate) fn opened(store: &Store) -> Opened {
    let world = store.load();
    let listener = world.listener(LISTENER).expect("the listener is there");
    let chain = listener.chain(CHAIN).unwrap();
    Opened {
        life: chain.life.number,
        proxy: Arc::clone(chain.redis().unwrap()),
        draining: false,
        fd: 9,
        listener: Arc::from(LISTENER),
        chain: Arc::from(CHAIN),
        remote: Some(SocketAddr::from(([10, 0, 0, 1], 4000))),
        local: Some(SocketAddr::from(([10, 0, 0, 2], 6379))),
    }
}
