//! Glob patterns as Redis reads them: `*`, `?`, `[a-c]`, `[^a]` and `\` before a byte that means itself.
//!
//! Follows `stringmatchlen` of Redis without its recursion: only the last `*` is ever gone back to, so that no pattern
//! costs more than its length times the text's.

/// Whether a text matches as a whole.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and where the text went on from it.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        let Some(&byte) = text.get(t) else {
            return p == pattern.len();
        };
        if let Some(next) = one(pattern, p, byte) {
            (p, t) = (next, t + 1);
        } else if let Some((behind, from)) = star {
            star = Some((behind, from + 1));
            (p, t) = (behind, from + 1);
        } else {
            return false;
        }
    }
}

/// Whether the element at `at` takes this byte, and where the next one begins.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        own => (own == byte).then_some(at + 1),
    }
}

/// A class that begins behind its bracket; without an end it goes to the end of the pattern.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        match pattern.get(at..).unwrap_or_default() {
            [] => break,
            [b'\\', own, ..] => {
                found |= *own == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [first, b'-', last, ..] => {
                found |= (*first.min(last)..=*first.max(last)).contains(&byte);
                at += 3;
            }
            [own, ..] => {
                found |= *own == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

/// What every text that matches begins with.
pub(super) fn literal(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| b"*?[\\".contains(byte));
    &pattern[..end.unwrap_or(pattern.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_redis_reads_them() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-", "h-", true),
            ("h[", "h[", false),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hxllo", false),
            (r"h\", r"h\", true),
            (r"[\]]", "]", true),
            ("a*b*c", "axxbxxbxc", true),
            ("a*b*c", "axxbxxbx", false),
            ("**", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("news", "news.eu", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_pattern_of_stars_ends_in_time() {
        let pattern = b"*a".repeat(200);
        assert!(!matches(&pattern, &b"a".repeat(150)));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &b"a".repeat(20_000)));
    }

    #[test]
    fn literals_end_at_the_first_special_byte() {
        assert_eq!(literal(b"news.*"), b"news.");
        assert_eq!(literal(b"plain"), b"plain");
        assert_eq!(literal(br"a\*"), b"a");
    }
}
