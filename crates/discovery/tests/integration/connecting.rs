//! Connections: TCP, Unix socket, TLS, and what goes wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redplane_config::Address;
use redplane_config::cluster::{Cluster as Config, Discovery, Keepalive, LbPolicy, Transport};
use redplane_config::tls::ClientTls;
use redplane_upstream::{
    Cluster, ConnectingSocket, complete, connect, socket_for, socket_to, tls::provider, transport_to,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::model::{assignment, config, endpoint, start, tls};

const SOON: Duration = Duration::from_secs(5);

fn to(address: Address) -> Config {
    config(
        "static",
        Discovery::Fixed(assignment(vec![endpoint(address)])),
        LbPolicy::Random,
    )
}

async fn echo(cluster: &Cluster) -> std::io::Result<Vec<u8>> {
    let host = Arc::clone(&cluster.topology().hosts[0]);
    let mut stream = connect(cluster, &host, SOON, None).await?;
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut reply = vec![0; 4];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// Sends four bytes back on each connection.
async fn tcp_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 4];
            if stream.read_exact(&mut bytes).await.is_ok() {
                let _ = stream.write_all(&bytes).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn tcp_with_every_setting() {
    let address = tcp_echo().await;
    let mut config = to(Address::Ip(address));
    let seconds = Duration::from_secs(30);
    config.keepalive = Some(Keepalive {
        time: Some(seconds),
        interval: Some(seconds),
        probes: Some(3),
    });
    config.source_address = Some("127.0.0.5:0".parse().unwrap());
    let cluster = start(config);
    assert_eq!(echo(&cluster).await.unwrap(), b"ping");
    let host = Arc::clone(&cluster.topology().hosts[0]);
    let stream = connect(&cluster, &host, SOON, None).await.unwrap();
    assert_eq!(stream.local_address().unwrap().ip().to_string(), "127.0.0.5");
    assert!(matches!(
        socket_for(&cluster, &host).unwrap(),
        ConnectingSocket::Tcp(_)
    ));
}

#[tokio::test]
async fn unix_sockets_by_path_and_by_abstract_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let cluster = start(to(Address::Pipe(path)));
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    };
    let (_, reply) = tokio::join!(server, echo(&cluster));
    assert_eq!(reply.unwrap(), b"ping");
    let nobody = start(to(Address::Pipe("@redplane-nobody-listens".into())));
    assert_eq!(
        echo(&nobody).await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn failures_have_their_kind() {
    let refused = start(to(Address::Ip("127.0.0.1:1".parse().unwrap())));
    assert_eq!(
        echo(&refused).await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    let mut inert = to(Address::Ip("127.0.0.1:1".parse().unwrap()));
    inert.transport = Transport::Inert("needs SDS".into());
    let error = echo(&start(inert)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (std::io::ErrorKind::Unsupported, "needs SDS")
    );
    // TLS towards a server that never speaks.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = to(Address::Ip(silent.local_addr().unwrap()));
    config.transport = Transport::Tls(Arc::new(tls(None)));
    let cluster = start(config);
    let host = Arc::clone(&cluster.topology().hosts[0]);
    let result = connect(&cluster, &host, Duration::from_millis(50), None).await;
    assert_eq!(result.err().unwrap().kind(), std::io::ErrorKind::TimedOut);
}

/// A TLS echo server for `redis.test`; gives its root as PEM.
async fn tls_echo() -> (SocketAddr, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["redis.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"redis".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut bytes = [0; 4];
            if stream.read_exact(&mut bytes).await.is_ok() {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
            }
        }
    });
    (address, cert.pem())
}

#[tokio::test]
async fn tls_is_checked_as_envoy_checks_it() {
    let (address, root) = tls_echo().await;
    let other = rcgen::generate_simple_self_signed(vec!["redis.test".to_owned()])
        .unwrap()
        .cert
        .pem();
    let with = |tls: ClientTls| {
        let mut config = to(Address::Ip(address));
        config.transport = Transport::Tls(Arc::new(tls));
        start(config)
    };
    assert_eq!(echo(&with(tls(Some(&root)))).await.unwrap(), b"ping");
    assert_eq!(
        echo(&with(tls(None))).await.unwrap(),
        b"ping",
        "without a validation context all is accepted"
    );
    assert!(echo(&with(tls(Some(&other)))).await.is_err());
    let named = |sni: &str| ClientTls {
        sni: sni.into(),
        auto_sni_san_validation: true,
        ..tls(Some(&root))
    };
    assert_eq!(echo(&with(named("redis.test"))).await.unwrap(), b"ping");
    assert!(echo(&with(named("other.test"))).await.is_err());
    let cluster = with(ClientTls {
        alpn: vec!["redis".into()],
        ..tls(Some(&root))
    });
    let host = Arc::clone(&cluster.topology().hosts[0]);
    let stream = connect(&cluster, &host, SOON, None).await.unwrap();
    assert_eq!(stream.alpn(), Some(&b"redis"[..]));
}

#[tokio::test]
async fn original_destinations_need_no_host() {
    let address = tcp_echo().await;
    let cluster = start(config("orig", Discovery::OriginalDst, LbPolicy::ClusterProvided));
    assert!(cluster.is_warm());
    assert_eq!(cluster.topology().by_hash(1, 1), None);
    let mut stream = {
        let socket = socket_to(&cluster, address).unwrap();
        let transport = transport_to(&cluster, address);
        complete(&cluster, socket, &transport, SOON).await.unwrap()
    };
    stream.write_all(b"ping").await.unwrap();
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"ping");
}
