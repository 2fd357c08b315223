//! What the listener knows of a connection that it hands over.

use std::net::SocketAddr;

/// One downstream connection.
#[derive(Clone, Debug, Default)]
pub struct Downstream {
    /// Unique in the process.
    pub id: u64,
    /// Where the client meant to go; the original destination if that was restored.
    pub local: Option<SocketAddr>,
    /// The local end is not our own address, so that dialling it does not come back here.
    pub restored: bool,
    /// The client.
    pub remote: Option<SocketAddr>,
    /// The client as the socket says.
    pub direct_remote: Option<SocketAddr>,
    /// SNI, if it was looked at or TLS is ended here.
    pub server_name: Option<String>,
    /// The chain's name.
    pub chain: String,
    /// TLS that is ended here.
    pub tls: Option<Tls>,
}

/// The TLS session of a connection.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `TLSv1.3`.
    pub version: Option<&'static str>,
    /// The cipher.
    pub cipher: Option<String>,
    /// What was agreed on.
    pub alpn: Option<Vec<u8>>,
    /// The client showed a certificate that was held against roots.
    pub is_validated: bool,
    /// SHA-256 of the client's certificate, in hex; `None` where it sent none.
    pub digest: Option<String>,
    /// The subject of the client's certificate (RFC 2253).
    pub subject: Option<String>,
    /// URI SANs of the client.
    pub uri_sans: Vec<String>,
    /// DNS SANs of the client.
    pub dns_sans: Vec<String>,
    /// URI SANs of our own certificate.
    pub own_uri_sans: Vec<String>,
}

impl Downstream {
    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The client sent a certificate: mTLS.
    pub(crate) fn peer(&self) -> Option<&Tls> {
        self.tls.as_ref().filter(|tls| tls.digest.is_some())
    }
}
