//! `envoy.type.matcher.v3.StringMatcher`.

use redplane_proto::pb::envoy::r#type::matcher::v3 as proto;
use redplane_proto::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use super::FullRegex;
use crate::Invalid;
use crate::field::non_empty;

/// `StringMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatcher {
    /// Equal.
    Exact(String),
    /// Starts with.
    Prefix(String),
    /// Ends with.
    Suffix(String),
    /// Holds.
    Contains(String),
    /// Matches as a whole.
    Regex(FullRegex),
    /// Any of the first four, without regard to ASCII case.
    IgnoreCase(Box<Self>),
}

impl StringMatcher {
    /// Reads the message.
    pub fn from_proto(message: &proto::StringMatcher) -> Result<Self, Invalid> {
        let plain = match message.match_pattern.as_ref() {
            None => return Err(Invalid::new("match_pattern", "value is required")),
            Some(MatchPattern::Custom(_)) => {
                return Err(Invalid::new("custom", "custom matchers are not supported"));
            }
            Some(MatchPattern::SafeRegex(_)) if message.ignore_case => {
                return Err(Invalid::new(
                    "ignore_case",
                    "ignore_case has no effect for safe_regex",
                ));
            }
            Some(MatchPattern::SafeRegex(regex)) => {
                return FullRegex::from_proto(&regex.regex).map(Self::Regex);
            }
            Some(MatchPattern::Exact(text)) => Self::Exact(text.clone()),
            Some(MatchPattern::Prefix(text)) => Self::Prefix(non_empty(text, "prefix")?),
            Some(MatchPattern::Suffix(text)) => Self::Suffix(non_empty(text, "suffix")?),
            Some(MatchPattern::Contains(text)) => Self::Contains(non_empty(text, "contains")?),
        };
        Ok(if message.ignore_case {
            Self::IgnoreCase(Box::new(plain))
        } else {
            plain
        })
    }

    /// Whether the text fits. It need not be UTF-8: header values are not.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => text == wanted.as_bytes(),
            Self::Prefix(wanted) => text.starts_with(wanted.as_bytes()),
            Self::Suffix(wanted) => text.ends_with(wanted.as_bytes()),
            Self::Contains(wanted) => contains(text, wanted.as_bytes(), <[u8]>::eq),
            Self::Regex(regex) => regex.is_match(text),
            Self::IgnoreCase(plain) => plain.matches_in_any_case(text),
        }
    }

    fn matches_in_any_case(&self, text: &[u8]) -> bool {
        let same = <[u8]>::eq_ignore_ascii_case;
        match self {
            Self::Exact(wanted) => same(text, wanted.as_bytes()),
            Self::Prefix(wanted) => text
                .get(..wanted.len())
                .is_some_and(|start| same(start, wanted.as_bytes())),
            Self::Suffix(wanted) => {
                let start = text.len().checked_sub(wanted.len());
                start.is_some_and(|start| same(&text[start..], wanted.as_bytes()))
            }
            Self::Contains(wanted) => contains(text, wanted.as_bytes(), same),
            Self::Regex(_) | Self::IgnoreCase(_) => self.matches(text),
        }
    }
}

fn contains(text: &[u8], wanted: &[u8], same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|part| same(part, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: MatchPattern, ignore_case: bool) -> Result<StringMatcher, Invalid> {
        StringMatcher::from_proto(&proto::StringMatcher {
            ignore_case,
            match_pattern: Some(pattern),
        })
    }

    fn regex(pattern: &str) -> Result<StringMatcher, Invalid> {
        read(
            MatchPattern::SafeRegex(proto::RegexMatcher {
                regex: pattern.into(),
                engine_type: None,
            }),
            false,
        )
    }

    #[test]
    fn patterns() {
        assert_eq!(
            read(MatchPattern::Exact("a".into()), false).unwrap(),
            StringMatcher::Exact("a".into())
        );
        let folded = read(MatchPattern::Prefix("spiffe://".into()), true).unwrap();
        assert_eq!(
            folded,
            StringMatcher::IgnoreCase(Box::new(StringMatcher::Prefix("spiffe://".into())))
        );
        let StringMatcher::Regex(whole) = regex("a|b").unwrap() else {
            panic!("not a regex")
        };
        assert!(whole.is_match(b"b") && !whole.is_match(b"ab"));
    }

    #[test]
    fn texts_fit() {
        let exact = |text: &str| MatchPattern::Exact(text.into());
        let cases = [
            (exact("Ab"), false, "Ab", true),
            (exact("Ab"), false, "ab", false),
            (exact("Ab"), true, "aB", true),
            (exact(""), false, "", true),
            (MatchPattern::Prefix("ab".into()), false, "abc", true),
            (MatchPattern::Prefix("ab".into()), true, "ABc", true),
            (MatchPattern::Prefix("ab".into()), true, "A", false),
            (MatchPattern::Suffix("bc".into()), false, "abc", true),
            (MatchPattern::Suffix("bc".into()), true, "aBC", true),
            (MatchPattern::Suffix("bc".into()), true, "C", false),
            (MatchPattern::Contains("bc".into()), false, "abcd", true),
            (MatchPattern::Contains("bc".into()), false, "aBcd", false),
            (MatchPattern::Contains("bc".into()), true, "aBCd", true),
            // A letter outside ASCII has one case only.
            (exact("\u{e9}"), true, "\u{c9}", false),
        ];
        for (pattern, ignore_case, text, expected) in cases {
            let matcher = read(pattern, ignore_case).unwrap();
            assert_eq!(
                matcher.matches(text.as_bytes()),
                expected,
                "{matcher:?} on {text}"
            );
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(
            read(MatchPattern::Prefix(String::new()), false).unwrap_err().path,
            "prefix"
        );
        assert_eq!(regex("(").unwrap_err().path, "safe_regex.regex");
        assert!(regex("((a{1000}){1000}){1000}").is_err());
        assert_eq!(
            StringMatcher::from_proto(&proto::StringMatcher::default())
                .unwrap_err()
                .path,
            "match_pattern"
        );
    }
}
