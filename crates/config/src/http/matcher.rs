//! Matchers of headers, query parameters and cookies: `config.route.v3`.

use std::ops::Range;

use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use redplane_proto::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use redplane_proto::pb::envoy::r#type::matcher::v3 as matcher;

use crate::Invalid;
use crate::field::{non_empty, required};
use crate::tls::StringMatcher;

/// `HeaderMatcher`. Each value of a repeated header is tested alone.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatcher {
    /// Lower case. `host` is `:authority`, as in Envoy.
    pub name: String,
    /// What a value must be.
    pub test: HeaderTest,
    /// The opposite counts; an absent header is still no match.
    pub invert: bool,
    /// An absent header counts as an empty one.
    pub missing_as_empty: bool,
}

/// What a header value must be.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderTest {
    /// There (true) or not there (false).
    Present(bool),
    /// Text that fits.
    Text(StringMatcher),
    /// A whole number of the range.
    Range(Range<i64>),
}

impl HeaderMatcher {
    /// Reads the message. A matcher without a test asks for presence.
    ///
    /// # Errors
    ///
    /// A name or a pattern that cannot be used.
    pub fn from_proto(message: &proto::HeaderMatcher) -> Result<Self, Invalid> {
        let name = non_empty(&message.name, "name")?.to_ascii_lowercase();
        Ok(Self {
            name: if name == "host" {
                ":authority".to_owned()
            } else {
                name
            },
            test: HeaderTest::from_proto(message.header_match_specifier.as_ref())?,
            invert: message.invert_match,
            missing_as_empty: message.treat_missing_header_as_empty,
        })
    }

    /// Whether the values of the header fit: `values` calls what it is given with each of them.
    #[must_use]
    pub fn matches(&self, values: impl FnOnce(&mut dyn FnMut(&[u8]))) -> bool {
        let (mut is_present, mut fits) = (false, false);
        values(&mut |value| {
            is_present = true;
            fits |= self.fits(value);
        });
        if let HeaderTest::Present(wanted) = self.test {
            return (is_present == wanted) != self.invert;
        }
        if !is_present {
            return self.missing_as_empty && self.fits(b"") != self.invert;
        }
        fits != self.invert
    }

    fn fits(&self, value: &[u8]) -> bool {
        match &self.test {
            HeaderTest::Present(_) => true,
            HeaderTest::Text(text) => fits(text, value),
            HeaderTest::Range(range) => std::str::from_utf8(value.trim_ascii())
                .ok()
                .and_then(|text| text.parse().ok())
                .is_some_and(|number| range.contains(&number)),
        }
    }
}

/// Whether a value fits. What is not UTF-8 fits no text.
pub(super) fn fits(matcher: &StringMatcher, value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| match matcher {
        StringMatcher::Exact(wanted) => text == wanted,
        StringMatcher::Prefix(wanted) => text.starts_with(wanted.as_str()),
        StringMatcher::Suffix(wanted) => text.ends_with(wanted.as_str()),
        StringMatcher::Contains(wanted) => text.contains(wanted.as_str()),
        StringMatcher::Regex(regex) => regex.is_match(text),
        StringMatcher::IgnoreCase(inner) => fits_ignoring_case(inner, value),
    })
}

fn fits_ignoring_case(matcher: &StringMatcher, text: &[u8]) -> bool {
    let same = |a: Option<&[u8]>, b: &str| a.is_some_and(|a| a.eq_ignore_ascii_case(b.as_bytes()));
    match matcher {
        StringMatcher::Exact(wanted) => same(Some(text), wanted),
        StringMatcher::Prefix(wanted) => same(text.get(..wanted.len()), wanted),
        StringMatcher::Suffix(wanted) => same(
            text.len().checked_sub(wanted.len()).map(|start| &text[start..]),
            wanted,
        ),
        StringMatcher::Contains(wanted) => {
            wanted.is_empty() || text.windows(wanted.len()).any(|part| same(Some(part), wanted))
        }
        other => fits(other, text),
    }
}

impl HeaderTest {
    fn from_proto(specifier: Option<&HeaderMatchSpecifier>) -> Result<Self, Invalid> {
        use matcher::string_matcher::MatchPattern;
        let text = |pattern| {
            StringMatcher::from_proto(&matcher::StringMatcher {
                ignore_case: false,
                match_pattern: Some(pattern),
            })
            .map(Self::Text)
        };
        match specifier {
            None => Ok(Self::Present(true)),
            Some(HeaderMatchSpecifier::PresentMatch(present)) => Ok(Self::Present(*present)),
            Some(HeaderMatchSpecifier::RangeMatch(range)) => Ok(Self::Range(range.start..range.end)),
            Some(HeaderMatchSpecifier::StringMatch(string)) => StringMatcher::from_proto(string)
                .map(Self::Text)
                .map_err(|refusal| refusal.within("string_match")),
            Some(HeaderMatchSpecifier::ExactMatch(exact)) => text(MatchPattern::Exact(exact.clone())),
            Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => text(MatchPattern::SafeRegex(regex.clone())),
            Some(HeaderMatchSpecifier::PrefixMatch(prefix)) => text(MatchPattern::Prefix(prefix.clone())),
            Some(HeaderMatchSpecifier::SuffixMatch(suffix)) => text(MatchPattern::Suffix(suffix.clone())),
            Some(HeaderMatchSpecifier::ContainsMatch(part)) => text(MatchPattern::Contains(part.clone())),
        }
    }
}

/// `QueryParameterMatcher`: names and values as they stand in the URL, nothing decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryMatcher {
    /// The parameter.
    pub name: String,
    /// What it must be.
    pub test: QueryTest,
}

/// What a query parameter must be.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryTest {
    /// There (true) or not there (false).
    Present(bool),
    /// Text that fits.
    Text(StringMatcher),
}

impl QueryMatcher {
    /// Whether the first parameter of that name fits; `None` where there is none.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        match &self.test {
            QueryTest::Present(wanted) => value.is_some() == *wanted,
            QueryTest::Text(text) => value.is_some_and(|value| fits(text, value.as_bytes())),
        }
    }

    /// Reads the message.
    pub(super) fn from_proto(message: &proto::QueryParameterMatcher) -> Result<Self, Invalid> {
        let test = match message.query_parameter_match_specifier.as_ref() {
            None => QueryTest::Present(true),
            Some(QueryParameterMatchSpecifier::PresentMatch(present)) => QueryTest::Present(*present),
            Some(QueryParameterMatchSpecifier::StringMatch(string)) => QueryTest::Text(
                StringMatcher::from_proto(string).map_err(|refusal| refusal.within("string_match"))?,
            ),
        };
        Ok(Self {
            name: non_empty(&message.name, "name")?,
            test,
        })
    }
}

/// `CookieMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub struct CookieMatcher {
    /// The cookie.
    pub name: String,
    /// What its value must be.
    pub test: StringMatcher,
    /// The opposite counts.
    pub invert: bool,
}

impl CookieMatcher {
    /// Whether the cookie fits; `None` where there is none.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        value.is_some_and(|value| fits(&self.test, value.as_bytes())) != self.invert
    }

    /// Reads the message.
    pub(super) fn from_proto(message: &proto::CookieMatcher) -> Result<Self, Invalid> {
        let string = required(message.string_match.as_ref(), "string_match")?;
        Ok(Self {
            name: non_empty(&message.name, "name")?,
            test: StringMatcher::from_proto(string).map_err(|refusal| refusal.within("string_match"))?,
            invert: message.invert_match,
        })
    }
}
