//! A peer that says nothing at all: HTTP/2 pings and the connect timeout find out.

use std::sync::Arc;
use std::time::Duration;

use redplane_xds::{Config, Endpoint, Form, Keepalive, Names, Tls, type_url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::receiver::{Receiver, cluster, config};
use crate::server::Server;

/// Forwards to `backend` until told to fall silent; connections stay open.
async fn forward(backend: Endpoint, mut silent: watch::Receiver<bool>) -> Endpoint {
    let Endpoint::Tcp(host, port) = backend else {
        panic!("a TCP server")
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect((host, port)).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
        loop {
            tokio::select! {
                read = from_client.read(&mut up) => to_server.write_all(&up[..read.unwrap()]).await.unwrap(),
                read = from_server.read(&mut down) => to_client.write_all(&down[..read.unwrap()]).await.unwrap(),
                _ = silent.changed() => std::future::pending().await,
            }
        }
    });
    Endpoint::Tcp("127.0.0.1".into(), front)
}

#[tokio::test]
async fn a_connection_that_no_longer_answers_pings_is_given_up() {
    let (mut server, backend) = Server::tcp().await;
    let (hush, silent) = watch::channel(false);
    let front = forward(backend, silent).await;
    let mut receiver = Receiver::start(Config {
        keepalive: Some(Keepalive {
            interval: Duration::from_millis(50),
            timeout: Duration::from_millis(200),
        }),
        ..config(Form::Delta, front)
    });
    receiver.handle.subscribe(type_url::CLUSTER, Names::Wildcard);
    let mut peer = server.accept().await;
    peer.hear().await;
    peer.push(type_url::CLUSTER, "v1", vec![cluster("a", 1)], &[]);
    receiver.accept().await;
    assert_eq!(peer.hear().await.nonce, "v1");
    hush.send(true).unwrap();
    let (reason, established) = receiver.disconnected().await;
    // Nothing else could end it: both sockets are open and the forwarder just does not read.
    assert!(established, "{reason}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut receiver = Receiver::start(Config {
        connect_timeout: Duration::from_millis(100),
        tls: Some(Tls {
            config: Arc::new(tls),
            server_name: "a.b".into(),
        }),
        ..config(Form::Delta, Endpoint::Tcp("127.0.0.1".into(), port))
    });
    let (reason, established) = receiver.disconnected().await;
    assert!(!established && reason.contains("connect timeout"), "{reason}");
}
