//! `CorsPolicy`, as routes and virtual hosts have it.

use redplane_proto::pb::envoy::extensions::filters::http::cors::v3 as proto;

use crate::field::parts_per_million;
use crate::invalid::ignore_fields;
use crate::matcher::StringMatcher;
use crate::{Ignored, Invalid};

/// One policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CorsPolicy {
    /// Origins that are allowed.
    pub origins: Vec<StringMatcher>,
    /// `access-control-allow-methods`; empty leaves it out.
    pub methods: String,
    /// `access-control-allow-headers`.
    pub headers: String,
    /// `access-control-expose-headers`.
    pub expose: String,
    /// `access-control-max-age`.
    pub max_age: String,
    /// `access-control-allow-credentials`.
    pub credentials: bool,
    /// `access-control-allow-private-network` where it is asked for.
    pub private_network: bool,
    /// `forward_not_matching_preflights`, true where absent.
    pub forward_other_preflights: bool,
    /// So many of a million requests (`filter_enabled`).
    pub share: u32,
}

impl CorsPolicy {
    /// Whether an origin is allowed.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|matcher| matcher.matches(origin))
    }

    pub(super) fn from_proto(message: &proto::CorsPolicy, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, shadow_enabled);
        let origin = |(at, matcher)| {
            StringMatcher::from_proto(matcher)
                .map_err(|refusal: Invalid| refusal.within(&format!("allow_origin_string_match[{at}]")))
        };
        let origins = message.allow_origin_string_match.iter().enumerate().map(origin);
        let share = message.filter_enabled.as_ref();
        Ok(Self {
            origins: origins.collect::<Result<_, _>>()?,
            methods: message.allow_methods.clone(),
            headers: message.allow_headers.clone(),
            expose: message.expose_headers.clone(),
            max_age: message.max_age.clone(),
            credentials: message.allow_credentials.is_some_and(|flag| flag.value),
            private_network: message
                .allow_private_network_access
                .is_some_and(|flag| flag.value),
            forward_other_preflights: message
                .forward_not_matching_preflights
                .is_none_or(|flag| flag.value),
            share: match share {
                None => 1_000_000,
                Some(share) => {
                    ignored.scope("filter_enabled", |ignored| parts_per_million(share, ignored))?
                }
            },
        })
    }
}
