//! Protocol options: of HTTP/1 and HTTP/2, and `HttpProtocolOptions` of a cluster.

use std::time::Duration;

use http::HeaderName;
use redplane_proto::pb::envoy::config::core::v3 as core;
use redplane_proto::pb::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;
use redplane_proto::pb::envoy::extensions::upstreams::http::v3 as proto;
use redplane_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use redplane_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;

use crate::field::{duration, duration_or};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

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

/// The HTTP side of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCluster {
    /// Which protocol is spoken to it.
    pub protocol: UpstreamProtocol,
    /// A connection without a request. Default 1 h; `None` never.
    pub idle_timeout: Option<Duration>,
    /// `max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `max_requests_per_connection`.
    pub max_requests: Option<u32>,
    /// HTTP/1 towards it.
    pub http1: Http1Options,
    /// HTTP/2 towards it.
    pub http2: Http2Options,
    /// `auto_sni`: SNI is the request's host.
    pub auto_sni: bool,
    /// `override_auto_sni_header`: SNI is the value of this header, if it is there.
    pub sni_header: Option<HeaderName>,
    /// `auto_san_validation`: the certificate must have the name that was asked for.
    pub match_sni: bool,
    /// `istio.alpn` may say what TLS offers; metadata of the cluster (`istio`, `alpn_override`) can forbid it.
    pub alpn_override: bool,
}

/// Which protocol is spoken to a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, by prior knowledge or ALPN.
    Http2,
    /// What the client speaks.
    Downstream,
    /// What ALPN chooses (`auto_config`).
    Negotiated,
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

impl Default for HttpCluster {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Http1,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_requests: None,
            http1: Http1Options::default(),
            http2: Http2Options::default(),
            auto_sni: false,
            sni_header: None,
            match_sni: false,
            alpn_override: true,
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

impl HttpCluster {
    /// Reads `HttpProtocolOptions`.
    ///
    /// # Errors
    ///
    /// Sizes and times out of range.
    pub fn from_proto(message: &proto::HttpProtocolOptions, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(
            ignored,
            message,
            http_filters,
            header_validation_config,
            outlier_detection,
            request_mirror_policies,
            hash_policy,
            retry_policy
        );
        let mut cluster = Self::default();
        if let Some(common) = message.common_http_protocol_options.as_ref() {
            ignored.scope("common_http_protocol_options", |ignored| {
                cluster.read_common(common, ignored)
            })?;
        }
        if let Some(upstream) = message.upstream_http_protocol_options.as_ref() {
            ignored.scope("upstream_http_protocol_options", |_| cluster.read_sni(upstream))?;
        }
        let (protocol, http1, http2) = match message.upstream_protocol_options.as_ref() {
            None => (UpstreamProtocol::Http1, None, None),
            Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
                match explicit.protocol_config.as_ref() {
                    None => (UpstreamProtocol::Http1, None, None),
                    Some(ProtocolConfig::HttpProtocolOptions(http1)) => {
                        (UpstreamProtocol::Http1, Some(http1), None)
                    }
                    Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                        (UpstreamProtocol::Http2, None, Some(http2))
                    }
                    Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                        return Err(Invalid::new(
                            "explicit_http_config.http3_protocol_options",
                            "HTTP/3 is not supported",
                        ));
                    }
                }
            }
            Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(both)) => (
                UpstreamProtocol::Downstream,
                both.http_protocol_options.as_ref(),
                both.http2_protocol_options.as_ref(),
            ),
            Some(UpstreamProtocolOptions::AutoConfig(auto)) => {
                ignored.note("auto_config: HTTP/1.1 is spoken, whatever ALPN would choose");
                (
                    UpstreamProtocol::Negotiated,
                    auto.http_protocol_options.as_ref(),
                    auto.http2_protocol_options.as_ref(),
                )
            }
        };
        cluster.protocol = protocol;
        cluster.http1 = Http1Options::from_proto(http1, ignored)?;
        cluster.http2 = Http2Options::from_proto(http2, ignored)?;
        Ok(cluster)
    }

    fn read_sni(&mut self, options: &core::UpstreamHttpProtocolOptions) -> Result<(), Invalid> {
        if options.auto_san_validation && !options.auto_sni {
            return Err(Invalid::new(
                "auto_san_validation",
                "auto_san_validation is only available with auto_sni",
            ));
        }
        self.auto_sni = options.auto_sni;
        self.match_sni = options.auto_san_validation;
        self.sni_header = match options.override_auto_sni_header.as_str() {
            "" => None,
            name => Some(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| Invalid::new("override_auto_sni_header", "is no header name"))?,
            ),
        };
        Ok(())
    }

    fn read_common(
        &mut self,
        common: &core::HttpProtocolOptions,
        ignored: &mut Ignored,
    ) -> Result<(), Invalid> {
        ignore_fields!(ignored, common, max_connection_duration_jitter, max_headers_count);
        ignore_fields!(ignored, common, max_response_headers_kb, max_stream_duration);
        let idle = duration_or(
            common.idle_timeout.as_ref(),
            "idle_timeout",
            Duration::from_secs(3600),
        )?;
        self.idle_timeout = (!idle.is_zero()).then_some(idle);
        let life = duration_or(
            common.max_connection_duration.as_ref(),
            "max_connection_duration",
            Duration::ZERO,
        )?;
        self.max_connection_duration = (!life.is_zero()).then_some(life);
        self.max_requests = common
            .max_requests_per_connection
            .map(|limit| limit.value)
            .filter(|limit| *limit > 0);
        Ok(())
    }
}
