//! WebSocket and other upgrades: the request goes on as HTTP/1, and after 101 only bytes move.

use std::rc::Rc;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use redplane_telemetry::access_log::ResponseFlags;
use redplane_telemetry::stats::http as names;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::task::spawn_local;

use crate::exchange::Exchange;
use crate::pool::Lease;
use crate::progress::Progress;
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
    let both = [header::UPGRADE, header::CONNECTION];
    let kept = both.map(|name| headers.get(&name).cloned().map(|value| (name, value)));
    kept.into_iter().flatten().collect()
}

/// Both sides have changed: what one says the other hears, until one of them ends.
pub(crate) fn switch(
    mut parts: Parts,
    (client, server): (OnUpgrade, OnUpgrade),
    lease: Lease,
    exchange: &Rc<Exchange>,
) -> Response<ResponseBody> {
    parts.headers.remove(SERVICE_TIME);
    let stats = &exchange.connection.stats;
    stats.inc(names::DOWNSTREAM_CX_UPGRADES_TOTAL);
    stats.inc(names::DOWNSTREAM_CX_UPGRADES_ACTIVE);
    let relayed = Rc::clone(exchange);
    spawn_local(async move {
        let _lease = lease;
        let sides = async { Ok::<_, hyper::Error>((client.await?, server.await?)) };
        if let Ok((client, server)) = sides.await
            && relay(TokioIo::new(client), TokioIo::new(server), &relayed.progress).await == First::Client
        {
            relayed.flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
            relayed.detail("downstream_remote_disconnect");
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

/// Which side ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Client,
    Server,
}

/// Moves bytes both ways until one side ends, which ends the other: HTTP knows no half-closed connection.
async fn relay<C, S>(client: C, server: S, progress: &Progress) -> First
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    let first = tokio::select! {
        () = pump(&mut from_client, &mut to_server, |bytes| progress.receive(bytes)) => First::Client,
        () = pump(&mut from_server, &mut to_client, |bytes| progress.send(bytes)) => First::Server,
    };
    // Whether the other side hears of it changes nothing any more.
    let _ = to_client.shutdown().await;
    let _ = to_server.shutdown().await;
    first
}

/// Moves bytes one way until there are none, or nobody takes them.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: impl Fn(usize),
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() || to.flush().await.is_err() {
            return;
        }
        count(length);
    }
}
