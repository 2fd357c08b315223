//! Local rate limit: a request takes a token, or is refused.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use redplane_config::http::filter::LocalRateLimit;
use redplane_http_route::Head;
use redplane_http_route::headers::{self, Side};

use super::drawn;
use crate::exchange::Exchange;
use crate::reply::{Known, LocalReply};
use crate::response::StreamFacts;

/// Lets a request through, or refuses it.
pub(super) fn run(
    limit: &Arc<LocalRateLimit>,
    head: &Head<'_>,
    exchange: &Rc<Exchange>,
    request: &mut HeaderMap,
) -> Result<(), LocalReply> {
    if limit.bucket.is_none() || !drawn(limit.enabled) {
        return Ok(());
    }
    if exchange
        .connection
        .worker
        .bucket(limit)
        .take(exchange.progress.start.into_std())
    {
        return Ok(());
    }
    let facts = StreamFacts(exchange);
    if !drawn(limit.enforced) {
        headers::add(request, &limit.request_headers, &facts, Some(head), Side::Request);
        return Ok(());
    }
    let mut reply = LocalReply {
        status: limit.status,
        grpc_status: limit.resource_exhausted.then_some(8),
        ..Known::RateLimited.into()
    };
    let list = &limit.response_headers;
    headers::add(&mut reply.headers, list, &facts, Some(head), Side::Response);
    Err(reply)
}
