//! Regular expressions of routes: anchored ones that match a whole text, and rewrites with groups.
//!
//! Envoy's engine is RE2; the `regex` crate has the same syntax but for what RE2 lacks too. What it cannot compile is
//! refused with its own words.

use redplane_proto::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};

use crate::Invalid;
use crate::field::{non_empty, required};
use crate::matcher::FullRegex;

/// A pattern that must match the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchored(FullRegex);

impl Anchored {
    /// Reads `RegexMatcher`.
    ///
    /// # Errors
    ///
    /// The pattern is empty or cannot be compiled.
    pub fn from_proto(message: &RegexMatcher) -> Result<Self, Invalid> {
        let pattern = non_empty(&message.regex, "regex")?;
        let regex = FullRegex::new(&pattern).map_err(|reason| Invalid::new("regex", reason))?;
        Ok(Self(regex))
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }
}

/// `RegexMatchAndSubstitute`: every match is replaced.
#[derive(Clone, Debug)]
pub struct Rewrite {
    regex: regex::Regex,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Group(usize),
}

impl Rewrite {
    /// Reads the message.
    ///
    /// # Errors
    ///
    /// The pattern cannot be compiled, or the substitution names a group that it lacks.
    pub fn from_proto(message: &RegexMatchAndSubstitute) -> Result<Self, Invalid> {
        let pattern = required(message.pattern.as_ref(), "pattern")?;
        let pattern = non_empty(&pattern.regex, "pattern.regex")?;
        let regex = compile(&pattern, "pattern.regex")?;
        let pieces = pieces(&message.substitution, regex.captures_len() - 1)
            .map_err(|reason| Invalid::new("substitution", reason))?;
        Ok(Self { regex, pieces })
    }

    /// The text with every match replaced; `None` where nothing matched.
    pub fn apply(&self, text: &str) -> Option<String> {
        let mut matched = false;
        let replaced = self.regex.replace_all(text, |found: &regex::Captures<'_>| {
            matched = true;
            let mut out = String::new();
            for piece in &self.pieces {
                match piece {
                    Piece::Literal(text) => out.push_str(text),
                    Piece::Group(number) => {
                        out.push_str(found.get(*number).map_or("", |group| group.as_str()));
                    }
                }
            }
            out
        });
        let replaced = replaced.into_owned();
        matched.then_some(replaced)
    }
}

impl PartialEq for Rewrite {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.pieces == other.pieces
    }
}

/// RE2's rewrite strings: `\1` is a group, `\\` a backslash, nothing else may follow a backslash.
fn pieces(text: &str, groups: usize) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        if next != '\\' {
            literal.push(next);
            continue;
        }
        match chars.next() {
            Some('\\') => literal.push('\\'),
            Some(digit) if digit.is_ascii_digit() => {
                let number = digit as usize - '0' as usize;
                if number > groups {
                    return Err(format!(
                        "invalid rewrite string: requests {number} groups, but the regexp only has {groups} parenthesized subexpressions"
                    ));
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Group(number));
            }
            _ => return Err("rewrite schema error: '\\' must be followed by a digit or '\\'".to_owned()),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

fn compile(pattern: &str, path: &str) -> Result<regex::Regex, Invalid> {
    regex::Regex::new(pattern).map_err(|error| {
        let reason = error.to_string();
        Invalid::new(path, reason.lines().last().unwrap_or("malformed").trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(pattern: &str, substitution: &str) -> Result<Rewrite, Invalid> {
        Rewrite::from_proto(&RegexMatchAndSubstitute {
            pattern: Some(RegexMatcher {
                regex: pattern.to_owned(),
                engine_type: None,
            }),
            substitution: substitution.to_owned(),
        })
    }

    #[test]
    fn groups_and_backslashes() {
        let table = [
            ("/items/([0-9]+)", r"/item?id=\1", "/items/7", Some("/item?id=7")),
            ("a", "b", "banana", Some("bbnbnb")),
            ("(x)(y)?", r"\2\\\1", "x", Some("\\x")),
            ("x", "", "y", None),
            ("^/a", r"\0\0", "/a/b", Some("/a/a/b")),
        ];
        for (pattern, substitution, text, expected) in table {
            let rewritten = rewrite(pattern, substitution).unwrap().apply(text);
            assert_eq!(rewritten.as_deref(), expected, "{pattern} {substitution}");
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(rewrite("a", r"\1").unwrap_err().path, "substitution");
        assert_eq!(rewrite("a", r"\x").unwrap_err().path, "substitution");
        assert_eq!(rewrite("(", "").unwrap_err().path, "pattern.regex");
    }
}
