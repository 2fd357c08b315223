//! Workers with clusters behind them, listeners from YAML, a driver that records what it got, and small peers.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redplane_config::cluster::Cluster as ClusterConfig;
use redplane_config::listener::Listener;
use redplane_listener::redis::{Closed, Command, Handle, OnClose, Stream, Whose};
use redplane_listener::{Context, MakeDriver, Workers};
use redplane_proto::{Json, yaml_value};
use redplane_telemetry::Registry;
use redplane_telemetry::access_log::{Files, Options};
use redplane_upstream::{Cluster, Dns};
use redplane_world::{Snapshot, Store};

/// How long a condition may take to come true.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// What the driver was handed, without what has to stay on the worker's thread.
pub(crate) struct Given {
    pub worker: usize,
    pub stream: Stream,
    pub tls: Option<Box<rustls::ServerConnection>>,
    pub listener: String,
    pub chain: String,
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
}

/// What reached the driver of some worker.
pub(crate) enum Told {
    Serve(Box<Given>),
    Drain(Whose, Duration),
}

/// A running house.
pub(crate) struct World {
    pub workers: Workers,
    pub registry: Registry,
    pub files: Arc<Files>,
    told: Mutex<Receiver<Told>>,
    store: Store,
    runtime: tokio::runtime::Runtime,
}

impl World {
    pub(crate) fn new(workers: usize) -> Self {
        let (sender, told) = channel();
        Self {
            told: Mutex::new(told),
            ..Self::with_driver(workers, |_, _| recorder(sender))
        }
    }

    /// With another driver than the one that records.
    pub(crate) fn with_driver(workers: usize, make: impl FnOnce(&Store, &Registry) -> MakeDriver) -> Self {
        let registry = Registry::new();
        let files = Arc::new(Files::new(registry.clone(), Options::default()));
        let store = Store::new();
        let context = Context {
            make_driver: make(&store, &registry),
            store: store.clone(),
            registry: registry.clone(),
            files: Arc::clone(&files),
        };
        Self {
            workers: Workers::start(workers, context).unwrap(),
            registry,
            files,
            told: Mutex::new(channel().1),
            store,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// Makes a cluster out of YAML known.
    pub(crate) fn cluster(&self, yaml: &str) -> Arc<Cluster> {
        let _inside = self.runtime.enter();
        let config = ClusterConfig::from_proto(&message(yaml)).unwrap();
        let context = redplane_upstream::Context::new(self.registry.clone(), Dns::system(), "");
        let cluster = redplane_discovery::start(Arc::new(config), &context).unwrap();
        self.publish(|next| {
            next.clusters
                .insert_mut(cluster.name().to_owned(), Arc::clone(&cluster));
        });
        cluster
    }

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = Snapshot::clone(&self.store.load_full());
        next.version += 1;
        change(&mut next);
        self.store.publish(Arc::new(next));
    }

    /// Brings a listener to life, as a push does; answers its addresses, or why it is refused.
    pub(crate) fn add(&self, listener: Arc<Listener>) -> Result<Vec<SocketAddr>, String> {
        self.add_draining(listener, LIMIT)
    }

    /// The same; connections that have to end may take so long.
    pub(crate) fn add_draining(
        &self,
        listener: Arc<Listener>,
        drain_time: Duration,
    ) -> Result<Vec<SocketAddr>, String> {
        let staged = self.workers.stage(Arc::clone(&listener))?;
        self.publish(|next| next.put_listener(staged));
        self.workers.announce(drain_time);
        Ok(self.workers.addresses(&listener.name))
    }

    /// Takes a listener away.
    pub(crate) fn remove(&self, name: &str, drain_time: Duration) {
        self.workers.remove(name, drain_time);
        self.publish(|next| drop(next.remove_listener(name)));
    }

    /// A plain STATIC cluster of these hosts.
    pub(crate) fn fixed(&self, name: &str, hosts: &[SocketAddr], more: &str) -> Arc<Cluster> {
        let endpoints: Vec<String> = hosts
            .iter()
            .map(|host| format!("{{endpoint: {}}}", socket_address(*host)))
            .collect();
        self.cluster(&format!(
            "{{name: {name}, type: STATIC, connect_timeout: 2s, load_assignment: {{cluster_name: {name}, \
             endpoints: [{{lb_endpoints: [{}]}}]}}{more}}}",
            endpoints.join(", ")
        ))
    }

    /// Adds a listener and answers its first address.
    #[track_caller]
    pub(crate) fn listen(&self, yaml: &str) -> SocketAddr {
        self.add(listener(yaml)).unwrap()[0]
    }

    /// What the driver gets next.
    #[track_caller]
    pub(crate) fn told(&self) -> Told {
        self.told
            .lock()
            .unwrap()
            .recv_timeout(LIMIT)
            .expect("the driver is told something")
    }

    /// The connection that the driver gets next.
    #[track_caller]
    pub(crate) fn given(&self) -> Given {
        match self.told() {
            Told::Serve(given) => *given,
            Told::Drain(whose, _) => panic!("drain of {whose:?}"),
        }
    }

    /// Waits until a stat has a value.
    #[track_caller]
    pub(crate) fn stat(&self, name: &str, value: u64) {
        let last = std::cell::Cell::new(None);
        let limit = std::time::Instant::now() + LIMIT;
        while last.get() != Some(value) {
            assert!(
                std::time::Instant::now() < limit,
                "{name} is {:?}, not {value}",
                last.get()
            );
            last.set(self.registry.value(name));
            std::thread::yield_now();
        }
    }
}

fn recorder(told: Sender<Told>) -> MakeDriver {
    let told = Mutex::new(told);
    Arc::new(move |worker| {
        let told = told.lock().unwrap().clone();
        type Ends = Vec<(Arc<str>, OnClose)>;
        let open: RefCell<Ends> = RefCell::default();
        Ok(Handle::new(move |command| match command {
            Command::Serve(accepted, on_close) => {
                let accepted = *accepted;
                open.borrow_mut().push((Arc::clone(&accepted.listener), on_close));
                let given = Given {
                    worker,
                    stream: accepted.stream,
                    tls: accepted.tls,
                    listener: accepted.listener.to_string(),
                    chain: accepted.chain.config.id.to_string(),
                    local: accepted.local,
                    remote: accepted.remote,
                };
                // The test may be over.
                let _ = told.send(Told::Serve(Box::new(given)));
            }
            Command::Drain { whose, grace } => {
                let all = open.take();
                let meant = |name: &str| matches!(&whose, Whose::Listener(listener) if listener == name);
                let (ended, left) = all.into_iter().partition(|(name, _)| meant(name));
                open.replace(left);
                let ended: Ends = ended;
                ended.into_iter().for_each(|(_, end)| {
                    end(Closed {
                        received: 27,
                        sent: 5,
                    });
                });
                let _ = told.send(Told::Drain(whose, grace));
            }
        }))
    })
}

/// The message that the YAML describes.
pub(crate) fn message<M: prost::Message + prost::Name + Default>(yaml: &str) -> M {
    static JSON: std::sync::OnceLock<Json> = std::sync::OnceLock::new();
    let json = JSON.get_or_init(Json::load);
    json.message(yaml_value(yaml).unwrap())
        .unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// A validated listener.
pub(crate) fn listener(yaml: &str) -> Arc<Listener> {
    Arc::new(Listener::from_proto(&message(yaml)).unwrap())
}

/// `address: {…}` of an IP address.
pub(crate) fn socket_address(at: SocketAddr) -> String {
    format!(
        "{{address: {{socket_address: {{address: '{}', port_value: {}}}}}}}",
        at.ip(),
        at.port()
    )
}

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.network";

/// A redis_proxy filter.
pub(crate) fn redis() -> String {
    format!(
        "{{name: redis, typed_config: {{'@type': {FILTERS}.redis_proxy.v3.RedisProxy, stat_prefix: r, \
         settings: {{op_timeout: 5s}}, prefix_routes: {{catch_all_route: {{cluster: c}}}}}}}}"
    )
}

/// A tcp_proxy filter with these fields.
pub(crate) fn tcp(fields: &str) -> String {
    format!(
        "{{name: tcp, typed_config: {{'@type': {FILTERS}.tcp_proxy.v3.TcpProxy, stat_prefix: t, {fields}}}}}"
    )
}

/// A listener on a port of the system's choice with one chain of one filter.
pub(crate) fn one_chain(name: &str, filter: &str, more: &str) -> String {
    format!(
        "{{name: {name}, stat_prefix: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, \
         filter_chains: [{{name: main, filters: [{filter}]}}]{more}}}"
    )
}

/// A client that gives up in time.
pub(crate) fn client(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// A server that answers every connection with what it gets, behind a name; a FIN is answered with one, after the word
/// `bye`.
pub(crate) fn echo(name: &'static str) -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            std::thread::spawn(move || talk(stream, name));
        }
    });
    at
}

pub(crate) fn talk(mut stream: impl Read + Write, name: &str) {
    let _ = stream.write_all(name.as_bytes());
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    let _ = stream.write_all(b"bye");
}

/// Reads so many bytes.
#[track_caller]
pub(crate) fn read(stream: &mut impl Read, length: usize) -> String {
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).unwrap();
    String::from_utf8(buffer).unwrap()
}

/// Reads to the end.
#[track_caller]
pub(crate) fn rest(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}
