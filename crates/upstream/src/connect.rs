//! Connections to hosts.
//!
//! [`connect`] is for callers on tokio (tcp_proxy, discovery, health checks); [`socket_for`] starts a connection
//! for a driver that polls descriptors itself and does its own TLS. Both set `TCP_NODELAY` (as Envoy does for every
//! upstream connection), keepalive and the source address.

mod socket;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redplane_telemetry::Scope;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::cluster::Cluster;
use crate::host::{Host, HostAddress, Transport};
use crate::tls::fault;

pub use socket::ConnectingSocket;
pub use stream::Stream;

/// A connection to a host, TLS handshake included, within a time limit.
///
/// # Errors
///
/// `TimedOut`, the socket's own error, `InvalidData` from TLS, or `Unsupported` for an inert transport.
pub async fn connect(
    cluster: &Cluster,
    host: &Host,
    timeout: Duration,
    sni: Option<ServerName<'static>>,
) -> io::Result<Stream> {
    limited(timeout, async {
        let stream = finish(socket_for(cluster, host)?).await?;
        secure(cluster, stream, &host.transport, sni).await
    })
    .await
}

/// The same for HTTP/2 (gRPC): a TLS handshake offers `h2` unless the cluster names protocols of its own, as Envoy does.
///
/// # Errors
///
/// As [`connect`].
pub async fn connect_http2(cluster: &Cluster, host: &Host, timeout: Duration) -> io::Result<Stream> {
    connect_offering(cluster, host, timeout, (None, &[b"h2".to_vec()]), None).await
}

/// The same with the protocols that a TLS handshake offers: `wanted` in place of what the cluster says, `fallback`
/// where the cluster says nothing. `sni` is the name that it asks for in place of the cluster's.
///
/// # Errors
///
/// As [`connect`].
pub async fn connect_offering(
    cluster: &Cluster,
    host: &Host,
    timeout: Duration,
    (wanted, fallback): (Option<&[Vec<u8>]>, &[Vec<u8>]),
    sni: Option<&str>,
) -> io::Result<Stream> {
    limited(timeout, async {
        let stream = finish(socket_for(cluster, host)?).await?;
        match &host.transport {
            Transport::Tls(client, name) => {
                let config = client.config_offering(wanted, fallback).map_err(not_ready)?;
                let sni = sni.and_then(|sni| ServerName::try_from(sni.to_owned()).ok());
                shake_hands(cluster, stream, config, sni.unwrap_or_else(|| name.clone())).await
            }
            other => secure(cluster, stream, other, None).await,
        }
    })
    .await
}

/// Brings a connection that was started ([`socket_for`], [`socket_to`]) to its end, TLS handshake included.
///
/// # Errors
///
/// As [`connect`].
pub async fn complete(
    cluster: &Cluster,
    socket: ConnectingSocket,
    transport: &Transport,
    timeout: Duration,
) -> io::Result<Stream> {
    limited(timeout, async {
        let stream = finish(socket).await?;
        secure(cluster, stream, transport, None).await
    })
    .await
}

/// As [`socket_for`], to an address that is no host of the cluster (ORIGINAL_DST).
///
/// # Errors
///
/// As [`socket_for`].
pub fn socket_to(cluster: &Cluster, address: SocketAddr) -> io::Result<ConnectingSocket> {
    socket::start(cluster.config(), &HostAddress::Ip(address))
}

/// A connection to a host whose TCP or Unix handshake has been started but may not be done; TLS is the caller's work.
///
/// # Errors
///
/// The socket could not be made, bound or started; `Unsupported` for an inert transport.
pub fn socket_for(cluster: &Cluster, host: &Host) -> io::Result<ConnectingSocket> {
    if let Transport::Inert(reason) = &host.transport {
        return Err(inert(reason));
    }
    socket::start(cluster.config(), &host.address)
}

/// How bytes travel to an address that is no host of the cluster.
pub fn transport_to(cluster: &Cluster, address: SocketAddr) -> Transport {
    cluster.transport(&HostAddress::Ip(address), "", &[])
}

async fn limited<T>(timeout: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(timeout, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Waits for the handshake of the socket.
async fn finish(socket: ConnectingSocket) -> io::Result<Stream> {
    match socket {
        ConnectingSocket::Tcp(socket) => {
            let stream = TcpStream::from_std(socket)?;
            stream.writable().await?;
            stream.take_error()?.map_or(Ok(Stream::Tcp(stream)), Err)
        }
        ConnectingSocket::Unix(socket) => {
            let stream = UnixStream::from_std(socket)?;
            stream.writable().await?;
            stream.take_error()?.map_or(Ok(Stream::Unix(stream)), Err)
        }
    }
}

async fn secure(
    cluster: &Cluster,
    stream: Stream,
    transport: &Transport,
    sni: Option<ServerName<'static>>,
) -> io::Result<Stream> {
    match transport {
        Transport::Plain => Ok(stream),
        Transport::Inert(reason) => Err(inert(reason)),
        Transport::Tls(client, name) => {
            let config = client.config().map_err(not_ready)?;
            shake_hands(cluster, stream, config, sni.unwrap_or_else(|| name.clone())).await
        }
    }
}

async fn shake_hands(
    cluster: &Cluster,
    stream: Stream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Stream> {
    let result = TlsConnector::from(config).connect(name, Box::new(stream)).await;
    if let Some(stats) = cluster.ssl_stats().map(Scope::block) {
        match &result {
            Ok(stream) => fault::count(stream.get_ref().1, &stats),
            Err(error) => fault::count_failure(error, &stats),
        }
    }
    Ok(Stream::Tls(Box::new(result?)))
}

/// The error of a connection whose certificates or roots have not come yet.
pub fn not_ready(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, reason)
}

fn inert(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, reason.to_owned())
}
