//! The bytes below a socket: a TCP or Unix stream in the poll instance. What they mean, and whether they are TLS, is
//! the socket's business.

use std::io::{self, IoSlice, Read, Write};

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token, event::Source};

use super::Got;

/// A stream that never blocks.
#[derive(Debug)]
pub(in crate::redis) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Transport {
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        // A socket that is about to be closed leaves the poll with it; the error of a second removal means nothing.
        let _ = match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
        };
    }

    /// Whether the connection is made: an error, not yet, or yes.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        let error = match self {
            Self::Tcp(stream) => stream.take_error()?,
            Self::Unix(stream) => stream.take_error()?,
        };
        if let Some(error) = error {
            return Err(error);
        }
        let peer = match self {
            Self::Tcp(stream) => stream.peer_addr().map(|_| ()),
            Self::Unix(stream) => stream.peer_addr().map(|_| ()),
        };
        match peer {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A transport that notes whether it gave less than it was asked for, which means "empty for now".
pub(super) struct Records<'a> {
    transport: &'a mut Transport,
    short: bool,
}

impl<'a> Records<'a> {
    pub(super) fn new(transport: &'a mut Transport) -> Self {
        Self {
            transport,
            short: false,
        }
    }

    pub(super) fn is_short(&self) -> bool {
        self.short
    }
}

impl Read for Records<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.transport.read(into)?;
        self.short = count < into.len();
        Ok(count)
    }
}

#[inline]
pub(super) fn read_plain(transport: &mut Transport, into: &mut [u8]) -> io::Result<Got> {
    match attempt(|| transport.read(into)) {
        Ok(0) => Ok(Got::End),
        Ok(count) if count == into.len() => Ok(Got::More(count)),
        Ok(count) => Ok(Got::Last(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Got::Last(0)),
        Err(error) => Err(error),
    }
}

#[inline]
pub(super) fn attempt<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Read for Transport {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Transport {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
