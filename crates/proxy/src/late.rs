//! The picture of clients that wait, as the admin side reads it.

use std::net::SocketAddr;
use std::time::Duration;

/// The clients of one worker that wait.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// Those that have waited the longest, first.
    pub clients: Vec<WaitingClient>,
    /// How many more there are.
    pub left_out: usize,
}

/// One client that waits.
#[derive(Clone, Debug)]
pub struct WaitingClient {
    /// Its worker's number.
    pub worker: usize,
    /// Its id, as in CLIENT LIST.
    pub id: u64,
    /// Where it comes from; `None` on a Unix socket.
    pub remote: Option<SocketAddr>,
    /// The listener and the filter chain that it came to.
    pub listener: (String, String),
    /// Why nothing of its input is looked at: `output` (it has much to read), `upstream` (servers have much to do),
    /// `order` (earlier replies come first), `lesson` (a server is asked about a command), `pause`, `end`.
    pub rests: Vec<&'static str>,
    /// Replies that it is owed.
    pub owed: usize,
    /// Bytes that wait to be written to it or for their turn.
    pub backlog: usize,
    /// The request whose reply is the next in its order.
    pub oldest: Option<Oldest>,
}

/// The request that everything behind it waits for.
#[derive(Clone, Debug)]
pub struct Oldest {
    /// Its command; empty where that is not known any more.
    pub command: String,
    /// Since it was first sent.
    pub age: Duration,
    /// How often it was sent: 1 when it was not redirected or repeated.
    pub attempt: u32,
    /// Where it waits.
    pub place: WaitsAt,
}

/// Where a request waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsAt {
    /// At a server.
    Server {
        /// The cluster.
        cluster: String,
        /// The host's address.
        host: String,
        /// The connection's number within its worker.
        connection: u32,
        /// Whether the connection is open.
        connected: bool,
        /// Requests before it on that connection.
        ahead: usize,
    },
    /// For a name to be resolved that a redirection leads to.
    Name(String),
    /// To be sent again: the slot is being migrated.
    Again {
        /// The host's address.
        host: String,
    },
    /// A fault that is injected holds its reply back.
    Fault,
    /// For the other workers, the login service or a subscription.
    Proxy,
}
