//! A socket that is looked at before it is served: its first bytes are seen and stay where they are.

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::unix::AsyncFd;

use crate::descriptor::watch;
use crate::redis::Stream;

/// Why a connection ends here.
#[derive(Debug)]
pub(super) enum Lost {
    /// The client went away.
    Closed,
    /// A filter does not let it in.
    Refused,
    /// The socket failed.
    Error,
}

/// Most first messages are shorter than this.
const FIRST_LOOK: usize = 2048;

/// The socket and what was seen of it.
pub(super) struct Peek {
    fd: AsyncFd<TcpStream>,
    is_unix: bool,
    buffer: Vec<u8>,
    seen: usize,
}

impl Peek {
    /// Registers the socket. The type is that of TCP for Unix sockets too: looking ahead is the same system call.
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        let (fd, is_unix): (OwnedFd, bool) = match stream {
            Stream::Tcp(stream) => (stream.into(), false),
            Stream::Unix(stream) => (stream.into(), true),
        };
        Ok(Self {
            fd: watch(TcpStream::from(fd))?,
            is_unix,
            buffer: Vec::new(),
            seen: 0,
        })
    }

    /// Gives the socket back.
    pub(super) fn into_stream(self) -> Stream {
        let stream = self.fd.into_inner();
        if self.is_unix {
            Stream::Unix(OwnedFd::from(stream).into())
        } else {
            Stream::Tcp(stream)
        }
    }

    /// Whether it is a TCP socket.
    pub(super) fn is_tcp(&self) -> bool {
        !self.is_unix
    }

    /// What was seen so far; empty at first.
    pub(super) fn seen(&self) -> &[u8] {
        &self.buffer[..self.seen]
    }

    /// Waits for more than was seen, and looks at all of it; at most so many bytes are ever looked at, and the buffer
    /// grows with what has come.
    pub(super) async fn more(&mut self, most: usize) -> Result<(), Lost> {
        if self.seen == self.buffer.len() {
            let next = (self.buffer.len() * 2).clamp(FIRST_LOOK.min(most), most);
            self.buffer.resize(next.max(self.seen), 0);
        }
        loop {
            let mut ready = self.fd.readable().await.map_err(|_| Lost::Error)?;
            let closed = ready.ready().is_read_closed();
            match ready.get_inner().peek(&mut self.buffer) {
                Ok(0) => return Err(Lost::Closed),
                Ok(length) if length > self.seen => {
                    self.seen = length;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(Lost::Error),
                // The client will not say the rest; that state of the socket cannot be waited for again.
                Ok(_) | Err(_) if closed => return Err(Lost::Closed),
                // News that came since the look raise the readiness again.
                Ok(_) | Err(_) => ready.clear_ready(),
            }
        }
    }

    /// Takes so many of the bytes that were seen out of the socket.
    pub(super) fn take(&mut self, count: usize) -> Result<(), Lost> {
        let mut socket = self.fd.get_ref();
        let head = self.buffer.get_mut(..count).ok_or(Lost::Error)?;
        socket.read_exact(head).map_err(|_| Lost::Error)?;
        self.buffer.copy_within(count..self.seen, 0);
        self.seen -= count;
        Ok(())
    }
}

impl AsFd for Peek {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}
