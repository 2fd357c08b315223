//! Regular expressions of RE2 that must match a whole text, run by the `regex` crate.
//!
//! Both engines are close. Envoy runs RE2 on bytes: `.` is one of them, `\d`, `\w` and `\b` know ASCII only. Where the
//! engines differ a pattern is rewritten to RE2's meaning (a class has no set operations) or refused: a rule that lets
//! clients in or keeps them out must not match more here than it does in Envoy.

use std::fmt;

use crate::Invalid;
use crate::field::non_empty;

/// Bounds for one compiled pattern and for what it may keep while it runs, in bytes.
const PROGRAM_BYTES: usize = 1 << 20;
const CACHE_BYTES: usize = 1 << 18;

/// A pattern that matches a text as a whole or not at all.
#[derive(Clone)]
pub struct FullRegex {
    pattern: String,
    regex: regex::bytes::Regex,
}

impl PartialEq for FullRegex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for FullRegex {}

impl fmt::Debug for FullRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.pattern)
    }
}

impl FullRegex {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// One clause: the pattern is malformed, too large, or not of RE2.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let whole = format!(r"\A(?:{})\z", Translation::of(pattern)?);
        let regex = regex::bytes::RegexBuilder::new(&whole)
            .unicode(false)
            .size_limit(PROGRAM_BYTES)
            .dfa_size_limit(CACHE_BYTES)
            .build()
            .map_err(|error| {
                let text = error.to_string();
                text.lines().last().unwrap_or("malformed").trim().to_owned()
            })?;
        Ok(Self {
            pattern: pattern.to_owned(),
            regex,
        })
    }

    /// Reads the pattern of a `RegexMatcher`.
    pub fn from_proto(pattern: &str) -> Result<Self, Invalid> {
        let pattern = non_empty(pattern, "safe_regex.regex")?;
        Self::new(&pattern).map_err(|reason| Invalid::new("safe_regex.regex", reason))
    }

    /// Whether it matches all of the text.
    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// The pattern as it was configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}

/// A pattern on its way from RE2's syntax.
struct Translation<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    out: String,
    depth: usize,
}

impl<'a> Translation<'a> {
    fn of(pattern: &'a str) -> Result<String, String> {
        let mut this = Self {
            rest: pattern.chars().peekable(),
            out: String::with_capacity(pattern.len() + 16),
            depth: 0,
        };
        while let Some(next) = this.rest.next() {
            this.step(next)?;
        }
        if this.depth > 0 {
            return Err("missing closing )".to_owned());
        }
        Ok(this.out)
    }

    fn step(&mut self, next: char) -> Result<(), String> {
        match next {
            '\\' => self.escape(false)?,
            '[' => self.class()?,
            '(' => {
                self.depth += 1;
                self.out.push('(');
                self.flags()?;
            }
            ')' => {
                // One too many would end the group that anchors the pattern.
                self.depth = self.depth.checked_sub(1).ok_or("unexpected )")?;
                self.out.push(')');
            }
            '{' if self.rest.peek() == Some(&',') => return Err("{, is not a repetition in RE2".to_owned()),
            other => self.out.push(other),
        }
        Ok(())
    }

    /// Flags that RE2 does not have change how the rest is read.
    fn flags(&self) -> Result<(), String> {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('?') {
            return Ok(());
        }
        let foreign = ahead
            .take_while(|flag| flag.is_ascii_alphabetic() || *flag == '-')
            .any(|flag| matches!(flag, 'x' | 'R' | 'u'));
        if foreign {
            return Err("invalid perl operator".to_owned());
        }
        Ok(())
    }

    /// What stands behind a backslash.
    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let escaped = self.rest.next().ok_or("trailing \\")?;
        let meant = match escaped {
            's' => r"[\t\n\f\r ]",
            'S' => r"[^\t\n\f\r ]",
            // In brackets of its own it ends no range.
            'd' if in_class => r"[\d]",
            'D' if in_class => r"[\D]",
            'w' if in_class => r"[\w]",
            'W' if in_class => r"[\W]",
            // In a group of its own: `\b{start}` means something to the other engine.
            'b' if !in_class => r"(?:\b)",
            // These are borders of words to the other engine.
            '<' | '>' => {
                self.out.push(escaped);
                return Ok(());
            }
            'C' | 'Q' | 'E' | 'u' | 'U' => return Err(format!("invalid escape sequence: \\{escaped}")),
            'b' => return Err("invalid escape sequence: \\b".to_owned()),
            other => {
                self.out.push('\\');
                self.out.push(other);
                return Ok(());
            }
        };
        self.out.push_str(meant);
        Ok(())
    }

    /// A class: all but ranges, escapes and named classes stands for itself.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let next = self.rest.next().ok_or("missing closing ]")?;
            match next {
                ']' if !is_first => break,
                '[' if self.rest.peek() == Some(&':') => self.named_class()?,
                '\\' => self.escape(true)?,
                '-' if self.rest.peek() == Some(&'-') => return Err("bad character range: --".to_owned()),
                '[' | ']' | '&' | '~' => {
                    self.out.push('\\');
                    self.out.push(next);
                }
                other => self.out.push(other),
            }
            is_first = false;
        }
        self.out.push(']');
        Ok(())
    }

    /// `[:alpha:]` and its kin.
    fn named_class(&mut self) -> Result<(), String> {
        self.out.push('[');
        loop {
            let next = self.rest.next().ok_or("missing closing :]")?;
            self.out.push(next);
            if next == ']' {
                return Ok(());
            }
            if !next.is_ascii_alphabetic() && !matches!(next, ':' | '^') {
                return Err("invalid character class range".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        FullRegex::new(pattern)
            .unwrap_or_else(|reason| panic!("{pattern}: {reason}"))
            .is_match(text.as_bytes())
    }

    #[test]
    fn a_pattern_matches_the_whole_text() {
        let cases = [
            ("a|ab", "ab", true),
            ("a|b", "ab", false),
            ("a", "a\n", false),
            ("(?m)a$", "a\nb", false),
            (".*", "a\nb", false),
            ("(?s).*", "a\nb", true),
            (r"\d+", "12", true),
            // Arabic digits, an accented letter, a no-break space: bytes, none of them in ASCII.
            (r"\d+", "\u{661}", false),
            (r"\w+", "\u{e9}", false),
            (r"\s+", "\u{a0}", false),
            (r"\s", "\u{b}", false),
            (r"\W\W", "\u{e9}", true),
            (".", "\u{e9}", false),
            ("..", "\u{e9}", true),
            ("\u{e9}+", "\u{e9}", true),
            (r"[\d.]+", "1.2", true),
            (r"[\d-z]+", "1-z", true),
            (r"[^\d]+", "\u{661}", true),
            (r"[^\D]", "5", true),
            ("[]a]+", "]a", true),
            ("[^]a]", "]", false),
            ("[a&&b]+", "a&b", true),
            ("[[a]+", "[a", true),
            ("[[:alpha:]]+", "ab", true),
            (r"\<a\>", "<a>", true),
            (r"\bab\b", "ab", true),
            (r"\x41\.\*", "A.*", true),
            ("(?i)AB", "ab", true),
            (".*/ns/guest/.*", "spiffe://td/ns/guest/sa/x", true),
            (
                "spiffe://.+/ns/app/(.+/|)sa/web(/.+)?",
                "spiffe://td/ns/app/sa/web",
                true,
            ),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text:?}");
        }
        assert!(FullRegex::new(".").unwrap().is_match(b"\xff"));
    }

    #[test]
    fn what_would_leave_the_anchors_or_means_something_else_is_refused() {
        let refused = [
            "a)|(?:b",
            "(",
            ")",
            "(?x)a",
            "(?x)a#",
            "a{,2}",
            "[",
            "[[:alpha",
            "[a--b]",
            r"\",
            r"\C",
            r"\Qa",
            "((a{1000}){1000}){1000}",
            r"[\b]",
            "*",
        ];
        for pattern in refused {
            assert!(FullRegex::new(pattern).is_err(), "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_escapes_its_anchors(pattern in r"[ab()\[\]|?:\\x#*^$]{0,12}", text in "[ab]{0,4}") {
            if let Ok(regex) = FullRegex::new(&pattern) {
                // With text in front and behind that no part of the pattern can eat, nothing matches.
                let marked = format!("\u{1}{text}\u{1}");
                if regex.is_match(marked.as_bytes()) {
                    // Only a negated class reaches the marks.
                    proptest::prop_assert!(pattern.contains("[^"), "{}", pattern);
                }
            }
        }
    }
}
