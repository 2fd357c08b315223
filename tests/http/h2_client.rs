//! An HTTP/2 client: sends a request with body and trailers, and says what came in a form that can be compared.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::client::masked;

/// A request of the client.
pub(crate) struct ClientRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [&'a str],
    pub(crate) trailers: &'a [(&'a str, &'a str)],
}

/// Asks over a new connection, over TLS where there is a configuration for it.
pub(crate) async fn exchange(
    address: SocketAddr,
    tls: Option<ClientConfig>,
    asked: &ClientRequest<'_>,
) -> String {
    let stream = TcpStream::connect(address).await.expect("the proxy listens");
    match tls {
        None => over(stream, "http", asked).await,
        Some(config) => {
            let name = "a.test".try_into().expect("it is a name");
            let connector = TlsConnector::from(Arc::new(config));
            let stream = connector
                .connect(name, stream)
                .await
                .expect("the handshake succeeds");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            over(stream, "https", asked).await
        }
    }
}

async fn over<S>(stream: S, scheme: &str, asked: &ClientRequest<'_>) -> String
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2 is spoken");
    tokio::spawn(connection);
    let mut client = client.ready().await.expect("streams are allowed");
    let mut request = Request::builder()
        .method(asked.method)
        .uri(format!("{scheme}://a.test{}", asked.path));
    for (name, value) in asked.headers {
        request = request.header(*name, *value);
    }
    let is_alone = asked.body.is_empty() && asked.trailers.is_empty();
    let request = request.body(()).expect("it is a request");
    let (response, mut body) = client.send_request(request, is_alone).expect("it can be sent");
    for (at, piece) in asked.body.iter().enumerate() {
        let is_last = at + 1 == asked.body.len() && asked.trailers.is_empty();
        let _ = body.send_data(Bytes::copy_from_slice(piece.as_bytes()), is_last);
    }
    if !asked.trailers.is_empty() {
        let mut trailers = HeaderMap::new();
        for (name, value) in asked.trailers {
            trailers.insert(
                http::HeaderName::from_bytes(name.as_bytes()).expect("it is a name"),
                value.parse().expect("it is a value"),
            );
        }
        let _ = body.send_trailers(trailers);
    }
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return format!("reset: {:?}", error.reason()),
    };
    let (head, body) = response.into_parts();
    let mut body = body;
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        match piece {
            Ok(piece) => {
                let _ = body.flow_control().release_capacity(piece.len());
                bytes.extend_from_slice(&piece);
            }
            Err(error) => {
                return format!(
                    "{}\n{}\nreset: {:?}",
                    head.status.as_u16(),
                    shown_headers(&head.headers),
                    error.reason()
                );
            }
        }
    }
    let trailers = body.trailers().await.ok().flatten();
    format!(
        "{}\n{}\n{}\ntrailers: {}",
        head.status.as_u16(),
        shown_headers(&head.headers),
        String::from_utf8_lossy(&bytes),
        trailers.map_or_else(String::new, |trailers| shown_headers(&trailers))
    )
}

/// A body to its end, with its trailers.
pub(crate) async fn whole(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        bytes.extend_from_slice(&piece);
    }
    (bytes, body.trailers().await.ok().flatten())
}

/// Headers by name, with what changes from run to run replaced.
pub(crate) fn shown_headers(headers: &HeaderMap) -> String {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        masked(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
    };
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines.join(", ")
}
