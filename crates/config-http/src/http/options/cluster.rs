//! `HttpProtocolOptions` of a cluster: how HTTP is spoken to it.

use std::time::Duration;

use http::HeaderName;
use redplane_config_core::field::duration_or;
use redplane_config_core::invalid::ignore_fields;
use redplane_config_core::{Ignored, Invalid};
use redplane_proto::pb::envoy::config::core::v3 as core;
use redplane_proto::pb::envoy::extensions::upstreams::http::v3 as proto;
use redplane_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use redplane_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;

use crate::http::options::{Http1Options, Http2Options};

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
