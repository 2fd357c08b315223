//! Rules to decisions.

use redplane_config::rbac::{Action, HttpRbac, NetworkRbac, Policy, Rules};
use serde_json::{Value, json};

use crate::condition::{Truth, all, holds};
use crate::facts::{Connection, Request};

/// Under this name the HTTP filter writes metadata.
pub const METADATA_HTTP: &str = "envoy.filters.http.rbac";
/// Under this name the network filter writes metadata.
pub const METADATA_NETWORK: &str = "envoy.filters.network.rbac";

/// What rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether the client is let in.
    pub is_allowed: bool,
    /// The policy that fitted: with LOG it is the hint for access logs.
    pub policy: Option<&'a str>,
}

/// What a filter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// What is done; `None`: there are no rules, everybody is let in and nothing is counted.
    pub enforced: Option<Decision<'a>>,
    /// What is only counted.
    pub shadow: Option<Decision<'a>>,
}

impl Outcome<'_> {
    /// Whether the client is let in.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.enforced.is_none_or(|decision| decision.is_allowed)
    }
}

/// Decides on a connection or, if there is one, on a request.
///
/// Who cannot be said to fit an ALLOW policy is not let in by it; who cannot be said not to fit a DENY policy is kept out.
#[must_use]
pub fn decide<'a>(
    rules: &'a Rules,
    connection: &Connection<'_>,
    request: Option<&Request<'_>>,
) -> Decision<'a> {
    let counts = |policy: &&Policy| {
        let fits = fits(policy, connection, request);
        match rules.action {
            Action::Deny => fits != Some(false),
            Action::Allow | Action::Log => fits == Some(true),
        }
    };
    let policy = rules
        .policies
        .iter()
        .find(counts)
        .map(|policy| policy.name.as_str());
    Decision {
        is_allowed: match rules.action {
            Action::Allow => policy.is_some(),
            Action::Deny => policy.is_none(),
            Action::Log => true,
        },
        policy,
    }
}

fn fits(policy: &Policy, connection: &Connection<'_>, request: Option<&Request<'_>>) -> Truth {
    let both = [&policy.permissions, &policy.principals];
    all(both.into_iter().map(|one| holds(one, connection, request)))
}

/// What the network filter says of a connection.
#[must_use]
pub fn network<'a>(filter: &'a NetworkRbac, connection: &Connection<'_>) -> Outcome<'a> {
    let decide = |rules| decide(rules, connection, None);
    Outcome {
        enforced: filter.rules.as_ref().map(decide),
        shadow: filter.shadow.as_ref().map(decide),
    }
}

/// What the HTTP filter says of a request.
#[must_use]
pub fn http<'a>(filter: &'a HttpRbac, connection: &Connection<'_>, request: &Request<'_>) -> Outcome<'a> {
    let decide = |rules| decide(rules, connection, Some(request));
    Outcome {
        enforced: filter.rules.as_ref().map(decide),
        shadow: filter.shadow.as_ref().map(decide),
    }
}

/// `rbac_access_denied_matched_policy[<policy>]`: the response code details and the connection termination details of a
/// refusal; `none` where no policy fitted. Spaces become underscores, since logs are split at them.
#[must_use]
pub fn details(decision: &Decision<'_>) -> String {
    let policy = decision.policy.unwrap_or("none");
    let policy = policy.replace(|character: char| character.is_ascii_whitespace(), "_");
    format!("rbac_access_denied_matched_policy[{policy}]")
}

/// What a decision of shadow rules adds to the metadata under the filter's name: `<prefix>shadow_engine_result` and, if
/// a policy fitted, `<prefix>shadow_effective_policy_id`.
#[must_use]
pub fn shadow_metadata(prefix: &str, decision: &Decision<'_>) -> Vec<(String, Value)> {
    let policy = decision
        .policy
        .map(|policy| (format!("{prefix}shadow_effective_policy_id"), json!(policy)));
    let result = if decision.is_allowed { "allowed" } else { "denied" };
    let result = (format!("{prefix}shadow_engine_result"), json!(result));
    policy.into_iter().chain([result]).collect()
}
