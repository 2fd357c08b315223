//! One host of a cluster: where it is, how it is reached, how it does.
//!
//! A host keeps its `id`, its counters and its health for as long as its cluster knows its address, across topologies
//! and when weight, zone or priority change; workers key their connections by `id`. A host whose transport changes is
//! a new one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use rustls::pki_types::ServerName;

pub use redplane_config::endpoint::Health;

use crate::outlier::Record;
use crate::tls::client::TlsClient;

/// Where a host can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostAddress {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix socket; `@name` is abstract.
    Pipe(PathBuf),
}

impl HostAddress {
    /// The socket address, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Pipe(_) => None,
        }
    }
}

impl std::fmt::Display for HostAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Pipe(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a node of a Redis Cluster is; other hosts have no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves the slots of its shard.
    Primary,
    /// Copies a primary.
    Replica,
}

/// How bytes travel to a host.
#[derive(Clone)]
pub enum Transport {
    /// Plain text.
    Plain,
    /// TLS, with the name the host is asked for (an IP address sends no SNI).
    Tls(Arc<TlsClient>, ServerName<'static>),
    /// Cannot be used, and why.
    Inert(String),
}

impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain, Self::Plain) => true,
            (Self::Tls(a, name_a), Self::Tls(b, name_b)) => Arc::ptr_eq(a, b) && name_a == name_b,
            (Self::Inert(a), Self::Inert(b)) => a == b,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain => f.write_str("Plain"),
            Self::Tls(_, name) => write!(f, "Tls({})", name.to_str()),
            Self::Inert(reason) => write!(f, "Inert({reason})"),
        }
    }
}

/// Counters of one host, as `/clusters` shows them. Workers add to them once a turn.
#[derive(Debug, Default)]
pub struct HostStats {
    /// Connections made.
    pub cx_total: AtomicU64,
    /// Connections open.
    pub cx_active: AtomicU64,
    /// Connections that could not be made.
    pub cx_connect_fail: AtomicU64,
    /// Requests sent.
    pub rq_total: AtomicU64,
    /// Requests without an answer yet.
    pub rq_active: AtomicU64,
    /// Requests that failed.
    pub rq_error: AtomicU64,
    /// Requests that were answered.
    pub rq_success: AtomicU64,
    /// Requests that took too long.
    pub rq_timeout: AtomicU64,
}

/// What is known of a host's health, from two sides that must not overwrite each other.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// As EDS or the Redis Cluster tells.
    told: AtomicU8,
    /// As seen from here: connections, health checks, outliers.
    seen: AtomicU8,
    /// Why it was seen like that.
    pub(crate) outlier: Record,
}

/// Region, zone and sub-zone; empty parts are not known. The zone stands in [`Host::zone`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Region.
    pub region: String,
    /// Sub-zone.
    pub sub_zone: String,
}

/// One host. Immutable but for counters and health.
#[derive(Debug)]
pub struct Host {
    /// Unique in the process, never used again for another host.
    pub id: u64,
    /// Where it can be reached.
    pub address: HostAddress,
    /// Its name, if it has one.
    pub hostname: String,
    /// Availability zone; empty if not known.
    pub zone: String,
    /// The rest of its locality.
    pub region: Region,
    /// At least 1.
    pub weight: u32,
    /// 0 is the highest.
    pub priority: u32,
    /// How bytes travel to it.
    pub transport: Transport,
    /// Istio's workload metadata (`workload;namespace;name;revision;cluster`), if the endpoint has it.
    pub workload: Option<String>,
    /// Metadata that chose its transport.
    pub socket_match: Vec<(String, String)>,
    /// Counters.
    pub stats: Arc<HostStats>,
    pub(crate) condition: Arc<Condition>,
}

impl Host {
    /// The worse of what the control plane tells and what was seen here.
    pub fn health(&self) -> Health {
        let told = self.condition.told.load(Relaxed);
        let seen = self.condition.seen.load(Relaxed);
        match told.max(seen) {
            0 => Health::Healthy,
            1 => Health::Degraded,
            2 => Health::Draining,
            _ => Health::Unhealthy,
        }
    }

    /// Sets what was seen from here; what the control plane tells stays as it is. Clusters that balance by health take
    /// it up with the next [`Signal::Degraded`](crate::Signal).
    pub fn set_health(&self, health: Health) {
        self.condition.seen.store(rank(health), Relaxed);
    }

    /// Sets what EDS or the Redis Cluster tells; says whether that is new.
    pub fn told(&self, health: Health) -> bool {
        self.condition.told.swap(rank(health), Relaxed) != rank(health)
    }
}

/// Worse is higher.
fn rank(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::Draining => 2,
        Health::Unhealthy => 3,
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What is said of a host before it becomes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Where it can be reached.
    pub address: HostAddress,
    /// Its name, if it has one.
    pub hostname: String,
    /// Availability zone; empty if not known.
    pub zone: String,
    /// The rest of its locality.
    pub region: Region,
    /// At least 1; 0 counts as 1.
    pub weight: u32,
    /// 0 is the highest.
    pub priority: u32,
    /// How bytes travel to it.
    pub transport: Transport,
    /// Istio's workload metadata, if the endpoint has it.
    pub workload: Option<String>,
    /// Metadata that chose its transport.
    pub socket_match: Vec<(String, String)>,
}

impl Draft {
    /// A host of weight 1 without a locality.
    pub fn plain(address: HostAddress, hostname: String, transport: Transport) -> Self {
        Self {
            address,
            hostname,
            zone: String::new(),
            region: Region::default(),
            weight: 1,
            priority: 0,
            transport,
            workload: None,
            socket_match: Vec::new(),
        }
    }

    /// The description of a host.
    pub fn of(host: &Host) -> Self {
        Self {
            address: host.address.clone(),
            hostname: host.hostname.clone(),
            zone: host.zone.clone(),
            region: host.region.clone(),
            weight: host.weight,
            priority: host.priority,
            transport: host.transport.clone(),
            workload: host.workload.clone(),
            socket_match: host.socket_match.clone(),
        }
    }

    /// A host that was never seen before.
    pub fn fresh(self) -> Arc<Host> {
        let id = NEXT_ID.fetch_add(1, Relaxed);
        self.with(id, Arc::default(), Arc::default())
    }

    /// The same host under a new description: the old object if nothing changed, else one that goes on with the old
    /// identity, or with a new one when bytes travel in another way.
    pub(crate) fn after(self, old: &Arc<Host>) -> Arc<Host> {
        if self.describes(old) {
            return Arc::clone(old);
        }
        if self.transport != old.transport {
            return self.fresh();
        }
        self.with(old.id, Arc::clone(&old.stats), Arc::clone(&old.condition))
    }

    fn with(self, id: u64, stats: Arc<HostStats>, condition: Arc<Condition>) -> Arc<Host> {
        Arc::new(Host {
            id,
            address: self.address,
            hostname: self.hostname,
            zone: self.zone,
            region: self.region,
            weight: self.weight.max(1),
            priority: self.priority,
            transport: self.transport,
            workload: self.workload,
            socket_match: self.socket_match,
            stats,
            condition,
        })
    }

    fn describes(&self, host: &Host) -> bool {
        self.address == host.address
            && self.hostname == host.hostname
            && self.zone == host.zone
            && self.region == host.region
            && self.weight.max(1) == host.weight
            && self.priority == host.priority
            && self.transport == host.transport
            && self.workload == host.workload
            && self.socket_match == host.socket_match
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(weight: u32) -> Draft {
        let address = HostAddress::Ip("10.0.0.1:6379".parse().unwrap());
        Draft {
            weight,
            ..Draft::plain(address, String::new(), Transport::Plain)
        }
    }

    #[test]
    fn identity_outlives_a_new_weight_but_not_a_new_transport() {
        let first = draft(1).fresh();
        first.stats.rq_total.store(7, Relaxed);
        let same = draft(1).after(&first);
        assert!(Arc::ptr_eq(&first, &same));
        let heavier = draft(5).after(&first);
        assert_eq!(
            (heavier.id, heavier.weight, heavier.stats.rq_total.load(Relaxed)),
            (first.id, 5, 7)
        );
        let inert = Draft {
            transport: Transport::Inert("no".into()),
            ..draft(1)
        }
        .after(&first);
        assert_ne!(inert.id, first.id);
    }

    #[test]
    fn the_worse_side_counts() {
        let host = draft(1).fresh();
        assert_eq!(host.health(), Health::Healthy);
        assert!(host.told(Health::Degraded));
        assert!(!host.told(Health::Degraded));
        host.set_health(Health::Unhealthy);
        assert_eq!(host.health(), Health::Unhealthy);
        host.set_health(Health::Healthy);
        assert_eq!(host.health(), Health::Degraded);
    }
}
