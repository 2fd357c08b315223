//! The router: a request made ready for its cluster, and the response made ready for the client.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use redplane_config::http::options::HeaderNames;
use redplane_config::http::route::{Action, Forward, Route, Upgrade, WeightedCluster};
use redplane_http_route::hash::{self, Hashed};
use redplane_http_route::headers::{self, Side};
use redplane_http_route::{retry, rewrite};
use redplane_telemetry::access_log::ResponseFlags;
use tokio::time::Instant;

use super::limits::Limits;
use super::tries::{Tries, TryHead, tries};
use super::{Found, note};
use crate::asked::Asked;
use crate::exchange::Exchange;
use crate::feed::{Feed, Gate};
use crate::filters::{Passed, strip_peer};
use crate::pool::Lease;
use crate::reply::LocalReply;
use crate::response::{self, SERVICE_TIME, StreamFacts};
use crate::tail::{ResponseBody, Tail};
use crate::upgrade;
use crate::upstream::Outgoing;

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
/// How much of a request is kept for another try: Envoy's default buffer limit.
const BUFFER: u64 = 1 << 20;

/// What was decided before the router.
pub(super) struct Chosen<'a> {
    pub(super) action: &'a Forward,
    pub(super) cluster: String,
    pub(super) member: Option<&'a WeightedCluster>,
    pub(super) passed: Passed,
}

/// Tells the log which cluster was meant, if it is known.
pub(super) fn tell_cluster(name: Option<&str>, exchange: &Exchange) {
    let cluster = name.and_then(|name| exchange.connection.worker.cluster(name));
    exchange.told.borrow_mut().cluster =
        cluster.map(|cluster| (cluster.name().into(), cluster.config().stat_name.clone()));
}

/// Whether a route lets a connection change its protocol; what it does not say the connection manager does.
pub(super) fn allows_upgrade(kind: &str, route: &Route, own: &[Upgrade]) -> bool {
    let of = |list: &[Upgrade]| {
        list.iter()
            .find(|upgrade| upgrade.kind == kind)
            .map(|upgrade| upgrade.enabled)
    };
    match &route.action {
        Action::Forward(action) => of(&action.upgrades).or_else(|| of(own)).unwrap_or(false),
        _ => of(own).unwrap_or(false),
    }
}

/// The cluster is not known, or the header that names it is not there.
pub(super) fn no_cluster(action: &Forward) -> LocalReply {
    LocalReply {
        flags: ResponseFlags::NO_CLUSTER_FOUND,
        details: "cluster_not_found".into(),
        ..LocalReply::new(action.not_found_status, Bytes::new())
    }
}

/// Sends a request to its cluster.
pub(super) async fn run(
    exchange: &Rc<Exchange>,
    mut asked: Asked,
    body: Incoming,
    found: &Found<'_>,
    chosen: Chosen<'_>,
) -> Result<Response<ResponseBody>, LocalReply> {
    let shared = &exchange.connection;
    let Some(cluster) = shared.worker.cluster(&chosen.cluster) else {
        return Err(no_cluster(chosen.action));
    };
    let client = exchange.client.get().map(|remote| remote.ip());
    let head = asked.head(&shared.facts);
    let hashed = match chosen.action.hash.as_slice() {
        [] => Hashed::default(),
        policies => hash::request(policies, &head, client, fastrand::u64(..)),
    };
    let policy = chosen
        .action
        .retry
        .as_ref()
        .filter(|policy| retry::concerns(policy, &head))
        .cloned();
    let limits = Limits::new(chosen.action, &asked.parts.headers, exchange);
    let kept = kept_for_response(&asked, found, &chosen);
    rewrite_request(&mut asked, found, &chosen, exchange);
    let upgrade = asked.upgrade.take();
    let client_side = asked.parts.extensions.remove::<OnUpgrade>();
    if let Some(kind) = &upgrade {
        upgrade::ask(&mut asked.parts.headers, kind);
    }
    note(exchange, &asked);
    let limit = policy
        .as_ref()
        .map_or(0, |_| found.route.buffer_limit.unwrap_or(BUFFER));
    let feed = Feed::new(body, limit, gate(&mut asked, exchange), &exchange.progress);
    let plan = Tries {
        exchange,
        stats: shared.worker.block(cluster.stats()),
        cluster: &cluster,
        action: chosen.action,
        head: TryHead {
            counts: found.host.attempt_count_upstream,
            auto_host: chosen.member.is_none_or(|member| member.host.is_none()),
        },
        passed: &chosen.passed,
        limits,
        policy: policy.as_deref(),
        hash: hashed.hash,
        feed: &feed,
        is_upgrade: upgrade.is_some(),
        host: RefCell::default(),
    };
    let outgoing = outgoing(asked, exchange);
    let (response, lease, tried) = tokio::select! {
        biased;
        done = tries(&plan, outgoing) => done?,
        reply = limits.reached(&feed, exchange) => {
            if reply.flags.intersects(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT) {
                plan.time_out();
            }
            return Err(reply);
        }
    };
    let changes = Changes {
        found,
        chosen: &chosen,
        kept: kept.as_ref(),
        hashed: &hashed,
        tried,
        waited: Instant::now().saturating_duration_since(feed.end_time()),
    };
    if upgrade.is_some() {
        return Ok(switch(response, client_side, lease, &changes, exchange));
    }
    let (mut parts, incoming) = response.into_parts();
    finish_head(&mut parts, &changes, exchange);
    let tail = Tail::new(incoming, exchange, lease, &feed, limits.of_body(&feed, exchange));
    Ok(Response::from_parts(parts, ResponseBody::Tail(Box::new(tail))))
}

/// The answer to a request that asked for another protocol.
fn switch(
    response: Response<Incoming>,
    client_side: Option<OnUpgrade>,
    lease: Lease,
    changes: &Changes<'_>,
    exchange: &Rc<Exchange>,
) -> Response<ResponseBody> {
    let (mut parts, _) = response.into_parts();
    let server_side = parts.extensions.remove::<OnUpgrade>();
    let sides = client_side
        .zip(server_side)
        .filter(|_| parts.status == StatusCode::SWITCHING_PROTOCOLS);
    let headers = upgrade::keep(&parts.headers, sides.is_some());
    finish_head(&mut parts, changes, exchange);
    headers
        .into_iter()
        .for_each(|(name, value)| drop(parts.headers.insert(name, value)));
    match sides {
        Some(sides) => upgrade::switch(parts, sides, lease, exchange),
        None => upgrade::refused(parts, exchange),
    }
}

/// Route changes, then Host, then the path: in Envoy's order.
fn rewrite_request(asked: &mut Asked, found: &Found<'_>, chosen: &Chosen<'_>, exchange: &Rc<Exchange>) {
    let shared = Rc::clone(&exchange.connection);
    let (path, host) = {
        let head = asked.head(&shared.facts);
        let path = rewrite::path(chosen.action, &found.route.matches, &head);
        (path, rewrite::host(chosen.action, chosen.member, &head, None))
    };
    let mut headers = std::mem::take(&mut asked.parts.headers);
    for changes in found.table.changes(found.host, found.route, chosen.member) {
        let head = asked.head(&shared.facts);
        headers::change(
            &mut headers,
            &changes.request,
            &StreamFacts(exchange),
            Some(&head),
            Side::Request,
        );
    }
    asked.parts.headers = headers;
    for (name, value) in &chosen.passed.request {
        asked.parts.headers.append(name.clone(), value.clone());
    }
    if let Some(host) = host {
        let before = std::mem::replace(&mut asked.target.authority, host);
        if chosen.action.append_forwarded_host {
            asked.parts.headers.append(FORWARDED_HOST, before.clone());
        }
        // Envoy does not say it where a weighted cluster has a host of its own.
        let by_member = chosen.member.is_some_and(|member| member.host.is_some());
        if !by_member && !chosen.passed.router.suppress_envoy_headers {
            asked.parts.headers.insert(ORIGINAL_HOST, before);
        }
    }
    let Some(path) = path.and_then(|path| PathAndQuery::from_maybe_shared(Bytes::from(path)).ok()) else {
        return;
    };
    let before = std::mem::replace(&mut asked.target.path, path);
    if let (false, Ok(before)) = (
        chosen.passed.router.suppress_envoy_headers,
        HeaderValue::from_str(before.as_str()),
    ) {
        asked.parts.headers.insert(ORIGINAL_PATH, before);
    }
}

/// The request as it came, where header changes of the response ask for it.
fn kept_for_response(asked: &Asked, found: &Found<'_>, chosen: &Chosen<'_>) -> Option<Asked> {
    let mut changes = found.table.changes(found.host, found.route, chosen.member);
    let asks = changes.any(|changes| {
        changes
            .response
            .add
            .iter()
            .any(|add| add.value.asks_for_request())
    });
    asks.then(|| {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.method = asked.parts.method.clone();
        parts.headers = asked.parts.headers.clone();
        Asked {
            parts,
            target: asked.target.clone(),
            upgrade: None,
        }
    })
}

/// With `Expect: 100-continue` the body waits for the server's word, or is asked for here.
fn gate(asked: &mut Asked, exchange: &Exchange) -> Option<Gate> {
    let headers = &mut asked.parts.headers;
    let expects = headers
        .get(header::EXPECT)?
        .as_bytes()
        .eq_ignore_ascii_case(b"100-continue");
    if expects && exchange.connection.service.config.headers.proxy_100_continue {
        return Some(Gate::default());
    }
    headers.remove(header::EXPECT);
    None
}

fn outgoing(asked: Asked, exchange: &Exchange) -> Outgoing {
    let keeps_names = exchange.connection.service.config.http1.names == HeaderNames::Preserve;
    Outgoing {
        method: asked.parts.method,
        scheme: exchange.connection.facts.scheme(),
        authority: asked.target.authority,
        path: asked.target.path,
        headers: asked.parts.headers,
        extensions: if keeps_names {
            asked.parts.extensions
        } else {
            Extensions::new()
        },
    }
}

/// What is done to the head of a response.
struct Changes<'a> {
    found: &'a Found<'a>,
    chosen: &'a Chosen<'a>,
    kept: Option<&'a Asked>,
    hashed: &'a Hashed,
    tried: u32,
    /// Since the request was complete.
    waited: Duration,
}

fn finish_head(parts: &mut http::response::Parts, changes: &Changes<'_>, exchange: &Rc<Exchange>) {
    parts.version = Version::HTTP_11;
    if exchange.connection.service.config.http1.names != HeaderNames::Preserve {
        parts.extensions = Extensions::new();
    }
    exchange.detail("via_upstream");
    exchange.status.set(parts.status.as_u16());
    let headers = &mut parts.headers;
    response::strip_hop_by_hop(headers);
    let passed = &changes.chosen.passed;
    if passed.strip_peer {
        strip_peer(headers);
    }
    if !passed.router.suppress_envoy_headers {
        let millis = u64::try_from(changes.waited.as_millis()).unwrap_or(u64::MAX);
        headers.insert(SERVICE_TIME, HeaderValue::from(millis));
    }
    if changes.found.host.attempt_count_downstream {
        headers.insert(ATTEMPT_COUNT, HeaderValue::from(changes.tried));
    }
    let list = changes
        .found
        .table
        .changes(changes.found.host, changes.found.route, changes.chosen.member);
    for change in list.filter(|change| !change.response.is_empty()) {
        let head = changes.kept.map(|asked| asked.head(&exchange.connection.facts));
        headers::change(
            headers,
            &change.response,
            &StreamFacts(exchange),
            head.as_ref(),
            Side::Response,
        );
    }
    for (name, value) in &passed.response {
        headers.insert(name.clone(), value.clone());
    }
    if let Some(Ok(cookie)) = changes
        .hashed
        .set_cookie
        .as_ref()
        .map(|cookie| HeaderValue::from_str(cookie))
    {
        headers.append(header::SET_COOKIE, cookie);
    }
}
