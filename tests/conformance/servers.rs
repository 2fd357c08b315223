//! The servers of the conformance cases: what each leg talks to in each topology.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use redplane_testkit::case::{Case, Leg};
use redplane_testkit::{Client, Cluster, Proxy, ProxyKind, Redis, RedisConfig, free_port};

const BOOTSTRAP: &str = include_str!("bootstrap.yaml");
const TOPOLOGIES: [&str; 7] = ["cluster", "single", "auth", "user", "prefix", "folded", "faults"];

/// Everything that runs while the cases run.
pub(crate) struct Servers {
    /// Judges for the `redis` leg.
    plain: Redis,
    with_password: Redis,
    with_user: Redis,
    /// Servers behind the proxies.
    cluster: Cluster,
    single: Redis,
    behind_auth: Redis,
    proxies: BTreeMap<Leg, (Proxy, BTreeMap<&'static str, u16>)>,
    /// The version of the Redis servers, for `since` and `until`.
    pub(crate) version: Vec<u32>,
}

impl Servers {
    /// Starts everything. Without a redplane that serves, its leg is left out.
    pub(crate) fn start(redplane: Option<ProxyKind>) -> Self {
        let password = |text: &str| RedisConfig {
            password: Some(text.to_owned()),
            ..RedisConfig::default()
        };
        let users = ["default off", "usr on >p1 ~* &* +@all"]
            .map(str::to_owned)
            .to_vec();
        let plain = Redis::plain();
        let version = plain.info("redis_version").expect("a server knows its version");
        let mut servers = Self {
            plain,
            with_password: Redis::start(password("p1")),
            with_user: Redis::start(RedisConfig {
                users,
                ..RedisConfig::default()
            }),
            cluster: Cluster::three_and_three(),
            single: Redis::plain(),
            behind_auth: Redis::start(password("upstream")),
            proxies: BTreeMap::new(),
            version: version.split('.').filter_map(|part| part.parse().ok()).collect(),
        };
        servers.start_proxy(Leg::Envoy, &ProxyKind::Envoy);
        if let Some(kind) = redplane {
            servers.start_proxy(Leg::Redplane, &kind);
        }
        servers
    }

    /// Whether this leg is there at all.
    pub(crate) fn has(&self, leg: Leg) -> bool {
        matches!(leg, Leg::Redis | Leg::Node) || self.proxies.contains_key(&leg)
    }

    /// Empties what lies behind a leg, runs the case's setup there, and connects.
    pub(crate) fn prepare(&self, case: &Case, leg: Leg) -> Result<Client, String> {
        let on_cluster = leg == Leg::Node || (case.topology == "cluster" && leg != Leg::Redis);
        if on_cluster {
            self.cluster.flush();
        } else {
            let server = self.server_behind(case, leg);
            server.run("FLUSHALL");
            server.run("SCRIPT FLUSH");
        }
        for words in &case.setup {
            let reply = if on_cluster {
                self.cluster.command(words)
            } else {
                self.server_behind(case, leg).command(words)
            };
            if reply.is_error() {
                return Err(format!("setup: {reply}"));
            }
        }
        self.connect(case, leg)
    }

    /// One more connection to a leg.
    pub(crate) fn connect(&self, case: &Case, leg: Leg) -> Result<Client, String> {
        let address = self.address(case, leg)?;
        Client::connect(address).map_err(|e| format!("connecting to {address}: {e}"))
    }

    /// The end of a proxy's log, when the proxy has died under a case.
    pub(crate) fn obituary(&mut self, leg: Leg) -> Option<String> {
        self.proxies.get_mut(&leg)?.0.process_mut().ended()
    }

    fn server_behind(&self, case: &Case, leg: Leg) -> &Redis {
        match (case.topology.as_str(), leg) {
            ("auth", Leg::Redis) => &self.with_password,
            ("user", Leg::Redis) => &self.with_user,
            (_, Leg::Redis) => &self.plain,
            ("auth" | "user", _) => &self.behind_auth,
            _ => &self.single,
        }
    }

    fn address(&self, case: &Case, leg: Leg) -> Result<SocketAddr, String> {
        match leg {
            Leg::Redis => Ok(self.server_behind(case, leg).addr()),
            Leg::Node => Ok(self.cluster.masters()[0].addr()),
            Leg::Envoy | Leg::Redplane => {
                let ports = &self.proxies[&leg].1;
                let port = ports.get(case.topology.as_str());
                let port = port.ok_or_else(|| format!("there is no topology {}", case.topology))?;
                Ok((Ipv4Addr::LOCALHOST, *port).into())
            }
        }
    }

    fn start_proxy(&mut self, leg: Leg, kind: &ProxyKind) {
        let ports: BTreeMap<&'static str, u16> = TOPOLOGIES.iter().map(|name| (*name, free_port())).collect();
        let admin = free_port();
        let mut text = BOOTSTRAP.to_owned();
        let mut put = |name: &str, port: u16| text = text.replace(&format!("${{{name}}}"), &port.to_string());
        put("ADMIN", admin);
        put("REDIS_CLUSTER", self.cluster.nodes()[0].port());
        put("REDIS_SINGLE", self.single.port());
        put("REDIS_WITH_PASSWORD", self.behind_auth.port());
        put("DEAD", free_port());
        for (name, port) in &ports {
            put(&format!("LISTEN_{}", name.to_uppercase()), *port);
        }
        self.proxies
            .insert(leg, (Proxy::start(kind, &text, admin), ports));
    }
}
