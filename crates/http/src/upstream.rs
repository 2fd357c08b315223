//! One try at a cluster: which host, which connection, what is sent, why it failed.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use redplane_config::http::UpstreamProtocol;
use redplane_config::http::filter::AlpnOverride;
use redplane_http_route::retry::Reset;
use redplane_telemetry::Block;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::{Cluster, Host, Layout};

use crate::downstream::Downstream;
use crate::feed::{Gate, RequestBody};
use crate::pool::{self, Failed, Lease, NoLease, Place, Pools, Wanted};

/// A request as it leaves.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) scheme: &'static str,
    pub(crate) authority: HeaderValue,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// Names of headers as they came, where they are kept.
    pub(crate) extensions: Extensions,
}

/// Why a try gave no response.
#[derive(Debug)]
pub(crate) enum TryFault {
    /// The connection or the stream failed; the text is the transport's own.
    Reset(Reset, Option<String>),
}

/// Where one try goes, and how.
pub(crate) struct Destination<'a> {
    pub(crate) cluster: &'a Arc<Cluster>,
    pub(crate) stats: &'a Rc<Block>,
    pub(crate) place: &'a Place,
    pub(crate) alpn: Option<&'a AlpnOverride>,
    pub(crate) pools: &'a Rc<Pools>,
    /// What the client speaks.
    pub(crate) version: Version,
    pub(crate) is_upgrade: bool,
    /// `priority: HIGH`.
    pub(crate) high: bool,
    /// Our side of the connection, once there is one.
    pub(crate) local: Cell<Option<SocketAddr>>,
}

/// Chooses a host: by hash where there is one, else by the cluster's policy. Hosts to avoid are passed over as often as
/// `attempts` says.
pub(crate) fn choose(
    cluster: &Cluster,
    hash: Option<u64>,
    (avoid, attempts): (&[u64], u32),
    downstream: &Downstream,
) -> Option<Place> {
    let topology = cluster.topology();
    if matches!(topology.layout, Layout::OriginalDst) {
        // Without a restored destination the only address known is our own: dialling it would never end.
        return downstream
            .local
            .filter(|_| downstream.restored)
            .map(Place::Address);
    }
    let mut found = None;
    for _ in 0..=attempts {
        let random = fastrand::u64(..);
        let at = topology.by_hash(hash.unwrap_or(random), random)?;
        let host = topology.hosts.get(at)?;
        found = Some(Place::Host(Arc::clone(host)));
        if hash.is_some() || !avoid.contains(&host.id) {
            break;
        }
    }
    found
}

/// Sends a request to a place and waits for the head of the response. `body` makes the body; it is told whether HTTP/2
/// is spoken.
pub(crate) async fn attempt(
    to: &Destination<'_>,
    outgoing: Outgoing,
    body: impl FnOnce(bool) -> RequestBody,
    gate: Option<Gate>,
) -> Result<(Response<Incoming>, Lease), TryFault> {
    let protocol = protocol(to);
    let offer = offer(to, protocol);
    let sni = sni(to, &outgoing);
    let mut message = Some((body, gate));
    let mut fresh = false;
    let mut unsent = None;
    let mut outgoing = Some(outgoing);
    loop {
        let wanted = Wanted {
            cluster: to.cluster,
            place: to.place,
            protocol,
            offer: offer.clone(),
            sni: sni.clone(),
            stats: to.stats,
            fresh,
            high: to.high,
        };
        let mut lease = match pool::lease(to.pools, wanted).await {
            Ok(lease) => lease,
            Err(NoLease::Overflow) => return Err(TryFault::Reset(Reset::Overflow, None)),
            Err(NoLease::Failed(error)) => return Err(connect_fault(&error)),
        };
        to.local.set(lease.local());
        let request = match (unsent.take(), outgoing.take().zip(message.take())) {
            (Some(request), _) => request,
            (None, Some((outgoing, (body, gate)))) => {
                let is_h2 = lease.is_http2();
                gated(outgoing.request(body(is_h2), is_h2), gate)
            }
            (None, None) => return Err(TryFault::Reset(Reset::Remote, None)),
        };
        let _counted = Counted::new(to);
        match lease.send(request).await {
            Ok(response) => return Ok((response, lease)),
            // A connection that waited may have been closed by the server a moment ago: nothing was asked yet.
            Err(Failed::Unsent(request)) if lease.is_reused() && !fresh => {
                fresh = true;
                unsent = Some(*request);
            }
            Err(Failed::Unsent(_)) => {
                return Err(TryFault::Reset(Reset::Closed { before_request: true }, None));
            }
            Err(Failed::Lost(error)) => return Err(TryFault::Reset(reset_of(&error), None)),
        }
    }
}

/// What is spoken to this place for this request.
fn protocol(to: &Destination<'_>) -> UpstreamProtocol {
    match to.cluster.config().http.protocol {
        _ if to.is_upgrade => UpstreamProtocol::Http1,
        UpstreamProtocol::Downstream if to.version == Version::HTTP_2 => UpstreamProtocol::Http2,
        UpstreamProtocol::Downstream => UpstreamProtocol::Http1,
        // Without a handshake nothing is negotiated: HTTP/1 is what every such server knows.
        UpstreamProtocol::Negotiated => UpstreamProtocol::Http1,
        other => other,
    }
}

/// `istio.alpn`: what TLS offers for the protocol that is spoken.
fn offer(to: &Destination<'_>, protocol: UpstreamProtocol) -> Option<Arc<[Vec<u8>]>> {
    let alpn = to.alpn.filter(|_| to.cluster.config().http.alpn_override)?;
    let list = match protocol {
        UpstreamProtocol::Http2 => &alpn.http2,
        _ => &alpn.http1,
    };
    (is_tls(to) && !list.is_empty()).then(|| list.iter().map(|name| name.clone().into_bytes()).collect())
}

/// `auto_sni`: the name that is asked for is the request's host.
fn sni(to: &Destination<'_>, outgoing: &Outgoing) -> Option<Arc<str>> {
    let settings = &to.cluster.config().http;
    if !settings.auto_sni || !is_tls(to) {
        return None;
    }
    let other = settings
        .sni_header
        .as_ref()
        .and_then(|name| outgoing.headers.get(name));
    let host = other.unwrap_or(&outgoing.authority).to_str().ok()?;
    let authority = Authority::try_from(host).ok()?;
    // An address is no name.
    let name = authority.host();
    let is_address = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
    (!is_address && !name.is_empty()).then(|| name.into())
}

fn is_tls(to: &Destination<'_>) -> bool {
    let host = to.place.host();
    host.is_some_and(|host| matches!(host.transport, redplane_upstream::Transport::Tls(..)))
}

impl Outgoing {
    /// The message in the terms of the protocol that it leaves by.
    pub(crate) fn request(self, body: RequestBody, is_h2: bool) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        *request.extensions_mut() = self.extensions;
        if is_h2 {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(if self.scheme == "https" {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            });
            parts.authority = Authority::try_from(self.authority.as_bytes()).ok();
            parts.path_and_query = Some(self.path);
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            return request;
        }
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from(self.path);
        request.headers_mut().insert(HOST, self.authority);
        let bodiless = [Method::GET, Method::HEAD, Method::DELETE, Method::TRACE];
        if request.body().is_none() && !bodiless.contains(request.method()) {
            // Where a body may be expected, Envoy says that there is none.
            request
                .headers_mut()
                .entry(CONTENT_LENGTH)
                .or_insert(HeaderValue::from_static("0"));
        }
        request
    }
}

/// A request whose body waits for the server's 100.
fn gated(mut request: Request<RequestBody>, gate: Option<Gate>) -> Request<RequestBody> {
    if let Some(gate) = gate {
        hyper::ext::on_informational(&mut request, move |response| {
            if response.status() == http::StatusCode::CONTINUE {
                gate.open();
            }
        });
    }
    request
}

/// A connection could not be made.
fn connect_fault(error: &io::Error) -> TryFault {
    match error.kind() {
        io::ErrorKind::TimedOut => TryFault::Reset(Reset::ConnectTimeout, None),
        io::ErrorKind::InvalidData => TryFault::Reset(Reset::Connect, Some(format!("TLS_error: {error}"))),
        _ => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
            TryFault::Reset(Reset::Connect, Some(format!("delayed connect error: {text}")))
        }
    }
}

fn reset_of(error: &hyper::Error) -> Reset {
    let of_h2 = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    match of_h2.and_then(h2::Error::reason) {
        // It was found here: what the server says is no HTTP/2.
        Some(_) if of_h2.is_some_and(h2::Error::is_library) => Reset::Protocol,
        Some(h2::Reason::REFUSED_STREAM) => Reset::Refused,
        Some(h2::Reason::PROTOCOL_ERROR) => Reset::Protocol,
        Some(_) => Reset::Remote,
        None if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() => Reset::Protocol,
        None => Reset::Closed {
            before_request: false,
        },
    }
}

/// Counts a request at its cluster and host as long as its head is waited for.
struct Counted<'a> {
    stats: &'a Block,
    host: Option<&'a Arc<Host>>,
}

impl<'a> Counted<'a> {
    fn new(to: &'a Destination<'_>) -> Self {
        to.stats.inc(names::UPSTREAM_RQ_TOTAL);
        to.stats.inc(names::UPSTREAM_RQ_ACTIVE);
        let host = to.place.host();
        if let Some(host) = host {
            host.stats.rq_total.fetch_add(1, Relaxed);
            host.stats.rq_active.fetch_add(1, Relaxed);
        }
        Self {
            stats: to.stats,
            host,
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.stats.dec(names::UPSTREAM_RQ_ACTIVE);
        if let Some(host) = self.host {
            host.stats.rq_active.fetch_sub(1, Relaxed);
        }
    }
}
