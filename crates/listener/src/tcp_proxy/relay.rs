//! Bytes both ways between two streams, each direction with its own end.
//!
//! A direction reads into the worker's scratch buffer and writes on at once; only what the other side does not take is
//! kept, and while anything is kept nothing more is read. So an idle connection owns no buffer, and a slow peer slows
//! the fast one. The end of one side is passed on when everything before it is; the other direction lives on.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// From the client.
    Up(u64),
    /// From the host.
    Down(u64),
}

/// Both directions.
pub(super) struct Relay<'a> {
    scratch: &'a RefCell<Box<[u8]>>,
    up: Direction,
    down: Direction,
    upstream_first: bool,
}

#[derive(Default)]
struct Direction {
    /// Read but not taken yet, from `written` on.
    kept: Vec<u8>,
    written: usize,
    state: State,
    unflushed: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The reader is at its end; the writer must be told.
    Ending,
    Done,
}

/// So many reads in one go before others have a turn.
const MOST_READS: usize = 16;

impl<'a> Relay<'a> {
    /// Nothing has moved yet.
    pub(super) fn new(scratch: &'a RefCell<Box<[u8]>>) -> Self {
        Self {
            scratch,
            up: Direction::default(),
            down: Direction::default(),
            upstream_first: false,
        }
    }

    /// The host was the first to end or to fail.
    pub(super) fn upstream_ended_first(&self) -> bool {
        self.upstream_first
    }

    /// Moves bytes until both directions are done.
    ///
    /// # Errors
    ///
    /// Either side failed.
    pub(super) async fn run<D, U>(
        &mut self,
        downstream: &mut D,
        upstream: &mut U,
        mut moved: impl FnMut(Moved),
    ) -> io::Result<()>
    where
        D: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        poll_fn(|cx| {
            let scratch = self.scratch;
            let up = self
                .up
                .poll(cx, scratch, downstream, upstream, |bytes| moved(Moved::Up(bytes)))?;
            let down = self.down.poll(cx, scratch, upstream, downstream, |bytes| {
                moved(Moved::Down(bytes));
            });
            let ended = self.down.state != State::Open || down.is_err();
            self.upstream_first |= ended && self.up.state == State::Open;
            match (up, down?) {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
        .await
    }
}

impl Direction {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &RefCell<Box<[u8]>>,
        reader: &mut R,
        writer: &mut W,
        mut moved: impl FnMut(u64),
    ) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..MOST_READS {
            if self.poll_write_kept(cx, writer)?.is_pending() {
                return Ok(Poll::Pending);
            }
            match self.state {
                State::Open => match self.poll_read(cx, scratch, reader, writer)? {
                    Poll::Ready(0) => self.state = State::Ending,
                    Poll::Ready(bytes) => moved(bytes),
                    Poll::Pending => return self.poll_flush(cx, writer).map(|_| Poll::Pending),
                },
                State::Ending => {
                    let Poll::Ready(result) = Pin::new(&mut *writer).poll_shutdown(cx) else {
                        return Ok(Poll::Pending);
                    };
                    // Whoever has closed both ways already needs not be told.
                    result.or_else(|error| gone(&error).then_some(()).ok_or(error))?;
                    self.state = State::Done;
                }
                State::Done => return Ok(Poll::Ready(())),
            }
        }
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    /// Reads once and writes what the other side takes. `Ready(0)` is the end.
    fn poll_read<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &RefCell<Box<[u8]>>,
        reader: &mut R,
        writer: &mut W,
    ) -> io::Result<Poll<u64>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut scratch = scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        match Pin::new(reader).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Ok(())) => {}
            // TLS without its goodbye: what came before is whole.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Poll::Ready(0));
            }
            Poll::Ready(Err(error)) => return Err(error),
        }
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Ok(Poll::Ready(0));
        }
        self.unflushed = true;
        let taken = match Pin::new(writer).poll_write(cx, bytes) {
            Poll::Ready(taken) => taken?,
            Poll::Pending => 0,
        };
        self.kept.extend_from_slice(&bytes[taken..]);
        Ok(Poll::Ready(bytes.len() as u64))
    }

    fn poll_write_kept<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> io::Result<Poll<()>> {
        while self.written < self.kept.len() {
            match Pin::new(&mut *writer).poll_write(cx, &self.kept[self.written..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(taken) => self.written += taken?,
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        self.kept = Vec::new();
        self.written = 0;
        Ok(Poll::Ready(()))
    }

    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> io::Result<Poll<()>> {
        if self.unflushed {
            match Pin::new(writer).poll_flush(cx) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(Poll::Pending),
            }
            self.unflushed = false;
        }
        Ok(Poll::Ready(()))
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotConnected | io::ErrorKind::BrokenPipe
    )
}
