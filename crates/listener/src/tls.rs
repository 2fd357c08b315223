//! The TLS handshake with a client.

use std::io;
use std::time::Duration;

use redplane_telemetry::Block;
use redplane_upstream::tls::fault;
use redplane_world::tls::TlsServer;
use rustls::server::Acceptor;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::stream::Stream;

/// Does the handshake within a time limit (zero is none) and counts it.
///
/// # Errors
///
/// `TimedOut`, or why there is no session.
pub(crate) async fn handshake(
    server: &TlsServer,
    stream: Stream,
    limit: Duration,
    stats: &Block,
) -> io::Result<TlsStream<Stream>> {
    let work = accept(server, stream);
    let result = if limit.is_zero() {
        work.await
    } else {
        let result = tokio::time::timeout(limit, work).await;
        result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    };
    match &result {
        Ok(stream) => fault::count(stream.get_ref().1, stats),
        Err(error) => fault::count_failure(error, stats),
    }
    result
}

async fn accept(server: &TlsServer, stream: Stream) -> io::Result<TlsStream<Stream>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let config = server
        .for_client(&start.client_hello())
        .map_err(redplane_upstream::not_ready)?;
    start.into_stream(config).await
}
