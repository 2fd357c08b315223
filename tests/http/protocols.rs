//! HTTP/1 and HTTP/2 on both sides, with and without TLS, put into one another: the same exchanges through Envoy and
//! through redplane, in front of an HTTP/1 server and of HTTP/2 servers. Both must tell client and server the same.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use redplane_testkit::{Authority, Identity, ProxyKind};
use tokio::runtime::Runtime;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, crypto,
};

use super::client;
use super::h2_client::{self, ClientRequest};
use super::stage::Stage;
use super::{h2_server, server};

/// Servers and keys that both proxies have in common.
struct World {
    runtime: Runtime,
    values: Vec<(&'static str, String)>,
    client: Identity,
    _authority: Authority,
}

impl World {
    fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let authority = Authority::new();
        let own = authority.issue("server", &["a.test", "spiffe://td/ns/n/sa/server"]);
        let client = authority.issue("client", &["c.test", "spiffe://td/ns/n/sa/client"]);
        let (two, tls) = runtime.block_on(async {
            let mut config = server_config(&own);
            config.alpn_protocols = vec![b"h2".to_vec()];
            (h2_server::start(None).await, h2_server::start(Some(config)).await)
        });
        let values = vec![
            ("{ONE}", server::start().port().to_string()),
            ("{TWO}", two.port().to_string()),
            ("{TLS}", tls.port().to_string()),
            ("{CERT}", own.cert.display().to_string()),
            ("{KEY}", own.key.display().to_string()),
            ("{CA}", own.ca.display().to_string()),
        ];
        Self {
            runtime,
            values,
            client,
            _authority: authority,
        }
    }
}

fn server_config(own: &Identity) -> ServerConfig {
    let provider = Arc::new(crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions are known")
        .with_no_client_auth()
        .with_single_cert(vec![certificate(&own.cert)], key(own))
        .expect("it is a pair")
}

fn certificate(file: &std::path::Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).expect("it is a certificate")
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(&identity.key).expect("it is a key")
}

fn client_config(own: &Identity, alpn: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&own.ca)).expect("it is a root");
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions are known")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&own.cert)], key(own))
        .expect("it is a pair");
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config
}

const PATHS: &[&str] = &["/one/x?q=1", "/two/x?q=1", "/tls/x", "/same/x", "/one/known"];

/// What HTTP/2 clients ask.
fn asked() -> Vec<ClientRequest<'static>> {
    let plain = |path| ClientRequest {
        method: "GET",
        path,
        headers: &[("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2")],
        body: &[],
        trailers: &[],
    };
    let body = |path| ClientRequest {
        method: "POST",
        path,
        headers: &[("content-type", "text/plain")],
        body: &["hel", "lo"],
        trailers: &[],
    };
    let trailers = |path| ClientRequest {
        trailers: &[("x-client", "t")],
        ..body(path)
    };
    let grpc = |path| ClientRequest {
        method: "POST",
        path,
        headers: &[
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "3S"),
        ],
        body: &["\0\0\0\0\x01a", "\0\0\0\0\x01b"],
        trailers: &[],
    };
    let mut all: Vec<ClientRequest<'static>> = PATHS.iter().copied().map(plain).collect();
    all.extend(PATHS.iter().copied().map(body));
    all.extend(PATHS.iter().copied().map(trailers));
    all.extend(PATHS.iter().copied().map(grpc));
    all.extend(
        [
            "/two/alone",
            "/two/reset",
            "/two/refused",
            "/again/refused",
            "/same2/x",
            "/none",
        ]
        .map(grpc),
    );
    all.push(plain("/two/rest"));
    all
}

/// What HTTP/1 clients ask.
const LINES: &[&str] = &[
    "GET {} HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n\r\n",
    "POST {} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello",
    "POST {} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",
    "POST {} HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0",
];

/// All exchanges through one proxy, each with what was asked.
fn play(world: &World, kind: &ProxyKind) -> Vec<String> {
    let stage = Stage::of(kind, "protocols.yaml", &world.values);
    let (plain, tls) = (stage.address("plain"), stage.address("tls"));
    let mut found = Vec::new();
    for asked in asked() {
        for (address, config) in [(plain, None), (tls, Some(client_config(&world.client, "h2")))] {
            let over = if config.is_some() { "h2 over TLS" } else { "h2" };
            let exchange = h2_client::exchange(address, config, &asked);
            let limit = std::time::Duration::from_secs(10);
            let answer = world
                .runtime
                .block_on(async { tokio::time::timeout(limit, exchange).await });
            let answer = answer.unwrap_or_else(|_| "no answer".to_owned());
            found.push(format!(
                "{over} {} {} {:?}\n{answer}",
                asked.method, asked.path, asked.trailers
            ));
        }
    }
    for path in PATHS {
        for line in LINES {
            let request = line.replace("{}", path);
            let answer = client::exchange(plain, request.as_bytes());
            found.push(format!("h1 {request:?}\n{answer}"));
            let answer = over_tls(tls, client_config(&world.client, "http/1.1"), &request);
            found.push(format!("h1 over TLS {request:?}\n{answer}"));
        }
    }
    found
}

/// An HTTP/1 exchange over TLS.
fn over_tls(address: SocketAddr, config: ClientConfig, request: &str) -> String {
    let name = ServerName::try_from("a.test").expect("it is a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let stream = std::net::TcpStream::connect(address).expect("the proxy listens");
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(10)))
        .expect("a timeout can be set");
    let mut stream = StreamOwned::new(session, stream);
    // The answer ends where the connection does.
    let request = request.replace("Host:", "Connection: close\r\nHost:");
    stream.write_all(request.as_bytes()).expect("it can be sent");
    let mut bytes = Vec::new();
    let mut buffer = [0; 16384];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..length]);
    }
    client::shown(&bytes, true)
}

#[test]
fn protocols_are_put_into_one_another() {
    let world = World::start();
    let envoy = play(&world, &ProxyKind::Envoy);
    let redplane = play(&world, &super::redplane());
    let differ = |(envoy, redplane): (&String, &String)| {
        (envoy != redplane).then(|| format!("== envoy\n{envoy}\n-- redplane\n{redplane}"))
    };
    let wrong: Vec<String> = envoy.iter().zip(&redplane).filter_map(differ).collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        envoy.len(),
        wrong.join("\n")
    );
    let all = redplane.join("\n");
    for part in [
        "trailers: grpc-status: 0, x-trailer: t",
        "hello|x-client: t",
        "x-forwarded-client-cert: By=spiffe://td/ns/n/sa/server;Hash=",
        "RBAC: access denied",
        "reset: Some(INTERNAL_ERROR)",
    ] {
        assert!(all.contains(part), "{part}\n{all}");
    }
}
