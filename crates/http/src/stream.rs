//! One request, from its head to the head of its response.
//!
//! In Envoy's order: checks, stamps, route, filters, router. A request keeps the route table that it began with. Every
//! answer that is made here is a [`LocalReply`].

mod answer;
mod forward;
mod limits;
mod tries;

use std::rc::Rc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;
use redplane_config::http::route::{Action, Route, VirtualHost};
use redplane_http_route::request::Certificate;
use redplane_http_route::{Choice, Head, RouteTable, grpc, table};

use crate::check::{Target, check};
use crate::exchange::Exchange;
use crate::feed::BodyFault;
use crate::filters::{self, Passed};
use crate::reply::{Known, LocalReply};
use crate::shared::Shared;
use crate::tail::ResponseBody;
use crate::{response, stamp};

/// A request that was checked and stamped.
pub(crate) struct Asked {
    pub(crate) parts: Parts,
    pub(crate) target: Target,
    /// The protocol that the client wants to change to.
    pub(crate) upgrade: Option<String>,
}

/// Where a request was found to belong.
pub(crate) struct Found<'a> {
    pub(crate) table: &'a RouteTable,
    pub(crate) host: &'a VirtualHost,
    pub(crate) route: &'a Route,
}

impl Asked {
    /// What routes look at.
    pub(crate) fn head<'a>(&'a self, shared: &'a Shared) -> Head<'a> {
        let peer = shared.facts.peer().is_some();
        Head {
            method: &self.parts.method,
            path: self.target.path.as_str(),
            authority: self.target.authority(),
            scheme: shared.facts.scheme(),
            headers: &self.parts.headers,
            certificate: Certificate {
                presented: peer,
                // A certificate that is not good ends the handshake.
                validated: peer,
            },
        }
    }
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
    stamp::stamp(&mut parts.headers, config, &shared.facts);
    *request_id = parts.headers.get(stamp::REQUEST_ID).cloned();
    let asked = Asked {
        parts,
        target,
        upgrade,
    };
    note(exchange, &asked);
    let routes = shared.service.routes();
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
    asked: Asked,
    body: Incoming,
    routes: Option<&RouteTable>,
) -> Result<Response<ResponseBody>, LocalReply> {
    let shared = &exchange.connection;
    let head = asked.head(shared);
    let choice = match routes {
        Some(table) => table.find(&head, fastrand::u32(..1_000_000)),
        None => Choice::None,
    };
    let found = match (choice, routes) {
        (Choice::Route(host, route), Some(table)) => Some(Found { table, host, route }),
        (Choice::NeedsTls, _) => return Err(answer::needs_tls(&head)),
        _ => None,
    };
    let Some(found) = found else {
        // Filters see what no route takes as well: a fault or a limit of the chain comes before the 404.
        let filters = shared.service.filters(routes, None);
        filters::run(filters, &head, None, exchange).await?;
        return Err(LocalReply {
            close: asked.parts.method == Method::CONNECT,
            ..Known::NoRoute.into()
        });
    };
    exchange.told.borrow_mut().route.clone_from(&found.route.name);
    if asked.parts.method == Method::CONNECT {
        // Tunnels are not served.
        return Err(LocalReply {
            close: true,
            ..Known::NoRoute.into()
        });
    }
    let target = match &found.route.action {
        Action::Forward(forward) => table::target(forward, &head, fastrand::u64(..)),
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
    let filters = shared
        .service
        .filters(routes, Some((found.host, found.route, member)));
    let passed: Passed = filters::run(filters, &head, cluster.as_deref(), exchange).await?;
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
