//! What becomes of path and host on the way, and where redirects lead.

use http::HeaderValue;
use redplane_config::http::route::{
    Forward, HostRewrite, PathMatch, PathRedirect, PathRewrite, Redirect, RouteMatch, WeightedCluster,
};

use crate::hosts::without_port;
use crate::request::Head;

/// The path with its query after the route's rewrite; `None` where it stays.
pub fn path(forward: &Forward, matched: &RouteMatch, head: &Head<'_>) -> Option<String> {
    match &forward.path {
        PathRewrite::Keep => None,
        PathRewrite::Prefix(prefix) => Some(replace_match(matched, head, prefix)),
        PathRewrite::Regex(regex) => {
            let path = head.path_only();
            let rewritten = regex.apply(path)?;
            Some(rewritten + &head.path[path.len()..])
        }
    }
}

/// What matched is replaced; the rest, the query included, stays.
fn replace_match(matched: &RouteMatch, head: &Head<'_>, replacement: &str) -> String {
    let length = match &matched.path {
        PathMatch::Prefix(text) | PathMatch::PathPrefix(text) | PathMatch::Exact(text) => text.len(),
        // Envoy: a regular expression matched all of the path.
        PathMatch::Regex(_) => head.path_only().len(),
        PathMatch::Connect => 0,
    };
    let rest = head.path.get(length..).unwrap_or("");
    format!("{replacement}{rest}")
}

/// The new Host; `None` where it stays. `chosen` is the name of the host that was chosen, if it has one.
pub fn host(
    forward: &Forward,
    member: Option<&WeightedCluster>,
    head: &Head<'_>,
    chosen: Option<&str>,
) -> Option<HeaderValue> {
    if let Some(host) = member.and_then(|member| member.host.as_ref()) {
        return Some(host.clone());
    }
    match &forward.host {
        HostRewrite::Keep => None,
        HostRewrite::Literal(host) => Some(host.clone()),
        HostRewrite::Auto => chosen.and_then(|name| HeaderValue::from_str(name).ok()),
        HostRewrite::Header(name) => head.headers.get(name).filter(|value| !value.is_empty()).cloned(),
        HostRewrite::Path(regex) => regex
            .apply(head.path_only())
            .and_then(|host| HeaderValue::from_str(&host).ok()),
    }
}

/// The `location` of a redirect. Envoy: `RouteEntryImplBase::newUri`.
pub fn location(redirect: &Redirect, matched: &RouteMatch, head: &Head<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme);
    let host = redirect.host.as_deref().unwrap_or(head.authority);
    // A port that belonged to the old scheme goes with it.
    let port_of = |scheme: &str| if scheme == "https" { ":443" } else { ":80" };
    let host = match redirect.port {
        Some(_) => without_port(host),
        None if redirect.scheme.is_some() && scheme != head.scheme => {
            host.strip_suffix(port_of(head.scheme)).unwrap_or(host)
        }
        None => host,
    };
    let port = redirect.port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = match &redirect.path {
        PathRedirect::Keep => head.path.to_owned(),
        PathRedirect::Replace(path) if path.contains('?') || head.query().is_empty() => path.clone(),
        PathRedirect::Replace(path) => format!("{path}?{}", head.query()),
        PathRedirect::Prefix(prefix) => replace_match(matched, head, prefix),
        PathRedirect::Regex(regex) => {
            let path = head.path_only();
            let rewritten = regex.apply(path).unwrap_or_else(|| path.to_owned());
            rewritten + &head.path[path.len()..]
        }
    };
    let path = match (redirect.strip_query, path.find('?')) {
        (true, Some(at)) => &path[..at],
        _ => &path,
    };
    format!("{scheme}://{host}{port}{path}")
}
