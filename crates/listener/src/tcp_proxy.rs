//! The tcp_proxy filter: one upstream connection for a downstream one, bytes both ways until both are done.
//!
//! The cluster is looked up, in the world that the connection was accepted under, when it starts, and kept to its end. Envoy: `source/common/tcp_proxy`, TCP proxy
//! statistics.

mod dial;
mod relay;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redplane_config::listener::NetworkFilter;
use redplane_config::tcp_proxy::{TcpProxy, WeightedCluster};
use redplane_telemetry::Block;
use redplane_telemetry::access_log::ResponseFlags;
use redplane_telemetry::stats::{cluster as cluster_names, tcp as names};
use redplane_world::Snapshot;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::session::Session;
use crate::worker::Worker;
use dial::{Dialled, Failure};
use relay::{Moved, Relay};

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    world: Arc<Snapshot>,
    filter: &TcpProxy,
    downstream: impl AsyncRead + AsyncWrite + Unpin,
    mut session: Session,
) {
    let Some(stats) = session
        .chain()
        .and_then(|chain| chain.tcp.clone())
        .map(|scope| worker.block(&scope))
    else {
        return;
    };
    stats.inc(names::DOWNSTREAM_CX_TOTAL);
    // Measured from the start of the connection, the time to connect included.
    let end = filter.max_connection_duration.map(|limit| Instant::now() + limit);
    let named = by_server_name(&session).map(str::to_owned);
    let name = match &named {
        Some(name) => name,
        None => pick(&filter.clusters, fastrand::u64(..)),
    };
    let cluster = world.cluster(name).cloned();
    // Its part is played; a connection may live longer than many worlds.
    drop(world);
    let attempts = filter.max_connect_attempts;
    let dialled = match dial::dial(&worker, cluster, attempts, &mut session).await {
        Ok(dialled) => dialled,
        Err(failure) => return refuse(failure, &stats, &mut session),
    };
    session.upstream.local = dialled.stream.local_address();
    relay(
        &worker,
        filter,
        (downstream, dialled),
        (&stats, end),
        &mut session,
    )
    .await;
}

/// The server name, where the chain has the sni_cluster filter and the client named one. Envoy: `SniClusterFilter`.
fn by_server_name(session: &Session) -> Option<&str> {
    let filters = &session.chain()?.config.filters;
    let name = session.facts.server_name.as_deref();
    name.filter(|_| filters.contains(&NetworkFilter::SniCluster))
}

/// The cluster that a number falls to, by weight.
fn pick(clusters: &[WeightedCluster], random: u64) -> &str {
    let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    let mut left = random % sum.max(1);
    for cluster in clusters {
        let weight = u64::from(cluster.weight);
        if left < weight {
            return &cluster.cluster;
        }
        left -= weight;
    }
    ""
}

fn refuse(failure: Failure, stats: &Block, session: &mut Session) {
    let flags = match failure {
        Failure::NoCluster => {
            stats.inc(names::DOWNSTREAM_CX_NO_ROUTE);
            ResponseFlags::NO_CLUSTER_FOUND
        }
        Failure::NoHost => ResponseFlags::NO_HEALTHY_UPSTREAM,
        Failure::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
        Failure::Attempts => {
            ResponseFlags::UPSTREAM_CONNECTION_FAILURE.with(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED)
        }
    };
    session.flags = session.flags.with(flags);
}

/// Why a relay ended before both sides were done.
enum Stop {
    Idle,
    Duration,
}

async fn relay(
    worker: &Worker,
    filter: &TcpProxy,
    (mut downstream, mut dialled): (impl AsyncRead + AsyncWrite + Unpin, Dialled),
    (stats, end): (&Block, Option<Instant>),
    session: &mut Session,
) {
    let clock = Clock::new(filter.idle_timeout, end);
    let upstream_stats = Rc::clone(&dialled.stats);
    let mut counting = Counting {
        tcp: stats,
        cluster: &upstream_stats,
        session,
        clock: &clock,
    };
    let mut relay = Relay::new(&worker.scratch);
    let result = tokio::select! {
        biased;
        result = relay.run(&mut downstream, &mut dialled.stream, |moved| counting.add(moved)) => result.map(|()| None),
        stop = clock.stop() => Ok(Some(stop)),
    };
    match result {
        Ok(None) => {}
        Ok(Some(Stop::Idle)) => {
            stats.inc(names::IDLE_TIMEOUT);
            upstream_stats.inc(cluster_names::UPSTREAM_CX_IDLE_TIMEOUT);
            session.detail("tcp_session_idle_timeout".to_owned());
        }
        Ok(Some(Stop::Duration)) => {
            stats.inc(names::MAX_DOWNSTREAM_CONNECTION_DURATION);
            session.flags = session.flags.with(ResponseFlags::DURATION_TIMEOUT);
            session.detail("max_downstream_connection_duration_reached".to_owned());
        }
        Err(error) => session.detail(error.to_string()),
    }
    if relay.upstream_ended_first() {
        dialled.ended_by_host();
    }
}

/// Where moved bytes are counted.
struct Counting<'a> {
    tcp: &'a Block,
    cluster: &'a Block,
    session: &'a mut Session,
    clock: &'a Clock,
}

impl Counting<'_> {
    fn add(&mut self, moved: Moved) {
        self.clock.touch();
        match moved {
            Moved::Up(bytes) => {
                self.tcp.add(names::DOWNSTREAM_CX_RX_BYTES_TOTAL, bytes);
                self.cluster.add(cluster_names::UPSTREAM_CX_TX_BYTES_TOTAL, bytes);
                self.session.received += bytes;
            }
            Moved::Down(bytes) => {
                self.tcp.add(names::DOWNSTREAM_CX_TX_BYTES_TOTAL, bytes);
                self.cluster.add(cluster_names::UPSTREAM_CX_RX_BYTES_TOTAL, bytes);
                self.session.sent += bytes;
            }
        }
    }
}

/// The two limits of time.
struct Clock {
    idle: Option<Duration>,
    end: Option<Instant>,
    last: std::cell::Cell<Instant>,
}

impl Clock {
    fn new(idle: Option<Duration>, end: Option<Instant>) -> Self {
        Self {
            idle,
            end,
            last: std::cell::Cell::new(Instant::now()),
        }
    }

    /// Bytes have moved.
    fn touch(&self) {
        self.last.set(Instant::now());
    }

    /// Waits for the first limit that is reached. The timer is set anew only when it fires, not with every byte.
    async fn stop(&self) -> Stop {
        loop {
            let idle = self.idle.map(|idle| self.last.get() + idle);
            let Some(next) = idle.into_iter().chain(self.end).min() else {
                return std::future::pending().await;
            };
            tokio::time::sleep_until(next).await;
            let now = Instant::now();
            if self.end.is_some_and(|end| now >= end) {
                return Stop::Duration;
            }
            if self.idle.is_some_and(|idle| now >= self.last.get() + idle) {
                return Stop::Idle;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_share_the_numbers() {
        let cluster = |name: &str, weight| WeightedCluster {
            cluster: name.to_owned(),
            weight,
        };
        let clusters = [cluster("a", 1), cluster("b", 3)];
        let picked: Vec<&str> = (0..8).map(|random| pick(&clusters, random)).collect();
        assert_eq!(picked, ["a", "b", "b", "b", "a", "b", "b", "b"]);
        assert_eq!(pick(&[cluster("a", u32::MAX)], u64::MAX), "a");
    }
}
