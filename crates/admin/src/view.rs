//! What is shown, as plain data. Names are those of `envoy.admin.v3`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// One cluster of `/clusters`.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Its name.
    pub name: String,
    /// `alt_stat_name`, or its name.
    pub observability_name: String,
    /// Came over CDS.
    pub added_via_api: bool,
    /// The name under which EDS was asked, when it differs from the name.
    pub eds_service_name: Option<String>,
    /// Circuit breakers of the default priority.
    pub default_priority: Thresholds,
    /// Circuit breakers of the high priority.
    pub high_priority: Thresholds,
    /// The hosts, those that a Redis Cluster named included.
    pub hosts: Vec<HostView>,
}

/// Circuit breaker limits.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Connections.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests.
    pub max_requests: u32,
    /// Retries.
    pub max_retries: u32,
}

impl Default for Thresholds {
    /// Envoy's defaults.
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
        }
    }
}

/// An address as Envoy tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IP and port.
    Socket(SocketAddr),
    /// A Unix socket.
    Pipe(String),
}

/// One host of a cluster.
#[derive(Clone, Debug)]
pub struct HostView {
    /// Where it is.
    pub address: Address,
    /// Its name, empty when it has none.
    pub hostname: String,
    /// Its counters and gauges.
    pub stats: HostStats,
    /// Why it is not healthy, if so.
    pub health: HealthFlags,
    /// Load balancing weight.
    pub weight: u32,
    /// Where it stands.
    pub locality: Locality,
    /// A canary.
    pub canary: bool,
    /// Priority, 0 is the highest.
    pub priority: u32,
    /// What it is in its Redis Cluster; `None` outside of one.
    pub redis: Option<RedisHostView>,
}

/// A host's numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostStats {
    /// Open connections.
    pub cx_active: u64,
    /// Connections that could not be made.
    pub cx_connect_fail: u64,
    /// Connections made.
    pub cx_total: u64,
    /// Requests under way.
    pub rq_active: u64,
    /// Requests without an answer, or with a bad one.
    pub rq_error: u64,
    /// Requests that wait for a connection.
    pub rq_pending_active: u64,
    /// Requests that were answered.
    pub rq_success: u64,
    /// Requests that took too long.
    pub rq_timeout: u64,
    /// Requests sent.
    pub rq_total: u64,
}

/// Envoy's host health flags; none set is healthy.
#[derive(Clone, Copy, Debug, Default)]
pub struct HealthFlags {
    /// The active health check fails.
    pub failed_active_hc: bool,
    /// Ejected.
    pub failed_outlier_check: bool,
    /// The active health check says degraded.
    pub degraded_active_hc: bool,
    /// Gone from discovery, but still in use.
    pub pending_dynamic_removal: bool,
    /// Not checked yet.
    pub pending_active_hc: bool,
    /// The last active health check timed out.
    pub active_hc_timeout: bool,
    /// What EDS said.
    pub eds: EdsHealth,
}

/// `health_status` of an endpoint. `UNKNOWN` is told as healthy, as Envoy does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EdsHealth {
    /// `HEALTHY` or `UNKNOWN`
    #[default]
    Healthy,
    /// `UNHEALTHY` or `TIMEOUT`
    Unhealthy,
    /// `DEGRADED`
    Degraded,
    /// `DRAINING`
    Draining,
}

/// Where a host stands.
#[derive(Clone, Debug, Default)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Part of a zone.
    pub sub_zone: String,
}

/// A host's place in a Redis Cluster.
#[derive(Clone, Debug)]
pub struct RedisHostView {
    /// Its role.
    pub role: Role,
    /// The slots it serves, or whose primary it follows.
    pub slots: Vec<RangeInclusive<u16>>,
    /// The primary it follows.
    pub primary: Option<String>,
}

/// A node's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary.
    Replica,
    /// Not told by the topology.
    Unknown,
}

/// One listener of `/listeners`.
#[derive(Clone, Debug)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// Its addresses, the main one first, with the port that was really bound.
    pub addresses: Vec<Address>,
}

/// `server.state`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Serves.
    Live,
    /// Health checks are to fail.
    Draining,
    /// Waits for its first clusters.
    PreInitializing,
    /// Waits for its first listeners.
    Initializing,
}

impl ServerState {
    /// Envoy's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }
}

/// `/server_info`
#[derive(Clone, Debug)]
pub struct ServerView {
    /// `<revision>/<version>/Clean/RELEASE/<TLS library>`
    pub version: String,
    /// What `/ready` answers.
    pub state: ServerState,
    /// Since this process began.
    pub uptime: Duration,
    /// The flags, as `envoy.admin.v3.CommandLineOptions`.
    pub command_line_options: Value,
    /// The node, as JSON.
    pub node: Value,
}

/// The certificates of one TLS context.
#[derive(Clone, Debug, Default)]
pub struct TlsCertificates {
    /// Trusted CAs.
    pub ca_cert: Vec<CertificateFile>,
    /// Own certificates.
    pub cert_chain: Vec<CertificateFile>,
}

/// PEM text and where it came from.
#[derive(Clone, Debug)]
pub struct CertificateFile {
    /// The file, or `<inline>`.
    pub path: String,
    /// One or several certificates.
    pub pem: Vec<u8>,
    /// The moment to which days are counted.
    pub now: SystemTime,
}

/// `/runtime`
#[derive(Clone, Debug, Default)]
pub struct RuntimeView {
    /// The layers' names, the last one wins.
    pub layers: Vec<String>,
    /// The values of each key, one per layer, empty where a layer has none.
    pub entries: BTreeMap<String, Vec<String>>,
    /// Whether there is an `admin_layer` for `/runtime_modify`.
    pub admin_layer: bool,
}

/// `/init_dump`: one component and what it waits for.
#[derive(Clone, Debug)]
pub struct InitTargets {
    /// `init manager Server`, `init manager <listener>` …
    pub name: String,
    /// The targets that are not ready.
    pub targets: Vec<String>,
}

/// `/redis/waiting`
#[derive(Clone, Debug, Default)]
pub struct WaitingView {
    /// Those that have waited the longest, first.
    pub clients: Vec<WaitingClientView>,
    /// How many more there are.
    pub left_out: usize,
    /// Workers that were asked.
    pub workers: usize,
    /// Those of them that answered in time.
    pub answered: usize,
}

/// A Redis client that waits.
#[derive(Clone, Debug)]
pub struct WaitingClientView {
    /// Its worker's number.
    pub worker: usize,
    /// Its id, as in CLIENT LIST.
    pub id: u64,
    /// Where it comes from.
    pub address: String,
    /// Its listener.
    pub listener: String,
    /// Why nothing of its input is looked at.
    pub rests: Vec<&'static str>,
    /// Replies that it is owed.
    pub owed: usize,
    /// Bytes that wait for it.
    pub backlog: usize,
    /// The request whose reply is the next in its order.
    pub oldest: Option<OldestView>,
}

/// The request that everything behind it waits for.
#[derive(Clone, Debug)]
pub struct OldestView {
    /// Its command.
    pub command: String,
    /// Milliseconds since it was first sent.
    pub age_ms: u64,
    /// How often it was sent.
    pub attempt: u32,
    /// Where it waits, in words.
    pub place: String,
    /// The cluster, where it waits at a server.
    pub cluster: Option<String>,
    /// The server, where it waits at one.
    pub host: Option<String>,
    /// The connection's number within its worker.
    pub connection: Option<u32>,
}
