//! `typed_per_filter_config`: what a route, virtual host or weighted cluster says to a filter of the chain.

use std::collections::HashMap;
use std::sync::Arc;

use redplane_proto::pb::envoy::config::route::v3::FilterConfig;
use redplane_proto::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy as CorsProto;
use redplane_proto::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit as RateLimitProto;
use redplane_proto::pb::google::protobuf::Any;
use redplane_proto::type_url;

use super::cors::CorsPolicy;
use super::fault::Fault;
use super::is_guard;
use super::rate_limit::LocalRateLimit;
use crate::extension::Extension;
use crate::jwt::RouteRequirement;
use crate::rbac::HttpRbac;
use crate::{Ignored, Invalid};

/// What is said to filters, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides(pub Vec<(String, FilterOverride)>);

/// What is said to one filter.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterOverride {
    /// It does not run here.
    Disabled,
    /// It runs here although the chain says that it is disabled.
    Enabled,
    /// Faults of this route.
    Fault(Arc<Fault>),
    /// The CORS policy of this route.
    Cors(Arc<CorsPolicy>),
    /// The bucket of this route.
    RateLimit(Arc<LocalRateLimit>),
    /// The access rules of this route.
    Rbac(Arc<HttpRbac>),
    /// The tokens that this route needs.
    Jwt(Arc<RouteRequirement>),
}

impl Overrides {
    /// Reads the map, in the order of its keys.
    pub(in crate::http) fn from_proto(
        message: &HashMap<String, Any>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let mut entries: Vec<_> = message.iter().collect();
        entries.sort_unstable_by_key(|(name, _)| name.as_str());
        let mut found = Vec::new();
        for (name, any) in entries {
            let read = ignored.scope(&format!("typed_per_filter_config[{name}]"), |ignored| {
                one(name, any, ignored)
            })?;
            found.extend(read.map(|read| (name.clone(), read)));
        }
        Ok(Self(found))
    }

    /// What is said to the filter of that name.
    pub fn of(&self, name: &str) -> Option<&FilterOverride> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, said)| said)
    }
}

fn one(name: &str, any: &Any, ignored: &mut Ignored) -> Result<Option<FilterOverride>, Invalid> {
    let extension = Extension::new(name, Some(any));
    Ok(Some(match extension.type_url.as_str() {
        type_url::HTTP_FAULT => {
            FilterOverride::Fault(Arc::new(Fault::from_proto(&extension.decode(ignored)?, ignored)?))
        }
        type_url::CORS_POLICY => {
            let message: CorsProto = extension.decode(ignored)?;
            FilterOverride::Cors(Arc::new(CorsPolicy::from_proto(&message, ignored)?))
        }
        type_url::HTTP_LOCAL_RATELIMIT => {
            let message: RateLimitProto = extension.decode(ignored)?;
            FilterOverride::RateLimit(Arc::new(LocalRateLimit::from_proto(&message, ignored)?))
        }
        type_url::HTTP_RBAC_ROUTE => match HttpRbac::from_route(&extension.decode(ignored)?, ignored)? {
            Some(rules) => FilterOverride::Rbac(Arc::new(rules)),
            None => FilterOverride::Disabled,
        },
        type_url::JWT_AUTHN_ROUTE => FilterOverride::Jwt(Arc::new(RouteRequirement::from_proto(
            &extension.decode(ignored)?,
        )?)),
        type_url::ROUTE_FILTER_CONFIG => {
            let message: FilterConfig = extension.decode(ignored)?;
            return match message.config.as_ref() {
                _ if message.disabled => Ok(Some(FilterOverride::Disabled)),
                Some(inner) => one(name, inner, ignored),
                None => Ok(Some(FilterOverride::Enabled)),
            };
        }
        // The chain of such a filter is closed, so that nothing is let in by what is not read here.
        url if is_guard(url) => {
            ignored.note("its filter is not enforced here, and its chain is not served");
            return Ok(None);
        }
        _ => {
            ignored.note("is left out");
            return Ok(None);
        }
    }))
}
