//! Answers that are made here: one table, which knows gRPC.
//!
//! Envoy: `Http::Utility::sendLocalReply`, `StreamInfo::ResponseCodeDetails`. gRPC never sees an HTTP error: it gets 200
//! and `grpc-status`.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use redplane_http_route::grpc;
use redplane_telemetry::access_log::ResponseFlags;
use redplane_telemetry::stats::{http as names, router};

use crate::exchange::Exchange;
use crate::tail::ResponseBody;

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct LocalReply {
    /// Its HTTP status.
    pub(crate) status: u16,
    /// Its body; empty is none.
    pub(crate) body: Bytes,
    /// What the access log shows.
    pub(crate) flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(crate) details: Cow<'static, str>,
    /// More headers.
    pub(crate) headers: Box<HeaderMap>,
    /// In place of the status that follows from the HTTP one.
    pub(crate) grpc_status: Option<u32>,
    /// HTTP/1 closes after it.
    pub(crate) close: bool,
}

/// The rows that are always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    NoRoute,
    MissingHost,
    AbsolutePath,
    BadRequest,
    LowVersion,
    BadPath,
    Underscores,
    UpgradeRefused,
    NoHost,
    Timeout,
    PerTryTimeout,
    StreamIdle,
    RequestTimeout,
    RateLimited,
    MaxStreamDuration,
}

impl Known {
    /// Status, body, flags, details, and whether HTTP/1 closes after it.
    fn row(self) -> (u16, &'static str, ResponseFlags, &'static str, bool) {
        let none = ResponseFlags::default();
        let bad = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
        let late = ResponseFlags::UPSTREAM_REQUEST_TIMEOUT;
        match self {
            Self::NoRoute => (404, "", ResponseFlags::NO_ROUTE_FOUND, "route_not_found", false),
            Self::MissingHost => (400, "", none, "missing_host_header", true),
            Self::AbsolutePath => (404, "", none, "absolute_path_rejected", false),
            Self::BadRequest => (400, "Bad Request", bad, "http1.codec_error", true),
            Self::LowVersion => (426, "Upgrade Required", bad, "low_version", true),
            Self::BadPath => (400, "", none, "path_normalization_failed", true),
            Self::Underscores => (400, "Bad Request", bad, "http1.unexpected_underscore", true),
            Self::UpgradeRefused => (403, "", none, "upgrade_failed", true),
            Self::NoHost => (
                503,
                "no healthy upstream",
                ResponseFlags::NO_HEALTHY_UPSTREAM,
                "no_healthy_upstream",
                false,
            ),
            Self::Timeout => (504, "upstream request timeout", late, "response_timeout", false),
            Self::PerTryTimeout => (
                504,
                "upstream request timeout",
                late,
                "upstream_per_try_timeout",
                false,
            ),
            Self::StreamIdle => (
                504,
                "stream timeout",
                ResponseFlags::STREAM_IDLE_TIMEOUT,
                "stream_idle_timeout",
                false,
            ),
            Self::RequestTimeout => (408, "request timeout", none, "request_overall_timeout", true),
            Self::RateLimited => (
                429,
                "local_rate_limited",
                ResponseFlags::RATE_LIMITED,
                "local_rate_limited",
                false,
            ),
            Self::MaxStreamDuration => (
                504,
                "upstream max stream duration reached",
                ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED,
                "upstream_max_stream_duration_reached",
                false,
            ),
        }
    }
}

impl From<Known> for LocalReply {
    fn from(known: Known) -> Self {
        let (status, body, flags, details, close) = known.row();
        Self {
            flags,
            details: details.into(),
            close,
            ..Self::new(status, Bytes::from_static(body.as_bytes()))
        }
    }
}

impl LocalReply {
    /// An answer with nothing said about it.
    pub(crate) fn new(status: u16, body: Bytes) -> Self {
        Self {
            status,
            body,
            flags: ResponseFlags::default(),
            details: Cow::Borrowed(""),
            headers: Box::default(),
            grpc_status: None,
            close: false,
        }
    }

    /// What HTTP/1 parsers of Envoy refuse before there is a request.
    pub(crate) fn is_codec_error(&self) -> bool {
        self.flags.intersects(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR)
    }

    /// The response, and what is noted of it. What is left of the request is not read: the connection ends with it.
    pub(crate) fn respond(self, exchange: &Rc<Exchange>) -> Response<ResponseBody> {
        exchange.flag(self.flags);
        self.count(exchange);
        let closes =
            (self.close || exchange.progress.has_body.get()) && exchange.version < http::Version::HTTP_2;
        let mut response = if exchange.grpc.get() {
            grpc_reply(&self, exchange)
        } else {
            self.plain(exchange)
        };
        if closes {
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Counts what has a counter of its own.
    fn count(&self, exchange: &Exchange) {
        let own = match &*self.details {
            "path_normalization_failed" => names::DOWNSTREAM_RQ_FAILED_PATH_NORMALIZATION,
            "path_normalization_redirect" => names::DOWNSTREAM_RQ_REDIRECTED_WITH_NORMALIZED_PATH,
            "absolute_path_rejected" => names::DOWNSTREAM_RQ_NON_RELATIVE_PATH,
            "upgrade_failed" => names::DOWNSTREAM_RQ_WS_ON_NON_WS_ROUTE,
            "stream_idle_timeout" => names::DOWNSTREAM_RQ_IDLE_TIMEOUT,
            "request_overall_timeout" => names::DOWNSTREAM_RQ_TIMEOUT,
            "upstream_max_stream_duration_reached" => names::DOWNSTREAM_RQ_MAX_DURATION_REACHED,
            _ => return self.count_route(exchange),
        };
        exchange.connection.stats.inc(own);
    }

    fn count_route(&self, exchange: &Exchange) {
        let own = match &*self.details {
            "route_not_found" => router::NO_ROUTE,
            "cluster_not_found" => router::NO_CLUSTER,
            "direct_response" => router::RQ_DIRECT_RESPONSE,
            _ => return,
        };
        exchange.connection.router.inc(own);
    }

    fn plain(self, exchange: &Rc<Exchange>) -> Response<ResponseBody> {
        exchange.detail(self.details);
        let has_body = !self.body.is_empty();
        let mut response = Response::new(ResponseBody::local(self.body, exchange));
        // The codes of the table and of configuration are in range.
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = *self.headers;
        if has_body {
            let headers = response.headers_mut();
            headers
                .entry(header::CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("text/plain"));
        }
        response
    }
}

fn grpc_reply(reply: &LocalReply, exchange: &Rc<Exchange>) -> Response<ResponseBody> {
    exchange.detail(reply.details.clone());
    let mut headers = HeaderMap::clone(&reply.headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let code = reply
        .grpc_status
        .unwrap_or_else(|| grpc::status_of_http(reply.status));
    headers.insert("grpc-status", HeaderValue::from(code));
    if !reply.body.is_empty() {
        let message = grpc::encode_message(&String::from_utf8_lossy(&reply.body));
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", message);
        }
    }
    let mut response = Response::new(ResponseBody::local(Bytes::new(), exchange));
    *response.headers_mut() = headers;
    response
}
