//! The Redis driver of one worker: sockets in one poll instance, the engine between them.
//!
//! It owns sockets, TLS sessions and the clock of the turn; what bytes mean is the engine's business. It has a thread of
//! its own beside the worker's: a turn that went through a runtime would cost more than the requests it serves.

mod driver;
mod inbox;
mod io_task;
mod socket;

pub use io_task::start;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redplane_world::Chain;

/// A downstream connection whose listener filters are done and whose chain ends in redis_proxy.
pub struct Accepted {
    /// The socket, non-blocking.
    pub stream: Stream,
    /// The TLS session after its handshake, with whatever plain text it already holds.
    pub tls: Option<Box<rustls::ServerConnection>>,
    /// The listener's name: configuration is looked up through it, batch by batch.
    pub listener: Arc<str>,
    /// The chain that it was accepted under: it is served by this one, and by its successors for as long as its
    /// connections may go on under them.
    pub chain: Arc<Chain>,
    /// Where the client connected to; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
    /// The client's address; `None` for a Unix socket.
    pub remote: Option<SocketAddr>,
}

/// Called once when a connection is gone, with what the access log wants to know.
pub type OnClose = Box<dyn FnOnce(Closed)>;

/// A downstream socket, non-blocking.
pub enum Stream {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// Unix.
    Unix(std::os::unix::net::UnixStream),
}

/// What a connection was, told at its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed {
    /// Plain-text bytes from the client.
    pub received: u64,
    /// Plain-text bytes to the client.
    pub sent: u64,
}

/// Hands connections to the driver of this worker. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct Handle {
    inner: Rc<dyn Fn(Command)>,
}

/// What a worker tells its driver.
pub enum Command {
    /// Serve a connection.
    Serve(Box<Accepted>, OnClose),
    /// Close connections: each one between two commands, all of them after `grace`.
    Drain {
        /// Which ones.
        whose: Whose,
        /// How long busy and idle connections may go on.
        grace: Duration,
    },
}

/// The connections that are to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of a listener; quiet ones at once.
    Listener(String),
    /// Those of a chain, by the number of its life; quiet ones behind their next command.
    Chain(u64),
}

impl Handle {
    /// Makes a handle out of whatever takes the commands.
    pub fn new(take: impl Fn(Command) + 'static) -> Self {
        Self { inner: Rc::new(take) }
    }

    /// Passes a command to the driver; it acts in its next turn.
    pub fn tell(&self, command: Command) {
        (self.inner)(command);
    }
}
