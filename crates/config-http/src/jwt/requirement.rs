//! `JwtRequirement`, and which requests a rule is for.

use redplane_proto::pb::envoy::config::route::v3 as route;
use redplane_proto::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier as Query;
use redplane_proto::pb::envoy::config::route::v3::route_match::PathSpecifier;
use redplane_proto::pb::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use redplane_proto::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;

use super::Provider;
use crate::field::{non_empty, required};
use crate::matcher::{FullRegex, HeaderMatcher, StringMatcher, UriTemplate};
use crate::{Ignored, Invalid};

/// What a request needs. Providers are indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    Nothing,
    /// A valid token of this provider, for these audiences if any are named, else for the provider's.
    Provider {
        /// Its index.
        provider: usize,
        /// `audiences`.
        audiences: Option<Vec<String>>,
    },
    /// One of these must hold.
    Any(Vec<Self>),
    /// All of these must hold.
    All(Vec<Self>),
    /// No token at the places of these providers, or valid ones.
    AllowMissing(Vec<usize>),
    /// Anything; valid tokens of these providers are still passed on.
    AllowMissingOrFailed(Vec<usize>),
}

impl Requirement {
    /// Reads the message; its depth is bounded by the protobuf decoder.
    pub(super) fn from_proto(
        message: &proto::JwtRequirement,
        providers: &[Provider],
    ) -> Result<Self, Invalid> {
        let all = || (0..providers.len()).collect();
        let list = |field: &str, list: &[proto::JwtRequirement]| {
            if list.len() < 2 {
                return Err(Invalid::new(
                    format!("{field}.requirements"),
                    "value must contain at least 2 item(s)",
                ));
            }
            let one = |(i, one)| {
                let within = |refusal: Invalid| refusal.within(&format!("{field}.requirements[{i}]"));
                Self::from_proto(one, providers).map_err(within)
            };
            list.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()
        };
        Ok(match message.requires_type.as_ref() {
            None => Self::Nothing,
            Some(RequiresType::ProviderName(name)) => Self::Provider {
                provider: index(name, "provider_name", providers)?,
                audiences: None,
            },
            Some(RequiresType::ProviderAndAudiences(both)) => {
                let audiences = both.audiences.clone();
                Self::Provider {
                    provider: index(
                        &both.provider_name,
                        "provider_and_audiences.provider_name",
                        providers,
                    )?,
                    audiences: Some(audiences).filter(|audiences| !audiences.is_empty()),
                }
            }
            Some(RequiresType::RequiresAny(any)) => {
                Self::of_siblings(list("requires_any", &any.requirements)?)
            }
            Some(RequiresType::RequiresAll(and)) => Self::All(list("requires_all", &and.requirements)?),
            Some(RequiresType::AllowMissing(_)) => Self::AllowMissing(all()),
            Some(RequiresType::AllowMissingOrFailed(_)) => Self::AllowMissingOrFailed(all()),
            Some(RequiresType::ExtractOnlyWithoutValidation(_)) => {
                return Err(Invalid::new(
                    "extract_only_without_validation",
                    "is not supported: tokens are verified or not used",
                ));
            }
        })
    }

    /// In a list of alternatives what allows a token to be missing comes last, once, the more generous one, and is about
    /// the providers beside it.
    fn of_siblings(list: Vec<Self>) -> Self {
        let beside: Vec<usize> = list
            .iter()
            .filter_map(|one| match one {
                Self::Provider { provider, .. } => Some(*provider),
                _ => None,
            })
            .collect();
        let about = |all: Vec<usize>| if beside.is_empty() { all } else { beside.clone() };
        let mut last = None;
        let mut alternatives = Vec::with_capacity(list.len());
        for one in list {
            match one {
                Self::AllowMissingOrFailed(all) => last = Some(Self::AllowMissingOrFailed(about(all))),
                Self::AllowMissing(all) => last = last.or_else(|| Some(Self::AllowMissing(about(all)))),
                other => alternatives.push(other),
            }
        }
        alternatives.extend(last);
        Self::Any(alternatives)
    }
}

fn index(name: &str, path: &str, providers: &[Provider]) -> Result<usize, Invalid> {
    let found = providers.iter().position(|provider| provider.name == name);
    found.ok_or_else(|| Invalid::new(path, format!("Required provider ['{name}'] is not configured")))
}

/// An audience as it is compared: without scheme and without a slash at the end.
fn bare_audience(audience: &str) -> &str {
    let rest = audience
        .strip_prefix("http://")
        .or_else(|| audience.strip_prefix("https://"));
    let rest = rest.unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}

/// Whether an audience of a token is the configured one: scheme and a slash at the end do not count.
#[must_use]
pub fn is_audience(configured: &str, audience: &str) -> bool {
    bare_audience(configured) == bare_audience(audience)
}

/// The `RouteMatch` of a rule, as far as the filter looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// The path without its query.
    pub path: PathTest,
    /// All of them must fit.
    pub headers: Vec<HeaderMatcher>,
    /// All of them must fit: names, and what the value must be; `None` is any value.
    pub query: Vec<(String, Option<StringMatcher>)>,
}

/// What the path must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathTest {
    /// Starts with this.
    Prefix {
        /// The prefix.
        prefix: String,
        /// In this case.
        case_sensitive: bool,
    },
    /// Starts with this, which ends there or before a slash.
    Segments(String),
    /// Is this.
    Exact {
        /// The path.
        path: String,
        /// In this case.
        case_sensitive: bool,
    },
    /// Matches as a whole.
    Regex(FullRegex),
    /// Fits a template.
    Template(UriTemplate),
}

impl RuleMatch {
    /// Reads the message. A condition that is not looked at is refused: a rule that did not match would leave
    /// requests without a check.
    pub(super) fn from_proto(message: &route::RouteMatch) -> Result<Self, Invalid> {
        let unsupported = [
            ("runtime_fraction", message.runtime_fraction.is_some()),
            ("grpc", message.grpc.is_some()),
            ("tls_context", message.tls_context.is_some()),
            ("dynamic_metadata", !message.dynamic_metadata.is_empty()),
            ("filter_state", !message.filter_state.is_empty()),
        ];
        if let Some((field, _)) = unsupported.into_iter().find(|(_, is_set)| *is_set) {
            return Err(Invalid::new(field, "is not supported"));
        }
        let header = |(i, header)| {
            HeaderMatcher::from_proto(header).map_err(|refusal| refusal.within(&format!("headers[{i}]")))
        };
        let parameter = |(i, parameter)| {
            query(parameter).map_err(|refusal| refusal.within(&format!("query_parameters[{i}]")))
        };
        Ok(Self {
            path: path(message)?,
            headers: message
                .headers
                .iter()
                .enumerate()
                .map(header)
                .collect::<Result<_, _>>()?,
            query: message
                .query_parameters
                .iter()
                .enumerate()
                .map(parameter)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn path(message: &route::RouteMatch) -> Result<PathTest, Invalid> {
    let case_sensitive = message.case_sensitive.as_ref().is_none_or(|flag| flag.value);
    Ok(
        match required(message.path_specifier.as_ref(), "path_specifier")? {
            PathSpecifier::Prefix(prefix) => PathTest::Prefix {
                prefix: prefix.clone(),
                case_sensitive,
            },
            PathSpecifier::Path(path) => PathTest::Exact {
                path: path.clone(),
                case_sensitive,
            },
            PathSpecifier::PathSeparatedPrefix(prefix) => PathTest::Segments(prefix.clone()),
            PathSpecifier::SafeRegex(regex) => FullRegex::from_proto(&regex.regex).map(PathTest::Regex)?,
            PathSpecifier::PathMatchPolicy(template) => {
                // Fields that a template does not have are none of this filter's.
                UriTemplate::from_proto(template, &mut Ignored::default())
                    .map(PathTest::Template)
                    .map_err(|refusal| refusal.within("path_match_policy"))?
            }
            PathSpecifier::ConnectMatcher(_) => {
                return Err(Invalid::new("connect_matcher", "is not supported"));
            }
        },
    )
}

fn query(message: &route::QueryParameterMatcher) -> Result<(String, Option<StringMatcher>), Invalid> {
    let name = non_empty(&message.name, "name")?;
    Ok(match message.query_parameter_match_specifier.as_ref() {
        None | Some(Query::PresentMatch(true)) => (name, None),
        Some(Query::PresentMatch(false)) => {
            return Err(Invalid::new("present_match", "false is not supported"));
        }
        Some(Query::StringMatch(text)) => {
            let text = StringMatcher::from_proto(text).map_err(|refusal| refusal.within("string_match"))?;
            (name, Some(text))
        }
    })
}
