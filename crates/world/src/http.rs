//! HTTP connection managers made ready on the control thread; workers share them.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use redplane_config::http::hcm::RouteSource;
use redplane_config::http::route::{Route, VirtualHost, WeightedCluster};
use redplane_config::http::{FilterOverride, HttpConnectionManager, HttpFilter, NamedFilter};
use redplane_http_route::RouteTable;
use redplane_telemetry::access_log::AccessLog;
use redplane_telemetry::stats::{cors, fault, http, jwt_authn, rbac, rbac_shadow, router};
use redplane_telemetry::{Registry, Scope};

use crate::access::dotted;
use crate::routes::RouteSlot;

/// A connection manager with everything its connections need.
pub struct HttpService {
    /// As configured.
    pub config: Arc<HttpConnectionManager>,
    /// A line for each request.
    pub access_logs: Vec<AccessLog>,
    /// `http.<stat_prefix>.`
    pub scope: Arc<Scope>,
    /// The same, of the router.
    pub router: Arc<Scope>,
    routes: RouteSlot,
    /// Of each filter, in their order.
    filters: Vec<FilterStats>,
}

/// Where a filter counts.
#[derive(Debug)]
pub enum FilterStats {
    /// It counts nothing of its own.
    None,
    /// `http.<stat_prefix>.rbac.<rules_stat_prefix>.` and `http.<stat_prefix>.rbac.<shadow_rules_stat_prefix>.`
    Rbac(Arc<Scope>, Arc<Scope>),
    /// `http.<stat_prefix>.jwt_authn.<stat_prefix>.`
    Jwt(Arc<Scope>),
    /// `http.<stat_prefix>.fault.`, or `http.<stat_prefix>.cors.`
    Own(Arc<Scope>),
}

/// A filter that runs on a request.
#[derive(Clone, Copy)]
pub struct Running<'a> {
    /// Its place in the chain.
    pub at: usize,
    /// What it is.
    pub filter: &'a HttpFilter,
    /// What the route says to it.
    pub said: Option<&'a FilterOverride>,
    /// Where it counts.
    pub stats: &'a FilterStats,
}

impl HttpService {
    /// Makes a connection manager ready. `routes` is where RDS puts its tables; inline routes need none.
    pub fn new(
        config: Arc<HttpConnectionManager>,
        access_logs: Vec<AccessLog>,
        routes: Option<RouteSlot>,
        registry: &Registry,
    ) -> Self {
        let scope = registry.scope(&format!("http.{}.", config.stat_prefix), &http::SCHEMA);
        let router = registry.scope(&format!("http.{}.", config.stat_prefix), &router::SCHEMA);
        let routes = match &config.routes {
            RouteSource::Inline(routes) => {
                Arc::new(ArcSwapOption::from_pointee(RouteTable::new(Arc::clone(routes))))
            }
            RouteSource::Rds { .. } => routes.unwrap_or_default(),
        };
        let of = |named: &NamedFilter| FilterStats::of(&named.filter, &config.stat_prefix, registry);
        Self {
            filters: config.filters.iter().map(of).collect(),
            config,
            access_logs,
            scope,
            router,
            routes,
        }
    }

    /// The routes of this moment; a request keeps those that it began with.
    pub fn routes(&self) -> Option<Arc<RouteTable>> {
        self.routes.load_full()
    }

    /// The filters that run on a route, each with what the route says to it. The most specific word counts.
    pub fn filters<'a>(
        &'a self,
        table: Option<&'a RouteTable>,
        place: Option<(&'a VirtualHost, &'a Route, Option<&'a WeightedCluster>)>,
    ) -> impl Iterator<Item = Running<'a>> {
        let filters = self.config.filters.iter().zip(&self.filters).enumerate();
        filters.filter_map(move |(at, (named, stats))| {
            let NamedFilter {
                name,
                disabled,
                filter,
            } = named;
            let said = place.and_then(|(host, route, member)| {
                let member = member.and_then(|member| member.overrides.of(name));
                member
                    .or_else(|| route.overrides.of(name))
                    .or_else(|| host.overrides.of(name))
                    .or_else(|| table.and_then(|table| table.config().overrides.of(name)))
            });
            let runs = match said {
                Some(FilterOverride::Disabled) => false,
                Some(_) => true,
                None => !disabled,
            };
            runs.then_some(Running {
                at,
                filter,
                said,
                stats,
            })
        })
    }
}

impl FilterStats {
    fn of(filter: &HttpFilter, stat_prefix: &str, registry: &Registry) -> Self {
        match filter {
            HttpFilter::Rbac(filter) => {
                let prefix = format!("http.{stat_prefix}.rbac.");
                let enforced = format!("{prefix}{}", dotted(&filter.rules_prefix));
                let shadow = format!("{prefix}{}", dotted(&filter.shadow_prefix));
                Self::Rbac(
                    registry.scope(&enforced, &rbac::SCHEMA),
                    registry.scope(&shadow, &rbac_shadow::SCHEMA),
                )
            }
            HttpFilter::Jwt(filter) => {
                let prefix = format!("http.{stat_prefix}.jwt_authn.{}", dotted(&filter.stat_prefix));
                Self::Jwt(registry.scope(&prefix, &jwt_authn::SCHEMA))
            }
            HttpFilter::Fault(_) => {
                Self::Own(registry.scope(&format!("http.{stat_prefix}.fault."), &fault::SCHEMA))
            }
            HttpFilter::Cors => {
                Self::Own(registry.scope(&format!("http.{stat_prefix}.cors."), &cors::SCHEMA))
            }
            _ => Self::None,
        }
    }
}
