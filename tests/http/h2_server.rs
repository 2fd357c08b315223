//! An HTTP/2 server that prints the request in its answer, with trailers; `/reset` resets the stream after the head,
//! `/refused` refuses it, `/alone` answers with a head alone, `/rest` reads no body.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::h2_client::{shown_headers, whole};

/// Starts the server on a runtime; it ends with that. With a TLS configuration it speaks TLS.
pub(crate) async fn start(tls: Option<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => serve(stream).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream).await;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond));
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let is_grpc = head
        .headers
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if path.ends_with("/refused") {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    let (body, trailers) = if path.ends_with("/rest") {
        drop(body);
        (Vec::new(), None)
    } else {
        whole(body).await
    };
    let mut response = Response::builder().status(200).header("x-app", "h2");
    if is_grpc {
        response = response.header("content-type", "application/grpc");
    }
    if path.ends_with("/alone") {
        let head = response
            .header("grpc-status", "5")
            .body(())
            .expect("it is a head");
        let _ = respond.send_response(head, true);
        return;
    }
    let text = format!(
        "{} {} {}\n{}\n{}|{}",
        head.method,
        head.uri.authority().map_or("", |authority| authority.as_str()),
        head.uri.path_and_query().map_or("", |path| path.as_str()),
        shown_headers(&head.headers),
        String::from_utf8_lossy(&body),
        trailers.map_or_else(String::new, |trailers| shown_headers(&trailers)),
    );
    let Ok(mut stream) = respond.send_response(response.body(()).expect("it is a head"), false) else {
        return;
    };
    if path.ends_with("/reset") {
        // A head that has not left yet would be thrown away.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        return stream.send_reset(Reason::INTERNAL_ERROR);
    }
    let _ = stream.send_data(Bytes::from(text), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    trailers.insert("x-trailer", http::HeaderValue::from_static("t"));
    let _ = stream.send_trailers(trailers);
}
