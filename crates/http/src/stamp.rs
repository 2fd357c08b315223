//! What a connection manager does to the headers of every request: hop by hop ones go, its own come.
//!
//! Envoy: `ConnectionManagerUtility::mutateRequestHeaders`. Nothing says which addresses are internal, so that every
//! request is external, as in Envoy without `internal_address_config`.

mod address;

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use redplane_config::http::{ForwardClientCert, HttpConnectionManager};

use crate::downstream::{Downstream, Tls};
use crate::exchange::Exchange;

/// Headers that a stranger may not set.
const INTERNAL: &[&str] = &[
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-max-retries",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-force-trace",
];

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-forwarded-for`.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
/// `x-request-id`.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The protocol that a request wants to change to, in lower case, if it wants to.
pub(crate) fn upgrade(headers: &HeaderMap, version: Version) -> Option<String> {
    if version != Version::HTTP_11 {
        return None;
    }
    let asked = headers.get_all(header::CONNECTION).iter().any(|line| {
        let line = line.to_str().unwrap_or("");
        line.split(',')
            .any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
    });
    let kind = headers.get(header::UPGRADE)?.to_str().ok()?;
    asked.then(|| kind.trim().to_ascii_lowercase())
}

/// Takes off what belongs to this hop only.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .collect();
        headers.remove(header::CONNECTION);
        for name in listed {
            // Length and routing of a message are not a hop's business, whatever a client says.
            if !matches!(name, header::CONTENT_LENGTH | header::HOST | header::TE) {
                headers.remove(name);
            }
        }
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(header::UPGRADE);
    headers.remove(header::TRANSFER_ENCODING);
    if let Some(te) = headers.remove(header::TE) {
        let te = te.to_str().unwrap_or("");
        if te
            .split(',')
            .any(|word| word.trim().eq_ignore_ascii_case("trailers"))
        {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// HTTP/2 clients may send a cookie header in crumbs; servers get one.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Sets what servers are told about the request and its client.
pub(crate) fn stamp(headers: &mut HeaderMap, config: &HttpConnectionManager, exchange: &Exchange) {
    let settings = &config.headers;
    let downstream = &exchange.connection.facts;
    for name in INTERNAL {
        if headers.contains_key(*name) {
            headers.remove(*name);
        }
    }
    let client = address::client(headers, settings, downstream.remote);
    exchange.client.set(client);
    if settings.use_remote_address {
        remote_address(headers, config, downstream, client);
    }
    // What a client says of its own protocol counts only where a trusted proxy stands in front.
    let distrusts = settings.use_remote_address && settings.trusted_hops == 0;
    if distrusts || !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(downstream.scheme()));
    }
    if settings.append_forwarded_port && (distrusts || !headers.contains_key(FORWARDED_PORT)) {
        let port = downstream.local.map_or(0, |local| local.port());
        headers.insert(FORWARDED_PORT, HeaderValue::from(port));
    }
    request_id(headers, config);
    client_cert(headers, config, downstream);
    if let Some(via) = &settings.via {
        append(headers, header::VIA, via);
    }
    if settings.add_user_agent && !headers.contains_key(header::USER_AGENT) {
        headers.insert(header::USER_AGENT, HeaderValue::from_static("envoy"));
    }
}

/// One list in one line, as Envoy appends.
pub(crate) fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    let joined = headers.get(&name).map(|old| {
        let mut joined = old.as_bytes().to_vec();
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
        HeaderValue::from_bytes(&joined)
    });
    match joined {
        Some(Ok(joined)) => headers.insert(name, joined),
        _ => headers.insert(name, value.clone()),
    };
}

fn remote_address(
    headers: &mut HeaderMap,
    config: &HttpConnectionManager,
    downstream: &Downstream,
    client: Option<SocketAddr>,
) {
    let settings = &config.headers;
    let text = |address: SocketAddr| HeaderValue::from_str(&address.ip().to_string()).ok();
    let peer = downstream.remote.and_then(|remote| {
        // Envoy tells of its own address in place of a client on the same machine.
        text(
            downstream
                .local
                .filter(|_| remote.ip().is_loopback())
                .unwrap_or(remote),
        )
    });
    if let Some(peer) = peer.filter(|_| !settings.skip_forwarded_for) {
        append(headers, FORWARDED_FOR, &peer);
    }
    if let Some(client) = client.and_then(text) {
        headers.insert(EXTERNAL_ADDRESS, client);
    }
    if !settings.request_id.preserve_external {
        headers.remove(REQUEST_ID);
    }
}

fn request_id(headers: &mut HeaderMap, config: &HttpConnectionManager) {
    let settings = &config.headers.request_id;
    if !settings.generate || headers.contains_key(REQUEST_ID) {
        return;
    }
    let mut id = uuid();
    if settings.pack_trace_reason {
        // Without a tracer nothing is sampled, which the 15th character tells: it stays the version's 4.
        id[14] = b'4';
    }
    if let Ok(id) = HeaderValue::from_bytes(&id) {
        headers.insert(REQUEST_ID, id);
    }
}

/// A random UUID, version 4.
fn uuid() -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let random = (u128::from(fastrand::u64(..)) << 64) | u128::from(fastrand::u64(..));
    let mut text = [b'-'; 36];
    let mut nibble = 0;
    for (at, place) in text.iter_mut().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            continue;
        }
        let mut digit = (random >> (4 * nibble)) as usize & 15;
        match at {
            14 => digit = 4,
            19 => digit = 8 | (digit & 3),
            _ => {}
        }
        *place = DIGITS[digit];
        nibble += 1;
    }
    text
}

fn client_cert(headers: &mut HeaderMap, config: &HttpConnectionManager, downstream: &Downstream) {
    let how = config.headers.client_cert;
    if how == ForwardClientCert::AlwaysForwardOnly {
        return;
    }
    let Some(peer) = downstream.peer().filter(|_| how != ForwardClientCert::Sanitize) else {
        headers.remove(CLIENT_CERT);
        return;
    };
    if how == ForwardClientCert::ForwardOnly {
        return;
    }
    let Ok(element) = HeaderValue::from_str(&element(peer, config)) else {
        headers.remove(CLIENT_CERT);
        return;
    };
    if how == ForwardClientCert::SanitizeSet {
        headers.insert(CLIENT_CERT, element);
    } else {
        append(headers, CLIENT_CERT, &element);
    }
}

/// What one hop says of its client.
fn element(peer: &Tls, config: &HttpConnectionManager) -> String {
    let fields = config.headers.client_cert_fields;
    let mut parts: Vec<String> = peer.own_uri_sans.iter().map(|uri| format!("By={uri}")).collect();
    parts.push(format!("Hash={}", peer.digest.as_deref().unwrap_or_default()));
    if fields.subject {
        let subject = peer.subject.as_deref().unwrap_or_default();
        parts.push(format!(
            "Subject=\"{}\"",
            subject.replace('\\', "\\\\").replace('"', "\\\"")
        ));
    }
    if fields.uri {
        match peer.uri_sans.as_slice() {
            [] => parts.push("URI=".to_owned()),
            uris => parts.extend(uris.iter().map(|uri| format!("URI={uri}"))),
        }
    }
    if fields.dns {
        parts.extend(peer.dns_sans.iter().map(|name| format!("DNS={name}")));
    }
    parts.join(";")
}
