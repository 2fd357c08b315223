//! Access rules: `envoy.config.rbac.v3.RBAC` and the two filters that carry them.
//!
//! A rule that cannot be evaluated here (a CEL condition, filter state, an unknown extension; on a TCP chain whatever
//! only a request has) is kept as [`Condition::Unknown`] and noted: a decision that depends on it is a refusal. Policies
//! stand in the order of their names, as in Envoy.

mod condition;
mod filter;
#[cfg(test)]
mod tests;

use redplane_proto::pb::envoy::config::rbac::v3 as proto;

pub use condition::{Condition, MetadataSource};
pub use filter::{HttpRbac, NetworkRbac};

use crate::field::enumeration;
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// `RBAC`: what becomes of those that a policy fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// What a match means.
    pub action: Action,
    /// Sorted by name; the first that fits is the one that is named.
    pub policies: Vec<Policy>,
}

/// `RBAC.Action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Only those that a policy fits are let in.
    Allow,
    /// Those that a policy fits are kept out.
    Deny,
    /// Everybody is let in; a match is a hint for access logs.
    Log,
}

/// `Policy`: it fits when any permission and any principal does.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its key in the map.
    pub name: String,
    /// What is asked for; [`Condition::Any`].
    pub permissions: Condition,
    /// By whom; [`Condition::Any`], together with the policy's `condition`, if it has one.
    pub principals: Condition,
}

/// What rules can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A connection: there are no headers, no path and no metadata.
    Connection,
    /// A request.
    Request,
}

impl Rules {
    /// Reads the message.
    pub fn from_proto(message: &proto::Rbac, scope: Scope, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, audit_logging_options);
        let action = match enumeration(message.action, "action")? {
            proto::rbac::Action::Allow => Action::Allow,
            proto::rbac::Action::Deny => Action::Deny,
            proto::rbac::Action::Log => Action::Log,
        };
        let mut named: Vec<_> = message.policies.iter().collect();
        named.sort_unstable_by_key(|(name, _)| name.as_str());
        let read = |(name, policy): (&String, &proto::Policy)| {
            ignored.scope(&format!("policies[{name}]"), |ignored| {
                Policy::from_proto(name.clone(), policy, scope, ignored)
            })
        };
        Ok(Self {
            action,
            policies: named.into_iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    /// Rules that let nobody in.
    fn closed() -> Self {
        Self {
            action: Action::Allow,
            policies: Vec::new(),
        }
    }
}

impl Policy {
    fn from_proto(
        name: String,
        message: &proto::Policy,
        scope: Scope,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let permissions = ignored.each(
            "permissions",
            some(&message.permissions, "permissions")?,
            |one, ignored| Condition::permission(one, scope, ignored),
        )?;
        let principals = ignored.each(
            "principals",
            some(&message.principals, "principals")?,
            |one, ignored| Condition::principal(one, scope, ignored),
        )?;
        let mut principals = Condition::Any(principals);
        if message.condition.is_some() || message.checked_condition.is_some() {
            let unknown = Condition::unknown("condition", "CEL", ignored);
            principals = Condition::All(vec![principals, unknown]);
        }
        Ok(Self {
            name,
            permissions: Condition::Any(permissions),
            principals,
        })
    }
}

/// A list that must hold something.
fn some<'a, T>(list: &'a [T], path: &str) -> Result<&'a [T], Invalid> {
    if list.is_empty() {
        return Err(Invalid::new(path, "value must contain at least 1 item(s)"));
    }
    Ok(list)
}
