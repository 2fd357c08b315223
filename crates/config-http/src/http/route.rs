//! `envoy.config.route.v3.RouteConfiguration`: virtual hosts and their routes.

mod action;
mod forward;
mod hash;
mod matching;
mod mirror;
mod retry;
mod timeouts;
mod virtual_host;

use std::collections::HashSet;

use http::HeaderName;
use redplane_proto::pb::envoy::config::route::v3 as proto;

pub use action::{Action, DirectResponse, PathRedirect, Redirect};
pub use forward::{ClusterTarget, Forward, HostRewrite, PathRewrite, WeightedCluster};
pub use hash::{HashKey, HashPolicy};
pub use matching::{PathMatch, RouteMatch};
pub use mirror::{Mirror, Upgrade};
pub use retry::{RetryOn, RetryPolicy};
pub use timeouts::RouteTimeouts;
pub use virtual_host::{Domain, RequireTls, Route, VirtualHost};

use super::change::HeaderChanges;
use super::filter::Overrides;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Envoy's limit of a direct response's body where `max_direct_response_body_size_bytes` is absent.
const MAX_DIRECT_BODY: u32 = 4096;

/// Header changes in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BothWays {
    /// To the request.
    pub request: HeaderChanges,
    /// To the response.
    pub response: HeaderChanges,
}

/// One validated route configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfiguration {
    /// Its name, as RDS asks for it; may be empty inline.
    pub name: String,
    /// In order.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Of all its routes.
    pub headers: BothWays,
    /// `most_specific_header_mutations_wins`: the configuration's changes first, the route's last.
    pub most_specific_last: bool,
    /// `ignore_port_in_host_matching`.
    pub ignore_port: bool,
    /// `internal_only_headers`: removed from external requests.
    pub internal_only_headers: Vec<HeaderName>,
    /// `typed_per_filter_config`.
    pub overrides: Overrides,
    /// Accepted but without effect.
    pub ignored: Ignored,
}

/// Reads the four lists of header changes that messages of this package have in common.
macro_rules! both_ways {
    ($message:expr, $ignored:expr) => {
        $crate::http::route::BothWays {
            request: $crate::http::change::HeaderChanges::read(
                "request",
                &$message.request_headers_to_add,
                &$message.request_headers_to_remove,
                $ignored,
            )?,
            response: $crate::http::change::HeaderChanges::read(
                "response",
                &$message.response_headers_to_add,
                &$message.response_headers_to_remove,
                $ignored,
            )?,
        }
    };
}
pub(crate) use both_ways;

impl BothWays {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

impl RouteConfiguration {
    /// Reads the resource.
    ///
    /// # Errors
    ///
    /// What would be answered wrongly, with the path of the field.
    pub fn from_proto(message: &proto::RouteConfiguration) -> Result<Self, Invalid> {
        let mut ignored = Ignored::default();
        // Clusters are looked up with each request, as Istio asks for (`validate_clusters: false`).
        if message.validate_clusters.is_some_and(|flag| flag.value) {
            ignored.note("validate_clusters: clusters are looked up with each request");
        }
        if message.vhds.is_some() {
            return Err(Invalid::new("vhds", "virtual hosts by VHDS are not supported"));
        }
        ignore_fields!(ignored, message, request_mirror_policies, metadata);
        if !message.cluster_specifier_plugins.is_empty() {
            return Err(Invalid::new(
                "cluster_specifier_plugins",
                "plugins are not supported",
            ));
        }
        if message.ignore_path_parameters_in_path_matching {
            return Err(Invalid::new(
                "ignore_path_parameters_in_path_matching",
                "is not supported",
            ));
        }
        let limit = message.max_direct_response_body_size_bytes;
        let limit = limit.map_or(MAX_DIRECT_BODY, |limit| limit.value) as usize;
        let virtual_hosts = ignored.each("virtual_hosts", &message.virtual_hosts, |host, ignored| {
            VirtualHost::from_proto(host, limit, ignored)
        })?;
        refuse_shared_domains(&virtual_hosts, &message.name)?;
        let internal = message
            .internal_only_headers
            .iter()
            .enumerate()
            .map(|(at, name)| {
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| Invalid::new(format!("internal_only_headers[{at}]"), "is no header name"))
            });
        Ok(Self {
            internal_only_headers: internal.collect::<Result<_, _>>()?,
            headers: both_ways!(message, &mut ignored),
            overrides: Overrides::from_proto(&message.typed_per_filter_config, &mut ignored)?,
            name: message.name.clone(),
            virtual_hosts,
            most_specific_last: message.most_specific_header_mutations_wins,
            ignore_port: message.ignore_port_in_host_matching,
            ignored,
        })
    }
}

impl RouteConfiguration {
    /// Every cluster that its routes name, mirrors included.
    pub fn clusters(&self) -> Vec<&str> {
        let routes = self.virtual_hosts.iter().flat_map(|host| &host.routes);
        let forwards = routes.filter_map(|route| match &route.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Direct(_) => None,
        });
        let mut names = Vec::new();
        for forward in forwards {
            match &forward.cluster {
                ClusterTarget::Named(name) => names.push(&**name),
                ClusterTarget::Header(_) => {}
                ClusterTarget::Weighted(members, _) => {
                    names.extend(members.iter().filter_map(|member| member.cluster.as_deref().ok()));
                }
            }
            names.extend(
                forward
                    .mirrors
                    .iter()
                    .filter_map(|mirror| mirror.cluster.as_deref().ok()),
            );
        }
        names
    }
}

fn refuse_shared_domains(hosts: &[VirtualHost], name: &str) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    for (at, host) in hosts.iter().enumerate() {
        for (place, domain) in host.domains.iter().enumerate() {
            if !seen.insert(domain) {
                let reason = match domain {
                    Domain::Any => format!("Only a single wildcard domain is permitted in route {name}"),
                    other => format!(
                        "Only unique values for domains are permitted. Duplicate entry of domain {other} in route {name}"
                    ),
                };
                return Err(Invalid::new(
                    format!("virtual_hosts[{at}].domains[{place}]"),
                    reason,
                ));
            }
        }
    }
    Ok(())
}
