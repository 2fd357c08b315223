//! The tls_inspector listener filter: is it TLS, for which name, with which protocols on offer?
//!
//! Bytes are looked at and left in the socket, so whoever serves the connection reads them from the start. A client
//! that says nothing is waited for until `listener_filters_timeout`; what happens then is the caller's decision.
//!
//! Envoy: `TlsInspector::Filter`.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use redplane_telemetry::Block;
use redplane_telemetry::stats::tls_inspector as names;
use rustls::server::{Acceptor, ClientHello};
use tokio::io::unix::AsyncFd;

use crate::descriptor::watch;
use crate::redis::Stream;

/// A ClientHello may have so many bytes, as for Envoy.
const MAX_CLIENT_HELLO: usize = 16 * 1024;

/// Most are shorter than this.
const FIRST_LOOK: usize = 2048;

/// What the first bytes tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// They begin a TLS handshake.
    pub is_tls: bool,
    /// Server name, lower case.
    pub server_name: Option<String>,
    /// Protocols on offer, in the client's order.
    pub application_protocols: Vec<Vec<u8>>,
}

/// Why a connection ends here.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The client went away.
    Closed,
    /// The ClientHello is longer than allowed.
    TooLarge,
    /// The socket failed.
    Error,
}

/// A socket that is being looked at.
pub(crate) struct Inspected {
    fd: AsyncFd<TcpStream>,
    is_unix: bool,
}

impl Inspected {
    /// Registers the socket. The type is that of TCP for Unix sockets too: looking ahead is the same system call.
    pub(crate) fn new(stream: Stream) -> io::Result<Self> {
        let (fd, is_unix): (OwnedFd, bool) = match stream {
            Stream::Tcp(stream) => (stream.into(), false),
            Stream::Unix(stream) => (stream.into(), true),
        };
        let fd = watch(TcpStream::from(fd))?;
        Ok(Self { fd, is_unix })
    }

    /// Gives the socket back.
    pub(crate) fn into_stream(self) -> Stream {
        let stream = self.fd.into_inner();
        if self.is_unix {
            Stream::Unix(OwnedFd::from(stream).into())
        } else {
            Stream::Tcp(stream)
        }
    }

    /// Looks until it is clear what the client speaks.
    pub(crate) async fn look(&self, stats: &Block) -> Result<Seen, Lost> {
        let mut parser = Parser::default();
        let mut buffer = vec![0; FIRST_LOOK];
        let mut known = 0;
        loop {
            known = self
                .more(known, &mut buffer)
                .await
                .inspect_err(|_| stats.inc(names::CONNECTION_CLOSED))?;
            if let Some(seen) = parser.feed(&buffer[..known]) {
                count(stats, &seen, known);
                return Ok(seen);
            }
            if known >= MAX_CLIENT_HELLO {
                stats.inc(names::CLIENT_HELLO_TOO_LARGE);
                return Err(Lost::TooLarge);
            }
            if known == buffer.len() {
                buffer.resize(MAX_CLIENT_HELLO, 0);
            }
        }
    }

    /// Waits for more than `known` bytes and looks at all of them.
    async fn more(&self, known: usize, buffer: &mut [u8]) -> Result<usize, Lost> {
        loop {
            let mut ready = self.fd.readable().await.map_err(|_| Lost::Error)?;
            let closed = ready.ready().is_read_closed();
            match ready.get_inner().peek(buffer) {
                Ok(0) => return Err(Lost::Closed),
                Ok(length) if length > known => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(Lost::Error),
                // The client will not say the rest; that state of the socket cannot be waited for again.
                Ok(_) | Err(_) if closed => return Err(Lost::Closed),
                // News that came since the look raise the readiness again.
                Ok(_) | Err(_) => ready.clear_ready(),
            }
        }
    }
}

fn count(stats: &Block, seen: &Seen, bytes: usize) {
    stats.record(names::BYTES_PROCESSED, bytes as u64);
    if !seen.is_tls {
        stats.inc(names::TLS_NOT_FOUND);
        return;
    }
    stats.inc(names::TLS_FOUND);
    let named = seen.server_name.is_some();
    stats.inc(if named {
        names::SNI_FOUND
    } else {
        names::SNI_NOT_FOUND
    });
    let offers = !seen.application_protocols.is_empty();
    stats.inc(if offers {
        names::ALPN_FOUND
    } else {
        names::ALPN_NOT_FOUND
    });
}

/// Reads a growing prefix of the stream.
#[derive(Default)]
struct Parser {
    acceptor: Acceptor,
    fed: usize,
}

impl Parser {
    /// Takes the prefix so far; `None` asks for more.
    fn feed(&mut self, prefix: &[u8]) -> Option<Seen> {
        if !may_be_handshake(prefix) {
            return Some(Seen::default());
        }
        let mut news = &prefix[self.fed..];
        while !news.is_empty() {
            match self.acceptor.read_tls(&mut news) {
                Ok(taken) if taken > 0 => {}
                _ => break,
            }
        }
        self.fed = prefix.len() - news.len();
        match self.acceptor.accept() {
            Ok(None) => None,
            Ok(Some(accepted)) => Some(seen(&accepted.client_hello())),
            // TLS that this library would not serve may still be passed through to somebody who does.
            Err(_) => Some(Seen {
                is_tls: prefix.get(5) == Some(&CLIENT_HELLO),
                ..Seen::default()
            }),
        }
    }
}

const CLIENT_HELLO: u8 = 1;

/// A handshake record of any version begins like this.
fn may_be_handshake(prefix: &[u8]) -> bool {
    prefix.first().is_none_or(|kind| *kind == 0x16) && prefix.get(1).is_none_or(|major| *major == 3)
}

fn seen(hello: &ClientHello<'_>) -> Seen {
    let protocols = hello.alpn().into_iter().flatten();
    Seen {
        is_tls: true,
        server_name: hello.server_name().map(str::to_ascii_lowercase),
        application_protocols: protocols.map(<[u8]>::to_vec).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"istio-peer-exchange".to_vec(), b"istio".to_vec()];
        let name = "Redis.Example.com".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_client_hello_is_read_however_it_is_cut() {
        let hello = hello();
        for step in [1, 7, hello.len()] {
            let mut parser = Parser::default();
            let ends = (0..hello.len()).step_by(step).skip(1);
            for end in ends {
                assert_eq!(parser.feed(&hello[..end]), None, "{end} of {}", hello.len());
            }
            let seen = parser.feed(&hello).unwrap();
            assert_eq!(seen.server_name.as_deref(), Some("redis.example.com"));
            assert_eq!(
                seen.application_protocols,
                [&b"istio-peer-exchange"[..], b"istio"]
            );
        }
    }

    #[test]
    fn other_bytes_are_no_tls() {
        for bytes in [&b"*1\r\n"[..], b"P", b"\x16\x02", b"\x17\x03\x01\0\x01a"] {
            assert_eq!(Parser::default().feed(bytes), Some(Seen::default()), "{bytes:?}");
        }
        assert_eq!(Parser::default().feed(b"\x16"), None);
    }

    #[test]
    fn a_hello_that_is_not_served_here_is_still_tls() {
        let mut old = b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x01".to_vec();
        old.extend([7; 32]);
        old.extend(b"\0\0\x04\0\x2f\0\x35\x01\0");
        let seen = Parser::default().feed(&old).unwrap();
        assert!(seen.is_tls && seen.server_name.is_none());
    }
}
