//! Matchers of headers, query parameters and cookies: `config.route.v3`.

use redplane_proto::pb::envoy::config::route::v3 as proto;
use redplane_proto::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;

use crate::Invalid;
use crate::field::{non_empty, required};
use crate::matcher::StringMatcher;
pub use crate::matcher::{HeaderMatcher, HeaderTest};

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
            QueryTest::Text(text) => value.is_some_and(|value| text.matches(value.as_bytes())),
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
        value.is_some_and(|value| self.test.matches(value.as_bytes())) != self.invert
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
