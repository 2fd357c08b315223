//! HTTP/1 or HTTP/2 by the first bytes, which are given back to the reader.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use redplane_http_route::watch::Watch;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose first bytes were read already.
pub(crate) struct Prefixed<I> {
    first: Bytes,
    inner: I,
    /// Looks at what an HTTP/1 client sends.
    watch: Option<Watch>,
    /// What hyper reads in place of a head that must not be served, and then the end.
    poison: Option<&'static [u8]>,
}

/// No parser takes it.
const POISON: &[u8] = b"\r\n\0\r\n\r\n";

/// Reads until it is clear which protocol is spoken. `true` is HTTP/2.
pub(crate) async fn sniff<I: AsyncRead + Unpin>(mut inner: I) -> io::Result<(bool, Prefixed<I>)> {
    let mut first = BytesMut::new();
    loop {
        let length = first.len().min(PREFACE.len());
        if first[..length] != PREFACE[..length] || length == PREFACE.len() {
            let is_h2 = length == PREFACE.len() && first[..length] == *PREFACE;
            return Ok((
                is_h2,
                Prefixed {
                    first: first.freeze(),
                    inner,
                    watch: None,
                    poison: None,
                },
            ));
        }
        if inner.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A connection of which nothing was read.
pub(crate) fn untouched<I>(inner: I) -> Prefixed<I> {
    Prefixed {
        first: Bytes::new(),
        inner,
        watch: None,
        poison: None,
    }
}

impl<I> Prefixed<I> {
    /// HTTP/1 is spoken: heads with two lengths are refused.
    pub(crate) fn watched(mut self) -> Self {
        self.watch = Some(Watch::default());
        self
    }

    /// Lets the watch see what was read since `start`.
    fn inspect(&mut self, start: usize, buf: &mut ReadBuf<'_>) {
        let Some(watch) = &mut self.watch else { return };
        if let Some(passed) = watch.look(&buf.filled()[start..]) {
            buf.set_filled(start + passed);
            self.first = Bytes::new();
            self.poison = Some(POISON);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        if let Some(poison) = self.poison {
            let length = poison.len().min(buf.remaining());
            buf.put_slice(&poison[..length]);
            self.poison = Some(&poison[length..]);
            return Poll::Ready(Ok(()));
        }
        if self.first.is_empty() {
            std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        } else {
            let length = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..length]);
            self.first.advance(length);
        }
        self.inspect(start, buf);
        if buf.filled().len() == start && self.poison.is_some() {
            // Nothing at all would be the end of the connection.
            return self.poll_read(cx, buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefixed<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
