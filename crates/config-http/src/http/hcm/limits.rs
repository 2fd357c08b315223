//! How large and how slow a request may be.

use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3::HttpProtocolOptions;
use redplane_proto::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as proto;
use redplane_proto::pb::google::protobuf;

use crate::field::{duration, enumeration};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Sizes and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The head of a request, in bytes. Default 60 KiB.
    pub header_bytes: usize,
    /// Headers of a request. Default 100.
    pub header_count: usize,
    /// What becomes of names with underscores.
    pub underscores: UnderscoreAction,
    /// `max_requests_per_connection`; `None` is no limit.
    pub requests_per_connection: Option<u32>,
}

/// `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderscoreAction {
    /// Served.
    #[default]
    Allow,
    /// 400.
    Reject,
    /// The header goes.
    Drop,
}

/// Limits of time; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// A connection without a request. Default 1 h.
    pub idle: Option<Duration>,
    /// `max_connection_duration`.
    pub connection: Option<Duration>,
    /// `max_stream_duration`.
    pub stream: Option<Duration>,
    /// `stream_idle_timeout`: a stream on which nothing moves. Default 5 min.
    pub stream_idle: Option<Duration>,
    /// `request_timeout`: a whole request.
    pub request: Option<Duration>,
    /// `request_headers_timeout`: its head.
    pub headers: Option<Duration>,
    /// `drain_timeout`: between the two GOAWAYs. Default 5 s.
    pub drain: Duration,
}

impl Limits {
    pub(super) fn from_proto(
        message: &proto::HttpConnectionManager,
        common: Option<&HttpProtocolOptions>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let kilobytes = message.max_request_headers_kb.map_or(60, |limit| limit.value);
        if !(1..=8192).contains(&kilobytes) {
            return Err(Invalid::new(
                "max_request_headers_kb",
                "value must be inside range (0, 8192]",
            ));
        }
        let mut limits = Self {
            header_bytes: kilobytes as usize * 1024,
            header_count: 100,
            underscores: UnderscoreAction::Allow,
            requests_per_connection: None,
        };
        let Some(common) = common else { return Ok(limits) };
        ignored.scope("common_http_protocol_options", |ignored| {
            ignore_fields!(
                ignored,
                common,
                max_response_headers_kb,
                max_connection_duration_jitter
            );
            let path = "headers_with_underscores_action";
            limits.underscores = match enumeration(common.headers_with_underscores_action, path)? {
                HeadersWithUnderscoresAction::Allow => UnderscoreAction::Allow,
                HeadersWithUnderscoresAction::RejectRequest => UnderscoreAction::Reject,
                HeadersWithUnderscoresAction::DropHeader => UnderscoreAction::Drop,
            };
            if let Some(count) = common.max_headers_count {
                if count.value == 0 {
                    return Err(Invalid::new(
                        "max_headers_count",
                        "value must be greater than or equal to 1",
                    ));
                }
                limits.header_count = count.value as usize;
            }
            limits.requests_per_connection = common
                .max_requests_per_connection
                .map(|limit| limit.value)
                .filter(|limit| *limit > 0);
            Ok(limits)
        })
    }
}

impl HttpTimeouts {
    pub(super) fn from_proto(
        message: &proto::HttpConnectionManager,
        common: Option<&HttpProtocolOptions>,
    ) -> Result<Self, Invalid> {
        let of = |pick: fn(&HttpProtocolOptions) -> Option<&protobuf::Duration>, path: &str| {
            limit(
                common.and_then(pick),
                &format!("common_http_protocol_options.{path}"),
            )
        };
        let hour = Duration::from_secs(3600);
        let minutes = Duration::from_secs(300);
        Ok(Self {
            idle: some(of(|common| common.idle_timeout.as_ref(), "idle_timeout")?.unwrap_or(hour)),
            connection: of(
                |common| common.max_connection_duration.as_ref(),
                "max_connection_duration",
            )?
            .and_then(some),
            stream: of(
                |common| common.max_stream_duration.as_ref(),
                "max_stream_duration",
            )?
            .and_then(some),
            stream_idle: some(
                limit(message.stream_idle_timeout.as_ref(), "stream_idle_timeout")?.unwrap_or(minutes),
            ),
            request: limit(message.request_timeout.as_ref(), "request_timeout")?.and_then(some),
            headers: limit(
                message.request_headers_timeout.as_ref(),
                "request_headers_timeout",
            )?
            .and_then(some),
            drain: limit(message.drain_timeout.as_ref(), "drain_timeout")?.unwrap_or(Duration::from_secs(5)),
        })
    }
}

fn limit(value: Option<&protobuf::Duration>, path: &str) -> Result<Option<Duration>, Invalid> {
    value.map(|value| duration(value, path)).transpose()
}

/// Zero switches a limit off.
fn some(limit: Duration) -> Option<Duration> {
    (!limit.is_zero()).then_some(limit)
}
