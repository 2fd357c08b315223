//! Tokens that requests must carry: `envoy.extensions.filters.http.jwt_authn.v3`.
//!
//! The model names providers by their index. A requirement that would let unverified tokens through is refused.

mod key_set;
mod provider;
mod requirement;
#[cfg(test)]
mod tests;

use redplane_proto::pb::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use redplane_proto::pb::envoy::extensions::filters::http::jwt_authn::v3::per_route_config::RequirementSpecifier;
use redplane_proto::pb::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;

pub use key_set::{Curve, Key, KeyMaterial, KeySet};
pub use provider::{ClaimHeader, HeaderPlace, KeySource, Provider, RemoteKeys};
pub use requirement::{PathTest, Requirement, RuleMatch, is_audience};

use crate::field::required;
use crate::{Ignored, Invalid};

/// The filter.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtAuthn {
    /// Sorted by name; requirements and rules name them by index.
    pub providers: Vec<Provider>,
    /// The first whose match holds decides what is required; none: nothing is.
    pub rules: Vec<Rule>,
    /// `requirement_map`, sorted by name: what routes refer to.
    pub named: Vec<(String, Requirement)>,
    /// Preflight requests of CORS need no token.
    pub bypass_cors_preflight: bool,
    /// Refusals have neither body nor `www-authenticate`.
    pub strip_failure_response: bool,
    /// `stat_prefix`, may be empty.
    pub stat_prefix: String,
}

/// `RequirementRule`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which requests it is for.
    pub matches: RuleMatch,
    /// What they need.
    pub requires: Requirement,
}

/// `PerRouteConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteRequirement {
    /// No token is needed.
    Disabled,
    /// The requirement of that name; if the filter has none, requests are refused with 403.
    Named(String),
}

impl JwtAuthn {
    /// Reads the message.
    pub fn from_proto(message: &proto::JwtAuthentication, ignored: &mut Ignored) -> Result<Self, Invalid> {
        if message.filter_state_rules.is_some() {
            return Err(Invalid::new("filter_state_rules", "is not supported"));
        }
        let providers = providers(message, ignored)?;
        let named = named(message, &providers)?;
        let rule = |(i, rule)| {
            let within = |refusal: Invalid| refusal.within(&format!("rules[{i}]"));
            Rule::from_proto(rule, &providers, &named).map_err(within)
        };
        let rules = message
            .rules
            .iter()
            .enumerate()
            .map(rule)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            rules,
            providers,
            named,
            bypass_cors_preflight: message.bypass_cors_preflight,
            strip_failure_response: message.strip_failure_response,
            stat_prefix: message.stat_prefix.clone(),
        })
    }
}

impl JwtAuthn {
    /// The clusters that keys are fetched from.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().filter_map(|provider| match &provider.keys {
            KeySource::Remote(keys) => Some(keys.cluster.as_str()),
            KeySource::Local(_) | KeySource::None => None,
        })
    }
}

fn providers(message: &proto::JwtAuthentication, ignored: &mut Ignored) -> Result<Vec<Provider>, Invalid> {
    let mut named: Vec<_> = message.providers.iter().collect();
    named.sort_unstable_by_key(|(name, _)| name.as_str());
    let read = |(name, provider): (&String, &proto::JwtProvider)| {
        ignored.scope(&format!("providers[{name}]"), |ignored| {
            Provider::from_proto(name.clone(), provider, ignored)
        })
    };
    named.into_iter().map(read).collect()
}

fn named(
    message: &proto::JwtAuthentication,
    providers: &[Provider],
) -> Result<Vec<(String, Requirement)>, Invalid> {
    let mut named: Vec<_> = message.requirement_map.iter().collect();
    named.sort_unstable_by_key(|(name, _)| name.as_str());
    let read = |(name, requirement): (&String, _)| {
        let within = |refusal: Invalid| refusal.within(&format!("requirement_map[{name}]"));
        let requirement = Requirement::from_proto(requirement, providers).map_err(within)?;
        Ok((name.clone(), requirement))
    };
    named.into_iter().map(read).collect()
}

impl Rule {
    fn from_proto(
        message: &proto::RequirementRule,
        providers: &[Provider],
        named: &[(String, Requirement)],
    ) -> Result<Self, Invalid> {
        let matches = required(message.r#match.as_ref(), "match")?;
        let requires = match message.requirement_type.as_ref() {
            None => Requirement::Nothing,
            Some(RequirementType::Requires(requirement)) => Requirement::from_proto(requirement, providers)
                .map_err(|refusal| refusal.within("requires"))?,
            Some(RequirementType::RequirementName(name)) => {
                let found = named.iter().find(|(known, _)| known == name);
                let reason = || format!("Wrong requirement_name: {name}");
                let found = found.ok_or_else(|| Invalid::new("requirement_name", reason()))?;
                found.1.clone()
            }
        };
        Ok(Self {
            matches: RuleMatch::from_proto(matches).map_err(|refusal| refusal.within("match"))?,
            requires,
        })
    }
}

impl RouteRequirement {
    /// Reads what a route says.
    pub fn from_proto(message: &proto::PerRouteConfig) -> Result<Self, Invalid> {
        match required(message.requirement_specifier.as_ref(), "requirement_specifier")? {
            RequirementSpecifier::Disabled(true) => Ok(Self::Disabled),
            RequirementSpecifier::Disabled(false) => Err(Invalid::new("disabled", "value must equal true")),
            RequirementSpecifier::RequirementName(name) => Ok(Self::Named(name.clone())),
        }
    }
}
