//! A downstream connection as the engine sees it: what has arrived, what it is owed, what goes back.

pub mod features;
pub mod inlet;
pub mod muting;
pub mod queue;
pub mod reading;

use std::net::SocketAddr;
use std::sync::Arc;

use redplane_config::redis_proxy::RedisProxy;

use crate::places::Places;
use features::{Feature, Features};
use inlet::{Inlet, Rest};
use queue::ReplyQueue;
pub use queue::Slot;

/// Names a client for the driver. Reused after the client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub u32);

/// Names a client's request wherever its reply may come from. A reply whose generation has passed finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The client's place.
    pub client: u32,
    /// Which of the clients that had this place.
    pub generation: u32,
    /// The request's number in its client's order.
    pub sequence: u32,
    /// Which part of a split command; 0 for all others.
    pub part: u32,
}

impl Waiter {
    /// For requests of the proxy's own.
    pub const NOBODY: Self = Self {
        client: u32::MAX,
        generation: 0,
        sequence: 0,
        part: 0,
    };
}

impl Places<Client> {
    /// A client, unless its place was given to another one since.
    #[inline]
    pub fn known(&self, client: u32, generation: u32) -> Option<&Client> {
        self.get(client as usize)
            .filter(|client| client.generation == generation)
    }

    /// The same, to be changed.
    #[inline]
    pub fn known_mut(&mut self, client: u32, generation: u32) -> Option<&mut Client> {
        self.get_mut(client as usize)
            .filter(|client| client.generation == generation)
    }

    /// Whose request this is, if it is still there.
    #[inline]
    pub fn of(&self, waiter: Waiter) -> Option<&Client> {
        self.known(waiter.client, waiter.generation)
    }

    /// The same, to be changed.
    #[inline]
    pub fn of_mut(&mut self, waiter: Waiter) -> Option<&mut Client> {
        self.known_mut(waiter.client, waiter.generation)
    }
}

/// What the driver knows of a new connection.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its listener: the filter's configuration is looked up through it.
    pub listener: Arc<str>,
    /// Its filter chain.
    pub chain: Arc<str>,
    /// Which life of the chain it was accepted under.
    pub life: u64,
    /// The filter as it was then: it serves when the chain has changed its kind meanwhile.
    pub proxy: Arc<RedisProxy>,
    /// That life is to end: the client goes behind its next command.
    pub draining: bool,
    /// The client's address; `None` on a Unix socket.
    pub remote: Option<SocketAddr>,
    /// The address it connected to; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// Its socket's number, for CLIENT LIST.
    pub fd: i32,
}

/// A downstream connection.
#[derive(Debug)]
pub struct Client {
    /// Which of the clients that had this place.
    pub generation: u32,
    /// The place of its filter.
    pub filter: usize,
    /// What has come from it.
    pub inlet: Inlet,
    /// What goes back to it.
    pub replies: ReplyQueue,
    /// It is among those that are written at the end of the turn.
    pub dirty: bool,
    /// It may run commands: it has logged in where it must, and said HELLO 3 where it must.
    pub authenticated: bool,
    /// Features that have something of it.
    pub features: Features,
    /// What is seldom needed.
    pub session: Box<Session>,
    /// Marks of the hosts that it wrote to: WAIT asks them.
    pub wrote: u64,
}

/// What is seldom needed.
#[derive(Debug)]
pub struct Session {
    /// The id that clients know.
    pub id: u64,
    /// CLIENT SETNAME.
    pub name: Box<[u8]>,
    /// It has logged in, or need not.
    pub logged_in: bool,
    /// What the driver said of its connection.
    pub socket: SocketFacts,
    /// The user that logged in; empty for the default user.
    pub user: Box<[u8]>,
    /// What CLIENT SETINFO said.
    pub library: Library,
    /// CLIENT NO-EVICT and NO-TOUCH, kept to be shown: the proxy evicts nobody and keys are not its own.
    pub no_evict: bool,
    /// The second of them.
    pub no_touch: bool,
    /// Set by a drain that started: the connection closes at its next quiet point.
    pub draining: bool,
    /// Its other side is closed: it sends nothing more.
    pub hung_up: bool,
}

/// What the driver said of a client's connection.
#[derive(Clone, Copy, Debug)]
pub struct SocketFacts {
    /// The client's address; `None` on a Unix socket.
    pub remote: Option<SocketAddr>,
    /// The address it connected to; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// The socket's number, for CLIENT LIST.
    pub fd: i32,
    /// When it came, in microseconds of the turn's clock.
    pub opened: u64,
}

impl Session {
    /// The user that logged in.
    pub fn user(&self) -> &[u8] {
        match self.user.is_empty() {
            true => b"default",
            false => &self.user,
        }
    }

    /// An address as the server writes it; of Unix sockets the path is not known.
    pub fn written(address: Option<SocketAddr>) -> String {
        address.map_or_else(|| "unix:0".to_owned(), |address| address.to_string())
    }
}

/// What CLIENT SETINFO said.
#[derive(Debug, Default)]
pub struct Library {
    /// LIB-NAME.
    pub name: Box<str>,
    /// LIB-VER.
    pub version: Box<str>,
}

impl Session {
    /// Of a connection that has just come.
    pub fn new(id: u64, opened: &Opened, now: u64) -> Self {
        Self {
            id,
            name: Box::default(),
            logged_in: true,
            socket: SocketFacts {
                remote: opened.remote,
                local: opened.local,
                fd: opened.fd,
                opened: now,
            },
            user: Box::default(),
            library: Library::default(),
            no_evict: false,
            no_touch: false,
            draining: false,
            hung_up: false,
        }
    }
}

impl Client {
    /// A client that has just come.
    pub fn new(generation: u32, filter: usize, session: Session, authenticated: bool) -> Self {
        Self {
            generation,
            filter,
            inlet: Inlet::new(session.socket.opened),
            replies: ReplyQueue::default(),
            dirty: false,
            authenticated,
            features: Features::default(),
            session: Box::new(session),
            wrote: 0,
        }
    }

    /// Whether it is in none of the states that change how its requests are served: what it sends is forwarded as it
    /// comes, and replies go back as they come. (Whether it is read from at all is looked at before.)
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.authenticated && self.features.is_empty() && !self.replies.is_muting()
    }

    /// The last request that a server has answered and whose reply is not out yet.
    pub fn last_answered(&self) -> Option<u32> {
        self.replies.last_answered(self.features.has(Feature::Delays))
    }

    /// Whether something hangs on all replies being written: an end, or that it is read from again.
    #[inline]
    pub fn awaits_output(&self) -> bool {
        !self.inlet.rests().is_empty() || self.session.draining
    }

    /// Nothing is owed, nothing waits and nothing is begun: a good moment to go.
    pub fn is_between_requests(&self) -> bool {
        let waits = [Rest::Order, Rest::Lesson, Rest::Pause, Rest::Turn]
            .into_iter()
            .any(|rest| self.inlet.rests_for(rest));
        let begun = self.features.has(Feature::Transaction) || self.features.has(Feature::Share);
        self.replies.is_quiet() && !waits && !begun && !self.inlet.is_closed()
    }

    /// Nothing more is looked at before the replies that it is owed have come.
    pub fn rest_behind(&mut self) {
        if !self.replies.is_empty() {
            self.inlet.rest(Rest::Order);
        }
    }
}
