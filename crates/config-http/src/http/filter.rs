//! HTTP filters: the closed set of those that are served, and what becomes of all others.
//!
//! The type decides, never the name. A filter that only watches is noted and left out. One that would keep requests
//! out and is not enforced here closes the whole chain: it is never skipped.

mod cors;
mod fault;
mod overrides;
mod rate_limit;

use std::sync::Arc;

use redplane_proto::istio::{alpn, peer_metadata};
use redplane_proto::pb::envoy::config::core::v3::ExtensionConfigSource;
use redplane_proto::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit as RateLimitProto;
use redplane_proto::pb::envoy::extensions::filters::http::router::v3::Router as RouterProto;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as proto;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use redplane_proto::type_url;

pub use crate::token_bucket::TokenBucket;
pub use cors::CorsPolicy;
pub use fault::{Abort, AbortStatus, Delay, Fault};
pub use overrides::{FilterOverride, Overrides};
pub use rate_limit::LocalRateLimit;

use crate::extension::{Extension, type_name};
use crate::field::non_empty;
use crate::invalid::ignore_fields;
use crate::jwt::JwtAuthn;
use crate::rbac::HttpRbac;
use crate::{Ignored, Invalid};

/// A filter and the name under which routes override it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedFilter {
    /// As configured.
    pub name: String,
    /// It runs only on routes that say so.
    pub disabled: bool,
    /// What it is.
    pub filter: HttpFilter,
}

/// The HTTP filters that are served.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpFilter {
    /// Faults: delays and aborts.
    Fault(Arc<Fault>),
    /// CORS; policies come with routes.
    Cors,
    /// Local rate limit.
    RateLimit(Arc<LocalRateLimit>),
    /// Access rules.
    Rbac(Arc<HttpRbac>),
    /// Tokens that requests must carry.
    Jwt(Arc<JwtAuthn>),
    /// `istio.alpn`: which protocols TLS towards a cluster offers, by the protocol that is spoken to it.
    Alpn(AlpnOverride),
    /// `istio.metadata_exchange`: takes what peers say of themselves off the message.
    PeerMetadata(PeerMetadata),
    /// The end of the chain.
    Router(Router),
}

/// `istio.alpn`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlpnOverride {
    /// Offered where HTTP/1.1 is spoken.
    pub http1: Vec<String>,
    /// Offered where HTTP/2 is spoken.
    pub http2: Vec<String>,
}

/// `io.istio.http.peer_metadata.Config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerMetadata {
    /// The client's headers are read and removed.
    pub from_downstream: bool,
    /// The server's headers are read and removed.
    pub from_upstream: bool,
}

/// `Router`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// `suppress_envoy_headers`.
    pub suppress_envoy_headers: bool,
}

/// What became of one filter.
enum Fate {
    Served(HttpFilter),
    /// Left out; the note says why.
    Noted(String),
    /// The chain must not be served, for this reason.
    Closed(String),
}

/// The filters of a connection manager, or the reason why it must not be served.
pub(super) fn read(
    messages: &[proto::HttpFilter],
    ignored: &mut Ignored,
) -> Result<Result<Vec<NamedFilter>, String>, Invalid> {
    let mut served = Vec::with_capacity(messages.len());
    let mut closed = None;
    let fates = ignored.each("http_filters", messages, |message, ignored| {
        let fate = one(message, ignored)?;
        if let Fate::Noted(note) = &fate {
            ignored.note(note.clone());
        }
        Ok((message.name.clone(), message.disabled, fate))
    })?;
    let last = fates.len().saturating_sub(1);
    for (at, (name, disabled, fate)) in fates.into_iter().enumerate() {
        match fate {
            Fate::Noted(_) => {}
            Fate::Closed(reason) => {
                closed.get_or_insert(reason);
            }
            Fate::Served(HttpFilter::Router(_)) if at != last => {
                let reason =
                    format!("terminal filter named {name} must be the last filter in a http filter chain");
                return Err(Invalid::new(format!("http_filters[{at}]"), reason));
            }
            Fate::Served(filter) => served.push(NamedFilter {
                name,
                disabled,
                filter,
            }),
        }
    }
    if let Some(reason) = closed {
        return Ok(Err(reason));
    }
    if !matches!(
        served.last(),
        Some(NamedFilter {
            filter: HttpFilter::Router(_),
            ..
        })
    ) {
        let reason = "the last filter in a http filter chain must be the router";
        return Err(Invalid::new("http_filters", reason));
    }
    Ok(Ok(served))
}

fn one(message: &proto::HttpFilter, ignored: &mut Ignored) -> Result<Fate, Invalid> {
    let name = non_empty(&message.name, "name")?;
    let any = match message.config_type.as_ref() {
        Some(ConfigType::ConfigDiscovery(discovery)) => return discovered(&name, discovery, ignored),
        Some(ConfigType::TypedConfig(any)) => Some(any),
        None => None,
    };
    let extension = Extension::new(&name, any);
    ignored.scope("typed_config", |ignored| typed(&extension, ignored))
}

fn not_enforced(name: &str) -> Fate {
    Fate::Closed(format!(
        "filter `{name}` is not enforced here, so that nobody is let in"
    ))
}

/// Filters that keep requests out. RBAC and tokens are enforced where their configuration is at hand.
fn is_guard(type_url: &str) -> bool {
    let name = type_name(type_url);
    let kind = name
        .strip_prefix("envoy.extensions.filters.http.")
        .unwrap_or_default();
    matches!(
        kind.split('.').next().unwrap_or_default(),
        "rbac"
            | "jwt_authn"
            | "ext_authz"
            | "oauth2"
            | "basic_auth"
            | "api_key_auth"
            | "csrf"
            | "credential_injector"
    )
}

/// A filter whose configuration would come by ECDS: its default counts.
fn discovered(name: &str, discovery: &ExtensionConfigSource, ignored: &mut Ignored) -> Result<Fate, Invalid> {
    if let Some(default) = discovery.default_config.as_ref() {
        let extension = Extension::new(name, Some(default));
        return ignored.scope("config_discovery.default_config", |ignored| {
            typed(&extension, ignored)
        });
    }
    if discovery.type_urls.iter().any(|url| is_guard(url)) {
        return Ok(not_enforced(name));
    }
    Ok(Fate::Noted(format!("config_discovery: {name} is left out")))
}

fn typed(extension: &Extension<'_>, ignored: &mut Ignored) -> Result<Fate, Invalid> {
    Ok(Fate::Served(match extension.type_url.as_str() {
        type_url::ROUTER => HttpFilter::Router(Router::from_proto(&extension.decode(ignored)?, ignored)),
        type_url::HTTP_FAULT => {
            HttpFilter::Fault(Arc::new(Fault::from_proto(&extension.decode(ignored)?, ignored)?))
        }
        type_url::CORS => HttpFilter::Cors,
        type_url::HTTP_LOCAL_RATELIMIT => {
            let message: RateLimitProto = extension.decode(ignored)?;
            HttpFilter::RateLimit(Arc::new(LocalRateLimit::from_proto(&message, ignored)?))
        }
        type_url::ISTIO_ALPN => HttpFilter::Alpn(AlpnOverride::from_proto(&extension.decode(ignored)?)),
        type_url::PEER_METADATA => {
            HttpFilter::PeerMetadata(PeerMetadata::from_proto(&extension.decode(ignored)?, ignored))
        }
        type_url::HTTP_RBAC => HttpFilter::Rbac(Arc::new(HttpRbac::from_proto(
            &extension.decode(ignored)?,
            ignored,
        )?)),
        type_url::JWT_AUTHN => HttpFilter::Jwt(Arc::new(JwtAuthn::from_proto(
            &extension.decode(ignored)?,
            ignored,
        )?)),
        url if is_guard(url) => return Ok(not_enforced(extension.label())),
        _ => {
            return Ok(Fate::Noted(format!(
                "typed_config: {} is left out",
                extension.label()
            )));
        }
    }))
}

impl Router {
    fn from_proto(message: &RouterProto, ignored: &mut Ignored) -> Self {
        ignore_fields!(
            ignored,
            message,
            start_child_span,
            upstream_log,
            upstream_log_options
        );
        ignore_fields!(ignored, message, strict_check_headers, upstream_http_filters);
        ignore_fields!(ignored, message, reject_connect_request_early_data);
        ignore_fields!(ignored, message, suppress_grpc_request_failure_code_stats);
        if message.respect_expected_rq_timeout {
            ignored.note("respect_expected_rq_timeout: every request is external, whose header is removed");
        }
        if message.dynamic_stats.is_some_and(|flag| !flag.value) {
            ignored.note("dynamic_stats: they are counted");
        }
        Self {
            suppress_envoy_headers: message.suppress_envoy_headers,
        }
    }
}

impl AlpnOverride {
    fn from_proto(message: &alpn::FilterConfig) -> Self {
        use alpn::filter_config::Protocol;
        let of = |protocol: Protocol| {
            let entry = message
                .alpn_override
                .iter()
                .find(|entry| entry.upstream_protocol == protocol as i32);
            entry.map(|entry| entry.alpn_override.clone()).unwrap_or_default()
        };
        Self {
            http1: of(Protocol::Http11),
            http2: of(Protocol::Http2),
        }
    }
}

impl PeerMetadata {
    fn from_proto(message: &peer_metadata::Config, ignored: &mut Ignored) -> Self {
        use peer_metadata::config::discovery_method::MethodSpecifier;
        if !message.downstream_propagation.is_empty() || !message.upstream_propagation.is_empty() {
            ignored.note("propagation: this proxy says nothing of itself");
        }
        let reads = |methods: &[peer_metadata::config::DiscoveryMethod]| {
            methods
                .iter()
                .any(|method| matches!(method.method_specifier, Some(MethodSpecifier::IstioHeaders(_))))
        };
        Self {
            from_downstream: reads(&message.downstream_discovery),
            from_upstream: reads(&message.upstream_discovery),
        }
    }
}
