//! Path normalisation, before routes and access rules look at a path.
//!
//! Envoy: `Http::PathUtil`, that is the URL library's `CanonicalizePath` with `\` as a slash: dot segments go, also
//! percent-encoded ones; unreserved characters are decoded; everything else stays. The query is never touched.

use std::borrow::Cow;

use redplane_config::http::hcm::{EscapedSlashes, PathSettings};

/// What became of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Normalised<'a> {
    /// Go on with this one.
    Path(Cow<'a, str>),
    /// 400.
    Rejected,
    /// 307 to this one.
    Redirect(String),
}

/// Normalises a target in origin form.
pub fn normalise<'a>(target: &'a str, settings: &PathSettings) -> Normalised<'a> {
    let (path, query) = match target.find('?') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    let mut clean = Cow::Borrowed(path);
    let mut redirects = false;
    if settings.escaped_slashes != EscapedSlashes::Keep && has_escaped_slash(path) {
        match settings.escaped_slashes {
            EscapedSlashes::Reject => return Normalised::Rejected,
            EscapedSlashes::Redirect => redirects = true,
            EscapedSlashes::Keep | EscapedSlashes::Unescape => {}
        }
        clean = Cow::Owned(unescape_slashes(path));
    }
    if settings.normalize && needs_work(&clean) {
        match canonical(&clean) {
            Some(path) => clean = Cow::Owned(path),
            None => return Normalised::Rejected,
        }
    }
    if settings.merge_slashes && clean.contains("//") {
        clean = Cow::Owned(merge(&clean));
    }
    if redirects {
        return Normalised::Redirect(clean.into_owned() + query);
    }
    Normalised::Path(match clean {
        Cow::Borrowed(_) => Cow::Borrowed(target),
        Cow::Owned(clean) => Cow::Owned(clean + query),
    })
}

/// What most paths do not hold: a dot, a backslash or a percent sign.
fn needs_work(path: &str) -> bool {
    path.bytes().any(|byte| matches!(byte, b'.' | b'\\' | b'%'))
}

fn has_escaped_slash(path: &str) -> bool {
    path.as_bytes().windows(3).any(is_escaped_slash)
}

fn is_escaped_slash(three: &[u8]) -> bool {
    matches!(three, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C'])
}

fn unescape_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        match from.get(..3) {
            Some(three) if is_escaped_slash(three.as_bytes()) => {
                out.push(if three.as_bytes()[1] == b'2' { '/' } else { '\\' });
                rest = &from[3..];
            }
            _ => {
                out.push('%');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The path without dot segments, with unreserved characters decoded. `None` for what is no path.
fn canonical(path: &str) -> Option<String> {
    if !path.starts_with(['/', '\\']) || path.contains("%00") {
        return None;
    }
    let decoded = decode_unreserved(path);
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = decoded[1..].split('/').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." if is_last => segments.push(""),
            "." => {}
            ".." => {
                segments.pop();
                if is_last {
                    segments.push("");
                }
            }
            part => segments.push(part),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

/// Decodes what needs no escape, turns backslashes around. `%2e` becomes a dot, so that dot segments are seen.
fn decode_unreserved(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut at = 0;
    while at < bytes.len() {
        let decoded = match bytes[at] {
            b'%' => hex(bytes.get(at + 1..at + 3)).filter(|byte| is_unreserved(*byte)),
            _ => None,
        };
        match (decoded, bytes[at]) {
            (Some(byte), _) => {
                out.push(char::from(byte));
                at += 3;
            }
            (None, b'\\') => {
                out.push('/');
                at += 1;
            }
            (None, byte) => {
                // A target is ASCII: `http::Uri` refuses the rest, and what was configured never gets here.
                out.push(char::from(byte));
                at += 1;
            }
        }
    }
    out
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex(two: Option<&[u8]>) -> Option<u8> {
    let [high, low] = two? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

fn merge(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for next in path.chars() {
        if next != '/' || !out.ends_with('/') {
            out.push(next);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(target: &str, settings: PathSettings) -> String {
        match normalise(target, &settings) {
            Normalised::Path(path) => path.into_owned(),
            Normalised::Rejected => "400".to_owned(),
            Normalised::Redirect(path) => format!("307 {path}"),
        }
    }

    #[test]
    fn rfc_3986() {
        let settings = PathSettings {
            normalize: true,
            ..PathSettings::default()
        };
        let table = [
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/a//b", "/a//b"),
            ("/a\\b", "/a/b"),
            ("/%41%2e%2E/%2e%2e/x", "/x"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%7e%20", "/a~%20"),
            ("/a?x=/../%41", "/a?x=/../%41"),
            ("/a%", "/a%"),
            ("/a%4", "/a%4"),
            ("*", "*"),
            ("/a%00", "400"),
        ];
        for (target, expected) in table {
            assert_eq!(path(target, settings), expected, "{target}");
        }
    }

    #[test]
    fn slashes() {
        let with = |escaped_slashes, merge_slashes| PathSettings {
            normalize: true,
            merge_slashes,
            escaped_slashes,
        };
        let table = [
            (with(EscapedSlashes::Keep, true), "//a///b?c//d", "/a/b?c//d"),
            (with(EscapedSlashes::Unescape, false), "/a%2fb%5Cc", "/a/b/c"),
            (with(EscapedSlashes::Unescape, true), "/a%2f/b", "/a/b"),
            (with(EscapedSlashes::Unescape, false), "/a%2f..%2fb?%2f", "/b?%2f"),
            (with(EscapedSlashes::Reject, false), "/a%2Fb", "400"),
            (with(EscapedSlashes::Reject, false), "/a?%2F", "/a?%2F"),
            (with(EscapedSlashes::Redirect, false), "/a%2Fb?c", "307 /a/b?c"),
        ];
        for (settings, target, expected) in table {
            assert_eq!(path(target, settings), expected, "{target}");
        }
    }
}
