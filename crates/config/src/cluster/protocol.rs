//! What a cluster speaks: Redis credentials, HTTP's options, HTTP/2 pings.

use std::time::Duration;

use redplane_proto::pb::envoy::config::cluster::v3 as proto;
use redplane_proto::pb::envoy::config::core::v3::Http2ProtocolOptions;
use redplane_proto::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use redplane_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use redplane_proto::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use redplane_proto::type_url;

use super::RedisAuth;
use crate::extension::Extension;
use crate::field::{positive_or, required};
use crate::http::{HttpCluster, UpstreamProtocol};
use crate::{Ignored, Invalid, metadata};

/// Pings on HTTP/2 connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Keepalive {
    /// Time between two pings.
    pub interval: Duration,
    /// How long an answer may take before the connection is given up.
    pub timeout: Duration,
}

/// `connection_keepalive`: without an interval there are no pings.
fn http2_keepalive(message: &Http2ProtocolOptions, path: &str) -> Result<Option<Http2Keepalive>, Invalid> {
    let Some(keepalive) = message.connection_keepalive.as_ref() else {
        return Ok(None);
    };
    let within = |invalid: Invalid| invalid.within("connection_keepalive").within(path);
    let timeout = required(keepalive.timeout.as_ref(), "timeout").map_err(within)?;
    let timeout = positive_or(Some(timeout), "timeout", Duration::ZERO).map_err(within)?;
    let Some(interval) = keepalive.interval.as_ref() else {
        return Ok(None);
    };
    let interval = positive_or(Some(interval), "interval", Duration::ZERO).map_err(within)?;
    Ok(Some(Http2Keepalive { interval, timeout }))
}

/// `typed_extension_protocol_options`, as far as they are known.
pub(super) struct Options {
    pub(super) redis_auth: RedisAuth,
    pub(super) http2: bool,
    pub(super) http: HttpCluster,
    pub(super) http2_keepalive: Option<Http2Keepalive>,
}

/// Istio's word in the metadata, on clusters that must not be offered its protocols.
fn alpn_override(message: &proto::Cluster) -> bool {
    let objects = message.metadata.as_ref().and_then(metadata::objects);
    let istio = objects.as_ref().and_then(|objects| objects.get("istio"));
    istio.and_then(|istio| istio.get("alpn_override")?.as_str()) != Some("false")
}

/// redplane's own word in the metadata. One that is mistyped there must not let logins through.
pub(super) fn client_logins(message: &proto::Cluster) -> Result<bool, Invalid> {
    let objects = message.metadata.as_ref().and_then(metadata::objects);
    let Some(own) = objects.as_ref().and_then(|objects| objects.get("redplane")) else {
        return Ok(true);
    };
    let mut passes = true;
    for (name, value) in own.as_object().into_iter().flatten() {
        let refused = |reason| {
            Err(Invalid::new(
                format!("metadata.filter_metadata[redplane].{name}"),
                reason,
            ))
        };
        match (name.as_str(), value.as_bool()) {
            ("client_logins", Some(given)) => passes = given,
            ("client_logins", None) => return refused("must be true or false"),
            _ => return refused("not known"),
        }
    }
    Ok(passes)
}

impl Options {
    pub(super) fn from_proto(message: &proto::Cluster, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let mut options = Self {
            redis_auth: RedisAuth::default(),
            http2: message.http2_protocol_options.is_some(),
            http: HttpCluster::default(),
            http2_keepalive: None,
        };
        if let Some(http2) = message.http2_protocol_options.as_ref() {
            options.http.protocol = UpstreamProtocol::Http2;
            options.http2_keepalive = http2_keepalive(http2, "http2_protocol_options")?;
        }
        // In the order of the keys, as a protobuf map has none of its own.
        let mut entries: Vec<_> = message.typed_extension_protocol_options.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| key.as_str());
        for (key, any) in entries {
            let extension = Extension::new(key, Some(any));
            ignored.scope(&format!("typed_extension_protocol_options[{key}]"), |ignored| {
                options.read(&extension, ignored)
            })?;
        }
        options.http.alpn_override = alpn_override(message);
        Ok(options)
    }

    fn read(&mut self, extension: &Extension<'_>, ignored: &mut Ignored) -> Result<(), Invalid> {
        match extension.type_url.as_str() {
            type_url::REDIS_PROTOCOL_OPTIONS => {
                self.redis_auth = RedisAuth::from_proto(&extension.decode(ignored)?, ignored)?;
            }
            type_url::HTTP_PROTOCOL_OPTIONS => {
                let http: HttpProtocolOptions = extension.decode(ignored)?;
                self.http = HttpCluster::from_proto(&http, ignored)?;
                self.http2 |= self.http.protocol == UpstreamProtocol::Http2;
                if let Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) =
                    &http.upstream_protocol_options
                    && let Some(ProtocolConfig::Http2ProtocolOptions(http2)) = &explicit.protocol_config
                {
                    let path = "explicit_http_config.http2_protocol_options";
                    self.http2_keepalive = http2_keepalive(http2, path)?;
                }
            }
            _ => ignored.note("not known"),
        }
        Ok(())
    }
}
