//! Whether a condition holds: yes, no, or it cannot be said.

use std::net::IpAddr;

use redplane_config::Cidr;
use redplane_config::matcher::StringMatcher;
use redplane_config::rbac::{Condition, MetadataSource};
use redplane_config::tls::{SanKind, SanMatcher};

use crate::facts::{Connection, Peer, Request};
use crate::metadata;

/// `None`: it cannot be said. Not, and, or follow from that (Kleene): what does not depend on it stays sure.
pub(crate) type Truth = Option<bool>;

/// Whether the condition holds. Without a request, what asks about one cannot be said.
pub(crate) fn holds(
    condition: &Condition,
    connection: &Connection<'_>,
    request: Option<&Request<'_>>,
) -> Truth {
    match condition {
        Condition::Always => Some(true),
        Condition::Unknown(_) => None,
        Condition::Not(inner) => holds(inner, connection, request).map(|holds| !holds),
        Condition::All(inner) => all(inner.iter().map(|one| holds(one, connection, request))),
        Condition::Any(inner) => any(inner.iter().map(|one| holds(one, connection, request))),
        Condition::Header(_)
        | Condition::UrlPath(_)
        | Condition::UriTemplate(_)
        | Condition::Metadata(..) => request.map(|request| of_request(condition, request)),
        Condition::RemoteIp(range) => {
            let remote = request.map_or(connection.remote, |request| request.remote);
            Some(is_in(range, remote))
        }
        _ => Some(of_connection(condition, connection)),
    }
}

pub(crate) fn all(mut truths: impl Iterator<Item = Truth>) -> Truth {
    let mut result = Some(true);
    loop {
        match truths.next() {
            None => return result,
            Some(Some(true)) => {}
            Some(Some(false)) => return Some(false),
            Some(None) => result = None,
        }
    }
}

fn any(truths: impl Iterator<Item = Truth>) -> Truth {
    all(truths.map(|truth| truth.map(|holds| !holds))).map(|none| !none)
}

fn of_connection(condition: &Condition, connection: &Connection<'_>) -> bool {
    let port = connection.destination.map(|destination| destination.port());
    match condition {
        Condition::DestinationIp(range) => is_in(range, connection.destination.map(|at| at.ip())),
        Condition::DestinationPort(wanted) => port == Some(*wanted),
        Condition::DestinationPorts(wanted) => port.is_some_and(|port| wanted.contains(&u32::from(port))),
        Condition::ServerName(name) => name.matches(connection.server_name.as_bytes()),
        Condition::Authenticated(name) => {
            let fits = |peer: &Peer<'_>| name.as_ref().is_none_or(|name| is_named(peer, name));
            connection.tls.as_ref().is_some_and(fits)
        }
        Condition::Certificate(san) => {
            let fits =
                |peer: &Peer<'_>| peer.is_validated && san.as_ref().is_none_or(|san| has_san(peer, san));
            connection.tls.as_ref().is_some_and(fits)
        }
        Condition::SourceIp(range) => is_in(range, connection.remote),
        Condition::DirectRemoteIp(range) => is_in(range, connection.direct_remote),
        _ => false,
    }
}

fn of_request(condition: &Condition, request: &Request<'_>) -> bool {
    match condition {
        Condition::Header(header) => header.matches(|each| (request.headers)(&header.name, each)),
        Condition::UrlPath(wanted) => with_path(request, |path| wanted.matches(path)),
        Condition::UriTemplate(wanted) => with_path(request, |path| wanted.matches(path)),
        Condition::Metadata(MetadataSource::Dynamic, matcher) => metadata::matches(matcher, request.metadata),
        Condition::Metadata(MetadataSource::Route, matcher) => request
            .route_metadata
            .is_some_and(|metadata| metadata::matches(matcher, metadata)),
        _ => false,
    }
}

/// Asks about the path without query and fragment; a request without one fits nothing.
fn with_path(request: &Request<'_>, fits: impl Fn(&[u8]) -> bool) -> bool {
    let mut result = false;
    (request.headers)(":path", &mut |path| {
        let end = path
            .iter()
            .position(|byte| matches!(byte, b'?' | b'#'))
            .unwrap_or(path.len());
        result = fits(&path[..end]);
    });
    result
}

/// Addresses of IPv4 that came over a socket of IPv6 are what they were.
fn is_in(range: &Cidr, address: Option<IpAddr>) -> bool {
    address.is_some_and(|address| range.contains(address.to_canonical()))
}

/// Envoy: `AuthenticatedMatcher`. URIs, then DNS names, then the subject.
fn is_named(peer: &Peer<'_>, wanted: &StringMatcher) -> bool {
    let mut names = peer.uri_sans.iter().chain(peer.dns_sans);
    names.any(|name| wanted.matches(name.as_bytes())) || wanted.matches(peer.subject.as_bytes())
}

fn has_san(peer: &Peer<'_>, wanted: &SanMatcher) -> bool {
    peer.uri_sans.iter().any(|name| wanted.fits(SanKind::Uri, name))
        || peer.dns_sans.iter().any(|name| wanted.fits(SanKind::Dns, name))
}
