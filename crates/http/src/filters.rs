//! The HTTP filters of a chain, on the way of a request and of its response.

pub(crate) mod cors;
pub(crate) mod fault;
pub(crate) mod rate_limit;

use std::rc::Rc;

use http::HeaderMap;
use redplane_config::http::filter::Router;
use redplane_config::http::{FilterOverride, HttpFilter};
use redplane_http_route::Head;

use crate::exchange::Exchange;
use crate::reply::LocalReply;

/// Headers by which peers of a mesh tell each other who they are.
const PEER_HEADERS: [&str; 2] = ["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"];

/// What filters leave for the response and for the upstream connection.
#[derive(Default)]
pub(crate) struct Passed {
    /// CORS headers of the response.
    pub(crate) response: HeaderMap,
    /// `istio.alpn` runs: what TLS offers depends on the protocol that is spoken.
    pub(crate) alpn: Option<redplane_config::http::filter::AlpnOverride>,
    /// The router's settings.
    pub(crate) router: Router,
    /// Peer headers of the response go.
    pub(crate) strip_peer: bool,
    /// Headers that a rate limit which is not enforced adds to the request.
    pub(crate) request: HeaderMap,
}

/// Runs the filters on a request, in order; an error is the answer of the first that has one.
pub(crate) async fn run<'a>(
    filters: impl Iterator<Item = (&'a HttpFilter, Option<&'a FilterOverride>)>,
    head: &Head<'_>,
    cluster: Option<&str>,
    exchange: &Rc<Exchange>,
) -> Result<Passed, LocalReply> {
    let mut passed = Passed::default();
    for (filter, said) in filters {
        match filter {
            HttpFilter::Fault(own) => {
                let fault = match said {
                    Some(FilterOverride::Fault(said)) => said,
                    _ => own,
                };
                fault::run(fault, head, cluster, exchange).await?;
            }
            HttpFilter::Cors => {
                if let Some(FilterOverride::Cors(policy)) = said {
                    cors::run(policy, head, &mut passed.response)?;
                }
            }
            HttpFilter::RateLimit(own) => {
                let limit = match said {
                    Some(FilterOverride::RateLimit(said)) => said,
                    _ => own,
                };
                rate_limit::run(limit, head, exchange, &mut passed.request)?;
            }
            HttpFilter::Alpn(alpn) => passed.alpn = Some(alpn.clone()),
            HttpFilter::PeerMetadata(peer) => passed.strip_peer |= peer.from_upstream,
            HttpFilter::Router(router) => passed.router = *router,
        }
    }
    Ok(passed)
}

/// Takes off what peers say of themselves, so that applications never see it.
pub(crate) fn strip_peer(headers: &mut HeaderMap) {
    for name in PEER_HEADERS {
        headers.remove(name);
    }
}

/// Whether a filter of the chain reads what clients say of themselves.
pub(crate) fn reads_peer(filters: &[redplane_config::http::NamedFilter]) -> bool {
    filters
        .iter()
        .any(|named| matches!(&named.filter, HttpFilter::PeerMetadata(peer) if peer.from_downstream))
}

/// A lot: whether so many of a million are hit.
pub(crate) fn drawn(share: u32) -> bool {
    share >= 1_000_000 || (share > 0 && fastrand::u32(..1_000_000) < share)
}
