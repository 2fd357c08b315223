//! The notation of words, bytes and replies in a case file.
//!
//! Words are quoted as in redis-cli. Escapes are `\n \r \t \a \b \0 \\ \" \xHH`, and `\R(N,text)` for a text N
//! times. Replies: `+text`, `-text`, `:1`, `"bulk"`, `nil`, `nil-array`, `[ … ]`, a push `>[ … ]`, and as patterns `{ … }` for an
//! array in any order, `any`, `any-int`, `any-bulk`, `any-array`, `any-error`, and `~` before a string for one with
//! wildcards `*`. Inside an array a simple string or an error stands in `< >`.

use crate::escape::unescape;
use crate::reply::Reply;

/// What a reply must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Exactly this reply, byte for byte.
    Exact(Reply),
    /// A simple string, error or bulk string whose text has this form, `*` standing for any bytes.
    Like(Reply),
    /// Any reply.
    Any,
    /// Any reply of this type byte.
    AnyOf(u8),
    /// An array with these elements.
    List(Vec<Self>),
    /// An array with these elements in any order.
    Set(Vec<Self>),
    /// A RESP3 push with these elements.
    Push(Vec<Self>),
}

impl Pattern {
    /// Reads a pattern that fills the whole text.
    ///
    /// # Errors
    /// What is not understood.
    pub fn read(text: &str) -> Result<Self, String> {
        let (pattern, rest) = pattern(text.trim(), Within::Line)?;
        if rest.trim().is_empty() {
            Ok(pattern)
        } else {
            Err(format!("not understood: {rest}"))
        }
    }

    /// Whether a reply is as expected.
    #[must_use]
    pub fn matches(&self, reply: &Reply) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(expected) => expected == reply,
            Self::AnyOf(kind) => reply.encode().first() == Some(kind) && *reply != Reply::Bulk(None),
            Self::Like(form) => like(form, reply),
            Self::List(patterns) => match reply {
                Reply::Array(Some(found)) => {
                    found.len() == patterns.len() && patterns.iter().zip(found).all(|(p, r)| p.matches(r))
                }
                _ => false,
            },
            Self::Push(patterns) => match reply {
                Reply::Aggregate(b'>', found) => {
                    found.len() == patterns.len() && patterns.iter().zip(found).all(|(p, r)| p.matches(r))
                }
                _ => false,
            },
            Self::Set(patterns) => match reply {
                Reply::Array(Some(found)) => is_permutation(patterns, found),
                _ => false,
            },
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(reply) => write!(f, "{reply}"),
            Self::Like(form) => write!(f, "~{form}"),
            Self::Any => f.write_str("any"),
            Self::AnyOf(kind) => write!(f, "any {}", char::from(*kind)),
            Self::List(all) | Self::Set(all) | Self::Push(all) => {
                let [open, close] = match self {
                    Self::List(_) => ["[", "]"],
                    Self::Push(_) => [">[", "]"],
                    _ => ["{", "}"],
                };
                f.write_str(open)?;
                all.iter().try_for_each(|pattern| write!(f, " {pattern}"))?;
                write!(f, " {close}")
            }
        }
    }
}

fn is_permutation(patterns: &[Pattern], found: &[Reply]) -> bool {
    let mut left: Vec<&Reply> = found.iter().collect();
    let took_all =
        patterns.iter().all(
            |pattern| match left.iter().position(|reply| pattern.matches(reply)) {
                Some(at) => {
                    left.swap_remove(at);
                    true
                }
                None => false,
            },
        );
    took_all && left.is_empty()
}

fn like(form: &Reply, reply: &Reply) -> bool {
    match (form, reply) {
        (Reply::Simple(form), Reply::Simple(text))
        | (Reply::Error(form), Reply::Error(text))
        | (Reply::Bulk(Some(form)), Reply::Bulk(Some(text))) => glob(form, text),
        _ => false,
    }
}

/// Whether `text` has the form of `form`, in which `*` stands for any bytes.
fn glob(form: &[u8], text: &[u8]) -> bool {
    let mut parts = form.split(|b| *b == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&[u8]> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        let Some(at) = rest.windows(part.len()).position(|w| w == part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Where a pattern stands: a line's simple strings reach to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Line,
    Array,
}

type Read<'a, T> = Result<(T, &'a str), String>;

fn pattern(text: &str, within: Within) -> Read<'_, Pattern> {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('~') {
        let (exact, rest) = pattern(rest, within)?;
        return match exact {
            Pattern::Exact(form @ (Reply::Simple(_) | Reply::Error(_) | Reply::Bulk(Some(_)))) => {
                Ok((Pattern::Like(form), rest))
            }
            _ => Err("~ stands only before a string".to_owned()),
        };
    }
    match text.chars().next() {
        Some('>') if text.starts_with(">[") => {
            list(&text[2..], ']').map(|(all, rest)| (Pattern::Push(all), rest))
        }
        Some('[') => list(&text[1..], ']').map(|(all, rest)| (Pattern::List(all), rest)),
        Some('{') => list(&text[1..], '}').map(|(all, rest)| (Pattern::Set(all), rest)),
        Some('"') => {
            let (body, rest) = quoted(&text[1..])?;
            Ok((Pattern::Exact(Reply::Bulk(Some(body))), rest))
        }
        Some('<') => {
            let end = text.find('>').ok_or("< without >")?;
            let (inner, _) = pattern(&text[1..end], Within::Line)?;
            Ok((inner, &text[end + 1..]))
        }
        Some('+') if within == Within::Line => Ok((Pattern::Exact(Reply::Simple(unescape(&text[1..])?)), "")),
        Some('-') if within == Within::Line => Ok((Pattern::Exact(Reply::Error(unescape(&text[1..])?)), "")),
        _ => word(text),
    }
}

fn word(text: &str) -> Read<'_, Pattern> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let found = match word {
        "nil" => Pattern::Exact(Reply::Bulk(None)),
        "nil-array" => Pattern::Exact(Reply::Array(None)),
        "any" => Pattern::Any,
        "any-int" => Pattern::AnyOf(b':'),
        "any-bulk" => Pattern::AnyOf(b'$'),
        "any-array" => Pattern::AnyOf(b'*'),
        "any-error" => Pattern::AnyOf(b'-'),
        "line" => {
            let body = rest
                .trim_start()
                .strip_prefix('"')
                .ok_or("line wants a quoted text")?;
            let (body, rest) = quoted(body)?;
            return Ok((Pattern::Exact(Reply::Line(body)), rest));
        }
        _ => match word.strip_prefix(':') {
            Some(digits) => Pattern::Exact(Reply::Int(digits.as_bytes().to_vec())),
            None => return Err(format!("not understood: {text}")),
        },
    };
    Ok((found, rest))
}

fn list(mut text: &str, close: char) -> Read<'_, Vec<Pattern>> {
    let mut all = Vec::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix(close) {
            return Ok((all, rest));
        }
        if text.is_empty() {
            return Err(format!("{close} is missing"));
        }
        let (next, rest) = pattern(text, Within::Array)?;
        all.push(next);
        text = rest;
    }
}

/// The text behind an opening quote up to the closing one, and what follows.
fn quoted(text: &str) -> Read<'_, Vec<u8>> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok((unescape(&text[..at])?, &text[at + 1..])),
            _ => {}
        }
    }
    Err("a quote is not closed".to_owned())
}

/// Splits a line into words as redis-cli does: blanks part, `"…"` with escapes, `'…'` with `\'` only.
///
/// # Errors
/// A quote that is not closed, or a bad escape.
pub fn split_words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, behind) = if let Some(body) = rest.strip_prefix('"') {
            quoted(body)?
        } else if let Some(body) = rest.strip_prefix('\'') {
            let end = body.find('\'').ok_or("a quote is not closed")?;
            (body.as_bytes()[..end].to_vec(), &body[end + 1..])
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (rest.as_bytes()[..end].to_vec(), &rest[end..])
        };
        if !behind.is_empty() && !behind.starts_with(char::is_whitespace) {
            return Err("a blank must follow a closing quote".to_owned());
        }
        words.push(word);
        rest = behind.trim_start();
    }
    Ok(words)
}
