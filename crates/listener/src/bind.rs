//! Listening sockets, opened on the control thread.
//!
//! With `enable_reuse_port` every worker has a socket of its own and the kernel spreads connections; else, and for Unix
//! sockets, all workers accept from one. A socket is shared by `Arc` between the control side and its worker, so that
//! the control side can end listening at once, however busy the worker is.
//!
//! Envoy: `TcpListenSocket`, `UdsListenSocket`, and the texts of `ListenSocketImpl::bind`.

use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redplane_config::Address;
use redplane_config::listener::Listener;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The sockets of one address of a listener.
#[derive(Debug)]
pub(crate) struct Bound {
    /// As configured: port 0 stays 0.
    pub configured: Address,
    /// As bound.
    pub actual: Address,
    /// One for each worker, or one that all share.
    sockets: Vec<Arc<Socket>>,
}

impl Bound {
    /// Binds an address for all workers. The error is the reason of the refusal, in Envoy's words.
    pub(crate) fn open(address: &Address, listener: &Listener, workers: usize) -> Result<Self, String> {
        let count = match address {
            Address::Ip(_) if listener.reuse_port => workers.max(1),
            _ => 1,
        };
        let mut sockets = Vec::with_capacity(count);
        let mut actual = address.clone();
        for _ in 0..count {
            // The first socket chooses the port when it is 0; the others join it there.
            let socket = bind(&actual, listener, count > 1).map_err(|error| refusal(&actual, &error))?;
            if let Some(local) = socket.local_addr().ok().and_then(|local| local.as_socket()) {
                actual = Address::Ip(local);
            }
            sockets.push(Arc::new(socket));
        }
        let bound = Self {
            configured: address.clone(),
            actual,
            sockets,
        };
        bound.listen(listener)?;
        Ok(bound)
    }

    /// Whether an address could be bound now; nothing stays open.
    pub(crate) fn check(address: &Address, listener: &Listener, workers: usize) -> Result<(), String> {
        match address {
            Address::Ip(_) => {
                let shared = listener.reuse_port && workers > 1;
                bind(address, listener, shared)
                    .map(drop)
                    .map_err(|error| refusal(address, &error))
            }
            // To try it would make a file.
            Address::Pipe(_) | Address::Name { .. } => Ok(()),
        }
    }

    /// Starts listening, or takes up another backlog.
    pub(crate) fn listen(&self, listener: &Listener) -> Result<(), String> {
        // The kernel lowers it to `net.core.somaxconn`, which is Envoy's default.
        let backlog = listener
            .backlog
            .map_or(i32::MAX, |backlog| i32::try_from(backlog).unwrap_or(i32::MAX));
        for socket in &self.sockets {
            socket
                .listen(backlog)
                .map_err(|error| format!("cannot listen on '{}': {}", self.actual, text(&error)))?;
        }
        Ok(())
    }

    /// The socket from which a worker accepts.
    pub(crate) fn socket_of(&self, worker: usize) -> Arc<Socket> {
        Arc::clone(&self.sockets[worker % self.sockets.len()])
    }

    /// The TCP address as bound.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.actual {
            Address::Ip(address) => Some(address),
            Address::Pipe(_) | Address::Name { .. } => None,
        }
    }

    /// Ends listening at once: clients are refused, and the address can be bound again.
    pub(crate) fn close(&self) {
        self.sockets.iter().for_each(|socket| end(socket));
        if let Address::Pipe(path) = &self.actual
            && !is_abstract(path)
        {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Takes a socket out of listening. Harmless when that has happened already.
pub(crate) fn end(socket: &Socket) {
    let _ = socket.shutdown(std::net::Shutdown::Both);
}

fn bind(address: &Address, listener: &Listener, reuse_port: bool) -> io::Result<Socket> {
    match address {
        Address::Ip(ip) => {
            let socket = Socket::new(Domain::for_address(*ip), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            socket.set_reuse_address(true)?;
            if reuse_port {
                socket.set_reuse_port(true)?;
            }
            if listener.transparent {
                // The option of IPv4 is that of the socket, whatever its family.
                socket.set_ip_transparent_v4(true)?;
            }
            if ip.is_ipv6() {
                // Envoy: IPv4 clients come through an address of their own.
                socket.set_only_v6(true)?;
            }
            socket.bind(&(*ip).into())?;
            Ok(socket)
        }
        Address::Pipe(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            remove_stale(path)?;
            socket.bind(&SockAddr::unix(unix_name(path))?)?;
            Ok(socket)
        }
        Address::Name { .. } => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Removes the socket file that a process left behind; one that somebody listens on stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    if is_abstract(path) {
        return Ok(());
    }
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&b'@')
}

/// `@name` is Envoy's way to write the abstract name `\0name`.
fn unix_name(path: &Path) -> PathBuf {
    match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => {
            let name = [b"\0", name].concat();
            PathBuf::from(std::ffi::OsStr::from_bytes(&name))
        }
        _ => path.to_owned(),
    }
}

fn refusal(address: &Address, error: &io::Error) -> String {
    format!("cannot bind '{address}': {}", text(error))
}

/// The system's words without the number that Rust puts behind them.
fn text(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::AddrInUse => "Address already in use".to_owned(),
        _ => error.to_string(),
    };
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
