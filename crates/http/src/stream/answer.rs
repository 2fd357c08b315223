//! Direct responses and redirects.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use redplane_config::http::route::{DirectResponse, Redirect};
use redplane_http_route::headers::{self, Side};
use redplane_http_route::{Head, rewrite};

use super::Found;
use crate::exchange::Exchange;
use crate::filters::Passed;
use crate::reply::LocalReply;
use crate::response::StreamFacts;
use crate::tail::ResponseBody;

/// `direct_response`.
pub(super) fn direct(
    direct: &DirectResponse,
    found: &Found<'_>,
    head: &Head<'_>,
    passed: Passed,
    exchange: &Rc<Exchange>,
) -> Response<ResponseBody> {
    let reply = LocalReply {
        details: "direct_response".into(),
        headers: Box::new(passed.response),
        ..LocalReply::new(direct.status, Bytes::copy_from_slice(&direct.body))
    };
    changed(reply.respond(exchange), found, head, exchange)
}

/// `redirect`.
pub(super) fn redirect(
    redirect: &Redirect,
    found: &Found<'_>,
    head: &Head<'_>,
    passed: Passed,
    exchange: &Rc<Exchange>,
) -> Response<ResponseBody> {
    let location = rewrite::location(redirect, &found.route.matches, head);
    let reply = LocalReply {
        details: "direct_response".into(),
        headers: with_location(passed.response, &location),
        ..LocalReply::new(redirect.status, Bytes::new())
    };
    changed(reply.respond(exchange), found, head, exchange)
}

/// The virtual host wants TLS.
pub(super) fn needs_tls(head: &Head<'_>) -> LocalReply {
    let location = format!("https://{}{}", head.authority, head.path);
    LocalReply {
        details: "direct_response".into(),
        headers: with_location(HeaderMap::new(), &location),
        ..LocalReply::new(301, Bytes::new())
    }
}

fn with_location(mut headers: HeaderMap, location: &str) -> Box<HeaderMap> {
    // It is made of what came in a request's head and of what was configured: both are header values.
    if let Ok(location) = HeaderValue::from_str(location) {
        headers.insert(header::LOCATION, location);
    }
    Box::new(headers)
}

/// The route's changes are made on these as well.
fn changed(
    mut response: Response<ResponseBody>,
    found: &Found<'_>,
    head: &Head<'_>,
    exchange: &Rc<Exchange>,
) -> Response<ResponseBody> {
    for changes in found.table.changes(found.host, found.route, None) {
        let facts = StreamFacts(exchange);
        headers::change(
            response.headers_mut(),
            &changes.response,
            &facts,
            Some(head),
            Side::Response,
        );
    }
    response
}
