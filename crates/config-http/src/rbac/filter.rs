//! The filters: `envoy.filters.network.rbac` and `envoy.filters.http.rbac`.

use std::time::Duration;

use redplane_proto::pb::envoy::config::rbac::v3 as rules;
use redplane_proto::pb::envoy::extensions::filters::http::rbac::v3 as http;
use redplane_proto::pb::envoy::extensions::filters::network::rbac::v3 as network;
use redplane_proto::pb::envoy::extensions::filters::network::rbac::v3::rbac::EnforcementType;
use redplane_proto::pb::xds::r#type::matcher::v3::Matcher;

use super::{Action, Rules, Scope};
use crate::field::{duration_or, enumeration, non_empty};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// The network filter. A connection is decided on when its handshake is over, and again when the rules change.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRbac {
    /// Statistics go under `<stat_prefix>.rbac.`.
    pub stat_prefix: String,
    /// What is enforced.
    pub rules: Option<Rules>,
    /// What is only counted.
    pub shadow: Option<Rules>,
    /// In front of the shadow rules' statistics and metadata.
    pub shadow_prefix: String,
    /// How long a denied connection is kept, unread, before it is closed.
    pub delay_deny: Duration,
}

/// The HTTP filter.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRbac {
    /// What is enforced.
    pub rules: Option<Rules>,
    /// In front of its statistics and metadata.
    pub rules_prefix: String,
    /// What is only counted, and written into metadata.
    pub shadow: Option<Rules>,
    /// In front of the shadow rules' statistics and metadata.
    pub shadow_prefix: String,
}

impl NetworkRbac {
    /// Reads the message. `enforcement_type` makes no difference: what rules ask about a connection does not change
    /// while it lives.
    pub fn from_proto(message: &network::Rbac, ignored: &mut Ignored) -> Result<Self, Invalid> {
        enumeration::<EnforcementType>(message.enforcement_type, "enforcement_type")?;
        Ok(Self {
            stat_prefix: non_empty(&message.stat_prefix, "stat_prefix")?,
            rules: enforced(
                message.rules.as_ref(),
                message.matcher.as_ref(),
                Scope::Connection,
                ignored,
            )?,
            shadow: shadow(
                message.shadow_rules.as_ref(),
                message.shadow_matcher.as_ref(),
                Scope::Connection,
                ignored,
            )?,
            shadow_prefix: message.shadow_rules_stat_prefix.clone(),
            delay_deny: duration_or(message.delay_deny.as_ref(), "delay_deny", Duration::ZERO)?,
        })
    }

    /// Whether it can keep anybody out.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.rules
            .as_ref()
            .is_some_and(|rules| rules.action != Action::Log)
    }
}

impl HttpRbac {
    /// Reads the message.
    pub fn from_proto(message: &http::Rbac, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, track_per_rule_stats);
        Ok(Self {
            rules: enforced(
                message.rules.as_ref(),
                message.matcher.as_ref(),
                Scope::Request,
                ignored,
            )?,
            rules_prefix: message.rules_stat_prefix.clone(),
            shadow: shadow(
                message.shadow_rules.as_ref(),
                message.shadow_matcher.as_ref(),
                Scope::Request,
                ignored,
            )?,
            shadow_prefix: message.shadow_rules_stat_prefix.clone(),
        })
    }

    /// Reads what a route says instead: `None` switches the filter off there.
    pub fn from_route(message: &http::RbacPerRoute, ignored: &mut Ignored) -> Result<Option<Self>, Invalid> {
        let read = |rbac| ignored.scope("rbac", |ignored| Self::from_proto(rbac, ignored));
        message.rbac.as_ref().map(read).transpose()
    }
}

/// Rules; a matcher tree takes their place and is not evaluated, so that it lets nobody in.
fn enforced(
    rules: Option<&rules::Rbac>,
    matcher: Option<&Matcher>,
    scope: Scope,
    ignored: &mut Ignored,
) -> Result<Option<Rules>, Invalid> {
    if matcher.is_some() {
        ignored.note("matcher: matcher trees are not evaluated, nobody is let in");
        return Ok(Some(Rules::closed()));
    }
    let read = |rules| ignored.scope("rules", |ignored| Rules::from_proto(rules, scope, ignored));
    rules.map(read).transpose()
}

fn shadow(
    rules: Option<&rules::Rbac>,
    matcher: Option<&Matcher>,
    scope: Scope,
    ignored: &mut Ignored,
) -> Result<Option<Rules>, Invalid> {
    if matcher.is_some() {
        ignored.note("shadow_matcher: matcher trees are not evaluated, nothing is counted");
        return Ok(None);
    }
    let read = |rules| ignored.scope("shadow_rules", |ignored| Rules::from_proto(rules, scope, ignored));
    rules.map(read).transpose()
}
