//! `envoy.config.route.v3.HeaderMatcher`.

use std::ops::Range;

use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier as Specifier;

use super::{FullRegex, StringMatcher};
use crate::Invalid;
use crate::field::non_empty;

/// A condition on the values of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// Lower case. `host` is `:authority`, as in Envoy.
    pub name: String,
    /// What a value must be.
    pub test: HeaderTest,
    /// `invert_match`.
    pub invert: bool,
    /// `treat_missing_header_as_empty`: an absent header is one with an empty value.
    pub missing_as_empty: bool,
}

/// `header_match_specifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderTest {
    /// The header is there, or is not.
    Present(bool),
    /// A value fits.
    Text(StringMatcher),
    /// A value is a whole number of the range.
    Range(Range<i64>),
}

impl HeaderMatcher {
    /// Reads the message. Without a specifier the header must be there.
    pub fn from_proto(message: &proto::HeaderMatcher) -> Result<Self, Invalid> {
        let name = non_empty(&message.name, "name")?.to_ascii_lowercase();
        if name.contains(['\0', '\r', '\n']) {
            return Err(Invalid::new("name", "value does not match regex pattern"));
        }
        Ok(Self {
            name: if name == "host" {
                ":authority".to_owned()
            } else {
                name
            },
            test: test(message.header_match_specifier.as_ref())?,
            invert: message.invert_match,
            missing_as_empty: message.treat_missing_header_as_empty,
        })
    }

    /// Whether the values of the header fit: `values` calls what it is given with each of them.
    ///
    /// Each value stands for itself. Joined by commas, values of a client could hide what is behind one
    /// (CVE-2026-26308).
    #[must_use]
    pub fn matches(&self, values: impl FnOnce(&mut dyn FnMut(&[u8]))) -> bool {
        let (mut is_present, mut fits) = (false, false);
        values(&mut |value| {
            is_present = true;
            fits |= self.fits(value);
        });
        if let HeaderTest::Present(wanted) = self.test {
            return ((is_present || self.missing_as_empty) == wanted) != self.invert;
        }
        if !is_present {
            return self.missing_as_empty && self.fits(b"") != self.invert;
        }
        fits != self.invert
    }

    fn fits(&self, value: &[u8]) -> bool {
        match &self.test {
            HeaderTest::Present(_) => true,
            HeaderTest::Text(text) => text.matches(value),
            HeaderTest::Range(range) => number(value).is_some_and(|number| range.contains(&number)),
        }
    }
}

/// A whole number in base 10 with an optional sign; spaces around it do not count.
fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
}

fn test(specifier: Option<&Specifier>) -> Result<HeaderTest, Invalid> {
    let text = |path: &str, text: &str| non_empty(text, path);
    Ok(HeaderTest::Text(match specifier {
        None => return Ok(HeaderTest::Present(true)),
        Some(Specifier::PresentMatch(wanted)) => return Ok(HeaderTest::Present(*wanted)),
        Some(Specifier::RangeMatch(range)) => return Ok(HeaderTest::Range(range.start..range.end)),
        Some(Specifier::StringMatch(message)) => {
            StringMatcher::from_proto(message).map_err(|refusal| refusal.within("string_match"))?
        }
        Some(Specifier::ExactMatch(exact)) => StringMatcher::Exact(exact.clone()),
        Some(Specifier::PrefixMatch(prefix)) => StringMatcher::Prefix(text("prefix_match", prefix)?),
        Some(Specifier::SuffixMatch(suffix)) => StringMatcher::Suffix(text("suffix_match", suffix)?),
        Some(Specifier::ContainsMatch(part)) => StringMatcher::Contains(text("contains_match", part)?),
        Some(Specifier::SafeRegexMatch(regex)) => {
            FullRegex::new(&text("safe_regex_match.regex", &regex.regex)?)
                .map(StringMatcher::Regex)
                .map_err(|reason| Invalid::new("safe_regex_match.regex", reason))?
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::message;

    fn matches(yaml: &str, values: &[&str]) -> bool {
        let matcher = HeaderMatcher::from_proto(&message(yaml)).unwrap();
        matcher.matches(|each| values.iter().for_each(|value| each(value.as_bytes())))
    }

    #[test]
    fn values_are_looked_at_one_by_one() {
        let exact = "{name: X-A, string_match: {exact: '1'}}";
        let cases: &[(&str, &[&str], bool)] = &[
            (exact, &["1"], true),
            (exact, &["1", "2"], true),
            (exact, &["1,2"], false),
            (exact, &[], false),
            (
                "{name: a, string_match: {exact: '1'}, invert_match: true}",
                &["2"],
                true,
            ),
            (
                "{name: a, string_match: {exact: '1'}, invert_match: true}",
                &["2", "1"],
                false,
            ),
            (
                "{name: a, string_match: {exact: '1'}, invert_match: true}",
                &[],
                false,
            ),
            (
                "{name: a, string_match: {exact: '1'}, invert_match: true, treat_missing_header_as_empty: true}",
                &[],
                true,
            ),
            (
                "{name: a, string_match: {exact: ''}, treat_missing_header_as_empty: true}",
                &[],
                true,
            ),
            ("{name: a}", &["x"], true),
            ("{name: a}", &[], false),
            ("{name: a, present_match: true, invert_match: true}", &[], true),
            (
                "{name: a, present_match: true, treat_missing_header_as_empty: true}",
                &[],
                true,
            ),
            ("{name: a, present_match: false}", &[], true),
            ("{name: a, present_match: false}", &["x"], false),
            (
                "{name: a, present_match: false, invert_match: true}",
                &["x"],
                true,
            ),
            ("{name: a, range_match: {start: -10, end: 0}}", &["-1"], true),
            ("{name: a, range_match: {start: -10, end: 0}}", &["0"], false),
            ("{name: a, range_match: {start: -10, end: 0}}", &["-1x"], false),
            ("{name: a, range_match: {start: -10, end: 0}}", &["x", "-5"], true),
            ("{name: a, exact_match: b}", &["b"], true),
            ("{name: a, prefix_match: b}", &["bc"], true),
            ("{name: a, suffix_match: b}", &["ab"], true),
            ("{name: a, contains_match: b}", &["abc"], true),
            ("{name: a, safe_regex_match: {regex: 'a|b'}}", &["b"], true),
            ("{name: a, safe_regex_match: {regex: 'a|b'}}", &["ab"], false),
        ];
        for (yaml, values, expected) in cases {
            assert_eq!(matches(yaml, values), *expected, "{yaml} on {values:?}");
        }
    }

    #[test]
    fn names_are_lower_case() {
        let name = |yaml| HeaderMatcher::from_proto(&message(yaml)).map(|matcher| matcher.name);
        assert_eq!(name("{name: X-Tier}").unwrap(), "x-tier");
        assert_eq!(name("{name: Host}").unwrap(), ":authority");
        assert_eq!(name("{name: ''}").unwrap_err().path, "name");
    }
}
