//! An admin server with a small world behind it: the one that Envoy has after it read [`bootstrap`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redplane_admin::*;
use redplane_proto::{Any, Json};
use redplane_telemetry::Registry;
use redplane_telemetry::stats::{cds, listener_manager, server};
use redplane_testkit::{HttpReply, http_get, http_post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What can be changed while a server runs.
pub(crate) struct World {
    pub(crate) clusters: Vec<ClusterView>,
    pub(crate) config: DumpInput,
    pub(crate) state: ServerState,
    pub(crate) certificates: Vec<TlsCertificates>,
    pub(crate) runtime: RuntimeView,
    pub(crate) init: Vec<InitTargets>,
    pub(crate) levels: Vec<(&'static str, Level)>,
    pub(crate) actions: Vec<Action>,
}

pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) world: Arc<Mutex<World>>,
}

impl Admin {
    /// Starts a server on a thread of its own; it lives as long as the test process.
    pub(crate) fn start(world: World) -> Self {
        let registry = Registry::new();
        let world = Arc::new(Mutex::new(world));
        let (orders, mut received) = mpsc::channel::<Order>(4);
        let sources = sources(&registry, &world, orders);
        let (send_address, address) = std::sync::mpsc::channel();
        let served = Arc::clone(&world);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                send_address.send(listener.local_addr().unwrap()).unwrap();
                tokio::spawn(async move {
                    while let Some(order) = received.recv().await {
                        carry_out(&served, order);
                    }
                });
                serve(listener, Arc::new(sources)).await.unwrap();
            });
        });
        Self {
            address: address.recv().unwrap(),
            registry,
            world,
        }
    }

    pub(crate) fn get(&self, path: &str) -> HttpReply {
        http_get(self.address, path).unwrap()
    }

    pub(crate) fn post(&self, path: &str) -> HttpReply {
        http_post(self.address, path).unwrap()
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{}", reply.body);
        serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
    }
}

fn carry_out(world: &Mutex<World>, order: Order) {
    let mut world = world.lock().unwrap();
    match &order.action {
        Action::FailHealthCheck => world.state = ServerState::Draining,
        Action::PassHealthCheck => world.state = ServerState::Live,
        Action::ReopenLogs => return,
        _ => {}
    }
    world.actions.push(order.action);
    order.done.send(()).unwrap();
}

fn sources(registry: &Registry, world: &Arc<Mutex<World>>, orders: mpsc::Sender<Order>) -> Sources {
    fn look<T>(world: &Arc<Mutex<World>>, look: impl Fn(&World) -> T + Send + Sync + 'static) -> Source<T> {
        let world = Arc::clone(world);
        Box::new(move || look(&world.lock().unwrap()))
    }
    let server = registry.scope("server.", &server::SCHEMA).block();
    let levels = Arc::clone(world);
    Sources {
        registry: registry.clone(),
        refresh: Box::new(move || server.set(server::STATE, 0)),
        views: Views {
            clusters: look(world, |world| world.clusters.clone()),
            listeners: look(world, |_| listeners()),
            config: look(world, |world| world.config.clone()),
            server: look(world, |world| ServerView {
                version: "abc/0.1.0/Clean/RELEASE/rustls".to_owned(),
                state: world.state,
                uptime: Duration::from_secs(212),
                command_line_options: json!({"concurrency": 1}),
                node: json!({"id": "n1"}),
            }),
            certificates: look(world, |world| world.certificates.clone()),
            runtime: look(world, |world| world.runtime.clone()),
            init: look(world, |world| world.init.clone()),
            waiting: look(world, |_| waiting()),
        },
        levels: Levels::new(
            Level::Info,
            Box::new(move |changed| levels.lock().unwrap().levels = changed.to_vec()),
        ),
        allows: Box::new(|path| !path.starts_with("/certs?")),
        orders,
    }
}

/// One client that waits at a server.
fn waiting() -> WaitingView {
    let oldest = OldestView {
        command: "get".to_owned(),
        age_ms: 250,
        attempt: 2,
        place: "at 10.0.0.1:6379 of c, connection 7, 3 before it".to_owned(),
        cluster: Some("c".to_owned()),
        host: Some("10.0.0.1:6379".to_owned()),
        connection: Some(7),
    };
    let client = WaitingClientView {
        worker: 1,
        id: 42,
        address: "10.0.0.9:5000".to_owned(),
        listener: "redis".to_owned(),
        rests: vec!["upstream", "order"],
        owed: 5,
        backlog: 1000,
        oldest: Some(oldest),
    };
    WaitingView {
        clients: vec![client],
        left_out: 3,
        workers: 2,
        answered: 1,
    }
}

/// Moves the four stats that pilot-agent's readiness looks at.
pub(crate) fn make_ready(registry: &Registry) -> Vec<redplane_telemetry::Block> {
    let cds = registry.scope("cluster_manager.cds.", &cds::SCHEMA).block();
    let lds = registry.scope("listener_manager.lds.", &cds::SCHEMA).block();
    let manager = registry
        .scope("listener_manager.", &listener_manager::SCHEMA)
        .block();
    cds.inc(cds::UPDATE_SUCCESS);
    lds.inc(cds::UPDATE_SUCCESS);
    manager.set(listener_manager::WORKERS_STARTED, 1);
    vec![cds, lds, manager]
}

/// A world with nothing in it.
pub(crate) fn empty() -> World {
    World {
        clusters: Vec::new(),
        config: DumpInput::default(),
        state: ServerState::Live,
        certificates: Vec::new(),
        runtime: RuntimeView::default(),
        init: Vec::new(),
        levels: Vec::new(),
        actions: Vec::new(),
    }
}

/// The world of [`bootstrap`].
pub(crate) fn static_world(admin_port: u16) -> World {
    World {
        clusters: clusters(),
        config: config(admin_port),
        ..empty()
    }
}

pub(crate) const UPSTREAM_PORT: u16 = 28804;
const REDIS_PORT: u16 = 28812;

/// The bootstrap as JSON, which is also YAML.
pub(crate) fn bootstrap(admin_port: u16) -> Value {
    json!({
        "node": {"id": "n1", "cluster": "c1"},
        "admin": {"address": address("127.0.0.1", admin_port)},
        "static_resources": {"listeners": [listener()], "clusters": [cluster("redis;", json!({})), cluster("tcpc", json!({
            "locality": {"region": "r", "zone": "z", "sub_zone": "s"},
        }))]},
    })
}

fn address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn cluster(name: &str, endpoints: Value) -> Value {
    let mut endpoints = endpoints;
    endpoints["lb_endpoints"] =
        json!([{"endpoint": {"address": address("127.0.0.1", UPSTREAM_PORT), "hostname": "hn"}}]);
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "a", "endpoints": [endpoints]},
    })
}

fn listener() -> Value {
    json!({
        "name": "redis_l", "address": address("127.0.0.1", REDIS_PORT),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.redis_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
                "stat_prefix": "p",
                "settings": {"op_timeout": "1s", "enable_command_stats": true},
                "prefix_routes": {"catch_all_route": {"cluster": "redis;"}},
                "downstream_auth_passwords": [{"inline_string": "hidden"}],
            },
        }]}],
    })
}

fn listeners() -> Vec<ListenerView> {
    let address = Address::Socket((std::net::Ipv4Addr::LOCALHOST, REDIS_PORT).into());
    vec![ListenerView {
        name: "redis_l".to_owned(),
        addresses: vec![address],
    }]
}

pub(crate) fn host(port: u16) -> HostView {
    HostView {
        address: Address::Socket((std::net::Ipv4Addr::LOCALHOST, port).into()),
        hostname: "hn".to_owned(),
        stats: HostStats::default(),
        health: HealthFlags::default(),
        weight: 1,
        locality: Locality::default(),
        canary: false,
        priority: 0,
        redis: None,
    }
}

pub(crate) fn cluster_view(name: &str, hosts: Vec<HostView>) -> ClusterView {
    ClusterView {
        name: name.to_owned(),
        observability_name: name.to_owned(),
        added_via_api: false,
        eds_service_name: None,
        default_priority: Thresholds::default(),
        high_priority: Thresholds::default(),
        hosts,
    }
}

fn clusters() -> Vec<ClusterView> {
    let locality = Locality {
        region: "r".to_owned(),
        zone: "z".to_owned(),
        sub_zone: "s".to_owned(),
    };
    let placed = HostView {
        locality,
        ..host(UPSTREAM_PORT)
    };
    vec![
        cluster_view("redis;", vec![host(UPSTREAM_PORT)]),
        cluster_view("tcpc", vec![placed]),
    ]
}

pub(crate) fn any(url: &str, message: Value) -> Arc<Any> {
    let mut message = message;
    message["@type"] = Value::from(format!("type.googleapis.com/{url}"));
    Arc::new(Json::load().any(&message).unwrap())
}

pub(crate) fn moment() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_767_323_045_678)
}

pub(crate) fn version(url: &str, message: Value) -> ResourceVersion {
    ResourceVersion {
        resource: any(url, message),
        version_info: String::new(),
        last_updated: moment(),
    }
}

pub(crate) fn active(url: &str, message: Value) -> DynamicResource {
    let name = message["name"].as_str().unwrap_or_default().to_owned();
    DynamicResource {
        name,
        active: Some(version(url, message)),
        ..DynamicResource::default()
    }
}

pub(crate) const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
pub(crate) const LISTENER: &str = "envoy.config.listener.v3.Listener";

fn config(admin_port: u16) -> DumpInput {
    let bootstrap = bootstrap(admin_port);
    let fixed = |kind: &str, url: &str| {
        let list = bootstrap["static_resources"][kind].as_array().unwrap();
        let fixed = list.iter().map(|message| active(url, message.clone())).collect();
        Dumped {
            fixed,
            ..Dumped::default()
        }
    };
    DumpInput {
        clusters: fixed("clusters", CLUSTER),
        listeners: fixed("listeners", LISTENER),
        bootstrap: Some(version("envoy.config.bootstrap.v3.Bootstrap", bootstrap)),
        ..DumpInput::default()
    }
}
