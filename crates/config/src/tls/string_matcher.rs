//! `envoy.type.matcher.v3.StringMatcher`.

use redplane_proto::pb::envoy::r#type::matcher::v3 as proto;
use redplane_proto::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use crate::Invalid;
use crate::field::non_empty;

/// `StringMatcher`.
#[derive(Clone, Debug)]
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
    Regex(regex::Regex),
    /// Any of the first four, without regard to ASCII case.
    IgnoreCase(Box<Self>),
}

impl PartialEq for StringMatcher {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b))
            | (Self::Prefix(a), Self::Prefix(b))
            | (Self::Suffix(a), Self::Suffix(b))
            | (Self::Contains(a), Self::Contains(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::IgnoreCase(a), Self::IgnoreCase(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for StringMatcher {}

impl StringMatcher {
    /// Reads the message. `ignore_case` does not touch regular expressions, as in Envoy.
    pub fn from_proto(message: &proto::StringMatcher) -> Result<Self, Invalid> {
        let plain = match message.match_pattern.as_ref() {
            None => return Err(Invalid::new("match_pattern", "value is required")),
            Some(MatchPattern::Custom(_)) => {
                return Err(Invalid::new("custom", "custom matchers are not supported"));
            }
            Some(MatchPattern::SafeRegex(regex)) => return Self::regex(&regex.regex),
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

    fn regex(pattern: &str) -> Result<Self, Invalid> {
        let path = "safe_regex.regex";
        let pattern = non_empty(pattern, path)?;
        match regex::Regex::new(&format!("^(?:{pattern})$")) {
            Ok(regex) => Ok(Self::Regex(regex)),
            Err(error) => {
                let reason = error.to_string();
                Err(Invalid::new(
                    path,
                    reason.lines().last().unwrap_or("malformed").trim(),
                ))
            }
        }
    }
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
        assert!(whole.is_match("b") && !whole.is_match("ab"));
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
