//! WebSocket and other upgrades: the request goes on as HTTP/1, and after 101 only bytes move.

use std::rc::Rc;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use redplane_telemetry::stats::http as names;
use tokio::io::copy_bidirectional;
use tokio::task::spawn_local;

use crate::exchange::Exchange;
use crate::pool::Lease;
use crate::response::SERVICE_TIME;
use crate::tail::ResponseBody;

/// Asks the server for the change that the client asked for.
pub(crate) fn ask(headers: &mut HeaderMap, kind: &str) {
    // It came as a header value.
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, kind);
    }
}

/// What of a response to such a request belongs to the client although it is of one hop only.
pub(crate) fn keep(headers: &HeaderMap, switched: bool) -> Vec<(HeaderName, HeaderValue)> {
    if !switched {
        return Vec::new();
    }
    let upgrade = headers
        .get(header::UPGRADE)
        .cloned()
        .map(|kind| (header::UPGRADE, kind));
    let connection = (header::CONNECTION, HeaderValue::from_static("Upgrade"));
    upgrade.into_iter().chain([connection]).collect()
}

/// Both sides have changed: what one says the other hears, until one of them ends.
pub(crate) fn switch(
    parts: Parts,
    (client, server): (OnUpgrade, OnUpgrade),
    lease: Lease,
    exchange: &Rc<Exchange>,
) -> Response<ResponseBody> {
    let stats = &exchange.connection.stats;
    stats.inc(names::DOWNSTREAM_CX_UPGRADES_TOTAL);
    stats.inc(names::DOWNSTREAM_CX_UPGRADES_ACTIVE);
    let relayed = Rc::clone(exchange);
    spawn_local(async move {
        let _lease = lease;
        let sides = async { Ok::<_, hyper::Error>((client.await?, server.await?)) };
        if let Ok((client, server)) = sides.await {
            let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
            if let Ok((up, down)) = copy_bidirectional(&mut client, &mut server).await {
                relayed.progress.received.set(up);
                relayed.progress.sent.set(down);
            }
        }
        relayed.connection.stats.dec(names::DOWNSTREAM_CX_UPGRADES_ACTIVE);
    });
    Response::from_parts(parts, ResponseBody::local(Bytes::new(), exchange))
}

/// The server answered otherwise: its body is thrown away, and the connection ends.
pub(crate) fn refused(mut parts: Parts, exchange: &Rc<Exchange>) -> Response<ResponseBody> {
    exchange.detail("websocket_handshake_unsuccessful");
    parts.headers.remove(SERVICE_TIME);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    parts
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    Response::from_parts(parts, ResponseBody::local(Bytes::new(), exchange))
}
