//! A reply: status, content type, body. The headers that every reply carries are added by the server.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// What a page answers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

pub(crate) const TEXT: &str = "text/plain; charset=UTF-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const HTML: &str = "text/html; charset=UTF-8";
/// The version keeps a scraper from guessing the format.
pub(crate) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Reply {
    pub(crate) fn new(content_type: &'static str, body: impl Into<String>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
        }
    }

    pub(crate) fn text(body: impl Into<String>) -> Self {
        Self::new(TEXT, body)
    }

    /// Envoy's answer to an order.
    pub(crate) fn ok() -> Self {
        Self::text("OK\n")
    }

    /// JSON in Envoy's layout: one space per level, a newline at the end.
    pub(crate) fn json(value: &Value) -> Self {
        let mut body = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut body, PrettyFormatter::with_indent(b" "));
        // A JSON value in memory has string keys only and a writer that cannot fail.
        let written = value.serialize(&mut serializer);
        body.push(b'\n');
        match (written, String::from_utf8(body)) {
            (Ok(()), Ok(body)) => Self::new(JSON, body),
            _ => Self::error(StatusCode::INTERNAL_SERVER_ERROR, "cannot be printed\n"),
        }
    }

    pub(crate) fn error(status: StatusCode, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: TEXT,
            body: body.into(),
        }
    }

    pub(crate) fn bad_request(body: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, body)
    }
}
