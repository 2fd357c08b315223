//! One socket of the driver: plain or TLS, client or server, behind reads and writes that never block.
//!
//! A read that gives less than it was asked for means "empty for now"; asking again only to hear "would block" would
//! double the system calls.

mod transport;

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use mio::{Registry, Token};
use redplane_proxy::Output;
use redplane_telemetry::Scope;
use redplane_telemetry::stats::ssl;
use redplane_upstream::tls::fault;
use rustls::{ClientConfig, ClientConnection, ServerConnection, pki_types::ServerName};
pub(super) use transport::Transport;
use transport::{Records, attempt, read_plain};

/// The TLS session above, if there is one.
enum Session {
    None,
    Server(Box<ServerConnection>),
    Client(Box<ClientConnection>),
}

/// A registered socket.
pub(super) struct Socket {
    transport: Transport,
    session: Session,
    /// The kernel took less than it was given: an event will tell when it takes more.
    pub(super) blocked: bool,
    /// Where the end of a handshake with a server is counted; taken then.
    handshake: Option<Arc<Scope>>,
    /// The peer has closed its side: reads go on until they give nothing.
    pub(super) hung_up: bool,
    /// It is among those that are read from in the next turn, and among those that are written to.
    pub(super) unfinished: bool,
    pub(super) unwritten: bool,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// So many bytes, and perhaps more behind them.
    More(usize),
    /// So many bytes, and nothing behind them for now.
    Last(usize),
    /// The peer has closed its side.
    End,
}

/// Slices in one gathering write.
const MAX_SLICES: usize = 64;

impl Socket {
    pub(super) fn plain(transport: Transport) -> Self {
        Self {
            transport,
            session: Session::None,
            blocked: false,
            handshake: None,
            hung_up: false,
            unfinished: false,
            unwritten: false,
        }
    }

    /// Puts its token on the list of those that are written to in the next turn, once.
    pub(super) fn note_unwritten(&mut self, list: &mut Vec<Token>, token: Token) {
        if !std::mem::replace(&mut self.unwritten, true) {
            list.push(token);
        }
    }

    pub(super) fn server(transport: Transport, session: Box<ServerConnection>) -> Self {
        Self {
            session: Session::Server(session),
            ..Self::plain(transport)
        }
    }

    pub(super) fn client(
        transport: Transport,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        handshake: Option<Arc<Scope>>,
    ) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self {
            session: Session::Client(Box::new(session)),
            handshake,
            ..Self::plain(transport)
        })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.transport.register(registry, token)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        self.transport.deregister(registry);
    }

    /// Whether the transport's connection is made: an error, not yet, or yes.
    pub(super) fn connection_made(&self) -> io::Result<bool> {
        self.transport.is_connected()
    }

    /// Whether application bytes can be exchanged.
    pub(super) fn is_ready(&self) -> bool {
        match &self.session {
            Session::None => true,
            Session::Server(session) => !session.is_handshaking(),
            Session::Client(session) => !session.is_handshaking(),
        }
    }

    /// Counts how a handshake with a server ended, when it has.
    pub(super) fn count_handshake(&mut self, got: &io::Result<Got>) {
        let Session::Client(session) = &self.session else {
            return;
        };
        let going_on = session.is_handshaking() && matches!(got, Ok(Got::More(_) | Got::Last(_)));
        let Some(stats) = self.handshake.take_if(|_| !going_on) else {
            return;
        };
        let stats = stats.block();
        match got {
            Err(error) => fault::count_failure(error, &stats),
            Ok(_) if session.is_handshaking() => stats.inc(ssl::CONNECTION_ERROR),
            Ok(_) => fault::count(session, &stats),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        !matches!(self.session, Session::None)
    }

    /// Reads plain text.
    #[inline]
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Got> {
        match self.session {
            Session::None => read_plain(&mut self.transport, into),
            _ => self.read_tls(into),
        }
    }

    fn read_tls(&mut self, into: &mut [u8]) -> io::Result<Got> {
        let mut drained = false;
        loop {
            match self.read_session(into) {
                Ok(0) => return Ok(Got::End),
                // The session held less than would fit, and the socket less than was asked for: both are empty.
                Ok(count) if drained && count < into.len() => return Ok(Got::Last(count)),
                Ok(count) => return Ok(Got::More(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // No close_notify: the peer is gone all the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Got::End),
                Err(error) => return Err(error),
            }
            let mut records = Records::new(&mut self.transport);
            let fetched = match &mut self.session {
                Session::Server(session) => session.read_tls(&mut records),
                Session::Client(session) => session.read_tls(&mut records),
                Session::None => Ok(0),
            };
            let short = records.is_short();
            match fetched {
                Ok(0) => {
                    self.process_records()?;
                    return Ok(Got::End);
                }
                // A goodbye is read as well, in the next round.
                Ok(_) => drained = !self.process_records()? && short,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Got::Last(0)),
                Err(error) => return Err(error),
            }
        }
    }

    fn read_session(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.session {
            Session::Server(session) => session.reader().read(into),
            Session::Client(session) => session.reader().read(into),
            Session::None => Ok(0),
        }
    }

    /// Decrypts what was fetched; says whether the peer has said goodbye.
    fn process_records(&mut self) -> io::Result<bool> {
        let processed = match &mut self.session {
            Session::Server(session) => session.process_new_packets().map(|state| state.peer_has_closed()),
            Session::Client(session) => session.process_new_packets().map(|state| state.peer_has_closed()),
            Session::None => Ok(false),
        };
        // The alert that names the fault must reach the peer.
        let flushed = self.flush_records();
        let closed = processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        flushed.map(|()| closed)
    }

    /// Writes what the session has to say; what the kernel does not take waits for an event.
    pub(super) fn flush_records(&mut self) -> io::Result<()> {
        loop {
            let written = match &mut self.session {
                Session::Server(session) if session.wants_write() => session.write_tls(&mut self.transport),
                Session::Client(session) if session.wants_write() => session.write_tls(&mut self.transport),
                _ => return Ok(()),
            };
            match written {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes as much of an output as the kernel takes; says how much that was.
    #[inline]
    pub(super) fn write(&mut self, output: &Output) -> io::Result<usize> {
        match self.session {
            Session::None => self.write_plain(output),
            _ => self.write_tls(output),
        }
    }

    #[inline]
    fn write_plain(&mut self, output: &Output) -> io::Result<usize> {
        let wanted = output.unwritten();
        let written = if output.is_segmented() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let used = output.gather(&mut slices);
            attempt(|| self.transport.write_vectored(&slices[..used]))
        } else {
            attempt(|| self.transport.write(output.next_slice()))
        };
        match written {
            Ok(count) => {
                self.blocked = count < wanted;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// The session holds a bounded amount; the rest waits in the output.
    fn write_tls(&mut self, output: &Output) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let used = output.gather(&mut slices);
        let taken = match &mut self.session {
            Session::Server(session) => session.writer().write_vectored(&slices[..used])?,
            Session::Client(session) => session.writer().write_vectored(&slices[..used])?,
            Session::None => 0,
        };
        self.flush_records()?;
        Ok(taken)
    }

    /// Says goodbye where the protocol has a word for it.
    pub(super) fn farewell(&mut self) {
        match &mut self.session {
            Session::Server(session) => session.send_close_notify(),
            Session::Client(session) => session.send_close_notify(),
            Session::None => return,
        }
        // The peer may be gone already; nobody is left to tell.
        let _ = self.flush_records();
    }
}
