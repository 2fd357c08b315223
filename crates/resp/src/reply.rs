//! Finding where a reply ends, in RESP2 and RESP3, without decoding it.
//!
//! Replies pass through undecoded; only their borders matter. Aggregates nest to any depth: instead of a stack the
//! scanner counts how many elements are still to come, so that thousands of levels cost nothing.

use crate::ProtocolError;
use crate::number::{self, Line};

/// Where scanning of one reply stands. Reset to the default for the next one.
#[derive(Clone, Copy, Debug)]
pub struct Scanner {
    at: usize,
    left: u64,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { at: 0, left: 1 }
    }
}

/// What the slice held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The reply ends before this position.
    Whole(usize),
    /// At least this many bytes are needed, counted from the reply's first byte.
    Incomplete(usize),
}

impl Scanner {
    /// Looks for the end of the reply that begins `buf`. Each call after an `Incomplete` gets the same bytes and more.
    #[inline]
    pub fn scan(&mut self, buf: &[u8]) -> Result<Scan, ProtocolError> {
        if self.at == 0
            && let Some(end) = plain(buf)
        {
            return Ok(Scan::Whole(end));
        }
        while self.left > 0 {
            match element(buf, self.at)? {
                Element::Scalar(end) => {
                    self.at = end;
                    self.left -= 1;
                }
                Element::Aggregate(end, elements) => {
                    self.at = end;
                    self.left = (self.left - 1).saturating_add(elements);
                }
                Element::Attribute(end, elements) => {
                    self.at = end;
                    self.left = self.left.saturating_add(elements);
                }
                Element::Needs(bytes) => return Ok(Scan::Incomplete(bytes)),
            }
        }
        Ok(Scan::Whole(self.at))
    }
}

/// The end of what most replies are: a bulk string of less than 100 bytes, null, or `+OK`.
#[inline]
fn plain(buf: &[u8]) -> Option<usize> {
    match buf.first() {
        Some(b'$') => {
            if buf.starts_with(b"$-1\r\n") {
                return Some(5);
            }
            let (length, start) = number::header(buf, b'$')?;
            let end = start + length;
            (buf.get(end..end + 2) == Some(b"\r\n")).then_some(end + 2)
        }
        Some(b'+') => buf.starts_with(b"+OK\r\n").then_some(5),
        _ => None,
    }
}

enum Element {
    Scalar(usize),
    Aggregate(usize, u64),
    /// Belongs to the reply behind it and does not count as one.
    Attribute(usize, u64),
    Needs(usize),
}

#[inline]
fn element(buf: &[u8], at: usize) -> Result<Element, ProtocolError> {
    let Some(&kind) = buf.get(at) else {
        return Ok(Element::Needs(buf.len() + 1));
    };
    match kind {
        b'$' | b'=' | b'!' => bulk(buf, at),
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(text_line(buf, at)),
        b'*' | b'~' | b'>' => aggregate(buf, at, 1),
        b'%' => aggregate(buf, at, 2),
        b'|' => match aggregate(buf, at, 2)? {
            Element::Aggregate(end, elements) => Ok(Element::Attribute(end, elements)),
            other => Ok(other),
        },
        other => Err(ProtocolError::UnknownType(other)),
    }
}

#[inline]
fn bulk(buf: &[u8], at: usize) -> Result<Element, ProtocolError> {
    let (length, start) = match number::line(buf, at + 1) {
        Line::Number(length, start) => (length, start),
        Line::Incomplete => return Ok(Element::Needs(buf.len() + 1)),
        Line::NotANumber => return Err(ProtocolError::BulkLength),
        Line::NoLineFeed => return Err(ProtocolError::ExpectedCrlf),
    };
    if length == -1 {
        return Ok(Element::Scalar(start));
    }
    let Some(end) = usize::try_from(length)
        .ok()
        .and_then(|length| start.checked_add(length)?.checked_add(2))
    else {
        return Err(ProtocolError::BulkLength);
    };
    match buf.get(end - 2..end) {
        Some(b"\r\n") => Ok(Element::Scalar(end)),
        Some(_) => Err(ProtocolError::ExpectedCrlf),
        None => Ok(Element::Needs(end)),
    }
}

#[inline]
fn text_line(buf: &[u8], at: usize) -> Element {
    // `+OK` is the most frequent reply of all.
    if let [b'+', b'O', b'K', b'\r', b'\n', ..] = buf[at..] {
        return Element::Scalar(at + 5);
    }
    match memchr::memchr(b'\n', &buf[at..]) {
        Some(newline) => Element::Scalar(at + newline + 1),
        None => Element::Needs(buf.len() + 1),
    }
}

#[inline]
fn aggregate(buf: &[u8], at: usize, width: u64) -> Result<Element, ProtocolError> {
    match number::line(buf, at + 1) {
        Line::Number(-1, end) => Ok(Element::Scalar(end)),
        Line::Number(count, end) => match u64::try_from(count) {
            Ok(count) => Ok(Element::Aggregate(end, count.saturating_mul(width))),
            Err(_) => Err(ProtocolError::MultibulkLength),
        },
        Line::Incomplete => Ok(Element::Needs(buf.len() + 1)),
        Line::NotANumber => Err(ProtocolError::MultibulkLength),
        Line::NoLineFeed => Err(ProtocolError::ExpectedCrlf),
    }
}

/// The count behind an aggregate's type byte and the position of its first element; `None` for anything else, for
/// null arrays (`*-1`) and for incomplete headers.
pub fn array_header(reply: &[u8]) -> Option<(u64, usize)> {
    if !matches!(reply.first(), Some(b'*' | b'~' | b'>' | b'%')) {
        return None;
    }
    match number::line(reply, 1) {
        Line::Number(count, end) => u64::try_from(count).ok().map(|count| (count, end)),
        _ => None,
    }
}

/// The value of an integer reply.
pub fn integer(reply: &[u8]) -> Option<i64> {
    match reply {
        [b':', rest @ ..] => number::integer(rest.strip_suffix(b"\r\n")?),
        _ => None,
    }
}

/// The text of a bulk or verbatim string, the latter without its three letters and colon.
pub fn text_payload(reply: &[u8]) -> Option<&[u8]> {
    let payload = bulk_payload(reply)?;
    if reply.first() == Some(&b'=') {
        payload.get(4..)
    } else {
        Some(payload)
    }
}

/// The payload of a bulk string, verbatim string or bulk error; `None` for null and for other types.
pub fn bulk_payload(reply: &[u8]) -> Option<&[u8]> {
    if !matches!(reply.first(), Some(b'$' | b'=' | b'!')) {
        return None;
    }
    match number::line(reply, 1) {
        Line::Number(length, start) => reply.get(start..start.checked_add(usize::try_from(length).ok()?)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(bytes: &[u8]) -> Result<Scan, ProtocolError> {
        Scanner::default().scan(bytes)
    }

    #[test]
    fn replies_end_where_they_end() {
        for reply in [
            &b"+OK\r\n"[..],
            b"+PONG\r\n",
            b"-ERR no\r\n",
            b":-12\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"$0\r\n\r\n",
            b"$5\r\na\r\nbc\r\n",
            b"*0\r\n",
            b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            b"%1\r\n+a\r\n_\r\n",
            b"~2\r\n#t\r\n,1.5\r\n",
            b"=7\r\ntxt:abc\r\n",
            b"|1\r\n+k\r\n+v\r\n:5\r\n",
            b"*2\r\n|1\r\n+k\r\n+v\r\n:5\r\n:6\r\n",
            b">2\r\n+x\r\n(12345678901234567890\r\n",
        ] {
            let mut longer = reply.to_vec();
            longer.extend_from_slice(b"+next\r\n");
            assert_eq!(
                scan(&longer),
                Ok(Scan::Whole(reply.len())),
                "{}",
                String::from_utf8_lossy(reply)
            );
            for cut in 0..reply.len() {
                assert!(
                    matches!(scan(&reply[..cut]), Ok(Scan::Incomplete(need)) if need > cut && need <= reply.len())
                );
            }
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let mut deep = b"*1\r\n".repeat(1_000_000);
        deep.extend_from_slice(b":1\r\n");
        assert_eq!(scan(&deep), Ok(Scan::Whole(deep.len())));
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [
            &b"PONG\r\n"[..],
            b"$x\r\n",
            b"$-2\r\n",
            b"*-2\r\n",
            b"$1\r\nab\r\n",
            b"*9223372036854775808\r\n",
        ] {
            assert!(scan(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn looks_inside() {
        assert_eq!(array_header(b"*12\r\n:1"), Some((12, 5)));
        assert_eq!(array_header(b"*-1\r\n"), None);
        assert_eq!(integer(b":-7\r\n"), Some(-7));
        assert_eq!(integer(b"+OK\r\n"), None);
        assert_eq!(bulk_payload(b"$3\r\nabc\r\n"), Some(&b"abc"[..]));
        assert_eq!(bulk_payload(b"$-1\r\n"), None);
    }

    proptest! {
        #[test]
        fn resuming_is_like_starting_over(bytes in "[*$+:_%|~0-9\\-\r\na]{0,80}", cut in 0usize..80) {
            let bytes = bytes.as_bytes();
            let cut = cut.min(bytes.len());
            let mut resumed = Scanner::default();
            if let Ok(Scan::Incomplete(_)) = resumed.scan(&bytes[..cut]) {
                prop_assert_eq!(resumed.scan(bytes), scan(bytes));
            }
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = scan(&bytes);
            let _ = (array_header(&bytes), integer(&bytes), bulk_payload(&bytes));
        }
    }
}
