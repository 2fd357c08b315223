//! One request, from its head to the head of its response.
//!
//! In Envoy's order: checks, stamps, route, filters, router. A request keeps the route table that it began with. Every
//! answer that is made here is a [`LocalReply`].

mod answer;
mod forward;
mod limits;
mod mirror;
mod tries;

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use redplane_config::http::route::{Action, Route, VirtualHost, WeightedCluster};
use redplane_http_route::{Choice, RouteTable, grpc, table};

use redplane_telemetry::stats::router;

use crate::asked::Asked;
use crate::check::check;
use crate::exchange::Exchange;
use crate::feed::BodyFault;
use crate::filters::{self, Passed, Way};
use crate::reply::{Known, LocalReply};
use crate::shared::Shared;
use crate::tail::ResponseBody;
use crate::{response, stamp};

/// Where a request was found to belong.
pub(crate) struct Found<'a> {
    pub(crate) table: &'a RouteTable,
    pub(crate) host: &'a VirtualHost,
    pub(crate) route: &'a Route,
}

/// A route, and where it leads this time.
struct Place<'a> {
    found: Found<'a>,
    member: Option<&'a WeightedCluster>,
    cluster: Option<String>,
}

/// Answers a request. The service of hyper's connections.
pub(crate) async fn serve(
    shared: Rc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, BodyFault> {
    let exchange = Exchange::new(&shared, request.version());
    let (parts, body) = request.into_parts();
    exchange.grpc.set(grpc::is_grpc(&parts.headers));
    let is_head = parts.method == Method::HEAD;
    exchange.progress.has_body.set(!body.is_end_stream());
    let mut request_id = None;
    let outcome = handle(&exchange, parts, body, &mut request_id).await;
    let mut response = outcome.unwrap_or_else(|reply| reply.respond(&exchange));
    response::finish(response.headers_mut(), &exchange, request_id.as_ref());
    if is_head || matches!(response.status().as_u16(), 204 | 304) {
        // hyper asks for no body then, so that nobody would see its end.
        exchange.progress.complete.set(true);
    }
    exchange.note_response(response.status().as_u16(), response.headers());
    Ok(response)
}

async fn handle(
    exchange: &Rc<Exchange>,
    mut parts: Parts,
    body: Incoming,
    request_id: &mut Option<HeaderValue>,
) -> Result<Response<ResponseBody>, LocalReply> {
    let shared = &exchange.connection;
    let config = &shared.service.config;
    let upgrade = stamp::upgrade(&parts.headers, parts.version).filter(|kind| kind != "h2c");
    let target = match check(&mut parts, config, &shared.facts) {
        Ok(target) => target,
        Err(reply) => {
            // To Envoy these are no requests at all.
            if !reply.is_codec_error() {
                let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
                let host = parts
                    .headers
                    .get(header::HOST)
                    .and_then(|host| host.to_str().ok());
                exchange.note_request(parts.method.as_str(), path, host.unwrap_or(""), &parts.headers);
            }
            return Err(reply);
        }
    };
    stamp::strip_hop_by_hop(&mut parts.headers);
    if filters::reads_peer(&config.filters) {
        filters::strip_peer(&mut parts.headers);
    }
    if parts.version == Version::HTTP_2 {
        stamp::join_cookies(&mut parts.headers);
    }
    stamp::stamp(&mut parts.headers, config, exchange);
    let routes = shared.service.routes();
    for name in routes
        .iter()
        .flat_map(|table| &table.config().internal_only_headers)
    {
        parts.headers.remove(name);
    }
    *request_id = parts.headers.get(stamp::REQUEST_ID).cloned();
    let asked = Asked {
        parts,
        target,
        upgrade,
    };
    note(exchange, &asked);
    route(exchange, asked, body, routes.as_deref()).await
}

/// Keeps for the log what the request says now.
pub(crate) fn note(exchange: &Exchange, asked: &Asked) {
    let is_connect = asked.parts.method == Method::CONNECT;
    let path = if is_connect {
        ""
    } else {
        asked.target.path.as_str()
    };
    let authority = asked.target.authority();
    exchange.note_request(asked.parts.method.as_str(), path, authority, &asked.parts.headers);
}

async fn route(
    exchange: &Rc<Exchange>,
    mut asked: Asked,
    body: Incoming,
    routes: Option<&RouteTable>,
) -> Result<Response<ResponseBody>, LocalReply> {
    let shared = &exchange.connection;
    // One draw for a request, however often its route is looked for.
    let draw = fastrand::u64(..);
    let mut passed = Passed::default();
    let mut begun = 0;
    let place = loop {
        let place = place(exchange, &asked, routes, draw)?;
        let on = place.as_ref();
        let filters = shared
            .service
            .filters(routes, on.map(|on| (on.found.host, on.found.route, on.member)))
            .filter(|running| running.at >= begun);
        let way = Way {
            route: on.map(|on| on.found.route),
            cluster: on.and_then(|on| on.cluster.as_deref()),
        };
        match filters::run(filters, way, &mut asked, exchange, &mut passed).await? {
            Some(at) => begun = at + 1,
            None => break place,
        }
    };
    shared.router.inc(router::RQ_TOTAL);
    let Some(Place {
        found,
        member,
        cluster,
    }) = place
    else {
        // Filters see what no route takes as well: a fault or a limit of the chain comes before the 404.
        return Err(no_route(&asked));
    };
    let head = asked.head(&shared.facts);
    let action = match &found.route.action {
        Action::Direct(direct) => return Ok(answer::direct(direct, &found, &head, passed, exchange)),
        Action::Redirect(redirect) => return Ok(answer::redirect(redirect, &found, &head, passed, exchange)),
        Action::Forward(action) => action,
    };
    let Some(cluster) = cluster else {
        return Err(forward::no_cluster(action));
    };
    let chosen = forward::Chosen {
        action,
        cluster,
        member,
        passed,
    };
    forward::run(exchange, asked, body, &found, chosen).await
}

fn no_route(asked: &Asked) -> LocalReply {
    LocalReply {
        close: asked.parts.method == Method::CONNECT,
        ..Known::NoRoute.into()
    }
}

/// Looks for the route. What a route does not allow is answered before filters see the request.
fn place<'a>(
    exchange: &Exchange,
    asked: &Asked,
    routes: Option<&'a RouteTable>,
    draw: u64,
) -> Result<Option<Place<'a>>, LocalReply> {
    let shared = &exchange.connection;
    let head = asked.head(&shared.facts);
    let Some(table) = routes else { return Ok(None) };
    // The lower half of the draw is for the cluster.
    let found = match table.find(&head, ((draw >> 32) % 1_000_000) as u32) {
        Choice::Route(host, route) => Found { table, host, route },
        Choice::NeedsTls => return Err(answer::needs_tls(&head)),
        Choice::None => return Ok(None),
    };
    exchange.told.borrow_mut().route.clone_from(&found.route.name);
    if asked.parts.method == Method::CONNECT {
        // Tunnels are not served.
        return Err(no_route(asked));
    }
    let target = match &found.route.action {
        Action::Forward(forward) => table::target(forward, &head, draw & 0xffff_ffff),
        _ => None,
    };
    let member = target.as_ref().and_then(|target| target.member);
    let cluster = target.map(|target| target.cluster.into_owned());
    forward::tell_cluster(cluster.as_deref(), exchange);
    if let Some(kind) = &asked.upgrade
        && !forward::allows_upgrade(kind, found.route, &shared.service.config.upgrades)
    {
        return Err(Known::UpgradeRefused.into());
    }
    Ok(Some(Place {
        found,
        member,
        cluster,
    }))
}
