//! The HTTP filters of a chain, on the way of a request and of its response.

pub(crate) mod cors;
pub(crate) mod fault;
mod jwt;
pub(crate) mod rate_limit;
mod rbac;

use std::rc::Rc;

use http::HeaderMap;
use redplane_config::http::filter::Router;
use redplane_config::http::route::Route;
use redplane_config::http::{FilterOverride, HttpFilter};
use redplane_telemetry::Block;
use redplane_world::{FilterStats, Running};

use crate::asked::Asked;
use crate::exchange::{Exchange, Metadata};
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

/// Where a request is on its way through the filters.
pub(crate) struct Way<'a> {
    /// Its route, if it has one.
    pub(crate) route: Option<&'a Route>,
    /// The cluster that the route leads to.
    pub(crate) cluster: Option<&'a str>,
}

/// Runs filters on a request, in order. The answer is the filter after which the route is to be looked for again, if one
/// asks for that; an error is the answer of the first that has one for the client.
pub(crate) async fn run<'a>(
    filters: impl Iterator<Item = Running<'a>>,
    way: Way<'_>,
    asked: &mut Asked,
    exchange: &Rc<Exchange>,
    passed: &mut Passed,
) -> Result<Option<usize>, LocalReply> {
    let facts = &exchange.connection.facts;
    for Running {
        at,
        filter,
        said,
        stats,
    } in filters
    {
        match filter {
            HttpFilter::Fault(own) => {
                let fault = match said {
                    Some(FilterOverride::Fault(said)) => said,
                    _ => own,
                };
                fault::run(fault, &asked.head(facts), way.cluster, exchange, stats).await?;
            }
            HttpFilter::Cors => {
                if let Some(FilterOverride::Cors(policy)) = said {
                    let own = block(stats, exchange);
                    cors::run(policy, &asked.head(facts), &mut passed.response, own.as_deref())?;
                }
            }
            HttpFilter::RateLimit(own) => {
                let limit = match said {
                    Some(FilterOverride::RateLimit(said)) => said,
                    _ => own,
                };
                rate_limit::run(limit, &asked.head(facts), exchange, &mut passed.request)?;
            }
            HttpFilter::Rbac(own) => {
                let rules = match said {
                    Some(FilterOverride::Rbac(said)) => said,
                    _ => own,
                };
                let nothing = Metadata::new();
                let route = way
                    .route
                    .map(|route| route.metadata.as_deref().unwrap_or(&nothing));
                rbac::run(rules, stats, &asked.head(facts), route, exchange)?;
            }
            HttpFilter::Jwt(own) => {
                let said = match said {
                    Some(FilterOverride::Jwt(said)) => Some(&**said),
                    _ => None,
                };
                if jwt::run(own, said, stats, asked, exchange).await? {
                    return Ok(Some(at));
                }
            }
            HttpFilter::Alpn(alpn) => passed.alpn = Some(alpn.clone()),
            HttpFilter::PeerMetadata(peer) => passed.strip_peer |= peer.from_upstream,
            HttpFilter::Router(router) => passed.router = *router,
        }
    }
    Ok(None)
}

/// This worker's cells of a filter that counts under names of its own.
fn block(stats: &FilterStats, exchange: &Exchange) -> Option<Rc<Block>> {
    match stats {
        FilterStats::Own(scope) => Some(exchange.connection.worker.block(scope)),
        _ => None,
    }
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
