//! What is known of a connection and of the peer at its other end: made once, read by all.
//!
//! Listener filters and the handshake add to it before the chain's filters run; chain matching, access rules, logs and
//! statistics only read it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use redplane_config::tls::SanKind;
use redplane_upstream::tls::{san, subject};
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConnection};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFacts {
    /// Unique in the process.
    pub id: u64,
    /// Where the client meant to connect to; `None` for a Unix socket.
    pub destination: Option<SocketAddr>,
    /// The destination is not our own address but one that was told: by the kernel, or by the proxy in front of us.
    pub restored: bool,
    /// The client; `None` for a Unix socket.
    pub source: Option<SocketAddr>,
    /// The other end of the socket: not the client, where a proxy in front of us told another one.
    pub direct_source: Option<SocketAddr>,
    /// How often it has come through this process before.
    pub hops: u8,
    /// The first bytes were looked at and are TLS.
    pub is_tls: bool,
    /// The server name of the ClientHello, lower case, if it was looked at and has one.
    pub server_name: Option<String>,
    /// Protocols that the client offers, in its order; or the HTTP version that its first bytes show.
    pub application_protocols: Vec<Vec<u8>>,
    /// TLS that is ended here, after the handshake.
    pub tls: Option<TlsFacts>,
}

/// A TLS session.
#[derive(Clone, Debug, Default)]
pub struct TlsFacts {
    /// Envoy's word for the version.
    pub version: Option<&'static str>,
    /// OpenSSL's name of the cipher.
    pub cipher: Option<String>,
    /// The protocol that was agreed on.
    pub alpn: Option<Vec<u8>>,
    /// The client's certificate and those that it sent along, the client's first; empty if it sent none.
    pub certificates: Vec<CertificateDer<'static>>,
    /// URIs among the subject alternative names of the client's certificate: its SPIFFE identity.
    pub uri_sans: Vec<String>,
    /// DNS names among them.
    pub dns_sans: Vec<String>,
    /// The client's subject, RFC 2253; empty without a certificate.
    pub subject: String,
}

impl ConnectionFacts {
    /// A connection that has just come.
    pub fn new(destination: Option<SocketAddr>, source: Option<SocketAddr>) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Relaxed),
            destination,
            source,
            direct_source: source,
            ..Self::default()
        }
    }

    /// Somebody tells where the client meant to connect to.
    pub fn restore(&mut self, destination: SocketAddr) {
        if self.destination != Some(destination) {
            self.destination = Some(destination);
            self.restored = true;
        }
    }

    /// The TLS handshake is done.
    pub fn secured(&mut self, tls: &ServerConnection) {
        self.is_tls = true;
        self.server_name = tls.server_name().map(str::to_ascii_lowercase);
        let certificates = tls.peer_certificates().unwrap_or_default();
        let leaf = certificates.first();
        let names = leaf.and_then(|leaf| san::names(leaf).ok()).unwrap_or_default();
        let (mut uri_sans, mut dns_sans) = (Vec::new(), Vec::new());
        for name in names {
            match name.kind {
                SanKind::Uri => uri_sans.push(name.text),
                SanKind::Dns => dns_sans.push(name.text),
                _ => {}
            }
        }
        self.tls = Some(TlsFacts {
            version: tls.protocol_version().and_then(version),
            cipher: tls
                .negotiated_cipher_suite()
                .and_then(|suite| cipher(suite.suite())),
            alpn: tls.alpn_protocol().map(<[u8]>::to_vec),
            certificates: certificates.iter().map(|one| one.clone().into_owned()).collect(),
            uri_sans,
            dns_sans,
            subject: leaf.and_then(|leaf| subject(leaf)).unwrap_or_default(),
        });
    }
}

/// Envoy's words.
fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

/// OpenSSL's names, which Envoy prints: those of TLS 1.3 are the standard's.
fn cipher(suite: rustls::CipherSuite) -> Option<String> {
    let name = suite.as_str()?;
    if let Some(name) = name.strip_prefix("TLS13_") {
        return Some(format!("TLS_{name}"));
    }
    let name = name
        .strip_prefix("TLS_")?
        .replace("_WITH_", "-")
        .replace('_', "-");
    Some(
        name.replace("AES-128", "AES128")
            .replace("AES-256", "AES256")
            .replace("-POLY1305-SHA256", "-POLY1305"),
    )
}
