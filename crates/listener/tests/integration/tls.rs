//! TLS with real rustls clients: what is agreed on, who is let in, what is counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use redplane_listener::redis::Stream;
use redplane_testkit::{Authority, Identity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::world::{World, client, echo, one_chain, read, redis, rest, tcp};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &std::path::Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// A plain server with this identity.
pub(crate) fn server_config(identity: &Identity) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    builder
        .with_no_client_auth()
        .with_single_cert(certificates(&identity.cert), key)
        .unwrap()
        .into()
}

/// A client of this authority, with an identity or without.
fn client_config(authority: &Authority, identity: Option<&Identity>, alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    certificates(authority.ca())
        .into_iter()
        .for_each(|root| roots.add(root).unwrap());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
            builder
                .with_client_auth_cert(certificates(&identity.cert), key)
                .unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

fn connect(
    at: SocketAddr,
    config: ClientConfig,
    name: &'static str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let session = ClientConnection::new(config.into(), name.try_into().unwrap()).unwrap();
    StreamOwned::new(session, client(at))
}

/// `transport_socket` with these fields of `common_tls_context`.
fn socket(identity: &Identity, common: &str, more: &str) -> String {
    format!(
        "transport_socket: {{name: tls, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
         {{tls_certificates: [{{certificate_chain: {{filename: '{}'}}, private_key: {{filename: '{}'}}}}]{common}}}{more}}}}}",
        identity.cert.display(),
        identity.key.display()
    )
}

fn secured(name: &str, filter: &str, socket: &str) -> String {
    one_chain(name, filter, "").replace("{name: main,", &format!("{{name: main, {socket},"))
}

const NAME: &str = "redis.example.com";

#[test]
fn a_redis_connection_comes_with_its_session() {
    let world = World::new(1);
    let authority = Authority::new();
    let server = authority.issue("server", &[NAME]);
    let at = world.listen(&secured("l", &redis(), &socket(&server, "", "")));
    let mut stream = connect(at, client_config(&authority, None, &[]), NAME);
    stream.write_all(b"PING\r\n").unwrap();
    stream.flush().unwrap();
    let given = world.given();
    let (Stream::Tcp(socket), Some(tls)) = (given.stream, given.tls) else {
        panic!("TLS over TCP")
    };
    assert!(!tls.is_handshaking() && tls.server_name() == Some(NAME));
    socket.set_nonblocking(false).unwrap();
    let mut owned = StreamOwned::new(*tls, socket);
    assert_eq!(read(&mut owned, 6), "PING\r\n");
    owned.write_all(b"+PONG\r\n").unwrap();
    assert_eq!(read(&mut stream, 7), "+PONG\r\n");
    world.stat("listener.l.ssl.handshake", 1);
    world.stat("listener.l.ssl.no_certificate", 1);
}

#[test]
fn alpn_is_the_servers_choice_and_never_an_alert() {
    let world = World::new(1);
    world.fixed("a", &[echo("a")], "");
    let authority = Authority::new();
    let server = authority.issue("server", &[NAME]);
    let common = ", alpn_protocols: [istio-peer-exchange, h2, http/1.1]";
    let at = world.listen(&secured("l", &tcp("cluster: a"), &socket(&server, common, "")));
    let cases: [(&[&str], Option<&[u8]>); 4] = [
        (&["istio-peer-exchange", "istio"], None),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["istio-peer-exchange", "http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ];
    for (offered, expected) in cases {
        let mut stream = connect(at, client_config(&authority, None, offered), NAME);
        assert_eq!(read(&mut stream, 1), "a", "{offered:?}");
        assert_eq!(stream.conn.alpn_protocol(), expected, "{offered:?}");
        // The end is passed on both ways through TLS.
        stream.write_all(b"xyz").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(rest(&mut stream), "xyzbye");
    }
    world.stat("listener.l.ssl.handshake", 4);
}

#[test]
fn clients_are_checked() {
    let world = World::new(1);
    world.fixed("a", &[echo("a")], "");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.issue("server", &[NAME]);
    let friend = authority.issue("friend", &["spiffe://cluster.local/ns/a/sa/friend"]);
    let other = authority.issue("other", &["spiffe://elsewhere/ns/a/sa/friend"]);
    let forged = stranger.issue("forged", &["spiffe://cluster.local/ns/a/sa/friend"]);
    let common = format!(
        ", validation_context: {{trusted_ca: {{filename: '{}'}}, match_typed_subject_alt_names: \
         [{{san_type: URI, matcher: {{prefix: 'spiffe://cluster.local/'}}}}]}}",
        authority.ca().display()
    );
    let socket = socket(&server, &common, ", require_client_certificate: true");
    let at = world.listen(&secured("l", &tcp("cluster: a"), &socket));
    let talk = |identity: Option<&Identity>| {
        let mut stream = connect(at, client_config(&authority, identity, &[]), NAME);
        let mut byte = [0];
        stream.read_exact(&mut byte).is_ok()
    };
    assert!(talk(Some(&friend)));
    world.stat("listener.l.ssl.handshake", 1);
    world.stat("listener.l.ssl.no_certificate", 0);
    assert!(!talk(Some(&other)));
    world.stat("listener.l.ssl.fail_verify_san", 1);
    assert!(!talk(Some(&forged)));
    world.stat("listener.l.ssl.fail_verify_error", 1);
    assert!(!talk(None));
    world.stat("listener.l.ssl.fail_verify_no_cert", 1);
    // Not TLS at all.
    let mut plain = client(at);
    plain.write_all(b"PING\r\n").unwrap();
    let _ = plain.read(&mut [0; 16]);
    world.stat("listener.l.ssl.connection_error", 1);
    world.stat("listener.l.downstream_cx_active", 0);
    world.stat("cluster.a.upstream_cx_total", 1);
}

#[test]
fn sessions_are_resumed_even_across_an_update() {
    let world = World::new(1);
    world.fixed("a", &[echo("a")], "");
    let authority = Authority::new();
    let server = authority.issue("server", &[NAME]);
    let yaml = secured("l", &tcp("cluster: a"), &socket(&server, "", ""));
    let at = world.listen(&yaml);
    let config = client_config(&authority, None, &[]);
    assert_eq!(read(&mut connect(at, config.clone(), NAME), 1), "a");
    world
        .add(super::world::listener(&yaml.replace("name: main", "name: other")))
        .unwrap();
    assert_eq!(read(&mut connect(at, config, NAME), 1), "a");
    world.stat("listener.l.ssl.session_reused", 1);
}

#[test]
fn a_slow_handshake_is_given_up() {
    let world = World::new(1);
    let authority = Authority::new();
    let server = authority.issue("server", &[NAME]);
    let socket = format!(
        "transport_socket_connect_timeout: 0.1s, {}",
        socket(&server, "", "")
    );
    let at = world.listen(&secured("l", &redis(), &socket));
    assert_eq!(rest(&mut client(at)), "");
    world.stat("listener.l.downstream_cx_transport_socket_connect_timeout", 1);
    world.stat("listener.l.downstream_cx_active", 0);
}

/// The inspector reads the ClientHello, the chain is chosen by it, and the handshake reads it again.
#[test]
fn chains_by_server_name_and_protocol() {
    let world = World::new(1);
    for name in ["one", "two", "raw", "pass"] {
        world.fixed(name, &[echo(name)], "");
    }
    let authority = Authority::new();
    let server = authority.issue("server", &["*.example.com"]);
    let chain = |condition: &str, cluster: &str, socket: &str| {
        format!(
            "{{filter_chain_match: {{{condition}}}, filters: [{}]{socket}}}",
            tcp(&format!("cluster: {cluster}"))
        )
    };
    let tls = format!(", {}", socket(&server, "", ""));
    let chains = [
        chain("server_names: [one.example.com]", "one", &tls),
        chain("server_names: ['*.example.com']", "two", &tls),
        chain("transport_protocol: raw_buffer", "raw", ""),
    ];
    let yaml = format!(
        "{{name: l, stat_prefix: l, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, listener_filters: \
         [{{name: envoy.filters.listener.tls_inspector, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}}}], filter_chains: [{}]}}",
        chains.join(", ")
    );
    let at = world.listen(&yaml);
    let config = client_config(&authority, None, &["h2"]);
    assert_eq!(
        read(&mut connect(at, config.clone(), "one.example.com"), 3),
        "one"
    );
    assert_eq!(read(&mut connect(at, config.clone(), "x.example.com"), 3), "two");
    let mut plain = client(at);
    plain.write_all(b"PING").unwrap();
    assert_eq!(read(&mut plain, 7), "rawPING");
    let mut nobody = connect(at, config, "one.example.org");
    assert!(
        nobody
            .write_all(b"x")
            .and_then(|()| nobody.read(&mut [0; 1]))
            .is_err()
    );
    world.stat("listener.l.no_filter_chain_match", 1);
    world.stat("tls_inspector.sni_found", 3);
    world.stat("tls_inspector.alpn_found", 3);
}
