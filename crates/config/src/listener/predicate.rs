//! `ListenerFilterChainMatchPredicate`: connections for which a listener filter does not run.
//!
//! Istio switches its inspectors off on ports whose protocol it knows, so that a server that speaks first does not
//! wait for a client that says nothing.

use std::ops::Range;

use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate::{
    MatchSet, Rule,
};

use crate::Invalid;

/// A condition on the original destination port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// Every connection.
    Any,
    /// Those to these ports; the end is not among them.
    DestinationPorts(Range<u32>),
    /// Those that one of these takes.
    Or(Vec<Self>),
    /// Those that all of these take.
    And(Vec<Self>),
    /// All others.
    Not(Box<Self>),
}

impl Predicate {
    /// Whether it takes connections to this port.
    #[must_use]
    pub fn matches(&self, destination_port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::DestinationPorts(ports) => ports.contains(&u32::from(destination_port)),
            Self::Or(rules) => rules.iter().any(|rule| rule.matches(destination_port)),
            Self::And(rules) => rules.iter().all(|rule| rule.matches(destination_port)),
            Self::Not(rule) => !rule.matches(destination_port),
        }
    }

    /// Reads the message; its depth is bounded by the protobuf decoder.
    pub(super) fn from_proto(message: &proto::ListenerFilterChainMatchPredicate) -> Result<Self, Invalid> {
        match message.rule.as_ref() {
            None => Err(Invalid::new("rule", "value is required")),
            Some(Rule::AnyMatch(true)) => Ok(Self::Any),
            Some(Rule::AnyMatch(false)) => Err(Invalid::new("any_match", "value must equal true")),
            Some(Rule::DestinationPortRange(range)) => {
                let end = |value: i32| u32::try_from(value).unwrap_or(0);
                Ok(Self::DestinationPorts(end(range.start)..end(range.end)))
            }
            Some(Rule::OrMatch(set)) => rules(set)
                .map(Self::Or)
                .map_err(|refusal| refusal.within("or_match")),
            Some(Rule::AndMatch(set)) => rules(set)
                .map(Self::And)
                .map_err(|refusal| refusal.within("and_match")),
            Some(Rule::NotMatch(rule)) => {
                let rule = Self::from_proto(rule).map_err(|refusal| refusal.within("not_match"))?;
                Ok(Self::Not(Box::new(rule)))
            }
        }
    }
}

fn rules(set: &MatchSet) -> Result<Vec<Predicate>, Invalid> {
    if set.rules.len() < 2 {
        return Err(Invalid::new("rules", "value must contain at least 2 item(s)"));
    }
    let read =
        |(i, rule)| Predicate::from_proto(rule).map_err(|refusal| refusal.within(&format!("rules[{i}]")));
    set.rules.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{message, refusal};

    fn read(yaml: &str) -> Result<Predicate, Invalid> {
        Predicate::from_proto(&message(yaml))
    }

    #[test]
    fn ports() {
        let one = read("destination_port_range: {start: 6379, end: 6380}").unwrap();
        assert!(one.matches(6379) && !one.matches(6380));
        let range = |start: u16| {
            format!(
                "{{destination_port_range: {{start: {start}, end: {}}}}}",
                start + 1
            )
        };
        let or = read(&format!("or_match: {{rules: [{}, {}]}}", range(1), range(2))).unwrap();
        assert!(or.matches(1) && or.matches(2) && !or.matches(3));
        let and = read(&format!(
            "and_match: {{rules: [{}, {{any_match: true}}]}}",
            range(1)
        ))
        .unwrap();
        assert!(and.matches(1) && !and.matches(2));
        let not = read(&format!("not_match: {}", range(1))).unwrap();
        assert!(!not.matches(1) && not.matches(2));
        assert!(
            !read("destination_port_range: {start: -5, end: -1}")
                .unwrap()
                .matches(0)
        );
    }

    #[test]
    fn refusals_name_the_field() {
        assert_eq!(refusal(read("{}")), "rule: value is required");
        assert_eq!(
            refusal(read("any_match: false")),
            "any_match: value must equal true"
        );
        let few = refusal(read("not_match: {or_match: {rules: [{any_match: true}]}}"));
        assert_eq!(
            few,
            "not_match.or_match.rules: value must contain at least 2 item(s)"
        );
        let inner = refusal(read("and_match: {rules: [{any_match: true}, {}]}"));
        assert_eq!(inner, "and_match.rules[1].rule: value is required");
    }
}
