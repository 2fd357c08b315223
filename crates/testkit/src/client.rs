//! A raw RESP client: bytes out, replies in, every wait limited.
//!
//! It never pipelines, retries or interprets on its own; what a test sends is what goes out, in one write.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::reply::{Decoded, Reply, decode};

/// How long a reply may take unless a test says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// One client connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Bytes read and not yet taken by a reply.
    unread: Vec<u8>,
    closed: bool,
    patience: Duration,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Whatever the socket says.
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            closed: false,
            patience: PATIENCE,
        })
    }

    /// Sets how long each following read may take in all.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The local address, by which a server's `CLIENT LIST` knows this connection.
    ///
    /// # Panics
    /// When the socket has no address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.stream
            .local_addr()
            .expect("a connected socket has an address")
    }

    /// Writes the bytes as they are.
    ///
    /// # Errors
    /// Whatever the socket says.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads until `count` replies have come, the peer has closed, or patience has run out; returns what came.
    pub fn read_replies(&mut self, count: usize) -> Vec<Reply> {
        let end = Instant::now() + self.patience;
        let mut found = Vec::new();
        while found.len() < count {
            match decode(&self.unread) {
                Decoded::Reply(reply, taken) => {
                    self.unread.drain(..taken);
                    found.push(reply);
                }
                Decoded::Incomplete if self.fill(end) => {}
                Decoded::Incomplete => break,
            }
        }
        found
    }

    /// Reads replies until nothing more has come for `quiet`, or the peer has closed.
    pub fn read_until_quiet(&mut self, quiet: Duration) -> Vec<Reply> {
        while self.fill(Instant::now() + quiet) {}
        let mut found = Vec::new();
        while let Decoded::Reply(reply, taken) = decode(&self.unread) {
            self.unread.drain(..taken);
            found.push(reply);
        }
        found
    }

    /// Reads until the peer closes or patience runs out. Returns the bytes, and whether it has closed.
    pub fn read_until_close(&mut self) -> (Vec<u8>, bool) {
        let end = Instant::now() + self.patience;
        while self.fill(end) {}
        (std::mem::take(&mut self.unread), self.closed)
    }

    /// Whether the peer has closed, as far as reads have shown.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes that have been read and belong to no complete reply yet.
    #[must_use]
    pub fn leftover(&self) -> &[u8] {
        &self.unread
    }

    /// Closes the sending side, as `printf … | nc` does.
    pub fn half_close(&mut self) {
        // An error means that the peer was faster.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends one command as an array of bulk strings and reads its reply.
    ///
    /// # Errors
    /// The peer closed, or did not answer in time.
    pub fn command<A: AsRef<[u8]>>(&mut self, words: &[A]) -> std::io::Result<Reply> {
        self.send(&command_bytes(words))?;
        match self.read_replies(1).pop() {
            Some(reply) => Ok(reply),
            None if self.closed => Err(ErrorKind::ConnectionAborted.into()),
            None => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// Reads once more. False when the peer has closed or `end` has passed.
    fn fill(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        if self.closed || left.is_zero() {
            return false;
        }
        self.stream
            .set_read_timeout(Some(left))
            .expect("the time left is not zero");
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(n) => self.unread.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.closed = true,
        }
        !self.closed
    }
}

/// The words as an array of bulk strings.
#[must_use]
pub fn command_bytes<A: AsRef<[u8]>>(words: &[A]) -> Vec<u8> {
    let bulks = words
        .iter()
        .map(|w| Reply::Bulk(Some(w.as_ref().to_vec())))
        .collect();
    Reply::Array(Some(bulks)).encode()
}
