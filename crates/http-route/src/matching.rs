//! Whether a route fits a request.

use redplane_config::http::route::{PathMatch, RouteMatch};

use crate::grpc;
use crate::request::Head;

/// Whether everything fits. `draw` is a number below a million.
pub(crate) fn fits(rule: &RouteMatch, head: &Head<'_>, draw: u32) -> bool {
    path_fits(rule, head)
        && rule.fraction.is_none_or(|share| draw < share)
        && (!rule.grpc || grpc::is_grpc(head.headers))
        && rule
            .headers
            .iter()
            .all(|matcher| matcher.matches(|each| head.values(&matcher.name, each)))
        && rule
            .query
            .iter()
            .all(|matcher| matcher.matches(head.parameter(&matcher.name)))
        && rule
            .cookies
            .iter()
            .all(|matcher| matcher.matches(head.cookie(&matcher.name)))
        && rule
            .certificate_presented
            .is_none_or(|wanted| wanted == head.certificate.presented)
        && rule
            .certificate_validated
            .is_none_or(|wanted| wanted == head.certificate.validated)
}

fn path_fits(rule: &RouteMatch, head: &Head<'_>) -> bool {
    let is_connect = head.method == http::Method::CONNECT;
    let path = match &rule.path {
        PathMatch::Connect => return is_connect,
        _ if is_connect => return false,
        _ => head.path_only(),
    };
    let same = |text: &[u8], wanted: &str| {
        if rule.case_sensitive {
            text == wanted.as_bytes()
        } else {
            text.eq_ignore_ascii_case(wanted.as_bytes())
        }
    };
    let begins = |wanted: &str| {
        path.as_bytes()
            .get(..wanted.len())
            .is_some_and(|start| same(start, wanted))
    };
    match &rule.path {
        PathMatch::Prefix(prefix) => begins(prefix),
        PathMatch::Exact(exact) => same(path.as_bytes(), exact),
        PathMatch::Regex(regex) => regex.matches(path),
        PathMatch::PathPrefix(prefix) => {
            begins(prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
        }
        PathMatch::Connect => is_connect,
    }
}
