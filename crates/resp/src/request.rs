//! Decoding requests: arrays of bulk strings, and inline lines.
//!
//! The decoder works on a borrowed slice that starts at a request's first byte and says where the request ends.
//! Arguments are ranges of that slice. When the bytes do not suffice it remembers where it stopped, so that the
//! next call, on a longer slice with the same beginning, parses no byte twice. Wording and limits of errors are
//! redis-server's (`networking.c`).

use crate::number::{self, Line};
use crate::{ProtocolError, encode, inline};

/// Largest argument: `proto-max-bulk-len`'s default.
pub const MAX_BULK: i64 = 512 * 1024 * 1024;
/// Largest whole request, in bytes. Redis: `client-query-buffer-limit`.
pub const MAX_FRAME: usize = 1024 * 1024 * 1024;
/// Largest count of arguments.
pub const MAX_ARGS: i64 = i32::MAX as i64;
/// Longest inline line, and longest line that holds a number.
pub const MAX_INLINE: usize = 64 * 1024;
/// Arguments that a client may send before it logged in.
pub const MAX_UNAUTHENTICATED_ARGS: i64 = 10;
/// Bytes that one argument may have before the client logged in.
pub const MAX_UNAUTHENTICATED_BULK: i64 = 16 * 1024;

/// The arguments of one request, as ranges of the slice that was decoded. Reused from request to request.
#[derive(Debug, Default)]
pub struct Args {
    ranges: Vec<(u32, u32)>,
}

impl Args {
    /// How many arguments there are, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the request was empty (`*0`, an empty line): such a request gets no reply.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Argument `index` of the request in `frame`; empty where there is none.
    #[inline]
    pub fn arg<'a>(&self, frame: &'a [u8], index: usize) -> &'a [u8] {
        match self.ranges.get(index) {
            Some(&(start, end)) => frame.get(start as usize..end as usize).unwrap_or_default(),
            None => &[],
        }
    }

    /// Where argument `index` stands in the frame.
    #[inline]
    pub fn range(&self, index: usize) -> (usize, usize) {
        self.ranges
            .get(index)
            .map_or((0, 0), |&(start, end)| (start as usize, end as usize))
    }
}

/// What the slice held.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A request that ends before this position; its arguments are ranges of the slice.
    Frame(usize),
    /// An inline request that ends before this position. Its words stand in the second buffer as an array of bulk
    /// strings, and the arguments are ranges of that one.
    Inline(usize, Vec<u8>),
    /// The request is not there as a whole: at least this many bytes are, counted from its beginning.
    Incomplete(usize),
}

/// Where decoding stopped in an incomplete request.
#[derive(Debug, Default)]
pub struct Partial {
    at: usize,
    left: u32,
    ranges: Vec<(u32, u32)>,
}

/// Decodes the request at the beginning of `buf` into `args`.
///
/// `partial` is the connection's memory between calls: `None` at the beginning of a request, and boxed only while
/// one is incomplete, so that an idle connection pays a pointer. `trusted` lifts the limits that stand before a
/// login.
#[inline]
pub fn decode(
    buf: &[u8],
    args: &mut Args,
    partial: &mut Option<Box<Partial>>,
    trusted: bool,
) -> Result<Decoded, ProtocolError> {
    args.ranges.clear();
    if partial.is_none() {
        if let Some(end) = plain(buf, args) {
            return Ok(Decoded::Frame(end));
        }
        args.ranges.clear();
    }
    at_length(buf, args, partial, trusted)
}

/// The end of what most requests are: there as a whole, with few and short arguments, which are allowed to everybody.
/// `None` for anything else, whatever is wrong with it or lacks.
#[inline]
fn plain(buf: &[u8], args: &mut Args) -> Option<usize> {
    let (count, mut at) = number::header(buf, b'*')?;
    if count > MAX_UNAUTHENTICATED_ARGS as usize {
        return None;
    }
    let mut rest = buf.get(at..)?;
    for _ in 0..count {
        let (length, start) = number::header(rest, b'$')?;
        let end = start + length;
        let (argument, behind) = rest.split_at_checked(end + 2)?;
        if argument.last_chunk() != Some(b"\r\n") {
            return None;
        }
        // Offsets are small: ten arguments of less than 100 bytes.
        args.ranges.push(((at + start) as u32, (at + end) as u32));
        at += end + 2;
        rest = behind;
    }
    Some(at)
}

/// Any request, with all limits and errors.
#[inline(never)]
fn at_length(
    buf: &[u8],
    args: &mut Args,
    partial: &mut Option<Box<Partial>>,
    trusted: bool,
) -> Result<Decoded, ProtocolError> {
    let (at, left) = match partial.take() {
        None => match begin(buf, trusted)? {
            Begin::Array(left, at) => (at, left),
            Begin::Inline => return inline_request(buf, args),
            Begin::Empty(end) => return Ok(Decoded::Frame(end)),
            Begin::Incomplete => return Ok(Decoded::Incomplete(buf.len() + 1)),
        },
        Some(stopped) => {
            args.ranges = stopped.ranges;
            (stopped.at, stopped.left)
        }
    };
    arguments(buf, args, partial, at, left, trusted)
}

enum Begin {
    Array(u32, usize),
    Empty(usize),
    Inline,
    Incomplete,
}

#[inline]
fn begin(buf: &[u8], trusted: bool) -> Result<Begin, ProtocolError> {
    match buf.first() {
        None => return Ok(Begin::Incomplete),
        Some(b'*') => {}
        Some(_) => return Ok(Begin::Inline),
    }
    match number::line(buf, 1) {
        Line::Number(count, _) if count > MAX_ARGS => Err(ProtocolError::MultibulkLength),
        Line::Number(count, _) if count > MAX_UNAUTHENTICATED_ARGS && !trusted => {
            Err(ProtocolError::UnauthenticatedMultibulkLength)
        }
        Line::Number(count, at) if count <= 0 => Ok(Begin::Empty(at)),
        Line::Number(count, at) => Ok(Begin::Array(count as u32, at)),
        Line::Incomplete if buf.len() > MAX_INLINE => Err(ProtocolError::TooBigCountString),
        Line::Incomplete => Ok(Begin::Incomplete),
        Line::NotANumber => Err(ProtocolError::MultibulkLength),
        Line::NoLineFeed => Err(ProtocolError::ExpectedCrlf),
    }
}

#[inline]
fn arguments(
    buf: &[u8],
    args: &mut Args,
    partial: &mut Option<Box<Partial>>,
    mut at: usize,
    mut left: u32,
    trusted: bool,
) -> Result<Decoded, ProtocolError> {
    while left > 0 {
        let need = match argument(buf, at, trusted)? {
            Argument::Whole(start, end) => {
                // Offsets fit 32 bits: a frame that large is refused below.
                args.ranges.push((start as u32, end as u32));
                at = end + 2;
                left -= 1;
                continue;
            }
            Argument::Needs(bytes) => bytes,
        };
        if need > MAX_FRAME {
            return Err(ProtocolError::BulkLength);
        }
        *partial = Some(Box::new(Partial {
            at,
            left,
            ranges: std::mem::take(&mut args.ranges),
        }));
        return Ok(Decoded::Incomplete(need));
    }
    Ok(Decoded::Frame(at))
}

enum Argument {
    Whole(usize, usize),
    Needs(usize),
}

#[inline]
fn argument(buf: &[u8], at: usize, trusted: bool) -> Result<Argument, ProtocolError> {
    match buf.get(at) {
        None => return Ok(Argument::Needs(buf.len() + 1)),
        Some(b'$') => {}
        Some(&got) => return Err(ProtocolError::ExpectedBulk(got)),
    }
    let (length, start) = match number::line(buf, at + 1) {
        Line::Number(length, start) => (length, start),
        Line::Incomplete if buf.len() - at > MAX_INLINE => return Err(ProtocolError::TooBigBulkCountString),
        Line::Incomplete => return Ok(Argument::Needs(buf.len() + 1)),
        Line::NotANumber => return Err(ProtocolError::BulkLength),
        Line::NoLineFeed => return Err(ProtocolError::ExpectedCrlf),
    };
    if !(0..=MAX_BULK).contains(&length) {
        return Err(ProtocolError::BulkLength);
    }
    if length > MAX_UNAUTHENTICATED_BULK && !trusted {
        return Err(ProtocolError::UnauthenticatedBulkLength);
    }
    ends_at(buf, start, start + length as usize)
}

#[inline]
fn ends_at(buf: &[u8], start: usize, end: usize) -> Result<Argument, ProtocolError> {
    match buf.get(end..end + 2) {
        Some(b"\r\n") => Ok(Argument::Whole(start, end)),
        Some(_) => Err(ProtocolError::ExpectedCrlf),
        None => Ok(Argument::Needs(end + 2)),
    }
}

#[cold]
fn inline_request(buf: &[u8], args: &mut Args) -> Result<Decoded, ProtocolError> {
    let Some(newline) = memchr::memchr(b'\n', buf) else {
        return if buf.len() > MAX_INLINE {
            Err(ProtocolError::TooBigInline)
        } else {
            Ok(Decoded::Incomplete(buf.len() + 1))
        };
    };
    let line = &buf[..newline];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words = inline::split(line)?;
    let mut frame = Vec::with_capacity(line.len() + 16 * (words.len() + 1));
    if !words.is_empty() {
        encode::array(&mut frame, words.len());
    }
    for word in &words {
        encode::bulk(&mut frame, word);
        let end = frame.len() - 2;
        args.ranges.push(((end - word.len()) as u32, end as u32));
    }
    Ok(Decoded::Inline(newline + 1, frame))
}

#[cfg(test)]
mod tests;
