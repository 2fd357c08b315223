//! A route configuration, ready to be asked.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use redplane_config::http::route::{
    BothWays, ClusterTarget, Domain, Forward, RequireTls, Route, RouteConfiguration, VirtualHost,
    WeightedCluster,
};

use crate::hosts::Hosts;
use crate::matching;
use crate::request::Head;

/// A route configuration with an index of its domains.
#[derive(Debug)]
pub struct RouteTable {
    config: Arc<RouteConfiguration>,
    hosts: Hosts,
}

/// What was found for a request.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// No virtual host, or no route in it.
    None,
    /// The virtual host wants TLS, which this request has not: it is sent to `https` with 301.
    NeedsTls,
    /// A route, and the virtual host it stands in.
    Route(&'a VirtualHost, &'a Arc<Route>),
}

/// Where a request goes, once chance has spoken.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The cluster's name.
    pub cluster: Cow<'a, str>,
    /// The member of weighted clusters that was drawn.
    pub member: Option<&'a WeightedCluster>,
}

impl RouteTable {
    /// Builds the index.
    pub fn new(config: Arc<RouteConfiguration>) -> Self {
        Self {
            hosts: Hosts::new(&config.virtual_hosts),
            config,
        }
    }

    /// What was configured.
    pub fn config(&self) -> &Arc<RouteConfiguration> {
        &self.config
    }

    /// The first route that fits, in the one virtual host that fits best. `draw` is a number below a million.
    pub fn find(&self, head: &Head<'_>, draw: u32) -> Choice<'_> {
        let Some(at) = self.hosts.find(head.authority, self.config.ignore_port) else {
            return Choice::None;
        };
        let host = &self.config.virtual_hosts[at];
        // All requests are external here: nothing says which addresses are internal.
        if host.require_tls != RequireTls::No && head.scheme != "https" {
            return Choice::NeedsTls;
        }
        let mut routes = host.routes.iter();
        match routes.find(|route| matching::fits(&route.matches, head, draw)) {
            Some(route) => Choice::Route(host, route),
            None => Choice::None,
        }
    }

    /// The header changes that a route brings, in the order in which they are made.
    pub fn changes<'a>(
        &'a self,
        host: &'a VirtualHost,
        route: &'a Route,
        member: Option<&'a WeightedCluster>,
    ) -> impl Iterator<Item = &'a BothWays> {
        let member = member.map(|member| &member.headers);
        let inner = [
            member,
            Some(&route.headers),
            Some(&host.headers),
            Some(&self.config.headers),
        ];
        let mut order = inner;
        if self.config.most_specific_last {
            order.reverse();
        }
        order.into_iter().flatten().filter(|changes| !changes.is_empty())
    }

    /// Whether any host is the one for everything: what a dump shows as catch-all.
    pub fn has_catch_all(&self) -> bool {
        let hosts = &self.config.virtual_hosts;
        hosts.iter().any(|host| host.domains.contains(&Domain::Any))
    }
}

/// The cluster of a route; `draw` is any number. `None` where the header that names it is absent.
pub fn target<'a>(forward: &'a Forward, head: &Head<'_>, draw: u64) -> Option<Target<'a>> {
    let of_header = |name| named(head, name).map(|cluster| Cow::Owned(cluster.to_owned()));
    match &forward.cluster {
        ClusterTarget::Named(cluster) => Some(Target {
            cluster: Cow::Borrowed(cluster),
            member: None,
        }),
        ClusterTarget::Header(name) => of_header(name).map(|cluster| Target {
            cluster,
            member: None,
        }),
        ClusterTarget::Weighted(members, sum) => {
            let mut left = draw % sum;
            let member = members.iter().find(|member| {
                let weight = u64::from(member.weight);
                let found = left < weight;
                left = left.wrapping_sub(if found { 0 } else { weight });
                found
            })?;
            let cluster = match &member.cluster {
                Ok(cluster) => Cow::Borrowed(&**cluster),
                Err(name) => of_header(name)?,
            };
            Some(Target {
                cluster,
                member: Some(member),
            })
        }
    }
}

fn named<'a>(head: &Head<'a>, name: &HeaderName) -> Option<&'a str> {
    head.headers
        .get(name)
        .map(HeaderValue::to_str)?
        .ok()
        .filter(|name| !name.is_empty())
}
