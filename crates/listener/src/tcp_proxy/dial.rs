//! The upstream side: which host, how often it is tried, and what a connection to it counts.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::{io, time::Duration};

use redplane_telemetry::Block;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{
    Cluster, ConnectingSocket, Host, Layout, Permit, Stream, Transport, complete, socket_for, socket_to,
    transport_to,
};
use tokio::time::Instant;

use crate::hops::{self, Hop};
use crate::session::Session;
use crate::worker::Worker;

/// Why there is no upstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The cluster is not known.
    NoCluster,
    /// It has no host that may be chosen.
    NoHost,
    /// It has as many connections as its circuit breaker allows.
    Overflow,
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
    _permit: Permit,
    /// Known to the listeners of this process, should the connection come back to one of them.
    _hop: Hop,
    since: Instant,
    /// The host closed first.
    by_host: bool,
}

/// Who is dialled.
enum Target {
    Host(Arc<Host>),
    Address(SocketAddr),
}

/// Attempts where the configuration names none: a host that refuses does not take every other client along. Nothing has
/// been sent by then, so trying another one is safe. Envoy tries once.
const ATTEMPTS: u32 = 3;

/// Connects to a host of a cluster; each attempt takes one that was not tried yet, as long as there is one.
pub(super) async fn dial(
    worker: &Worker,
    cluster: Option<Arc<Cluster>>,
    attempts: Option<u32>,
    session: &mut Session,
) -> Result<Dialled, Failure> {
    let cluster = cluster.ok_or(Failure::NoCluster)?;
    session.upstream.cluster = Some((cluster.name().to_owned(), cluster.config().stat_name.clone()));
    let stats = worker.block(cluster.stats());
    let Some(permit) = cluster.admit() else {
        stats.inc(names::UPSTREAM_CX_OVERFLOW);
        return Err(Failure::Overflow);
    };
    let mut tried = Vec::new();
    for attempt in 0..attempts.unwrap_or(ATTEMPTS).max(1) {
        let Some(target) = target(&cluster, session, &tried, attempts.is_some()) else {
            if attempt > 0 {
                break;
            }
            stats.inc(names::UPSTREAM_CX_NONE_HEALTHY);
            return Err(Failure::NoHost);
        };
        session.upstream.host = Some(target.text());
        let begun = Instant::now();
        match target.connect(&cluster, &stats, session.facts.hops).await {
            Ok((stream, hop)) => {
                session.upstream.failure = None;
                let dialled = Dialled::new((stream, permit, hop), stats, target.host(), begun);
                return Ok(dialled);
            }
            Err(error) => session.upstream.failure = Some(failure_text(&error)),
        }
        match &target {
            Target::Host(host) => tried.push(host.id),
            Target::Address(_) if attempts.is_none() => break,
            Target::Address(_) => {}
        }
    }
    stats.inc(names::UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED);
    Err(Failure::Attempts)
}

/// Where to connect to: a host that was not tried yet, or, if `again`, one that was.
fn target(cluster: &Cluster, session: &Session, tried: &[u64], again: bool) -> Option<Target> {
    let topology = cluster.topology();
    if matches!(topology.layout, Layout::OriginalDst) {
        // Without a restored destination the only address known is our own: dialling it would never end.
        let facts = &session.facts;
        return facts.destination.filter(|_| facts.restored).map(Target::Address);
    }
    let is_new = |at: &usize| {
        let host = topology.hosts.get(*at);
        host.is_some_and(|host| !tried.contains(&host.id))
    };
    let random = fastrand::u64(..);
    let first = topology.by_hash(random, random);
    // A Redis cluster that is used as a plain one: any host will do.
    let any = || {
        topology
            .slots()
            .is_some()
            .then(|| random as usize % topology.hosts.len().max(1))
    };
    let first = first.or_else(any)?;
    let more = if tried.is_empty() { 0 } else { PICKS };
    let others = (0..more).filter_map(|_| topology.by_hash(fastrand::u64(..), fastrand::u64(..)));
    let fresh = std::iter::once(first).chain(others).find(is_new);
    let may_again = again || tried.is_empty();
    let at = fresh.or_else(|| may_again.then_some(first))?;
    topology.hosts.get(at).map(|host| Target::Host(Arc::clone(host)))
}

/// How often the balancer is asked for a host that was not tried yet.
const PICKS: usize = 16;

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

    async fn connect(&self, cluster: &Cluster, stats: &Block, hops: u8) -> io::Result<(Stream, Hop)> {
        let limit: Duration = cluster.config().connect_timeout;
        stats.inc(names::UPSTREAM_CX_TOTAL);
        stats.inc(names::UPSTREAM_RQ_TOTAL);
        let result = match self {
            Self::Host(host) => {
                host.stats.cx_total.fetch_add(1, Relaxed);
                host.stats.rq_total.fetch_add(1, Relaxed);
                let started = hops::start(hops, || socket_for(cluster, host));
                finish(cluster, started, &host.transport, limit).await
            }
            Self::Address(address) => {
                let transport = transport_to(cluster, *address);
                let started = hops::start(hops, || socket_to(cluster, *address));
                finish(cluster, started, &transport, limit).await
            }
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

async fn finish(
    cluster: &Cluster,
    started: io::Result<(ConnectingSocket, Hop)>,
    transport: &Transport,
    limit: Duration,
) -> io::Result<(Stream, Hop)> {
    let (socket, hop) = started?;
    Ok((complete(cluster, socket, transport, limit).await?, hop))
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
    fn new(
        (stream, permit, hop): (Stream, Permit, Hop),
        stats: Rc<Block>,
        host: Option<Arc<Host>>,
        begun: Instant,
    ) -> Self {
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
            _permit: permit,
            _hop: hop,
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
