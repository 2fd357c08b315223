//! What is known of one connection, counted while it lives and logged when it ends.
//!
//! The end is the drop: whichever way a connection goes, its gauges fall and its lines are written once.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use redplane_telemetry::CounterId;
use redplane_telemetry::access_log::{Downstream, Peer, Record, ResponseFlags, Upstream as UpstreamFacts};
use redplane_telemetry::stats::{listener as names, listener_worker as worker_names};
use redplane_world::{Chain, ConnectionFacts, Listener as Prepared, TlsFacts};
use rustls::ServerConnection;
use tokio::time::Instant;

use crate::limit_permit::LimitPermit;
use crate::stats::Stats;

/// One connection.
pub(crate) struct Session {
    /// The version of the listener it lives under.
    pub prepared: Arc<Prepared>,
    /// The listener's cells on this worker.
    pub stats: Rc<Stats>,
    /// What is known of the connection and its peer.
    pub facts: ConnectionFacts,
    /// From the client, plain text.
    pub received: u64,
    /// To the client, plain text.
    pub sent: u64,
    /// What went wrong.
    pub flags: ResponseFlags,
    /// The upstream side, where there is one.
    pub upstream: Upstream,
    /// Under limits of connections, held to its end.
    pub limit_permits: Vec<LimitPermit>,
    details: Option<String>,
    chain: Option<Arc<Chain>>,
    /// URIs of the client's certificate, as logs print them.
    uri_san: Option<String>,
    begun: Begun,
}

/// When a connection came: for people, and for its length.
struct Begun {
    start: SystemTime,
    since: Instant,
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

/// Counts a connection whose listener filters are at work.
pub(crate) struct Waiting(Rc<Stats>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.listener.dec(names::DOWNSTREAM_PRE_CX_ACTIVE);
    }
}

impl Session {
    /// A connection that has just come.
    pub(crate) fn new(prepared: Arc<Prepared>, stats: Rc<Stats>, facts: ConnectionFacts) -> Self {
        Self {
            prepared,
            stats,
            facts,
            received: 0,
            sent: 0,
            flags: ResponseFlags::default(),
            upstream: Upstream::default(),
            limit_permits: Vec::new(),
            details: None,
            chain: None,
            uri_san: None,
            begun: Begun {
                start: SystemTime::now(),
                since: Instant::now(),
            },
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

    /// The TLS handshake is done.
    pub(crate) fn secured(&mut self, tls: &ServerConnection) {
        self.facts.secured(tls);
        let uris = self.facts.tls.as_ref().map(|tls| tls.uri_sans.join(","));
        self.uri_san = uris.filter(|uris| !uris.is_empty());
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

    /// Another listener takes the connection over.
    pub(crate) fn hand_to(&mut self, prepared: &Arc<Prepared>, stats: Rc<Stats>) {
        self.prepared = Arc::clone(prepared);
        self.stats = stats;
    }

    /// The chain, once there is one.
    pub(crate) fn chain(&self) -> Option<&Arc<Chain>> {
        self.chain.as_ref()
    }

    fn record(&self) -> Record<'_> {
        let facts = &self.facts;
        let name = self.chain.as_ref().map(|chain| chain.config.name.as_str());
        let cluster = self.upstream.cluster.as_ref();
        Record {
            bytes_received: self.received,
            bytes_sent: self.sent,
            downstream: Downstream {
                connection_id: facts.id,
                remote: facts.source,
                direct_remote: facts.direct_source,
                local: facts.destination,
                requested_server_name: facts.server_name.as_deref(),
                peer: facts.tls.as_ref().map(|tls| self.peer(tls)),
            },
            upstream: UpstreamFacts {
                host: self.upstream.host.as_deref(),
                local: self.upstream.local,
                cluster: cluster.map(|(_, stat_name)| stat_name.as_str()),
                cluster_raw: cluster.map(|(name, _)| name.as_str()),
                transport_failure_reason: self.upstream.failure.as_deref(),
            },
            response_flags: self.flags,
            connection_termination_details: self.details.as_deref(),
            filter_chain_name: name.filter(|name| !name.is_empty()),
            ..Record::new(self.begun.start, Instant::now().duration_since(self.begun.since))
        }
    }

    fn peer<'a>(&'a self, tls: &'a TlsFacts) -> Peer<'a> {
        Peer {
            tls_version: tls.version,
            tls_cipher: tls.cipher.as_deref(),
            subject: Some(tls.subject.as_str()).filter(|subject| !subject.is_empty()),
            uri_san: self.uri_san.as_deref(),
        }
    }
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
