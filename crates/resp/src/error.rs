//! What is wrong with bytes that are no RESP, in redis-server's words.

/// Bytes that cannot be a frame. The connection they came on cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A request element did not start with `$`.
    ExpectedBulk(u8),
    /// The count of a request is no number or out of range.
    MultibulkLength,
    /// The length of a bulk string is no number or out of range.
    BulkLength,
    /// More than ten arguments before the client logged in.
    UnauthenticatedMultibulkLength,
    /// An argument above 16 KiB before the client logged in.
    UnauthenticatedBulkLength,
    /// The line with a request's count does not end.
    TooBigCountString,
    /// The line with a bulk string's length does not end.
    TooBigBulkCountString,
    /// An inline request does not end within 64 KiB.
    TooBigInline,
    /// Quotes of an inline request do not match.
    UnbalancedQuotes,
    /// CR LF missing behind a length or a payload.
    ExpectedCrlf,
    /// A reply starts with a byte that names no type.
    UnknownType(u8),
    /// Aggregates nested deeper than [`crate::value::MAX_DEPTH`].
    TooDeep,
}

impl ProtocolError {
    /// The text behind `-ERR Protocol error: `, as redis-server words it where it has the case.
    pub fn append_text(self, out: &mut Vec<u8>) {
        let text: &[u8] = match self {
            Self::ExpectedBulk(got) => {
                out.extend_from_slice(b"expected '$', got '");
                out.push(if got.is_ascii_control() { b' ' } else { got });
                b"'"
            }
            Self::MultibulkLength => b"invalid multibulk length",
            Self::BulkLength => b"invalid bulk length",
            Self::UnauthenticatedMultibulkLength => b"unauthenticated multibulk length",
            Self::UnauthenticatedBulkLength => b"unauthenticated bulk length",
            Self::TooBigCountString => b"too big mbulk count string",
            Self::TooBigBulkCountString => b"too big bulk count string",
            Self::TooBigInline => b"too big inline request",
            Self::UnbalancedQuotes => b"unbalanced quotes in request",
            Self::ExpectedCrlf => b"expected CRLF",
            Self::UnknownType(got) => {
                out.extend_from_slice(b"unknown reply type '");
                out.push(if got.is_ascii_control() { b' ' } else { got });
                b"'"
            }
            Self::TooDeep => b"nested too deeply",
        };
        out.extend_from_slice(text);
    }

    /// The whole error reply, CR LF included.
    pub fn append_reply(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"-ERR Protocol error: ");
        self.append_text(out);
        out.extend_from_slice(b"\r\n");
    }
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        self.append_text(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl std::error::Error for ProtocolError {}
