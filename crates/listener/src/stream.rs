//! A downstream socket on tokio, TCP or Unix.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{Domain, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::redis;

/// An accepted socket.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl Stream {
    /// Registers an accepted, non-blocking socket with this thread's runtime.
    pub(crate) fn register(socket: redis::Stream) -> io::Result<Self> {
        match socket {
            redis::Stream::Tcp(stream) => TcpStream::from_std(stream).map(Self::Tcp),
            redis::Stream::Unix(stream) => UnixStream::from_std(stream).map(Self::Unix),
        }
    }

    /// Takes the socket off the runtime; it stays non-blocking.
    pub(crate) fn release(self) -> io::Result<redis::Stream> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(redis::Stream::Tcp),
            Self::Unix(stream) => stream.into_std().map(redis::Stream::Unix),
        }
    }
}

/// Sorts an accepted socket by its kind and makes it ready for use.
pub(crate) fn accepted(socket: Socket) -> io::Result<(redis::Stream, Ends)> {
    socket.set_nonblocking(true)?;
    if socket.domain()? == Domain::UNIX {
        return Ok((redis::Stream::Unix(socket.into()), Ends::default()));
    }
    socket.set_tcp_nodelay(true)?;
    let ends = Ends {
        local: socket.local_addr()?.as_socket().map(canonical),
        remote: socket.peer_addr()?.as_socket().map(canonical),
    };
    Ok((redis::Stream::Tcp(socket.into()), ends))
}

/// Both ends of a connection; a Unix socket has no addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// Ours.
    pub local: Option<SocketAddr>,
    /// The client's.
    pub remote: Option<SocketAddr>,
}

/// IPv4 in an IPv6 coat is IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
