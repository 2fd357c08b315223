//! A reader that makes request lines legal before hyper sees them.
//!
//! pilot-agent sends its readiness regex as it is, `^(cluster_manager\.cds|…)\.(…)$`, and others send quotes, braces or
//! spaces. Bytes that a URI must not contain are percent-encoded here, in request lines only: the reader follows the
//! framing (header end, Content-Length) to find the next one. After a chunked body it passes everything through.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a URI must not contain.
const ILLEGAL: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'[')
    .add(b']');

/// A longer line is passed on as it is; hyper answers it.
const MAX_LINE: usize = 64 * 1024;

/// A socket whose request lines are made legal.
pub(crate) struct LegalLines<S> {
    socket: S,
    rewriter: Rewriter,
    /// Bytes for hyper, from `taken` on.
    ready: Vec<u8>,
    taken: usize,
}

impl<S> LegalLines<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self {
            socket,
            rewriter: Rewriter::default(),
            ready: Vec::new(),
            taken: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LegalLines<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.taken == this.ready.len() {
            this.ready.clear();
            this.taken = 0;
            let mut space = [0; 8192];
            let mut read = ReadBuf::new(&mut space);
            match Pin::new(&mut this.socket).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    // The end. A line that was never finished is hyper's to refuse.
                    this.rewriter.finish(&mut this.ready);
                    break;
                }
                Poll::Ready(Ok(())) => this.rewriter.feed(read.filled(), &mut this.ready),
                other => return other,
            }
        }
        let count = out.remaining().min(this.ready.len() - this.taken);
        out.put_slice(&this.ready[this.taken..this.taken + count]);
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LegalLines<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[derive(Debug, Default)]
struct Rewriter {
    framing: Framing,
    line: Vec<u8>,
    /// The body's length as the headers so far tell it.
    length: u64,
    chunked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    #[default]
    RequestLine,
    Headers,
    Body(u64),
    /// The framing is not followed any more.
    Through,
}

impl Rewriter {
    fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            bytes = match self.framing {
                Framing::Through => {
                    out.extend_from_slice(bytes);
                    return;
                }
                Framing::Body(left) => self.pass_body(left, bytes, out),
                Framing::RequestLine | Framing::Headers => self.take_line(bytes, out),
            };
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.line);
    }

    fn pass_body<'a>(&mut self, left: u64, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (body, rest) = bytes.split_at(count);
        out.extend_from_slice(body);
        let left = left - count as u64;
        self.framing = if left == 0 {
            Framing::RequestLine
        } else {
            Framing::Body(left)
        };
        rest
    }

    fn take_line<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |at| at + 1);
        let (part, rest) = bytes.split_at(end);
        self.line.extend_from_slice(part);
        if self.line.ends_with(b"\n") {
            let line = std::mem::take(&mut self.line);
            self.end_line(&line, out);
        } else if self.line.len() > MAX_LINE {
            self.framing = Framing::Through;
            out.append(&mut self.line);
        }
        rest
    }

    fn end_line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let content = line.trim_ascii_end();
        match self.framing {
            // Empty lines before a request are allowed.
            Framing::RequestLine if content.is_empty() => out.extend_from_slice(line),
            Framing::RequestLine => {
                encode(content, out);
                out.extend_from_slice(b"\r\n");
                (self.framing, self.length, self.chunked) = (Framing::Headers, 0, false);
            }
            _ if content.is_empty() => {
                out.extend_from_slice(line);
                self.framing = match (self.chunked, self.length) {
                    (true, _) => Framing::Through,
                    (false, 0) => Framing::RequestLine,
                    (false, length) => Framing::Body(length),
                };
            }
            _ => {
                self.note_header(content);
                out.extend_from_slice(line);
            }
        }
    }

    fn note_header(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            // What is no number is hyper's to refuse.
            self.length = std::str::from_utf8(value)
                .ok()
                .and_then(|value| value.parse().ok())
                .unwrap_or(0);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") || name.eq_ignore_ascii_case(b"upgrade") {
            self.chunked = true;
        }
    }
}

/// Writes a request line with the target made legal. The target lies between the first and the last space.
fn encode(line: &[u8], out: &mut Vec<u8>) {
    let first = line.iter().position(|byte| *byte == b' ');
    let last = line.iter().rposition(|byte| *byte == b' ');
    let (Some(first), Some(last)) = (first, last) else {
        out.extend_from_slice(line);
        return;
    };
    if first == last {
        out.extend_from_slice(line);
        return;
    }
    out.extend_from_slice(&line[..=first]);
    let target = percent_encode(&line[first + 1..last], ILLEGAL);
    target.for_each(|part| out.extend_from_slice(part.as_bytes()));
    out.extend_from_slice(&line[last..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the bytes are cut, the result is the same.
    #[track_caller]
    fn check(input: &[u8], expected: &str) {
        for size in [1, 2, 7, input.len().max(1)] {
            let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
            input.chunks(size).for_each(|part| rewriter.feed(part, &mut out));
            rewriter.finish(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "cut into {size}");
        }
    }

    #[test]
    fn request_lines_are_made_legal() {
        check(
            b"GET /stats?filter=^(a\\.b|c)$ HTTP/1.1\r\nhost: ^|\r\n\r\n",
            "GET /stats?filter=%5E(a%5C.b%7Cc)$ HTTP/1.1\r\nhost: ^|\r\n\r\n",
        );
        check(b"GET /a b\"\xff HTTP/1.1\n\n", "GET /a%20b%22%FF HTTP/1.1\r\n\n");
        check(b"BLAH\r\n", "BLAH\r\n");
        check(b"GET /^", "GET /^");
    }

    #[test]
    fn bodies_pass_untouched_and_the_next_line_is_found() {
        check(
            b"POST /a HTTP/1.1\r\nContent-Length: 8\r\n\r\nGET /^ xGET /^ HTTP/1.1\r\n\r\nGET /| HTTP/1.1\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length: 8\r\n\r\nGET /^ xGET /%5E HTTP/1.1\r\n\r\nGET /%7C HTTP/1.1\r\n\r\n",
        );
        check(
            b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /^ HTTP/1.1\r\n",
            "POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /^ HTTP/1.1\r\n",
        );
    }

    #[test]
    fn endless_lines_pass_through() {
        let line = vec![b'^'; 2 * MAX_LINE];
        let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
        line.chunks(1000).for_each(|part| rewriter.feed(part, &mut out));
        assert_eq!(
            (out.len() + rewriter.line.len(), rewriter.framing),
            (line.len(), Framing::Through)
        );
    }
}
