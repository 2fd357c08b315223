//! Clients as people use them, unchanged: the tools that come with Redis, and libraries in several languages with their
//! own habits. Each runs against a plain Redis, which says what is right, and through redplane with a real cluster
//! behind it; the tools through real Envoy too, as far as it goes.

#[path = "clients/fred.rs"]
mod fred;
#[path = "clients/play.rs"]
mod play;
#[path = "clients/redis_rs.rs"]
mod redis_rs;
#[path = "clients/tools.rs"]
mod tools;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use play::Play;
use redplane_testkit::{Cluster, Proxy, ProxyKind, Redis, free_port};

/// A plain Redis, and redplane before a cluster.
struct Peers {
    plain: Redis,
    cluster: Cluster,
    proxy: Option<Proxy>,
    bootstrap: String,
    admin: u16,
    listen: u16,
}

fn redplane() -> ProxyKind {
    ProxyKind::Redplane(Path::new(env!("CARGO_BIN_EXE_redplane")).to_owned())
}

impl Peers {
    fn start() -> Self {
        let cluster = Cluster::three_and_three();
        let (admin, listen) = (free_port(), free_port());
        let bootstrap = bootstrap(&cluster, admin, listen);
        Self {
            plain: Redis::plain(),
            cluster,
            proxy: Some(Proxy::start(&redplane(), &bootstrap, admin)),
            bootstrap,
            admin,
            listen,
        }
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.listen).into()
    }

    /// redplane goes, and comes back at the same address.
    fn restart(&mut self) {
        self.proxy = None;
        self.proxy = Some(Proxy::start(&redplane(), &self.bootstrap, self.admin));
    }

    /// A master dies, and its replica takes over.
    fn failover(&mut self) {
        let dead = self.cluster.masters()[0].port();
        let replica = self.cluster.replica_of(dead);
        self.cluster.node_mut(dead).kill();
        self.cluster.wait_until_promoted(replica);
    }
}

fn bootstrap(cluster: &Cluster, admin: u16, listen: u16) -> String {
    BOOTSTRAP
        .replace("${ADMIN}", &admin.to_string())
        .replace("${LISTEN}", &listen.to_string())
        .replace("${SEED}", &cluster.nodes()[0].port().to_string())
}

const BOOTSTRAP: &str = r#"
admin: { address: { socket_address: { address: 127.0.0.1, port_value: ${ADMIN} } } }
static_resources:
  listeners:
  - name: redis
    address: { socket_address: { address: 127.0.0.1, port_value: ${LISTEN} } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: clients
          settings: { op_timeout: 5s, enable_redirection: true }
          prefix_routes: { catch_all_route: { cluster: redis } }
  clusters:
  - name: redis
    connect_timeout: 1s
    lb_policy: CLUSTER_PROVIDED
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${SEED} } } }
    cluster_type: { name: envoy.clusters.redis }
"#;

#[test]
fn redis_py_works_unchanged() {
    play::everywhere(&Play {
        name: "redis-py",
        command: |address| play::python("sync", address),
        plain: true,
    });
}

#[test]
fn redis_py_with_asyncio_works_unchanged() {
    play::everywhere(&Play {
        name: "redis-py asyncio",
        command: |address| play::python("async", address),
        plain: true,
    });
}

#[test]
fn the_cache_of_redis_py_works_unchanged() {
    play::everywhere(&Play {
        name: "redis-py with its cache",
        command: |address| play::python("cache", address),
        plain: true,
    });
}

#[test]
fn the_cluster_client_of_redis_py_works_through_the_proxy() {
    play::everywhere(&Play {
        name: "redis-py cluster",
        command: |address| play::python("cluster", address),
        plain: false,
    });
}

#[test]
fn node_redis_works_unchanged() {
    play::everywhere(&Play {
        name: "node-redis",
        command: |address| play::node("node_redis.mjs", address),
        plain: true,
    });
}

#[test]
fn ioredis_works_unchanged() {
    play::everywhere(&Play {
        name: "ioredis",
        command: |address| play::node("ioredis.mjs", address),
        plain: true,
    });
}

#[test]
fn go_redis_works_unchanged() {
    play::everywhere(&Play {
        name: "go-redis",
        command: play::go,
        plain: true,
    });
}

#[test]
fn jedis_works_unchanged() {
    play::everywhere(&Play {
        name: "Jedis",
        command: |address| play::java("JedisPlay", address),
        plain: true,
    });
}

#[test]
fn lettuce_works_unchanged() {
    play::everywhere(&Play {
        name: "Lettuce",
        command: |address| play::java("LettucePlay", address),
        plain: true,
    });
}
