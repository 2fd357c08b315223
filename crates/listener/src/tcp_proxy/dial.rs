//! The upstream side: which host, how often it is tried, and what a connection to it counts.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::{io, time::Duration};

use redplane_telemetry::Block;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Cluster, Host, Layout, Stream, connect, connect_to};
use tokio::time::Instant;

use crate::connection::Session;
use crate::worker::Worker;

/// Why there is no upstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The cluster is not known.
    NoCluster,
    /// It has no host that may be chosen.
    NoHost,
    /// No attempt succeeded.
    Attempts,
}

/// An upstream connection. Its gauges fall when it is dropped.
pub(super) struct Dialled {
    /// The connection.
    pub stream: Stream,
    /// The cluster's cells on this worker.
    pub stats: Rc<Block>,
    host: Option<Arc<Host>>,
    since: Instant,
    /// The host closed first.
    by_host: bool,
}

/// Who is dialled.
enum Target {
    Host(Arc<Host>),
    Address(SocketAddr),
}

/// Connects to a host of a cluster; each attempt chooses anew.
pub(super) async fn dial(
    worker: &Worker,
    cluster: &str,
    attempts: u32,
    session: &mut Session,
) -> Result<Dialled, Failure> {
    let cluster = worker.cluster(cluster).ok_or(Failure::NoCluster)?;
    session.upstream.cluster = Some((cluster.name().to_owned(), cluster.config().stat_name.clone()));
    let stats = worker.block(cluster.stats());
    for _ in 0..attempts.max(1) {
        let Some(target) = target(&cluster, session) else {
            stats.inc(names::UPSTREAM_CX_NONE_HEALTHY);
            return Err(Failure::NoHost);
        };
        session.upstream.host = Some(target.text());
        let begun = Instant::now();
        match target.connect(&cluster, &stats).await {
            Ok(stream) => {
                session.upstream.failure = None;
                return Ok(Dialled::new(stream, stats, target.host(), begun));
            }
            Err(error) => session.upstream.failure = Some(failure_text(&error)),
        }
    }
    stats.inc(names::UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED);
    Err(Failure::Attempts)
}

fn target(cluster: &Cluster, session: &Session) -> Option<Target> {
    let topology = cluster.topology();
    if matches!(topology.layout, Layout::OriginalDst) {
        // Without a restored destination the only address known is our own: dialling it would never end.
        return session
            .ends
            .local
            .filter(|_| session.restored)
            .map(Target::Address);
    }
    let random = fastrand::u64(..);
    let chosen = topology.by_hash(random, random);
    // A Redis cluster that is used as a plain one: any host will do.
    let any = || {
        topology
            .slots()
            .is_some()
            .then(|| random as usize % topology.hosts.len().max(1))
    };
    let host = topology.hosts.get(chosen.or_else(any)?)?;
    Some(Target::Host(Arc::clone(host)))
}

impl Target {
    fn text(&self) -> String {
        match self {
            Self::Host(host) => host.address.to_string(),
            Self::Address(address) => address.to_string(),
        }
    }

    fn host(self) -> Option<Arc<Host>> {
        match self {
            Self::Host(host) => Some(host),
            Self::Address(_) => None,
        }
    }

    async fn connect(&self, cluster: &Cluster, stats: &Block) -> io::Result<Stream> {
        let limit: Duration = cluster.config().connect_timeout;
        stats.inc(names::UPSTREAM_CX_TOTAL);
        stats.inc(names::UPSTREAM_RQ_TOTAL);
        let result = match self {
            Self::Host(host) => {
                host.stats.cx_total.fetch_add(1, Relaxed);
                host.stats.rq_total.fetch_add(1, Relaxed);
                connect(cluster, host, limit, None).await
            }
            Self::Address(address) => connect_to(cluster, *address, limit).await,
        };
        if let Err(error) = &result {
            stats.inc(names::UPSTREAM_CX_CONNECT_FAIL);
            stats.inc(names::UPSTREAM_RQ_PENDING_FAILURE_EJECT);
            if error.kind() == io::ErrorKind::TimedOut {
                stats.inc(names::UPSTREAM_CX_CONNECT_TIMEOUT);
            }
            if let Self::Host(host) = self {
                host.stats.cx_connect_fail.fetch_add(1, Relaxed);
                host.stats.rq_error.fetch_add(1, Relaxed);
            }
        }
        result
    }
}

/// Envoy's form of a connection failure.
fn failure_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "connection timeout".to_owned(),
        io::ErrorKind::InvalidData => format!("TLS_error: {error}"),
        _ => format!("delayed connect error: {error}"),
    }
}

impl Dialled {
    fn new(stream: Stream, stats: Rc<Block>, host: Option<Arc<Host>>, begun: Instant) -> Self {
        let since = Instant::now();
        stats.record(names::UPSTREAM_CX_CONNECT_MS, millis(since.duration_since(begun)));
        stats.inc(names::UPSTREAM_CX_ACTIVE);
        stats.inc(names::UPSTREAM_RQ_ACTIVE);
        if let Some(host) = &host {
            host.stats.cx_active.fetch_add(1, Relaxed);
            host.stats.rq_active.fetch_add(1, Relaxed);
        }
        Self {
            stream,
            stats,
            host,
            since,
            by_host: false,
        }
    }

    /// The host closed first; else this side did.
    pub(super) fn ended_by_host(&mut self) {
        self.by_host = true;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.stats.dec(names::UPSTREAM_CX_ACTIVE);
        self.stats.dec(names::UPSTREAM_RQ_ACTIVE);
        self.stats.inc(names::UPSTREAM_CX_DESTROY);
        self.stats.inc(if self.by_host {
            names::UPSTREAM_CX_DESTROY_REMOTE
        } else {
            names::UPSTREAM_CX_DESTROY_LOCAL
        });
        let length = millis(Instant::now().duration_since(self.since));
        self.stats.record(names::UPSTREAM_CX_LENGTH_MS, length);
        if let Some(host) = &self.host {
            host.stats.cx_active.fetch_sub(1, Relaxed);
            host.stats.rq_active.fetch_sub(1, Relaxed);
        }
    }
}
