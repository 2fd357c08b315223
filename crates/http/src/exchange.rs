//! One request and its response: what is known of them, counted and logged when they are over.
//!
//! The end is the drop: whichever way a stream goes, its gauges fall and its lines are written once.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Version};
use redplane_telemetry::access_log::{Downstream, Http, Peer, Record, ResponseFlags, Upstream};
use redplane_telemetry::stats::http as names;
use tokio::time::Instant;

use crate::progress::Progress;
use crate::shared::Shared;

/// One request and its response.
pub(crate) struct Exchange {
    /// The connection that it came by.
    pub(crate) connection: Rc<Shared>,
    /// How far it has come.
    pub(crate) progress: Rc<Progress>,
    /// HTTP version of the request.
    pub(crate) version: Version,
    /// It is gRPC.
    pub(crate) grpc: Cell<bool>,
    /// The status that was sent, 0 if none was.
    pub(crate) status: Cell<u16>,
    /// What went wrong.
    pub(crate) flags: Cell<ResponseFlags>,
    /// The client, as `x-forwarded-for` tells it where it is believed.
    pub(crate) client: Cell<Option<SocketAddr>>,
    /// What is told in words.
    pub(crate) told: RefCell<Told>,
    wall: Option<SystemTime>,
}

/// What is told in words.
#[derive(Default)]
pub(crate) struct Told {
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(crate) details: Cow<'static, str>,
    /// The route's name.
    pub(crate) route: String,
    /// `ip:port` of the host.
    pub(crate) host: Option<String>,
    /// Our side.
    pub(crate) local: Option<SocketAddr>,
    /// The cluster's name, and the one it has in stats.
    pub(crate) cluster: Option<(Arc<str>, String)>,
    /// Why there was no connection.
    pub(crate) failure: Option<String>,
    /// What a log line may ask for; there only where there are logs.
    pub(crate) request: Option<Vec<(String, String)>>,
    /// The same of the response.
    pub(crate) response: Option<Vec<(String, String)>>,
    /// What filters wrote: the name of a filter to an object.
    pub(crate) metadata: Option<Box<Metadata>>,
}

/// Metadata of a request.
pub(crate) type Metadata = serde_json::Map<String, serde_json::Value>;

impl Exchange {
    pub(crate) fn new(connection: &Rc<Shared>, version: Version) -> Rc<Self> {
        connection.begin(version == Version::HTTP_2);
        let keeps_time = connection.service.config.timeouts.stream_idle.is_some();
        Rc::new(Self {
            connection: Rc::clone(connection),
            progress: Rc::new(Progress::begin(keeps_time)),
            version,
            grpc: Cell::new(false),
            status: Cell::new(0),
            flags: Cell::new(ResponseFlags::default()),
            client: Cell::new(connection.facts.remote),
            told: RefCell::default(),
            wall: connection.logs().then(SystemTime::now),
        })
    }

    /// Adds a flag.
    pub(crate) fn flag(&self, flag: ResponseFlags) {
        self.flags.set(self.flags.get().with(flag));
    }

    /// Says why the response is what it is.
    pub(crate) fn detail(&self, details: impl Into<Cow<'static, str>>) {
        self.told.borrow_mut().details = details.into();
    }

    /// Writes into the metadata of a filter.
    pub(crate) fn write_metadata(&self, filter: &str, key: String, value: serde_json::Value) {
        let mut told = self.told.borrow_mut();
        let object = told.metadata.get_or_insert_default();
        let filter = object.entry(filter).or_insert_with(|| Metadata::new().into());
        if let Some(object) = filter.as_object_mut() {
            object.insert(key, value);
        }
    }

    /// Whether somebody will want to know.
    pub(crate) fn is_logged(&self) -> bool {
        self.wall.is_some()
    }

    /// Keeps the request's headers for the log.
    pub(crate) fn note_request(&self, method: &str, path: &str, authority: &str, headers: &HeaderMap) {
        if self.is_logged() {
            let pseudo = [(":method", method), (":path", path), (":authority", authority)];
            let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.to_owned()));
            self.told.borrow_mut().request = Some(pseudo.into_iter().chain(pairs(headers)).collect());
        }
    }

    /// Keeps the response's headers for the log.
    pub(crate) fn note_response(&self, status: u16, headers: &HeaderMap) {
        self.status.set(status);
        if self.is_logged() {
            self.told.borrow_mut().response = Some(pairs(headers).collect());
        }
    }

    fn log(&self, duration: Duration) {
        let Some(wall) = self.wall else { return };
        let told = self.told.borrow();
        let view = |pairs: &Option<Vec<(String, String)>>| -> Vec<(String, String)> {
            pairs.clone().unwrap_or_default()
        };
        let (request, response) = (view(&told.request), view(&told.response));
        let request: Vec<(&str, &str)> = request
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let response: Vec<(&str, &str)> = response
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let facts = &self.connection.facts;
        let uris = facts
            .tls
            .as_ref()
            .map(|tls| tls.uri_sans.join(","))
            .filter(|uris| !uris.is_empty());
        let record = Record {
            bytes_received: self.progress.received.get(),
            bytes_sent: self.progress.sent.get(),
            downstream: Downstream {
                connection_id: facts.id,
                remote: self.client.get(),
                direct_remote: facts.direct_remote,
                local: facts.local,
                requested_server_name: facts.server_name.as_deref(),
                peer: facts.tls.as_ref().map(|tls| Peer {
                    tls_version: tls.version,
                    tls_cipher: tls.cipher.as_deref(),
                    subject: tls.subject.as_deref(),
                    uri_san: uris.as_deref(),
                }),
            },
            upstream: Upstream {
                host: told.host.as_deref(),
                local: told.local,
                cluster: told.cluster.as_ref().map(|(_, name)| name.as_str()),
                cluster_raw: told.cluster.as_ref().map(|(name, _)| name.as_ref()),
                transport_failure_reason: told.failure.as_deref(),
            },
            response_flags: self.flags.get(),
            filter_chain_name: Some(facts.chain.as_str()).filter(|name| !name.is_empty()),
            route_name: Some(told.route.as_str()).filter(|name| !name.is_empty()),
            http: Some(Http {
                protocol: protocol(self.version),
                response_code: self.status.get(),
                response_code_details: Some(told.details.as_ref()).filter(|details| !details.is_empty()),
                request_headers: &request,
                response_headers: &response,
            }),
            ..Record::new(wall, duration)
        };
        self.connection
            .service
            .access_logs
            .iter()
            .for_each(|log| log.write(&record));
    }
}

/// Envoy's word.
pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    headers.iter().map(|(name, value)| {
        (
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    })
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.progress.complete.get() && self.flags.get().is_empty() {
            self.flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
            self.detail("downstream_remote_disconnect");
        }
        let duration = Instant::now().duration_since(self.progress.start);
        let stats = &self.connection.stats;
        stats.dec(names::DOWNSTREAM_RQ_ACTIVE);
        stats.record(
            names::DOWNSTREAM_RQ_TIME,
            u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        );
        let class = match self.status.get() {
            100..=199 => Some(names::DOWNSTREAM_RQ_1XX),
            200..=299 => Some(names::DOWNSTREAM_RQ_2XX),
            300..=399 => Some(names::DOWNSTREAM_RQ_3XX),
            400..=499 => Some(names::DOWNSTREAM_RQ_4XX),
            500..=599 => Some(names::DOWNSTREAM_RQ_5XX),
            _ => None,
        };
        if let Some(class) = class {
            stats.inc(class);
            stats.inc(names::DOWNSTREAM_RQ_COMPLETED);
        }
        self.log(duration);
        self.connection.end();
    }
}
