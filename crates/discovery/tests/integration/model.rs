//! Configuration as the tests want it, and waiting for what should come true.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use redplane_config::cluster::{
    Cluster as Config, CommonLb, Discovery, DnsFamily, LbPolicy, RedisAuth, RedisCluster, Transport,
};
use redplane_config::endpoint::{Assignment, Endpoint, Health, Locality};
use redplane_config::tls::{ClientTls, Trust, Validation, Versions};
use redplane_config::{Address, Ignored};
use redplane_telemetry::Registry;
use redplane_upstream::{Cluster, Context, Dns};

pub(crate) fn context() -> Context {
    Context::new(Registry::new(), Dns::system(), "zone-a")
}

pub(crate) fn config(name: &str, discovery: Discovery, lb_policy: LbPolicy) -> Config {
    Config {
        client_logins: true,
        name: name.to_owned(),
        stat_name: name.to_owned(),
        discovery,
        lb_policy,
        connect_timeout: Duration::from_secs(2),
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

pub(crate) fn start(config: Config) -> Arc<Cluster> {
    redplane_discovery::start(Arc::new(config), &context()).unwrap()
}

pub(crate) fn endpoint(address: Address) -> Endpoint {
    Endpoint {
        address,
        hostname: String::new(),
        weight: 1,
        health: Health::Healthy,
        socket_match: Vec::new(),
        workload: None,
    }
}

pub(crate) fn ip(address: SocketAddr) -> Endpoint {
    endpoint(Address::Ip(address))
}

pub(crate) fn named(host: &str, port: u16) -> Endpoint {
    endpoint(Address::Name {
        host: host.to_owned(),
        port,
    })
}

pub(crate) fn locality(endpoints: Vec<Endpoint>) -> Locality {
    Locality {
        weight: 1,
        endpoints,
        ..Locality::default()
    }
}

pub(crate) fn assignment(endpoints: Vec<Endpoint>) -> Assignment {
    localities(vec![locality(endpoints)])
}

pub(crate) fn localities(localities: Vec<Locality>) -> Assignment {
    Assignment {
        cluster: "test".into(),
        localities,
        overprovisioning_factor: 140,
    }
}

/// A Redis cluster that refreshes every `refresh`.
pub(crate) fn redis(seeds: Vec<Endpoint>, refresh: Duration) -> Config {
    let settings = RedisCluster {
        seeds: assignment(seeds),
        family: DnsFamily::V4Only,
        refresh_rate: refresh,
        refresh_timeout: Duration::from_secs(2),
        redirect_refresh_interval: Duration::from_millis(100),
        redirect_refresh_threshold: 5,
        failure_refresh_threshold: 0,
        host_degraded_refresh_threshold: 0,
        enable_zone_discovery: false,
    };
    config("redis", Discovery::Redis(settings), LbPolicy::ClusterProvided)
}

pub(crate) fn tls(roots: Option<&str>) -> ClientTls {
    let validation = roots.map(|roots| {
        Trust::from(Arc::new(Validation {
            roots: roots.as_bytes().to_vec(),
            source: "<inline>".into(),
            system_roots: false,
            crl: Vec::new(),
            sans: Vec::new(),
            certificate_hashes: Vec::new(),
            spki_hashes: Vec::new(),
            accept_untrusted: false,
        }))
    });
    ClientTls {
        certificates: Vec::new(),
        validation,
        sni: String::new(),
        auto_host_sni: false,
        auto_sni_san_validation: false,
        alpn: Vec::new(),
        versions: Versions {
            tls12: true,
            tls13: true,
        },
    }
}

/// Waits until something holds, and fails when it does not in good time.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Free ports below those that the system gives away; the ports 10,000 above (a Redis Cluster's bus) are free as well.
/// No port is given twice.
pub(crate) fn ports(count: usize) -> Vec<u16> {
    static START: LazyLock<u16> = LazyLock::new(|| 11_000 + fastrand::u16(..8000));
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let candidates = std::iter::repeat_with(|| *START + NEXT.fetch_add(1, SeqCst));
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    candidates
        .filter(|port| free(*port) && free(port + 10_000))
        .take(count)
        .collect()
}
