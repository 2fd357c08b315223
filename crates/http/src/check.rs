//! What hyper takes and Envoy refuses: the checks of a request's head, and the path as everything after sees it.
//!
//! Some of these rows are request smuggling; none of them is answered by a server.

use std::borrow::Cow;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Version, header};
use redplane_config::http::HttpConnectionManager;
use redplane_config::http::hcm::{StripPort, UnderscoreAction};
use redplane_http_route::path::{Normalised, normalise};

use crate::downstream::Downstream;
use crate::reply::{Known, LocalReply};

/// Methods that Envoy's HTTP/1 codec knows.
const METHODS: &[&str] = &[
    "ACL",
    "BIND",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "MSEARCH",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// Where a request is meant to go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Host, or `:authority`.
    pub(crate) authority: HeaderValue,
    /// The path with its query, normalised.
    pub(crate) path: PathAndQuery,
}

impl Target {
    /// The authority as text; what is no text is empty.
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or("")
    }
}

/// Checks the head. Host is taken out of the headers: it stands in the target from here on.
pub(crate) fn check(
    parts: &mut Parts,
    config: &HttpConnectionManager,
    downstream: &Downstream,
) -> Result<Target, LocalReply> {
    let is_h1 = parts.version < Version::HTTP_2;
    if is_h1 {
        check_http1(parts, config)?;
    }
    check_underscores(parts, config.limits.underscores)?;
    let authority = authority(parts, config, downstream)?;
    if parts.method == Method::CONNECT {
        parts.headers.remove(header::HOST);
        return Ok(Target {
            authority,
            path: PathAndQuery::from_static("/"),
        });
    }
    let Some(path) = parts.uri.path_and_query().cloned() else {
        return Err(Known::AbsolutePath.into());
    };
    if !path.as_str().starts_with('/') {
        return Err(Known::AbsolutePath.into());
    }
    let clean = match normalise(path.as_str(), &config.path) {
        Normalised::Path(Cow::Borrowed(_)) => None,
        Normalised::Path(Cow::Owned(clean)) => Some(clean),
        Normalised::Rejected => return Err(Known::BadPath.into()),
        Normalised::Redirect(to) => return Err(redirect(&to)),
    };
    let path = match clean {
        None => path,
        Some(clean) => PathAndQuery::from_maybe_shared(Bytes::from(clean))
            .map_err(|_| LocalReply::from(Known::BadPath))?,
    };
    parts.headers.remove(header::HOST);
    Ok(Target { authority, path })
}

fn redirect(to: &str) -> LocalReply {
    let mut reply = LocalReply {
        details: "path_normalization_redirect".into(),
        ..LocalReply::new(307, Bytes::new())
    };
    if let Ok(to) = HeaderValue::from_str(to) {
        reply.headers.insert(header::LOCATION, to);
    }
    reply
}

fn check_http1(parts: &Parts, config: &HttpConnectionManager) -> Result<(), LocalReply> {
    if parts.version < Version::HTTP_11 && !config.http1.http10 {
        return Err(Known::LowVersion.into());
    }
    if !METHODS.contains(&parts.method.as_str()) {
        return Err(Known::BadRequest.into());
    }
    // hyper reads a target without a slash as an authority, or as a path that it would repair.
    let uri = &parts.uri;
    let is_whole = uri.scheme().is_some();
    if parts.method != Method::CONNECT && !is_whole && uri.authority().is_some() {
        return Err(Known::BadRequest.into());
    }
    // Two Host lines: Envoy forwards them joined, which no server reads the same way. Refused on purpose.
    if parts.headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Err(Known::BadRequest.into());
    }
    Ok(())
}

fn check_underscores(parts: &mut Parts, action: UnderscoreAction) -> Result<(), LocalReply> {
    if action == UnderscoreAction::Allow {
        return Ok(());
    }
    let names = parts.headers.keys().filter(|name| name.as_str().contains('_'));
    let names: Vec<_> = names.cloned().collect();
    if !names.is_empty() && action == UnderscoreAction::Reject {
        return Err(Known::Underscores.into());
    }
    for name in names {
        parts.headers.remove(name);
    }
    Ok(())
}

/// A whole URL wins over Host, `:authority` wins over `host`.
fn authority(
    parts: &Parts,
    config: &HttpConnectionManager,
    downstream: &Downstream,
) -> Result<HeaderValue, LocalReply> {
    let told = parts.headers.get(header::HOST).cloned();
    let in_uri = parts.uri.authority().map(|authority| {
        let host = authority
            .as_str()
            .rsplit_once('@')
            .map_or(authority.as_str(), |(_, host)| host);
        HeaderValue::from_str(host)
    });
    let found = match in_uri {
        Some(Ok(authority)) => Some(authority),
        Some(Err(_)) => return Err(Known::BadRequest.into()),
        None => told.filter(|host| !host.is_empty()),
    };
    let default = || {
        let default = &config.http1.default_host;
        let is_old = parts.version < Version::HTTP_11 && !default.is_empty();
        is_old.then(|| HeaderValue::from_str(default).ok()).flatten()
    };
    let authority = found
        .or_else(default)
        .ok_or_else(|| LocalReply::from(Known::MissingHost))?;
    if authority.to_str().is_err() {
        return Err(Known::BadRequest.into());
    }
    Ok(stripped(authority, config, downstream))
}

/// Without the port or the dot that configuration wants gone.
fn stripped(authority: HeaderValue, config: &HttpConnectionManager, downstream: &Downstream) -> HeaderValue {
    let settings = config.host;
    if settings.strip_port == StripPort::Keep && !settings.strip_dot {
        return authority;
    }
    let text = authority.to_str().unwrap_or("");
    let (mut host, mut port) = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (text, None),
    };
    let own = downstream.local.map(|local| local.port());
    let goes = match settings.strip_port {
        StripPort::Keep => false,
        StripPort::Matching => port.and_then(|port| port.parse().ok()) == own,
        StripPort::Any => true,
    };
    if goes {
        port = None;
    }
    if settings.strip_dot {
        host = host.strip_suffix('.').unwrap_or(host);
    }
    let changed = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    HeaderValue::from_str(&changed).unwrap_or(authority)
}
