//! Which rule a request falls under.

use redplane_config::jwt::{JwtAuthn, PathTest, Requirement, RuleMatch};

use crate::Headers;
use crate::extract::parameters;

/// The requirement of the first rule that fits; `None`: nothing is required.
pub(crate) fn requirement<'c>(
    config: &'c JwtAuthn,
    headers: &Headers<'_>,
    path: &str,
) -> Option<&'c Requirement> {
    let rule = config
        .rules
        .iter()
        .find(|rule| fits(&rule.matches, headers, path))?;
    Some(&rule.requires)
}

fn fits(rule: &RuleMatch, headers: &Headers<'_>, path: &str) -> bool {
    let bare = path.split(['?', '#']).next().unwrap_or_default();
    let of_query = |(name, wanted): &(String, _)| {
        let first = parameters(path).find(|(key, _)| key == name);
        let value_fits = |wanted: &redplane_config::matcher::StringMatcher| {
            first
                .as_ref()
                .is_some_and(|(_, value)| wanted.matches(value.as_bytes()))
        };
        Option::as_ref(wanted).map_or_else(|| first.is_some(), value_fits)
    };
    path_fits(&rule.path, bare)
        && rule
            .headers
            .iter()
            .all(|header| header.matches(|each| headers(&header.name, each)))
        && rule.query.iter().all(of_query)
}

fn path_fits(test: &PathTest, path: &str) -> bool {
    match test {
        PathTest::Prefix {
            prefix,
            case_sensitive,
        } => path
            .get(..prefix.len())
            .is_some_and(|start| same(start, prefix, *case_sensitive)),
        PathTest::Exact {
            path: wanted,
            case_sensitive,
        } => same(path, wanted, *case_sensitive),
        PathTest::Segments(prefix) => path
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        PathTest::Regex(regex) => regex.is_match(path.as_bytes()),
        PathTest::Template(template) => template.matches(path.as_bytes()),
    }
}

fn same(text: &str, wanted: &str, case_sensitive: bool) -> bool {
    if case_sensitive {
        text == wanted
    } else {
        text.eq_ignore_ascii_case(wanted)
    }
}
