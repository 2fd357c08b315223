//! What is done to a response's headers before the client sees them.
//!
//! Envoy: `ConnectionManagerUtility::mutateResponseHeaders`, `Router::Filter::onUpstreamHeaders`.

use std::fmt::Write;
use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use redplane_config::http::hcm::ServerHeader;
use redplane_config::http::template::Fact;
use redplane_http_route::headers::Facts;

use crate::exchange::{Exchange, protocol};
use crate::stamp::REQUEST_ID;

/// `x-envoy-upstream-service-time`.
pub(crate) const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Takes off what belongs to the upstream hop. Headers that a response's Connection lists stay, as in Envoy.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    headers.remove(header::CONNECTION);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
}

/// The last word on every response, local ones included.
pub(crate) fn finish(headers: &mut HeaderMap, exchange: &Exchange, request_id: Option<&HeaderValue>) {
    let settings = &exchange.connection.service.config.headers;
    match settings.server {
        ServerHeader::Overwrite => {
            headers.insert(header::SERVER, settings.server_name.clone());
        }
        ServerHeader::AppendIfAbsent => {
            headers
                .entry(header::SERVER)
                .or_insert_with(|| settings.server_name.clone());
        }
        ServerHeader::PassThrough => {}
    }
    if let (true, Some(id)) = (settings.request_id.in_response, request_id) {
        headers.insert(REQUEST_ID, id.clone());
    }
    if let Some(via) = &settings.via {
        headers.append(header::VIA, via.clone());
    }
    if exchange.connection.closes() && exchange.version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// What header templates are filled with.
pub(crate) struct StreamFacts<'a>(pub(crate) &'a Rc<Exchange>);

impl Facts for StreamFacts<'_> {
    fn write(&self, fact: Fact, out: &mut String) {
        let exchange = self.0;
        let downstream = &exchange.connection.facts;
        let told = exchange.told.borrow();
        let tls = downstream.tls.as_ref();
        // Writing to a string cannot fail.
        let _ = match fact {
            Fact::DownstreamRemote => text(out, exchange.client.get()),
            Fact::DownstreamRemoteIp => text(out, exchange.client.get().map(|address| address.ip())),
            Fact::DownstreamRemotePort => text(out, exchange.client.get().map(|address| address.port())),
            Fact::DownstreamDirectRemote => text(out, downstream.direct_remote),
            Fact::DownstreamDirectRemoteIp => text(out, downstream.direct_remote.map(|address| address.ip())),
            Fact::DownstreamLocal => text(out, downstream.local),
            Fact::DownstreamLocalIp => text(out, downstream.local.map(|address| address.ip())),
            Fact::DownstreamLocalPort => text(out, downstream.local.map(|address| address.port())),
            Fact::PeerUriSan => text(out, tls.map(|tls| tls.uri_sans.join(","))),
            Fact::LocalUriSan => text(out, tls.map(|tls| tls.own_uri_sans.join(","))),
            Fact::PeerSubject => text(out, tls.and_then(|tls| tls.subject.as_ref())),
            Fact::TlsVersion => text(out, tls.and_then(|tls| tls.version)),
            Fact::TlsCipher => text(out, tls.and_then(|tls| tls.cipher.as_ref())),
            Fact::UpstreamHost | Fact::UpstreamRemote => text(out, told.host.as_ref()),
            Fact::UpstreamCluster => text(out, told.cluster.as_ref().map(|(_, name)| name)),
            Fact::RouteName => text(out, Some(&told.route)),
            Fact::Protocol => text(out, Some(protocol(exchange.version))),
            Fact::ServerName => text(out, downstream.server_name.as_ref()),
            Fact::StartTime => text(
                out,
                Some(redplane_telemetry::access_log::timestamp(
                    std::time::SystemTime::now(),
                )),
            ),
            Fact::ResponseCode => text(out, Some(exchange.status.get())),
            Fact::ResponseCodeDetails => text(out, Some(&told.details)),
            Fact::ResponseFlags => text(out, Some(exchange.flags.get())),
            Fact::ConnectionId => text(out, Some(downstream.id)),
        };
    }
}

fn text(out: &mut String, value: Option<impl std::fmt::Display>) -> std::fmt::Result {
    value.map_or(Ok(()), |value| write!(out, "{value}"))
}
