//! Replies as trees of values, for control traffic: discovery, merging INFO and the like. Never on the request path.

use crate::number;
use crate::reply::{Scan, Scanner};
use crate::{ProtocolError, reply};

/// Deepest nesting that is decoded. Replies that only pass through have no such limit.
pub const MAX_DEPTH: usize = 64;

/// One reply, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`.
    Simple(Vec<u8>),
    /// `-` or `!`.
    Error(Vec<u8>),
    /// `:`.
    Integer(i64),
    /// `$` or `=` (with its three letters and colon), null as `None`.
    Bulk(Option<Vec<u8>>),
    /// `*` or `>`, null as `None`.
    Array(Option<Vec<Self>>),
    /// `%`, in the order it came.
    Map(Vec<(Self, Self)>),
    /// `~`.
    Set(Vec<Self>),
    /// `_`.
    Null,
    /// `#`.
    Boolean(bool),
    /// `,` or `(`, as text.
    Number(Vec<u8>),
}

impl Value {
    /// The bytes of a simple or bulk string.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text) | Self::Bulk(Some(text)) | Self::Number(text) => Some(text),
            _ => None,
        }
    }

    /// An integer, also one written as a string.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(n) => Some(*n),
            other => number::integer(other.text()?),
        }
    }

    /// The elements of an array or set.
    pub fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::Array(Some(elements)) | Self::Set(elements) => Some(elements),
            _ => None,
        }
    }
}

/// Decodes the reply at the beginning of `buf` and says where it ends; `None` while it is incomplete.
pub fn decode(buf: &[u8]) -> Result<Option<(Value, usize)>, ProtocolError> {
    match Scanner::default().scan(buf)? {
        Scan::Incomplete(_) => Ok(None),
        Scan::Whole(end) => Ok(Some((Reader { buf, at: 0 }.value(0)?, end))),
    }
}

/// Reads what the scanner found to be whole.
struct Reader<'a> {
    buf: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, ProtocolError> {
        if depth > MAX_DEPTH {
            return Err(ProtocolError::TooDeep);
        }
        let rest = &self.buf[self.at..];
        let kind = rest.first().copied().unwrap_or_default();
        match kind {
            b'*' | b'>' => Ok(match self.count() {
                None => Value::Array(None),
                Some(count) => Value::Array(Some(self.list(count, depth)?)),
            }),
            b'~' => {
                let count = self.count().unwrap_or_default();
                Ok(Value::Set(self.list(count, depth)?))
            }
            b'%' => Ok(Value::Map(self.pairs(depth)?)),
            b'|' => {
                self.pairs(depth)?;
                self.value(depth + 1)
            }
            b'$' | b'=' | b'!' => Ok(self.bulk(kind)),
            _ => self.line(kind),
        }
    }

    fn list(&mut self, count: u64, depth: usize) -> Result<Vec<Value>, ProtocolError> {
        (0..count).map(|_| self.value(depth + 1)).collect()
    }

    fn pairs(&mut self, depth: usize) -> Result<Vec<(Value, Value)>, ProtocolError> {
        let count = self.count().unwrap_or_default();
        (0..count)
            .map(|_| Ok((self.value(depth + 1)?, self.value(depth + 1)?)))
            .collect()
    }

    fn count(&mut self) -> Option<u64> {
        match number::line(self.buf, self.at + 1) {
            number::Line::Number(count, end) => {
                self.at = end;
                u64::try_from(count).ok()
            }
            _ => None,
        }
    }

    fn bulk(&mut self, kind: u8) -> Value {
        let rest = &self.buf[self.at..];
        let (header, payload) = match number::line(self.buf, self.at + 1) {
            number::Line::Number(length, start) => (
                start,
                usize::try_from(length)
                    .ok()
                    .and_then(|n| self.buf.get(start..start + n)),
            ),
            _ => (self.at + rest.len(), None),
        };
        self.at = payload.map_or(header, |p| header + p.len() + 2);
        match (kind, payload) {
            (b'!', payload) => Value::Error(payload.unwrap_or_default().to_vec()),
            (_, payload) => Value::Bulk(payload.map(<[u8]>::to_vec)),
        }
    }

    fn line(&mut self, kind: u8) -> Result<Value, ProtocolError> {
        let rest = &self.buf[self.at..];
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let text = rest.get(1..length).unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.at += length + 1;
        Ok(match kind {
            b'+' => Value::Simple(text.to_vec()),
            b'-' => Value::Error(text.to_vec()),
            b':' => Value::Integer(number::integer(text).ok_or(ProtocolError::BulkLength)?),
            b'_' => Value::Null,
            b'#' => Value::Boolean(text == b"t"),
            b',' | b'(' => Value::Number(text.to_vec()),
            other => return Err(ProtocolError::UnknownType(other)),
        })
    }
}

/// Whether a raw reply is an error, and its text without the dash.
pub fn error_text(raw: &[u8]) -> Option<&[u8]> {
    match raw.first() {
        Some(b'-') => raw.get(1..)?.strip_suffix(b"\r\n"),
        Some(b'!') => reply::bulk_payload(raw),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn trees() {
        let raw = b"*3\r\n$1\r\na\r\n*-1\r\n%1\r\n+k\r\n:1\r\n";
        let tree = Value::Array(Some(vec![
            Value::Bulk(Some(b"a".to_vec())),
            Value::Array(None),
            Value::Map(vec![(Value::Simple(b"k".to_vec()), Value::Integer(1))]),
        ]));
        assert_eq!(decode(raw), Ok(Some((tree, raw.len()))));
        assert_eq!(
            decode(b"|1\r\n+a\r\n+b\r\n+c\r\n").unwrap().unwrap().0,
            Value::Simple(b"c".to_vec())
        );
        assert_eq!(decode(&raw[..10]), Ok(None));
        assert_eq!(decode(b"$-1\r\n"), Ok(Some((Value::Bulk(None), 5))));
    }

    #[test]
    fn depth_is_bounded() {
        let mut deep = b"*1\r\n".repeat(MAX_DEPTH + 2);
        deep.extend_from_slice(b":1\r\n");
        assert_eq!(decode(&deep), Err(ProtocolError::TooDeep));
    }

    #[test]
    fn error_texts() {
        assert_eq!(error_text(b"-ERR x\r\n"), Some(&b"ERR x"[..]));
        assert_eq!(error_text(b"!5\r\nERR y\r\n"), Some(&b"ERR y"[..]));
        assert_eq!(error_text(b"+OK\r\n"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in "[*$+:_%|~=!,#0-9\\-\r\na]{0,80}") {
            let _ = decode(bytes.as_bytes());
            let _ = error_text(bytes.as_bytes());
        }
    }
}
