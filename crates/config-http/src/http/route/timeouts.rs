//! How long a request may take, as its route says.

use std::time::Duration;

use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::pb::google::protobuf;

use crate::field::duration;
use crate::{Ignored, Invalid};

/// Limits of time. `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// `timeout`, 15 s where absent: from the end of the request to the end of the response.
    pub response: Option<Duration>,
    /// `idle_timeout`; `Some(None)` switches the connection manager's off.
    pub idle: Option<Option<Duration>>,
    /// `max_grpc_timeout` or `max_stream_duration.grpc_timeout_header_max`: gRPC requests obey their own
    /// `grpc-timeout`, up to this much; zero is no cap.
    pub grpc_max: Option<Duration>,
    /// `max_stream_duration`, `Some(None)` switches the connection manager's off.
    pub stream: Option<Option<Duration>>,
}

impl RouteTimeouts {
    pub(super) fn from_proto(message: &proto::RouteAction, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let limit = |value: Option<&protobuf::Duration>, path: &str| {
            value.map(|value| duration(value, path)).transpose()
        };
        let some = |limit: Duration| (!limit.is_zero()).then_some(limit);
        let response = limit(message.timeout.as_ref(), "timeout")?;
        let stream = message.max_stream_duration.as_ref();
        let stream_limit = limit(
            stream.and_then(|stream| stream.max_stream_duration.as_ref()),
            "max_stream_duration.max_stream_duration",
        )?;
        let offset = stream.is_some_and(|stream| stream.grpc_timeout_header_offset.is_some());
        if offset {
            ignored.note("max_stream_duration.grpc_timeout_header_offset");
        }
        let header_max = limit(
            stream.and_then(|stream| stream.grpc_timeout_header_max.as_ref()),
            "max_stream_duration.grpc_timeout_header_max",
        )?;
        Ok(Self {
            response: some(response.unwrap_or(Duration::from_secs(15))),
            idle: limit(message.idle_timeout.as_ref(), "idle_timeout")?.map(some),
            grpc_max: header_max.or(limit(message.max_grpc_timeout.as_ref(), "max_grpc_timeout")?),
            stream: stream_limit.map(some),
        })
    }
}
