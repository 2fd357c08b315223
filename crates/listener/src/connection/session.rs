//! What is known of one connection, counted while it lives and logged when it ends.
//!
//! The end is the drop: whichever way a connection goes, its gauges fall and its lines are written once.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use redplane_config::tls::SanKind;
use redplane_telemetry::CounterId;
use redplane_telemetry::access_log::{Peer, Record, ResponseFlags};
use redplane_telemetry::stats::{listener as names, listener_worker as worker_names};
use redplane_upstream::tls::san;
use rustls::{ProtocolVersion, ServerConnection};
use tokio::time::Instant;

use crate::prepare::{Chain, Prepared};
use crate::stats::Stats;
use crate::stream::Ends;
use crate::worker::Active;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// One connection.
pub(crate) struct Session {
    /// The version of the listener it lives under.
    pub prepared: Arc<Prepared>,
    /// The listener's cells on this worker.
    pub stats: Rc<Stats>,
    /// Its two ends; the local one is the original destination if that was restored.
    pub ends: Ends,
    /// The local end is not our own address, so dialling it does not come back here.
    pub restored: bool,
    /// SNI, if it was looked at or TLS is ended here.
    pub server_name: Option<String>,
    /// From the client, plain text.
    pub received: u64,
    /// To the client, plain text.
    pub sent: u64,
    /// What went wrong.
    pub flags: ResponseFlags,
    /// The upstream side, where there is one.
    pub upstream: Upstream,
    details: Option<String>,
    chain: Option<Arc<Chain>>,
    peer: Option<PeerFacts>,
    id: u64,
    start: SystemTime,
    since: Instant,
    direct: Ends,
}

/// Facts of the upstream connection.
#[derive(Default)]
pub(crate) struct Upstream {
    /// `ip:port` or path.
    pub host: Option<String>,
    /// Our side.
    pub local: Option<SocketAddr>,
    /// The cluster's name, and the one it has in stats.
    pub cluster: Option<(String, String)>,
    /// Why there is no connection.
    pub failure: Option<String>,
}

struct PeerFacts {
    version: Option<&'static str>,
    cipher: Option<String>,
    uri_san: Option<String>,
}

/// Counts a connection whose listener filters are at work.
pub(crate) struct Waiting(Rc<Stats>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.listener.dec(names::DOWNSTREAM_PRE_CX_ACTIVE);
    }
}

impl Session {
    /// A connection that has just come.
    pub(crate) fn new(active: &Active, ends: Ends, restored: bool) -> Self {
        let (prepared, stats) = active.version();
        Self {
            prepared,
            stats,
            ends,
            restored,
            server_name: None,
            received: 0,
            sent: 0,
            flags: ResponseFlags::default(),
            upstream: Upstream::default(),
            details: None,
            chain: None,
            peer: None,
            id: NEXT_ID.fetch_add(1, Relaxed),
            start: SystemTime::now(),
            since: Instant::now(),
            direct: ends,
        }
    }

    /// Counts it among those whose listener filters are at work.
    pub(crate) fn wait(&self) -> Waiting {
        self.stats.listener.inc(names::DOWNSTREAM_PRE_CX_ACTIVE);
        Waiting(Rc::clone(&self.stats))
    }

    /// It has its chain: from here on it counts as a connection.
    pub(crate) fn enter(&mut self, chain: &Arc<Chain>) {
        self.chain = Some(Arc::clone(chain));
        self.stats.listener.inc(names::DOWNSTREAM_CX_TOTAL);
        self.stats.listener.inc(names::DOWNSTREAM_CX_ACTIVE);
        self.stats.worker.inc(worker_names::DOWNSTREAM_CX_TOTAL);
        self.stats.worker.inc(worker_names::DOWNSTREAM_CX_ACTIVE);
    }

    /// It is not served.
    pub(crate) fn refuse(&mut self, counter: CounterId, flags: ResponseFlags, details: &str) {
        self.stats.listener.inc(counter);
        self.flags = self.flags.with(flags);
        self.detail(details.to_owned());
    }

    /// Why it ends.
    pub(crate) fn detail(&mut self, details: String) {
        self.details = Some(details);
    }

    /// The TLS handshake failed.
    pub(crate) fn no_handshake(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut {
            self.stats
                .listener
                .inc(names::DOWNSTREAM_CX_TRANSPORT_SOCKET_CONNECT_TIMEOUT);
            return self.detail("transport socket timeout was reached".to_owned());
        }
        self.detail(error.to_string());
    }

    /// The TLS handshake is done.
    pub(crate) fn secured(&mut self, tls: &ServerConnection) {
        self.server_name = tls.server_name().map(str::to_owned);
        let leaf = tls.peer_certificates().and_then(<[_]>::first);
        let names = leaf.and_then(|leaf| san::names(leaf).ok()).unwrap_or_default();
        let uris = names
            .into_iter()
            .filter(|name| name.kind == SanKind::Uri)
            .map(|name| name.text);
        let uris = uris.collect::<Vec<_>>().join(",");
        self.peer = Some(PeerFacts {
            version: tls.protocol_version().and_then(version),
            cipher: tls
                .negotiated_cipher_suite()
                .and_then(|suite| cipher(suite.suite())),
            uri_san: Some(uris).filter(|uris| !uris.is_empty()),
        });
    }

    /// The chain's name.
    pub(crate) fn chain_name(&self) -> Arc<str> {
        self.chain
            .as_ref()
            .map_or("", |chain| chain.config.name.as_str())
            .into()
    }

    /// The chain, once there is one.
    pub(crate) fn chain(&self) -> Option<&Arc<Chain>> {
        self.chain.as_ref()
    }

    fn record(&self) -> Record<'_> {
        Record {
            bytes_received: self.received,
            bytes_sent: self.sent,
            connection_id: self.id,
            downstream_remote: self.ends.remote,
            downstream_direct_remote: self.direct.remote,
            downstream_local: self.ends.local,
            upstream_host: self.upstream.host.as_deref(),
            upstream_local: self.upstream.local,
            upstream_cluster: self
                .upstream
                .cluster
                .as_ref()
                .map(|(_, stat_name)| stat_name.as_str()),
            upstream_cluster_raw: self.upstream.cluster.as_ref().map(|(name, _)| name.as_str()),
            upstream_transport_failure_reason: self.upstream.failure.as_deref(),
            response_flags: self.flags,
            connection_termination_details: self.details.as_deref(),
            requested_server_name: self.server_name.as_deref(),
            filter_chain_name: self.chain.as_ref().map(|chain| chain.config.name.as_str()),
            downstream_peer: self.peer.as_ref().map(PeerFacts::view),
            ..Record::new(self.start, Instant::now().duration_since(self.since))
        }
    }
}

impl PeerFacts {
    fn view(&self) -> Peer<'_> {
        Peer {
            tls_version: self.version,
            tls_cipher: self.cipher.as_deref(),
            subject: None,
            uri_san: self.uri_san.as_deref(),
        }
    }
}

/// Envoy's words.
fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

/// OpenSSL's names, which Envoy prints: those of TLS 1.3 are the standard's.
fn cipher(suite: rustls::CipherSuite) -> Option<String> {
    let name = suite.as_str()?;
    if let Some(name) = name.strip_prefix("TLS13_") {
        return Some(format!("TLS_{name}"));
    }
    let name = name
        .strip_prefix("TLS_")?
        .replace("_WITH_", "-")
        .replace('_', "-");
    Some(
        name.replace("AES-128", "AES128")
            .replace("AES-256", "AES256")
            .replace("-POLY1305-SHA256", "-POLY1305"),
    )
}

impl Drop for Session {
    fn drop(&mut self) {
        let record = self.record();
        let filter = self.chain.iter().flat_map(|chain| &chain.access_logs);
        filter
            .chain(&self.prepared.access_logs)
            .for_each(|log| log.write(&record));
        let length = u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX);
        if self.chain.is_some() {
            self.stats.listener.record(names::DOWNSTREAM_CX_LENGTH_MS, length);
            self.stats.listener.inc(names::DOWNSTREAM_CX_DESTROY);
            self.stats.listener.dec(names::DOWNSTREAM_CX_ACTIVE);
            self.stats.worker.dec(worker_names::DOWNSTREAM_CX_ACTIVE);
        }
    }
}
