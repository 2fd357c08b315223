//! `HttpConnectionManager`: what becomes of a connection that speaks HTTP.
//!
//! Every field is served, refused with its path, or noted. A chain with a filter that would keep requests out and is
//! not enforced here is [`Usable::Inert`]: its connections are refused.

mod headers;
mod limits;
mod paths;

use std::sync::Arc;

use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as proto;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, RouteSpecifier,
};

pub use headers::{HeaderSettings, RequestId, ServerHeader};
pub use limits::{HttpTimeouts, Limits, UnderscoreAction};
pub use paths::{EscapedSlashes, HostSettings, PathSettings, StripPort};

use super::filter::{self, HttpFilter, NamedFilter};
use super::options::{Http1Options, Http2Options};
use super::route::{RouteConfiguration, Upgrade};
use crate::access_log::AccessLog;
use crate::config_source::ConfigSource;
use crate::field::{enumeration, non_empty, required};
use crate::invalid::ignore_fields;
use crate::tls::Usable;
use crate::{Ignored, Invalid};

/// One validated connection manager.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConnectionManager {
    /// Stats go under `http.<stat_prefix>.`.
    pub stat_prefix: String,
    /// Which protocol a connection speaks.
    pub codec: Codec,
    /// Where routes come from.
    pub routes: RouteSource,
    /// In order; the last one is the router.
    pub filters: Vec<NamedFilter>,
    /// What is done to headers.
    pub headers: HeaderSettings,
    /// What is done to paths.
    pub path: PathSettings,
    /// What is done to Host.
    pub host: HostSettings,
    /// Sizes and counts.
    pub limits: Limits,
    /// Limits of time.
    pub timeouts: HttpTimeouts,
    /// HTTP/1 towards the client.
    pub http1: Http1Options,
    /// HTTP/2 towards the client.
    pub http2: Http2Options,
    /// `upgrade_configs`.
    pub upgrades: Vec<Upgrade>,
    /// A line for each request.
    pub access_log: Vec<AccessLog>,
}

/// `codec_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// ALPN says, else the preface.
    #[default]
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// `route_specifier`.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteSource {
    /// `route_config`.
    Inline(Arc<RouteConfiguration>),
    /// `rds`: under this name, from there.
    Rds {
        /// The resource's name.
        name: String,
        /// Where it comes from.
        source: ConfigSource,
    },
}

impl HttpConnectionManager {
    /// Reads the message.
    ///
    /// # Errors
    ///
    /// What would be answered wrongly, with the path of the field.
    pub fn from_proto(
        message: &proto::HttpConnectionManager,
        ignored: &mut Ignored,
    ) -> Result<Usable<Self>, Invalid> {
        note_ignored(message, ignored);
        refuse_unsupported(message)?;
        let filters = match filter::read(&message.http_filters, ignored)? {
            Ok(filters) => filters,
            Err(reason) => return Ok(Usable::Inert(reason)),
        };
        let common = message.common_http_protocol_options.as_ref();
        Ok(Usable::Ready(Self {
            stat_prefix: non_empty(&message.stat_prefix, "stat_prefix")?,
            codec: match enumeration(message.codec_type, "codec_type")? {
                CodecType::Auto => Codec::Auto,
                CodecType::Http1 => Codec::Http1,
                CodecType::Http2 => Codec::Http2,
                CodecType::Http3 => return Ok(Usable::Inert("HTTP/3 is not served".to_owned())),
            },
            routes: RouteSource::from_proto(message.route_specifier.as_ref(), ignored)?,
            filters,
            headers: HeaderSettings::from_proto(message, ignored)?,
            path: PathSettings::from_proto(message)?,
            host: HostSettings::from_proto(message)?,
            limits: Limits::from_proto(message, common, ignored)?,
            timeouts: HttpTimeouts::from_proto(message, common)?,
            http1: ignored.scope("http_protocol_options", |ignored| {
                Http1Options::from_proto(message.http_protocol_options.as_ref(), ignored)
            })?,
            http2: ignored.scope("http2_protocol_options", |ignored| {
                Http2Options::from_proto(message.http2_protocol_options.as_ref(), ignored)
            })?,
            upgrades: ignored.each("upgrade_configs", &message.upgrade_configs, upgrade)?,
            access_log: AccessLog::list(&message.access_log, ignored)?,
        }))
    }
}

impl HttpConnectionManager {
    /// Every cluster that inline routes name, and those that keys of tokens come from.
    pub fn clusters(&self) -> Vec<&str> {
        let mut names = match &self.routes {
            RouteSource::Inline(routes) => routes.clusters(),
            RouteSource::Rds { .. } => Vec::new(),
        };
        let tokens = self.filters.iter().filter_map(|named| match &named.filter {
            HttpFilter::Jwt(tokens) => Some(tokens),
            _ => None,
        });
        names.extend(tokens.flat_map(|tokens| tokens.clusters()));
        names
    }
}

impl RouteSource {
    fn from_proto(specifier: Option<&RouteSpecifier>, ignored: &mut Ignored) -> Result<Self, Invalid> {
        match specifier {
            None => Err(Invalid::new("route_specifier", "value is required")),
            Some(RouteSpecifier::RouteConfig(routes)) => ignored.scope("route_config", |ignored| {
                let routes = RouteConfiguration::from_proto(routes)?;
                routes
                    .ignored
                    .0
                    .iter()
                    .for_each(|note| ignored.note(note.clone()));
                Ok(Self::Inline(Arc::new(routes)))
            }),
            Some(RouteSpecifier::Rds(rds)) => {
                let source = required(rds.config_source.as_ref(), "rds.config_source")?;
                Ok(Self::Rds {
                    name: non_empty(&rds.route_config_name, "rds.route_config_name")?,
                    source: ignored.scope("rds.config_source", |ignored| {
                        ConfigSource::shared(source, ignored)
                    })?,
                })
            }
            Some(RouteSpecifier::ScopedRoutes(_)) => {
                Err(Invalid::new("scoped_routes", "scoped routes are not supported"))
            }
        }
    }
}

fn upgrade(
    message: &proto::http_connection_manager::UpgradeConfig,
    ignored: &mut Ignored,
) -> Result<Upgrade, Invalid> {
    ignore_fields!(ignored, message, filters);
    let kind = non_empty(&message.upgrade_type, "upgrade_type")?.to_ascii_lowercase();
    if kind == "connect" {
        ignored.note("upgrade_type: CONNECT is not served");
    }
    Ok(Upgrade {
        kind,
        enabled: message.enabled.is_none_or(|flag| flag.value),
    })
}

/// Spans are not made: without a provider Envoy makes none either. The rest changes no answer.
fn note_ignored(message: &proto::HttpConnectionManager, ignored: &mut Ignored) {
    if message
        .tracing
        .as_ref()
        .is_some_and(|tracing| tracing.provider.is_some())
    {
        ignored.note("tracing.provider: no spans are made");
    }
    ignore_fields!(
        ignored,
        message,
        http3_protocol_options,
        http1_safe_max_connection_duration
    );
    ignore_fields!(
        ignored,
        message,
        stream_flush_timeout,
        drain_timeout_jitter,
        delayed_close_timeout
    );
    ignore_fields!(
        ignored,
        message,
        access_log_flush_interval,
        flush_access_log_on_new_request
    );
    ignore_fields!(ignored, message, access_log_options, scheme_header_transformation);
    ignore_fields!(
        ignored,
        message,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6
    );
    ignore_fields!(
        ignored,
        message,
        stream_error_on_invalid_http_message,
        local_reply_config
    );
    ignore_fields!(ignored, message, proxy_status_config, append_local_overload);
    ignore_fields!(
        ignored,
        message,
        add_proxy_protocol_connection_state,
        forward_proto_config
    );
    ignore_fields!(ignored, message, internal_address_config);
}

/// What decides who a client is, or what a request says, and is not looked at here.
fn refuse_unsupported(message: &proto::HttpConnectionManager) -> Result<(), Invalid> {
    let set = [
        (
            "original_ip_detection_extensions",
            !message.original_ip_detection_extensions.is_empty(),
        ),
        (
            "early_header_mutation_extensions",
            !message.early_header_mutation_extensions.is_empty(),
        ),
        (
            "forward_client_cert_matcher",
            message.forward_client_cert_matcher.is_some(),
        ),
        (
            "typed_header_validation_config",
            message.typed_header_validation_config.is_some(),
        ),
        (
            "path_normalization_options",
            message.path_normalization_options.is_some(),
        ),
    ];
    match set.iter().find(|(_, is_set)| *is_set) {
        Some((path, _)) => Err(Invalid::new(*path, "is not supported")),
        None => Ok(()),
    }
}
