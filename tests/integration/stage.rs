//! What the tests share: texts of bootstraps and worlds, a control plane in the background, redplane in front of it.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use redplane_control::{Address, Event, Events, Options, Server, World, type_url};
use redplane_testkit::{Client, Proxy, ProxyKind, free_port, until};
use tokio::runtime::{Builder, Runtime};

/// Longer than any condition takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn redplane() -> ProxyKind {
    ProxyKind::Redplane(PathBuf::from(env!("CARGO_BIN_EXE_redplane")))
}

/// An address on the loopback.
pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A client of one of redplane's listeners, once it listens.
pub(crate) fn client(port: u16) -> Client {
    until("the listener", PATIENCE, || listens(port));
    Client::connect(local(port)).expect("it listens")
}

pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect(local(port)).is_ok()
}

/// The reply to one command line, as text.
pub(crate) fn ask(client: &mut Client, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let reply = client
        .command(&words)
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    reply.text().unwrap_or_else(|| format!("{reply:?}"))
}

/// Waits until new connections get this reply: a listener may be there before its cluster's endpoints are.
pub(crate) fn until_answered(port: u16, line: &str, reply: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    until(&format!("{reply} for {line}"), PATIENCE, || {
        let answer = client(port).command(&words);
        answer.is_ok_and(|answer| answer.text().as_deref() == Some(reply))
    });
}

/// `admin:` of a bootstrap.
pub(crate) fn admin(port: u16) -> String {
    format!("admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n")
}

/// `address: …` of something at a port.
pub(crate) fn at(port: u16) -> String {
    format!("address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}")
}

/// A static cluster of one host.
pub(crate) fn static_cluster(name: &str, port: u16) -> String {
    format!(
        "{{name: {name}, type: STATIC, connect_timeout: 1s, load_assignment: {{cluster_name: {name}, endpoints: \
         [{{lb_endpoints: [{{endpoint: {{{}}}}}]}}]}}}}",
        at(port)
    )
}

/// A listener that hands every connection to a cluster.
pub(crate) fn tcp_listener(name: &str, port: u16, cluster: &str) -> String {
    format!(
        "{{name: {name}, {}, filter_chains: [{{filters: [{{name: tcp, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: {name}, cluster: \
         {cluster}}}}}]}}]}}",
        at(port)
    )
}

/// A listener that speaks Redis.
pub(crate) fn redis_listener(name: &str, port: u16, cluster: &str) -> String {
    format!(
        "{{name: {name}, {}, filter_chains: [{{filters: [{{name: redis, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy, stat_prefix: {name}, \
         settings: {{op_timeout: 5s}}, prefix_routes: {{catch_all_route: {{cluster: {cluster}}}}}}}}}]}}]}}",
        at(port)
    )
}

/// `static_resources:` of a bootstrap.
pub(crate) fn static_resources(listeners: &[String], clusters: &[String]) -> String {
    let list = |items: &[String]| items.join(", ");
    format!(
        "static_resources: {{listeners: [{}], clusters: [{}]}}\n",
        list(listeners),
        list(clusters)
    )
}

/// A Kubernetes service with one endpoint, at 127.0.0.1.
pub(crate) fn service(name: &str, port: u16, target: u16) -> String {
    format!(
        "---\nkind: Service\nmetadata: {{name: {name}, namespace: db}}\nspec: {{clusterIP: 127.0.0.1, ports: \
         [{{name: tcp, port: {port}}}]}}\n---\nkind: Endpoints\nmetadata: {{name: {name}, namespace: db}}\nsubsets: \
         [{{addresses: [{{ip: 127.0.0.1}}], ports: [{{name: tcp, port: {target}}}]}}]\n"
    )
}

/// The name that a service's cluster gets.
pub(crate) fn cluster_of(name: &str, port: u16) -> String {
    format!("outbound|{port}||{name}.db.svc.cluster.local")
}

/// An EnvoyFilter of one patch.
pub(crate) fn envoy_filter(name: &str, patch: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: {name}, namespace: \
         istio-system}}\nspec: {{configPatches: [{patch}]}}\n"
    )
}

/// Puts redis_proxy in place of a service's tcp_proxy.
pub(crate) fn redis_proxy(port: u16, cluster: &str, settings: &str) -> String {
    envoy_filter(
        &format!("proxy-{port}"),
        &format!(
            "{{applyTo: NETWORK_FILTER, match: {{listener: {{name: 127.0.0.1_{port}, filterChain: {{filter: {{name: \
             envoy.filters.network.tcp_proxy}}}}}}}}, patch: {{operation: REPLACE, value: {{name: envoy.redis_proxy, \
             typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy, stat_prefix: \
             r{port}, settings: {{op_timeout: 5s, {settings}}}, prefix_routes: {{catch_all_route: {{cluster: \
             \"{cluster}\"}}}}}}}}}}}}"
        ),
    )
}

/// Adds an `envoy.clusters.redis`; the policy is a parameter because all but CLUSTER_PROVIDED are refused.
pub(crate) fn redis_cluster(name: &str, lb_policy: &str, seeds: &[u16], connect_timeout: &str) -> String {
    let mut hosts = String::new();
    for (i, seed) in seeds.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(hosts, "{comma}{{endpoint: {{{}}}}}", at(*seed)).expect("a String takes everything");
    }
    envoy_filter(
        name,
        &format!(
            "{{applyTo: CLUSTER, patch: {{operation: INSERT_FIRST, value: {{name: {name}, connect_timeout: \
             {connect_timeout}, lb_policy: {lb_policy}, load_assignment: {{cluster_name: {name}, endpoints: \
             [{{lb_endpoints: [{hosts}]}}]}}, cluster_type: {{name: envoy.clusters.redis, typed_config: {{\"@type\": \
             type.googleapis.com/google.protobuf.Struct, value: {{cluster_refresh_rate: 5s, cluster_refresh_timeout: \
             3s}}}}}}}}}}}}"
        ),
    )
}

/// Changes a field of one cluster.
pub(crate) fn merge_cluster(name: &str, port: u16, value: &str) -> String {
    envoy_filter(
        &format!("merge-{name}"),
        &format!(
            "{{applyTo: CLUSTER, match: {{cluster: {{service: {name}.db.svc.cluster.local, portNumber: {port}}}}}, \
             patch: {{operation: MERGE, value: {{{value}}}}}}}"
        ),
    )
}

pub(crate) fn world(texts: &[String]) -> World {
    let text = texts.concat();
    World::from_text(&text, &Options::default()).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

/// How redplane asks the control plane.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Api {
    Delta,
    Sotw,
}

/// A bootstrap that knows nothing but its control plane.
pub(crate) fn ads_bootstrap(control: &Address, api: Api, admin_port: u16) -> String {
    let api = match api {
        Api::Delta => "DELTA_GRPC",
        Api::Sotw => "GRPC",
    };
    let address = match control {
        Address::Tcp(address) => at(address.port()),
        Address::Unix(path) => format!("address: {{pipe: {{path: {}}}}}", path.display()),
    };
    format!(
        "node: {{id: sidecar~127.0.0.1~app.db~db.svc.cluster.local, cluster: app}}\n{}\
         dynamic_resources:\n  \
         ads_config: {{api_type: {api}, transport_api_version: V3, set_node_on_first_message_only: true, \
         grpc_services: [{{envoy_grpc: {{cluster_name: xds-grpc}}}}]}}\n  \
         cds_config: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}\n  \
         lds_config: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}\n\
         static_resources:\n  clusters:\n  - {{name: xds-grpc, type: STATIC, connect_timeout: 1s, \
         http2_protocol_options: {{}}, load_assignment: {{cluster_name: xds-grpc, endpoints: [{{lb_endpoints: \
         [{{endpoint: {{{address}}}}}]}}]}}}}\n",
        admin(admin_port)
    )
}

/// A control plane, and redplane in front of it.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) address: Address,
    server: Option<Server>,
    events: Events,
    runtime: Runtime,
}

impl Stage {
    /// Serves a world over TCP in delta form and waits until redplane is ready.
    pub(crate) fn new(texts: &[String]) -> Self {
        Self::over(&Address::Tcp(local(0)), Api::Delta, texts, &[])
    }

    /// Serves a world and waits until redplane is ready.
    pub(crate) fn over(address: &Address, api: Api, texts: &[String], flags: &[&str]) -> Self {
        Self::with(address, texts, flags, |control, admin_port| {
            ads_bootstrap(control, api, admin_port)
        })
    }

    /// Serves a world to a redplane with this bootstrap, and waits until it is ready.
    pub(crate) fn with(
        address: &Address,
        texts: &[String],
        flags: &[&str],
        bootstrap: impl FnOnce(&Address, u16) -> String,
    ) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        let server = runtime
            .block_on(Server::bind(address, world(texts)))
            .expect("it binds");
        let events = server.events();
        let admin_port = free_port();
        let text = bootstrap(server.address(), admin_port);
        let proxy = Proxy::start_without_waiting(&redplane(), &text, admin_port, flags).wait_until_ready();
        Self {
            proxy,
            address: server.address().clone(),
            server: Some(server),
            events,
            runtime,
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the control plane is there")
    }

    /// Pushes a world and says what redplane answers to its clusters: `Err` is the text of the NACK.
    pub(crate) fn push_clusters(&mut self, texts: &[String]) -> Result<(), String> {
        let version = self.server().publish(world(texts));
        self.answer(type_url::CLUSTER, &version)
    }

    /// Pushes a world and says what redplane answers to its listeners.
    pub(crate) fn push_listeners(&mut self, texts: &[String]) -> Result<(), String> {
        let version = self.server().publish(world(texts));
        self.answer(type_url::LISTENER, &version)
    }

    /// Pushes a world and does not wait.
    pub(crate) fn push(&self, texts: &[String]) {
        self.server().publish(world(texts));
    }

    fn answer(&mut self, type_url: &str, version: &str) -> Result<(), String> {
        let answer = self.events.answer(type_url, version);
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        let log = self.proxy.process().output();
        let answer = answer.unwrap_or_else(|_| panic!("no answer about {type_url} {version}\n{log}"));
        answer.expect("the control plane is there")
    }

    /// Takes the control plane away.
    pub(crate) fn stop_control(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }

    /// Brings it back where it was, with a world, and waits until redplane has connected.
    pub(crate) fn start_control(&mut self, texts: &[String]) {
        let server = self.runtime.block_on(Server::bind(&self.address, world(texts)));
        let server = server.expect("the address is free again");
        self.events = server.events();
        self.server = Some(server);
        let connected = self
            .events
            .until(|event| matches!(event, Event::Connected { .. }));
        let connected = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, connected).await });
        connected.expect("redplane connects again");
    }

    /// A counter or gauge; 0 when it is not there.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        self.proxy.stat(name).unwrap_or(0)
    }
}
