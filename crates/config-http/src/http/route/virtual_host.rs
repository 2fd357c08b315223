//! `VirtualHost` and `Route`.

use std::fmt;
use std::sync::Arc;

use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;

use super::action::Action;
use super::matching::RouteMatch;
use super::mirror::Mirror;
use super::retry::RetryPolicy;
use super::{BothWays, both_ways};
use crate::field::{enumeration, non_empty, required};
use crate::http::filter::Overrides;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid, metadata};

/// One virtual host.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// Its name.
    pub name: String,
    /// What the Host header must be, at least one.
    pub domains: Vec<Domain>,
    /// Tried in order; the first that fits is taken.
    pub routes: Vec<Arc<Route>>,
    /// Of all its routes.
    pub headers: BothWays,
    /// `require_tls`.
    pub require_tls: RequireTls,
    /// `include_request_attempt_count`: the server is told which try this is.
    pub attempt_count_upstream: bool,
    /// `include_attempt_count_in_response`.
    pub attempt_count_downstream: bool,
    /// Used by routes that have none of their own.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Used by routes that have none of their own.
    pub mirrors: Vec<Mirror>,
    /// `typed_per_filter_config`.
    pub overrides: Overrides,
}

/// One entry of `domains`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// `a.b`.
    Exact(String),
    /// `*.b`: the text holds what comes after the star.
    Suffix(String),
    /// `a.*`: the text holds what comes before the star.
    Prefix(String),
    /// `*`.
    Any,
}

/// `require_tls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireTls {
    /// Plain text is fine.
    #[default]
    No,
    /// External requests in plain text are redirected.
    ExternalOnly,
    /// All requests in plain text are redirected.
    All,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `%ROUTE_NAME%`; may be empty.
    pub name: String,
    /// When it is taken.
    pub matches: RouteMatch,
    /// What is done.
    pub action: Action,
    /// Its header changes.
    pub headers: BothWays,
    /// `typed_per_filter_config`.
    pub overrides: Overrides,
    /// How much of a request body is kept for retries; `None` leaves it to the connection's limit.
    pub buffer_limit: Option<u64>,
    /// `metadata.filter_metadata`, which access rules may ask about.
    pub metadata: Option<Box<serde_json::Map<String, serde_json::Value>>>,
}

impl VirtualHost {
    /// Reads the message.
    pub(super) fn from_proto(
        message: &proto::VirtualHost,
        body_limit: usize,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        note_ignored(message, ignored);
        if message.matcher.is_some() {
            return Err(Invalid::new("matcher", "matching trees are not supported"));
        }
        if !message.route_specifiers.is_empty() {
            return Err(Invalid::new("route_specifiers", "are not supported"));
        }
        if message.domains.is_empty() {
            return Err(Invalid::new("domains", "value must contain at least 1 item(s)"));
        }
        let retry = message.retry_policy.as_ref();
        let retry = retry
            .map(|retry| ignored.scope("retry_policy", |ignored| RetryPolicy::from_proto(retry, ignored)))
            .transpose()?
            .map(Arc::new);
        let mirrors = &message.request_mirror_policies;
        let mirrors = ignored.each("request_mirror_policies", mirrors, Mirror::from_proto)?;
        let routes = ignored.each("routes", &message.routes, |route, ignored| {
            Route::from_proto(route, (&retry, &mirrors), body_limit, ignored).map(Arc::new)
        })?;
        Ok(Self {
            name: non_empty(&message.name, "name")?,
            domains: message
                .domains
                .iter()
                .map(|domain| Domain::parse(domain))
                .collect(),
            routes,
            headers: both_ways!(message, ignored),
            require_tls: match enumeration(message.require_tls, "require_tls")? {
                TlsRequirementType::None => RequireTls::No,
                TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
                TlsRequirementType::All => RequireTls::All,
            },
            attempt_count_upstream: message.include_request_attempt_count,
            attempt_count_downstream: message.include_attempt_count_in_response,
            retry,
            mirrors,
            overrides: Overrides::from_proto(&message.typed_per_filter_config, ignored)?,
        })
    }
}

fn note_ignored(message: &proto::VirtualHost, ignored: &mut Ignored) {
    // Statistics of virtual clusters, rate limits of a service, hedging: nothing is answered differently without them.
    ignore_fields!(
        ignored,
        message,
        virtual_clusters,
        rate_limits,
        hedge_policy,
        metadata
    );
    ignore_fields!(
        ignored,
        message,
        cors,
        retry_policy_typed_config,
        include_is_timeout_retry_header
    );
    ignore_fields!(
        ignored,
        message,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit
    );
}

impl Domain {
    fn parse(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        if lower == "*" {
            Self::Any
        } else if let Some(suffix) = lower.strip_prefix('*') {
            Self::Suffix(suffix.to_owned())
        } else if let Some(prefix) = lower.strip_suffix('*') {
            Self::Prefix(prefix.to_owned())
        } else {
            Self::Exact(lower)
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Suffix(text) => write!(f, "*{text}"),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Route {
    fn from_proto(
        message: &proto::Route,
        inherited: (&Option<Arc<RetryPolicy>>, &[Mirror]),
        body_limit: usize,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, stat_prefix, tracing);
        if !message.route_specifiers.is_empty() {
            return Err(Invalid::new("route_specifiers", "are not supported"));
        }
        let matches = required(message.r#match.as_ref(), "match")?;
        let limit = message.request_body_buffer_limit.map(|limit| limit.value);
        let old = message.per_request_buffer_limit_bytes;
        Ok(Self {
            name: message.name.clone(),
            matches: ignored.scope("match", |ignored| RouteMatch::from_proto(matches, ignored))?,
            action: Action::from_proto(message.action.as_ref(), inherited, body_limit, ignored)?,
            headers: both_ways!(message, ignored),
            overrides: Overrides::from_proto(&message.typed_per_filter_config, ignored)?,
            buffer_limit: limit.or_else(|| old.map(|limit| u64::from(limit.value))),
            metadata: message
                .metadata
                .as_ref()
                .and_then(metadata::objects)
                .map(Box::new),
        })
    }
}
