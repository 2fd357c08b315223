//! Sockets and TLS towards the control plane.
//!
//! Gives back a byte stream and knows nothing of HTTP/2 but its ALPN name. How long it may take is the
//! caller's business.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::Invalid;

/// Where the control plane listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Host name or IP address, and port.
    Tcp(String, u16),
    /// Path of a Unix socket, relative paths included; a leading `@` means the abstract namespace, as in
    /// Envoy.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// TLS towards the control plane. Without ALPN protocols in `config`, `h2` is offered.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Roots, client certificate and versions.
    pub config: Arc<rustls::ClientConfig>,
    /// SNI and the name checked against the certificate.
    pub server_name: String,
}

/// Opens byte streams, through TLS if there is any.
pub(super) struct Dialer {
    tls: Option<(TlsConnector, ServerName<'static>)>,
    keepalive: Option<TcpKeepalive>,
}

/// Probes of the kernel on an idle TCP connection; what is not given is as the system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Probes before the connection is given up.
    pub probes: Option<u32>,
}

/// Any byte stream.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Dialer {
    pub(super) fn new(tls: Option<&Tls>, keepalive: Option<TcpKeepalive>) -> Result<Self, Invalid> {
        Ok(Self {
            tls: tls.map(connector).transpose()?,
            keepalive,
        })
    }

    pub(super) async fn dial(&self, endpoint: &Endpoint) -> io::Result<Box<dyn Io>> {
        let plain: Box<dyn Io> = match endpoint {
            Endpoint::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                if let Some(keepalive) = self.keepalive {
                    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive.as_socket2())?;
                }
                Box::new(stream)
            }
            Endpoint::Unix(path) => Box::new(UnixStream::connect(socket_path(path)).await?),
        };
        match &self.tls {
            None => Ok(plain),
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), plain).await?)),
        }
    }
}

impl TcpKeepalive {
    fn as_socket2(self) -> socket2::TcpKeepalive {
        let mut keepalive = socket2::TcpKeepalive::new();
        if let Some(time) = self.time {
            keepalive = keepalive.with_time(time);
        }
        if let Some(interval) = self.interval {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(probes) = self.probes {
            keepalive = keepalive.with_retries(probes);
        }
        keepalive
    }
}

fn socket_path(path: &Path) -> PathBuf {
    match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => PathBuf::from(format!("\0{name}")),
        None => path.to_owned(),
    }
}

fn connector(tls: &Tls) -> Result<(TlsConnector, ServerName<'static>), Invalid> {
    let mut config = Arc::clone(&tls.config);
    if config.alpn_protocols.is_empty() {
        Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
    }
    let name = ServerName::try_from(tls.server_name.clone())
        .map_err(|_| Invalid::ServerName(tls.server_name.clone()))?;
    Ok((TlsConnector::from(config), name))
}
