//! The HTTP server: connections, headers, and the admin interface's own stats.
//!
//! HTTP/1 only, as in Envoy. Pages are made on blocking threads, so that a heavy one does not hold up the thread that
//! also runs xDS. Every reply carries Envoy's headers.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SERVER, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use redplane_telemetry::stats::{http, listener, listener_http};
use redplane_telemetry::{Block, CounterId};
use tokio::net::{TcpListener, TcpStream};

use crate::reply::Reply;
use crate::request::{Params, Request};
use crate::request_line::LegalLines;
use crate::sources::Sources;
use crate::table::respond;

/// An idle connection is closed after so long.
const IDLE: Duration = Duration::from_secs(600);

/// A form may be so large.
const MAX_FORM: usize = 64 * 1024;

/// How long to wait after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin interface until the future is dropped. Must run within a tokio runtime.
///
/// # Errors
/// When the listener has no local address; single connections never end it.
pub async fn serve(listener: TcpListener, sources: Arc<Sources>) -> io::Result<Infallible> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "admin address");
    let server = Arc::new(Server {
        stats: Stats::new(&sources),
        sources,
    });
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(Arc::clone(&server).connection(socket));
            }
            Err(error) => {
                tracing::warn!(%error, "admin: cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Server {
    sources: Arc<Sources>,
    stats: Stats,
}

/// `http.admin.`, `listener.admin.` and `listener.admin.http.admin.`, written on the control thread only.
struct Stats {
    http: Block,
    listener: Block,
    listener_http: Block,
}

impl Stats {
    fn new(sources: &Sources) -> Self {
        let registry = &sources.registry;
        Self {
            http: registry.scope("http.admin.", &http::SCHEMA).block(),
            listener: registry.scope("listener.admin.", &listener::SCHEMA).block(),
            listener_http: registry
                .scope("listener.admin.http.admin.", &listener_http::SCHEMA)
                .block(),
        }
    }

    fn connected(&self) {
        self.listener.inc(listener::DOWNSTREAM_CX_TOTAL);
        self.listener.inc(listener::DOWNSTREAM_CX_ACTIVE);
        self.http.inc(http::DOWNSTREAM_CX_TOTAL);
        self.http.inc(http::DOWNSTREAM_CX_ACTIVE);
        self.http.inc(http::DOWNSTREAM_CX_HTTP1_TOTAL);
        self.http.inc(http::DOWNSTREAM_CX_HTTP1_ACTIVE);
    }

    fn disconnected(&self) {
        self.listener.inc(listener::DOWNSTREAM_CX_DESTROY);
        self.listener.dec(listener::DOWNSTREAM_CX_ACTIVE);
        self.http.inc(http::DOWNSTREAM_CX_DESTROY);
        self.http.dec(http::DOWNSTREAM_CX_ACTIVE);
        self.http.dec(http::DOWNSTREAM_CX_HTTP1_ACTIVE);
    }

    fn requested(&self) {
        self.http.inc(http::DOWNSTREAM_RQ_TOTAL);
        self.http.inc(http::DOWNSTREAM_RQ_HTTP1_TOTAL);
    }

    fn answered(&self, status: StatusCode) {
        self.http.inc(http::DOWNSTREAM_RQ_COMPLETED);
        self.listener_http.inc(listener_http::DOWNSTREAM_RQ_COMPLETED);
        let (class, listener_class): (CounterId, CounterId) = match status.as_u16() / 100 {
            1 => (http::DOWNSTREAM_RQ_1XX, listener_http::DOWNSTREAM_RQ_1XX),
            2 => (http::DOWNSTREAM_RQ_2XX, listener_http::DOWNSTREAM_RQ_2XX),
            3 => (http::DOWNSTREAM_RQ_3XX, listener_http::DOWNSTREAM_RQ_3XX),
            4 => (http::DOWNSTREAM_RQ_4XX, listener_http::DOWNSTREAM_RQ_4XX),
            _ => (http::DOWNSTREAM_RQ_5XX, listener_http::DOWNSTREAM_RQ_5XX),
        };
        self.http.inc(class);
        self.listener_http.inc(listener_class);
    }
}

impl Server {
    async fn connection(self: Arc<Self>, socket: TcpStream) {
        self.stats.connected();
        let service = service_fn(|request| Arc::clone(&self).request(request));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(IDLE);
        let io = TokioIo::new(LegalLines::new(socket));
        if let Err(error) = http.serve_connection(io, service).await {
            tracing::debug!(%error, "admin: connection");
        }
        self.stats.disconnected();
    }

    async fn request(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        self.stats.requested();
        let _active = Active::new(&self.stats.http);
        let sources = Arc::clone(&self.sources);
        let target = request
            .uri()
            .path_and_query()
            .map_or("", |target| target.as_str());
        if !(sources.allows)(target) {
            let refusal = format!("request to path {target} not allowed");
            let reply = Reply::error(StatusCode::FORBIDDEN, refusal);
            self.stats.answered(reply.status);
            return Ok(response(reply));
        }
        let request = reduce(request).await;
        let page = tokio::task::spawn_blocking(move || respond(&sources, &request)).await;
        let reply = page.unwrap_or_else(|_| Reply::error(StatusCode::INTERNAL_SERVER_ERROR, "page failed\n"));
        self.stats.answered(reply.status);
        Ok(response(reply))
    }
}

/// A request under way; a client that leaves early ends it as well.
struct Active<'a>(&'a Block);

impl<'a> Active<'a> {
    fn new(stats: &'a Block) -> Self {
        stats.inc(http::DOWNSTREAM_RQ_ACTIVE);
        Self(stats)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec(http::DOWNSTREAM_RQ_ACTIVE);
    }
}

/// What pages look at. A body is read only where a form may come.
async fn reduce(request: hyper::Request<Incoming>) -> Request {
    let (head, body) = request.into_parts();
    let mut form = Params::default();
    if head.method == Method::POST {
        // A body that is too large or breaks off is no form.
        let body = Limited::new(body, MAX_FORM).collect().await;
        let kind = head
            .headers
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        if let (Ok(body), true) = (body, kind.starts_with(b"application/x-www-form-urlencoded")) {
            form = Params::parse(&String::from_utf8_lossy(&body.to_bytes()));
        }
    }
    Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        params: Params::parse(head.uri.query().unwrap_or_default()),
        form,
    }
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(SERVER, HeaderValue::from_static("envoy"));
    response
}
