//! Protocol options: of HTTP/1 and HTTP/2, and of a cluster.

mod cluster;

use std::time::Duration;

use redplane_config_core::field::duration;
use redplane_config_core::invalid::ignore_fields;
use redplane_config_core::{Ignored, Invalid};
use redplane_proto::pb::envoy::config::core::v3 as core;
use redplane_proto::pb::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;

pub use cluster::{HttpCluster, UpstreamProtocol};

/// `Http1ProtocolOptions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http1Options {
    /// HTTP/1.0 is served.
    pub http10: bool,
    /// `default_host_for_http_10`; empty is none.
    pub default_host: String,
    /// How header names are written.
    pub names: HeaderNames,
}

/// `header_key_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderNames {
    /// Lower case.
    #[default]
    Lower,
    /// `Content-Type`.
    Proper,
    /// As they came.
    Preserve,
}

/// `Http2ProtocolOptions`; absent fields leave it to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http2Options {
    /// `max_concurrent_streams`.
    pub streams: Option<u32>,
    /// `initial_stream_window_size`.
    pub stream_window: Option<u32>,
    /// `initial_connection_window_size`.
    pub connection_window: Option<u32>,
    /// `hpack_table_size`.
    pub table_size: Option<u32>,
    /// `connection_keepalive.interval`.
    pub ping_interval: Option<Duration>,
    /// `connection_keepalive.timeout`.
    pub ping_timeout: Option<Duration>,
}

impl Default for Http1Options {
    fn default() -> Self {
        Self {
            http10: false,
            default_host: String::new(),
            names: HeaderNames::Lower,
        }
    }
}

impl Http1Options {
    pub(super) fn from_proto(
        message: Option<&core::Http1ProtocolOptions>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let Some(message) = message else {
            return Ok(Self::default());
        };
        ignore_fields!(
            ignored,
            message,
            enable_trailers,
            use_balsa_parser,
            allow_custom_methods,
            override_stream_error_on_invalid_http_message,
            send_fully_qualified_url,
            ignore_http_11_upgrade
        );
        if message.allow_absolute_url.is_some_and(|flag| !flag.value) {
            ignored.note("allow_absolute_url: whole URLs are taken apart in any case");
        }
        if message.allow_chunked_length {
            return Err(Invalid::new(
                "allow_chunked_length",
                "a request with both lengths is refused here in any case",
            ));
        }
        let format = message.header_key_format.as_ref();
        Ok(Self {
            http10: message.accept_http_10,
            default_host: message.default_host_for_http_10.clone(),
            names: match format.and_then(|format| format.header_format.as_ref()) {
                None => HeaderNames::Lower,
                Some(HeaderFormat::ProperCaseWords(_)) => HeaderNames::Proper,
                Some(HeaderFormat::StatefulFormatter(formatter))
                    if formatter.name.ends_with("preserve_case") =>
                {
                    HeaderNames::Preserve
                }
                Some(HeaderFormat::StatefulFormatter(formatter)) => {
                    ignored.note(format!("header_key_format: {} is not known", formatter.name));
                    HeaderNames::Lower
                }
            },
        })
    }
}

impl Http2Options {
    pub(super) fn from_proto(
        message: Option<&core::Http2ProtocolOptions>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let Some(message) = message else {
            return Ok(Self::default());
        };
        ignore_fields!(
            ignored,
            message,
            allow_metadata,
            max_outbound_frames,
            max_outbound_control_frames,
            max_consecutive_inbound_frames_with_empty_payload,
            max_inbound_priority_frames_per_stream,
            max_inbound_window_update_frames_per_data_frame_sent,
            stream_error_on_invalid_http_messaging,
            use_oghttp2_codec,
            override_stream_error_on_invalid_http_message,
            custom_settings_parameters,
            max_metadata_size,
            enable_huffman_encoding,
            max_header_field_size_kb,
            allow_connect,
            stream_reset_burst,
            stream_reset_rate,
            disallow_obs_text
        );
        let keepalive = message.connection_keepalive.as_ref();
        if let Some(keepalive) = keepalive {
            ignored.scope("connection_keepalive", |ignored| {
                ignore_fields!(ignored, keepalive, interval_jitter, connection_idle_interval);
                Ok(())
            })?;
        }
        let window = |value: Option<u32>, path: &str| match value {
            Some(size) if !(65_535..=2_147_483_647).contains(&size) => Err(Invalid::new(
                path,
                "value must be inside range [65535, 2147483647]",
            )),
            size => Ok(size),
        };
        let streams = message.max_concurrent_streams.map(|streams| streams.value);
        if streams == Some(0) {
            return Err(Invalid::new(
                "max_concurrent_streams",
                "value must be inside range [1, 2147483647]",
            ));
        }
        let time = |value: Option<&_>, path: &str| value.map(|value| duration(value, path)).transpose();
        Ok(Self {
            streams,
            stream_window: window(
                message.initial_stream_window_size.map(|size| size.value),
                "initial_stream_window_size",
            )?,
            connection_window: window(
                message.initial_connection_window_size.map(|size| size.value),
                "initial_connection_window_size",
            )?,
            table_size: message.hpack_table_size.map(|size| size.value),
            ping_interval: time(
                keepalive.and_then(|keepalive| keepalive.interval.as_ref()),
                "connection_keepalive.interval",
            )?,
            ping_timeout: time(
                keepalive.and_then(|keepalive| keepalive.timeout.as_ref()),
                "connection_keepalive.timeout",
            )?,
        })
    }
}
