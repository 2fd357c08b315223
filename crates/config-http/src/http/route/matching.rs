//! `RouteMatch`.

use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::pb::envoy::config::route::v3::route_match::PathSpecifier;

use crate::field::parts_per_million;
use crate::http::matcher::{CookieMatcher, HeaderMatcher, QueryMatcher};
use crate::http::pattern::Anchored;
use crate::{Ignored, Invalid};

/// When a route is taken: everything must fit.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// The path without its query.
    pub path: PathMatch,
    /// Of the path; true unless `case_sensitive` says otherwise. Regular expressions are always.
    pub case_sensitive: bool,
    /// All of them.
    pub headers: Vec<HeaderMatcher>,
    /// All of them.
    pub query: Vec<QueryMatcher>,
    /// All of them.
    pub cookies: Vec<CookieMatcher>,
    /// gRPC requests only.
    pub grpc: bool,
    /// `runtime_fraction`: so many of a million requests, drawn by lot.
    pub fraction: Option<u32>,
    /// `tls_context.presented`.
    pub certificate_presented: Option<bool>,
    /// `tls_context.validated`.
    pub certificate_validated: Option<bool>,
}

/// What the path must be.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// Begins so.
    Prefix(String),
    /// Is this.
    Exact(String),
    /// Matches as a whole.
    Regex(Anchored),
    /// Is this, or begins with it and a slash.
    PathPrefix(String),
    /// CONNECT requests.
    Connect,
}

impl RouteMatch {
    /// Reads the message. What cannot be looked at is refused: a route must not be taken, nor passed over, by mistake.
    pub(super) fn from_proto(message: &proto::RouteMatch, ignored: &mut Ignored) -> Result<Self, Invalid> {
        if !message.dynamic_metadata.is_empty() {
            return Err(Invalid::new("dynamic_metadata", "is not supported"));
        }
        if !message.filter_state.is_empty() {
            return Err(Invalid::new("filter_state", "is not supported"));
        }
        let tls = message.tls_context.as_ref();
        let fraction = message.runtime_fraction.as_ref();
        Ok(Self {
            path: PathMatch::from_proto(message.path_specifier.as_ref())?,
            case_sensitive: message.case_sensitive.is_none_or(|flag| flag.value),
            headers: list("headers", &message.headers, HeaderMatcher::from_proto)?,
            query: list(
                "query_parameters",
                &message.query_parameters,
                QueryMatcher::from_proto,
            )?,
            cookies: list("cookies", &message.cookies, CookieMatcher::from_proto)?,
            grpc: message.grpc.is_some(),
            fraction: fraction
                .map(|fraction| {
                    ignored.scope("runtime_fraction", |ignored| parts_per_million(fraction, ignored))
                })
                .transpose()?,
            certificate_presented: tls.and_then(|tls| tls.presented.map(|flag| flag.value)),
            certificate_validated: tls.and_then(|tls| tls.validated.map(|flag| flag.value)),
        })
    }
}

fn list<M, T>(
    name: &str,
    messages: &[M],
    read: impl Fn(&M) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    let item =
        |(at, message)| read(message).map_err(|refusal: Invalid| refusal.within(&format!("{name}[{at}]")));
    messages.iter().enumerate().map(item).collect()
}

impl PathMatch {
    fn from_proto(specifier: Option<&PathSpecifier>) -> Result<Self, Invalid> {
        match specifier {
            None => Err(Invalid::new("path_specifier", "value is required")),
            Some(PathSpecifier::Prefix(prefix)) => Ok(Self::Prefix(prefix.clone())),
            Some(PathSpecifier::Path(path)) => Ok(Self::Exact(path.clone())),
            Some(PathSpecifier::SafeRegex(regex)) => Anchored::from_proto(regex)
                .map(Self::Regex)
                .map_err(|refusal| refusal.within("safe_regex")),
            Some(PathSpecifier::ConnectMatcher(_)) => Ok(Self::Connect),
            Some(PathSpecifier::PathSeparatedPrefix(prefix)) => separated(prefix),
            Some(PathSpecifier::PathMatchPolicy(_)) => {
                Err(Invalid::new("path_match_policy", "is not supported"))
            }
        }
    }
}

fn separated(prefix: &str) -> Result<PathMatch, Invalid> {
    let path = "path_separated_prefix";
    if prefix.len() < 2 || !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
        let reason = "value does not match regex pattern \"^[^?#]+[^?#/]$\"";
        return Err(Invalid::new(path, reason));
    }
    Ok(PathMatch::PathPrefix(prefix.to_owned()))
}
