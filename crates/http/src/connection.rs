//! One downstream connection: its protocol, its limits of time, its drain.

use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use redplane_config::http::hcm::Codec;
use redplane_config::http::options::HeaderNames;
use redplane_telemetry::stats::http as names;
use redplane_world::HttpService;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::downstream::Downstream;
use crate::executor::LocalExecutor;
use crate::shared::Shared;
use crate::sniff::{Prefixed, sniff, untouched};
use crate::stream;
use crate::worker::Worker;

/// Envoy's stream window. hyper's default would hold large bodies up.
const STREAM_WINDOW: u32 = 16 << 20;
/// Envoy's connection window.
const CONNECTION_WINDOW: u32 = 24 << 20;
/// Streams that a client may have open.
const STREAMS: u32 = 1024;

/// Serves a connection to its end. When `drain` is done, requests under way are answered and no others are taken.
pub async fn serve<I>(
    io: I,
    facts: Downstream,
    service: Arc<HttpService>,
    worker: Rc<Worker>,
    drain: impl Future<Output = ()>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = Shared::new(facts, service, worker);
    let idle = shared.service.config.timeouts.idle;
    let alpn = shared.facts.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
    let known = match (shared.service.config.codec, alpn) {
        (Codec::Http1, _) | (Codec::Auto, Some(b"http/1.1" | b"http/1.0")) => Some(false),
        (Codec::Http2, _) | (Codec::Auto, Some(b"h2")) => Some(true),
        (Codec::Auto, _) => None,
    };
    let (is_h2, io) = match known {
        Some(is_h2) => (is_h2, untouched(io)),
        None => {
            let sniffing = async { sniff(io).await.ok() };
            let limit = async {
                match idle {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => pending().await,
                }
            };
            let found = tokio::select! {
                found = sniffing => found,
                () = limit => None,
            };
            let Some(found) = found else { return };
            found
        }
    };
    if is_h2 {
        serve_http2(io, &shared, drain).await;
    } else {
        serve_http1(io.watched(), &shared, drain).await;
    }
}

async fn serve_http1<I>(io: Prefixed<I>, shared: &Rc<Shared>, drain: impl Future<Output = ()>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    shared.stats.inc(names::DOWNSTREAM_CX_HTTP1_TOTAL);
    let config = &shared.service.config;
    let mut builder = http1::Builder::new();
    // Istio sets no limit here, and hyper's would cost a timer for each request. Answers to pipelined requests are not
    // put together: hyper would then not send what it answers to a head that it cannot parse.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.timeouts.headers)
        .max_header_size(config.limits.header_bytes)
        .max_headers(config.limits.header_count)
        .title_case_headers(config.http1.names == HeaderNames::Proper)
        .preserve_header_case(config.http1.names == HeaderNames::Preserve);
    let service = service_fn(|request| stream::serve(Rc::clone(shared), request));
    let mut connection = pin!(
        builder
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
    );
    let mut drain = pin!(drain);
    let mut end = pin!(shared.limit());
    let mut leaving = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if result.is_err_and(|error| error.is_parse()) {
                    shared.stats.inc(names::DOWNSTREAM_CX_PROTOCOL_ERROR);
                }
                return;
            }
            () = drain.as_mut(), if !leaving => {}
            () = end.as_mut(), if !leaving => {}
        }
        leaving = true;
        shared.leave();
        connection.as_mut().graceful_shutdown();
    }
}

async fn serve_http2<I>(io: Prefixed<I>, shared: &Rc<Shared>, drain: impl Future<Output = ()>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    shared.stats.inc(names::DOWNSTREAM_CX_HTTP2_TOTAL);
    let config = &shared.service.config;
    let options = &config.http2;
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams.unwrap_or(STREAMS))
        .initial_stream_window_size(options.stream_window.unwrap_or(STREAM_WINDOW))
        .initial_connection_window_size(options.connection_window.unwrap_or(CONNECTION_WINDOW))
        .header_table_size(options.table_size)
        .keep_alive_interval(options.ping_interval)
        .max_header_list_size(u32::try_from(config.limits.header_bytes).unwrap_or(u32::MAX));
    if let Some(timeout) = options.ping_timeout {
        builder.keep_alive_timeout(timeout);
    }
    let service = service_fn(|request| stream::serve(Rc::clone(shared), request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut drain = pin!(drain);
    let mut end = pin!(shared.limit());
    let mut leaving = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if result.is_err() {
                    shared.stats.inc(names::DOWNSTREAM_CX_PROTOCOL_ERROR);
                }
                return;
            }
            () = drain.as_mut(), if !leaving => {}
            () = end.as_mut(), if !leaving => {}
        }
        leaving = true;
        shared.leave();
        connection.as_mut().graceful_shutdown();
    }
}
