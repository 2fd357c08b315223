//! RESP replies as a tree, read and written here independently of the house's own reading.
//!
//! Types that the tree does not name (RESP3, or bytes that are no RESP at all) are kept as raw lines, never
//! dropped: a judge must be able to show what it saw.

use std::fmt;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+text`
    Simple(Vec<u8>),
    /// `-text`
    Error(Vec<u8>),
    /// `:digits`, the digits as they came.
    Int(Vec<u8>),
    /// `$n` bytes, or the null bulk `$-1`.
    Bulk(Option<Vec<u8>>),
    /// `*n` replies, or the null array `*-1`.
    Array(Option<Vec<Self>>),
    /// A RESP3 aggregate: its type byte (`%`, `~`, `>`, `|`) and its elements; a map's keys and values alternate.
    Aggregate(u8, Vec<Self>),
    /// A RESP3 text with a length: its type byte (`=`, `!`) and its bytes, the form of a verbatim string among them.
    Text(u8, Vec<u8>),
    /// A line of any other type, with its first byte.
    Line(Vec<u8>),
}

/// What `decode` found at the start of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A reply and the number of bytes it took.
    Reply(Reply, usize),
    /// The bytes end before the reply does.
    Incomplete,
}

/// Reads one reply from the start of `bytes`.
#[must_use]
pub fn decode(bytes: &[u8]) -> Decoded {
    match reply(bytes, 0) {
        Some((found, end)) => Decoded::Reply(found, end),
        None => Decoded::Incomplete,
    }
}

fn reply(bytes: &[u8], at: usize) -> Option<(Reply, usize)> {
    let line_end = bytes.get(at..)?.windows(2).position(|w| w == b"\r\n")? + at;
    let next = line_end + 2;
    let text = &bytes[(at + 1).min(line_end)..line_end];
    let whole = || Some((Reply::Line(bytes[at..line_end].to_vec()), next));
    match bytes[at] {
        b'+' => Some((Reply::Simple(text.to_vec()), next)),
        b'-' => Some((Reply::Error(text.to_vec()), next)),
        b':' => Some((Reply::Int(text.to_vec()), next)),
        b'$' if text == b"-1" => Some((Reply::Bulk(None), next)),
        b'*' if text == b"-1" => Some((Reply::Array(None), next)),
        kind @ (b'$' | b'=' | b'!') => match length(text) {
            Some(n) => {
                let body = bytes.get(next..next + n)?.to_vec();
                bytes.get(next + n..next + n + 2)?;
                let found = match kind {
                    b'$' => Reply::Bulk(Some(body)),
                    _ => Reply::Text(kind, body),
                };
                Some((found, next + n + 2))
            }
            None => whole(),
        },
        kind @ (b'*' | b'~' | b'>' | b'%' | b'|') => match length(text) {
            Some(n) => {
                let count = if matches!(kind, b'%' | b'|') { 2 * n } else { n };
                let (elements, end) = elements(bytes, next, count)?;
                let found = if kind == b'*' {
                    Reply::Array(Some(elements))
                } else {
                    Reply::Aggregate(kind, elements)
                };
                Some((found, end))
            }
            None => whole(),
        },
        _ => whole(),
    }
}

fn elements(bytes: &[u8], mut at: usize, count: usize) -> Option<(Vec<Reply>, usize)> {
    let mut found = Vec::new();
    for _ in 0..count {
        let (element, next) = if at < bytes.len() {
            reply(bytes, at)?
        } else {
            return None;
        };
        found.push(element);
        at = next;
    }
    Some((found, at))
}

/// A length in its one canonical spelling; any other makes the frame a `Line`, so that it is seen.
fn length(text: &[u8]) -> Option<usize> {
    let n: usize = std::str::from_utf8(text).ok()?.parse().ok()?;
    (n.to_string().as_bytes() == text).then_some(n)
}

impl Reply {
    /// The canonical bytes of this reply.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        let mut line = |kind: &[u8], text: &[u8]| {
            out.extend_from_slice(kind);
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        };
        match self {
            Self::Simple(text) => line(b"+", text),
            Self::Error(text) => line(b"-", text),
            Self::Int(text) => line(b":", text),
            Self::Line(text) => line(b"", text),
            Self::Bulk(None) => line(b"$", b"-1"),
            Self::Array(None) => line(b"*", b"-1"),
            Self::Bulk(Some(body)) => {
                line(b"$", body.len().to_string().as_bytes());
                line(b"", body);
            }
            Self::Text(kind, body) => {
                line(&[*kind], body.len().to_string().as_bytes());
                line(b"", body);
            }
            Self::Array(Some(elements)) => {
                line(b"*", elements.len().to_string().as_bytes());
                elements.iter().for_each(|e| e.encode_into(out));
            }
            Self::Aggregate(kind, elements) => {
                let count = if matches!(kind, b'%' | b'|') {
                    elements.len() / 2
                } else {
                    elements.len()
                };
                line(&[*kind], count.to_string().as_bytes());
                elements.iter().for_each(|e| e.encode_into(out));
            }
        }
    }

    /// The text of a simple string, error, integer or bulk string.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Simple(text) | Self::Error(text) | Self::Int(text) | Self::Bulk(Some(text)) => {
                Some(String::from_utf8_lossy(text).into_owned())
            }
            _ => None,
        }
    }

    /// The number of an integer reply.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Int(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The elements of an array; empty for anything else.
    #[must_use]
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Array(Some(elements)) | Self::Aggregate(_, elements) => elements,
            _ => &[],
        }
    }

    /// Whether this is an error reply.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

/// The notation of the conformance cases: `+OK`, `-ERR …`, `:1`, `"bulk"`, `nil`, `[ … ]`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) => write!(f, "+{}", to_line_end(text)),
            Self::Error(text) => write!(f, "-{}", to_line_end(text)),
            Self::Int(text) => write!(f, ":{}", crate::escape::escape(text)),
            Self::Bulk(None) => f.write_str("nil"),
            Self::Array(None) => f.write_str("nil-array"),
            Self::Bulk(Some(body)) => write!(f, "\"{}\"", crate::escape::escape(body)),
            Self::Line(text) => write!(f, "line \"{}\"", crate::escape::escape(text)),
            Self::Text(kind, body) => {
                write!(f, "text{} \"{}\"", char::from(*kind), crate::escape::escape(body))
            }
            Self::Array(Some(elements)) => list(f, "[", elements),
            Self::Aggregate(kind, elements) => list(f, &format!("{}[", char::from(*kind)), elements),
        }
    }
}

/// A text whose blank at the end survives the reading of a line.
fn to_line_end(text: &[u8]) -> String {
    let shown = crate::escape::escape(text);
    match shown.strip_suffix(' ') {
        Some(rest) => format!("{rest}\\x20"),
        None => shown,
    }
}

fn list(f: &mut fmt::Formatter<'_>, open: &str, elements: &[Reply]) -> fmt::Result {
    f.write_str(open)?;
    for element in elements {
        match element {
            Reply::Simple(_) | Reply::Error(_) => {
                let shown = element.to_string().replace('>', "\\x3e");
                write!(f, " <{shown}>")?;
            }
            _ => write!(f, " {element}")?,
        }
    }
    f.write_str(" ]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_come_back_byte_for_byte() {
        for bytes in [
            &b"+OK\r\n"[..],
            b"-ERR no\r\n",
            b":-12\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"$0\r\n\r\n",
            b"$4\r\na\r\nb\r\n",
            b"*2\r\n*0\r\n$1\r\nx\r\n",
            b"%1\r\n+a\r\n:1\r\n",
            b",1.5\r\n",
            b"=6\r\ntxt:\r\n\r\n",
        ] {
            let Decoded::Reply(reply, end) = decode(bytes) else {
                panic!("incomplete: {bytes:?}")
            };
            assert_eq!((reply.encode(), end), (bytes.to_vec(), bytes.len()));
            for cut in 0..bytes.len() {
                assert_eq!(
                    decode(&bytes[..cut]),
                    Decoded::Incomplete,
                    "cut at {cut} of {bytes:?}"
                );
            }
        }
    }

    #[test]
    fn replies_print_in_the_notation_of_the_cases() {
        let Decoded::Reply(reply, _) = decode(b"*4\r\n$1\r\na\r\n$-1\r\n:3\r\n-ERR x\r\n") else {
            panic!()
        };
        assert_eq!(reply.to_string(), "[ \"a\" nil :3 <-ERR x> ]");
    }
}
