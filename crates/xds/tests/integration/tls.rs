//! TLS towards the control plane: SNI, ALPN, a client certificate, and a wrong name that is refused.

use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use redplane_xds::{Config, Endpoint, Form, Invalid, Names, Tls, type_url};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::receiver::{Receiver, cluster, config};
use crate::server::{Server, soon};

const NAME: &str = "istiod.istio-system.svc";

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// An authority, and an identity signed by it for each name.
fn authority(names: [&str; 2]) -> (Arc<RootCertStore>, [Identity; 2]) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let issuer = Issuer::new(params, key);
    let identities = names.map(|name| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Identity {
            chain: vec![leaf.der().clone()],
            key,
        }
    });
    (Arc::new(roots), identities)
}

/// Ends TLS in front of `backend`; reports SNI and ALPN of each connection.
async fn terminate(
    server: ServerConfig,
    backend: Endpoint,
) -> (u16, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let Endpoint::Tcp(host, port) = backend else {
        panic!("a TCP server")
    };
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap().port();
    let (seen, report) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(stream).await else {
                continue;
            };
            let (_, session) = tls.get_ref();
            let name = session.server_name().unwrap_or_default().to_owned();
            let protocol = session.alpn_protocol().unwrap_or_default().to_vec();
            let _ = seen.send((name, protocol));
            let mut plain = TcpStream::connect((host.as_str(), port)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut tls, &mut plain).await });
        }
    });
    (front, report)
}

#[tokio::test]
async fn mutual_tls_with_sni_and_alpn() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (roots, [server_identity, client_identity]) = authority([NAME, "sidecar"]);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .unwrap();
    let mut server_config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(server_identity.chain, server_identity.key)
        .unwrap();
    server_config.alpn_protocols = vec![b"h2".to_vec()];
    let client_config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(client_identity.chain, client_identity.key)
        .unwrap();
    let tls = |name: &str| {
        let config = Arc::new(client_config.clone());
        Some(Tls {
            config,
            server_name: name.to_owned(),
        })
    };

    let (mut server, backend) = Server::tcp().await;
    let (port, mut seen) = terminate(server_config, backend).await;
    let front = Endpoint::Tcp("localhost".into(), port);
    let mut receiver = Receiver::start(Config {
        tls: tls(NAME),
        ..config(Form::Delta, front.clone())
    });
    receiver.handle.subscribe(type_url::CLUSTER, Names::Wildcard);
    let mut peer = server.accept().await;
    peer.hear().await;
    peer.push(type_url::CLUSTER, "v1", vec![cluster("a", 1)], &[]);
    receiver.accept().await;
    assert_eq!(peer.hear().await.nonce, "v1");
    let (name, protocol) = soon("the handshake", seen.recv()).await.unwrap();
    assert_eq!((name.as_str(), protocol.as_slice()), (NAME, b"h2".as_slice()));

    let mut stranger = Receiver::start(Config {
        tls: tls("another.name"),
        ..config(Form::Delta, front.clone())
    });
    let (reason, established) = stranger.disconnected().await;
    assert!(!established && reason.contains("certificate"), "{reason}");

    let bad = Config {
        tls: tls("no name"),
        ..config(Form::Delta, front)
    };
    let refused = redplane_xds::Client::start(bad).err();
    assert_eq!(refused, Some(Invalid::ServerName("no name".into())));
}
