//! A connection to a host: made, driven, and ended when it has been idle for too long or is too old.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use redplane_config::http::HttpCluster;
use redplane_config::http::options::HeaderNames;
use redplane_telemetry::Block;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Host, Stream, complete, connect_offering, socket_to, transport_to};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::room::Seat;
use super::{Place, Wanted};
use crate::executor::LocalExecutor;
use crate::feed::RequestBody;
use crate::load::Load;

/// Windows towards servers: Envoy's.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;
/// Streams of one connection where the cluster does not say.
const STREAMS: usize = 1024;
/// Heads of responses.
const HEADER_BYTES: usize = 60 * 1024;

/// What a connection's task and its leases share.
pub(super) struct Life {
    load: Load,
    requests: Cell<u32>,
    ended: Cell<bool>,
    /// It is not used any more, by our will.
    left: Cell<bool>,
    limit: Option<u32>,
    pub(super) local: Option<SocketAddr>,
    /// Streams that it may have at a time; the server may allow fewer, then the rest waits.
    pub(super) streams: usize,
    since: Instant,
    stats: Rc<Block>,
    host: Option<Arc<Host>>,
    seat: RefCell<Option<Seat>>,
}

/// A new HTTP/1 connection.
pub(super) async fn http1(
    wanted: &Wanted<'_>,
    seat: Seat,
) -> io::Result<(http1::SendRequest<RequestBody>, Rc<Life>)> {
    let config = &wanted.cluster.config().http;
    let stream = dial(wanted, b"http/1.1").await?;
    let life = Life::new(
        wanted,
        seat,
        stream.local_address(),
        names::UPSTREAM_CX_HTTP1_TOTAL,
    );
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(HEADER_BYTES)
        .title_case_headers(config.http1.names == HeaderNames::Proper)
        .preserve_header_case(config.http1.names == HeaderNames::Preserve);
    let (sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    drive(connection.with_upgrades(), Rc::clone(&life), config);
    Ok((sender, life))
}

/// A new HTTP/2 connection.
pub(super) async fn http2(
    wanted: &Wanted<'_>,
    seat: Seat,
) -> io::Result<(http2::SendRequest<RequestBody>, Rc<Life>)> {
    let config = &wanted.cluster.config().http;
    let options = &config.http2;
    let stream = dial(wanted, b"h2").await?;
    let life = Life::new(
        wanted,
        seat,
        stream.local_address(),
        names::UPSTREAM_CX_HTTP2_TOTAL,
    );
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(options.stream_window.unwrap_or(STREAM_WINDOW))
        .initial_connection_window_size(options.connection_window.unwrap_or(CONNECTION_WINDOW))
        .max_header_list_size(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(options.ping_interval);
    if let Some(timeout) = options.ping_timeout {
        builder.keep_alive_timeout(timeout);
    }
    let (sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    drive(connection, Rc::clone(&life), config);
    Ok((sender, life))
}

async fn dial(wanted: &Wanted<'_>, fallback: &[u8]) -> io::Result<Stream> {
    let (cluster, stats) = (wanted.cluster, wanted.stats);
    let limit = cluster.config().connect_timeout;
    stats.inc(names::UPSTREAM_CX_TOTAL);
    let begun = Instant::now();
    let result = match wanted.place {
        Place::Host(host) => {
            host.stats.cx_total.fetch_add(1, Relaxed);
            let offer = wanted.offer.as_deref();
            connect_offering(
                cluster,
                host,
                limit,
                (offer, &[fallback.to_vec()]),
                wanted.sni.as_deref(),
            )
            .await
        }
        Place::Address(address) => match socket_to(cluster, *address) {
            Ok(socket) => complete(cluster, socket, &transport_to(cluster, *address), limit).await,
            Err(error) => Err(error),
        },
    };
    match &result {
        Ok(_) => stats.record(
            names::UPSTREAM_CX_CONNECT_MS,
            millis(Instant::now().duration_since(begun)),
        ),
        Err(error) => {
            stats.inc(names::UPSTREAM_CX_CONNECT_FAIL);
            if error.kind() == io::ErrorKind::TimedOut {
                stats.inc(names::UPSTREAM_CX_CONNECT_TIMEOUT);
            }
            if let Place::Host(host) = wanted.place {
                host.stats.cx_connect_fail.fetch_add(1, Relaxed);
            }
        }
    }
    result
}

/// Drives a connection until it ends, or until it has to.
fn drive<F, E>(connection: F, life: Rc<Life>, config: &HttpCluster)
where
    F: Future<Output = Result<(), E>> + 'static,
    E: 'static,
{
    let (idle, age) = (config.idle_timeout, config.max_connection_duration);
    spawn_local(async move {
        let by_server = tokio::select! {
            biased;
            _ = connection => true,
            () = life.load.idle(idle) => {
                life.stats.inc(names::UPSTREAM_CX_IDLE_TIMEOUT);
                false
            }
            () = life.aged(age) => {
                life.stats.inc(names::UPSTREAM_CX_MAX_DURATION_REACHED);
                false
            }
        };
        life.end(by_server);
    });
}

impl Life {
    fn new(
        wanted: &Wanted<'_>,
        seat: Seat,
        local: Option<SocketAddr>,
        counter: redplane_telemetry::CounterId,
    ) -> Rc<Self> {
        let stats = Rc::clone(wanted.stats);
        let config = &wanted.cluster.config().http;
        stats.inc(counter);
        stats.inc(names::UPSTREAM_CX_ACTIVE);
        let host = wanted.place.host().cloned();
        if let Some(host) = &host {
            host.stats.cx_active.fetch_add(1, Relaxed);
        }
        let now = Instant::now();
        Rc::new(Self {
            load: Load::new(now),
            requests: Cell::new(0),
            ended: Cell::new(false),
            left: Cell::new(false),
            limit: config.max_requests,
            local,
            streams: config.http2.streams.map_or(STREAMS, |streams| streams as usize),
            since: now,
            stats,
            host,
            seat: RefCell::new(Some(seat)),
        })
    }

    /// A request is on it.
    pub(super) fn begin(&self) {
        self.load.begin();
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// A request has left it.
    pub(super) fn leave(&self) {
        self.load.end();
    }

    /// It has served as many requests as it may.
    pub(super) fn is_spent(&self) -> bool {
        let spent = self.limit.is_some_and(|limit| self.requests.get() >= limit);
        spent || self.ended.get()
    }

    /// It goes back to nobody.
    pub(super) fn abandon(&self) {
        self.left.set(true);
        if self.limit.is_some_and(|limit| self.requests.get() >= limit) {
            self.stats.inc(names::UPSTREAM_CX_MAX_REQUESTS);
        }
    }

    /// Its task is over.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Waits until it is too old, then until no request is on it; no new one is given to it meanwhile.
    async fn aged(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return pending().await;
        };
        tokio::time::sleep(limit).await;
        self.ended.set(true);
        while self.load.active() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn end(&self, by_server: bool) {
        self.ended.set(true);
        self.seat.take();
        let requests = u64::from(self.requests.get());
        self.stats.record(names::UPSTREAM_RQ_PER_CX, requests);
        self.stats.dec(names::UPSTREAM_CX_ACTIVE);
        self.stats.inc(names::UPSTREAM_CX_DESTROY);
        self.stats.inc(if by_server && !self.left.get() {
            names::UPSTREAM_CX_DESTROY_REMOTE
        } else {
            names::UPSTREAM_CX_DESTROY_LOCAL
        });
        let length = millis(Instant::now().duration_since(self.since));
        self.stats.record(names::UPSTREAM_CX_LENGTH_MS, length);
        if let Some(host) = &self.host {
            host.stats.cx_active.fetch_sub(1, Relaxed);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
