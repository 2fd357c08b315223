//! Sockets with a connection under way.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use redplane_config::cluster::{Cluster, Keepalive};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::host::HostAddress;

/// A non-blocking socket whose connection was started. It is connected when it becomes writable without an error.
#[derive(Debug)]
pub enum ConnectingSocket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix socket.
    Unix(UnixStream),
}

impl ConnectingSocket {
    /// Our own address: the other side sees it as the client's. `None` for a Unix socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

pub(super) fn start(config: &Cluster, address: &HostAddress) -> io::Result<ConnectingSocket> {
    match address {
        HostAddress::Ip(address) => tcp(config, *address).map(ConnectingSocket::Tcp),
        HostAddress::Pipe(path) => unix(path).map(ConnectingSocket::Unix),
    }
}

fn tcp(config: &Cluster, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = &config.keepalive {
        socket.set_tcp_keepalive(&probes(keepalive))?;
    }
    // A source of the other family cannot reach the host; Envoy then leaves the choice to the kernel as well.
    if let Some(source) = config
        .source_address
        .filter(|source| source.is_ipv4() == address.is_ipv4())
    {
        socket.bind(&source.into())?;
    }
    under_way(socket.connect(&address.into()))?;
    Ok(socket.into())
}

fn unix(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    under_way(socket.connect(&SockAddr::unix(unix_name(path))?))?;
    Ok(socket.into())
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

fn under_way(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => Ok(()),
        result => result,
    }
}

fn probes(keepalive: &Keepalive) -> TcpKeepalive {
    let mut settings = TcpKeepalive::new();
    if let Some(time) = keepalive.time {
        settings = settings.with_time(time);
    }
    if let Some(interval) = keepalive.interval {
        settings = settings.with_interval(interval);
    }
    if let Some(probes) = keepalive.probes {
        settings = settings.with_retries(probes);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_names_begin_with_nul() {
        assert_eq!(unix_name(Path::new("@a/b")).as_os_str().as_bytes(), b"\0a/b");
        assert_eq!(unix_name(Path::new("/run/x")), Path::new("/run/x"));
    }
}
