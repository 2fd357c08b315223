//! What rules ask about: borrowed from whoever holds the connection.

use std::net::{IpAddr, SocketAddr};

/// A connection, as it is once its handshake is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection<'a> {
    /// The socket's peer; none for a Unix socket.
    pub direct_remote: Option<IpAddr>,
    /// The client as the proxy protocol tells it, else the same.
    pub remote: Option<IpAddr>,
    /// Where the client wanted to go, before any redirection.
    pub destination: Option<SocketAddr>,
    /// The name that it asked for in TLS (SNI), as the inspector or the handshake saw it; empty if it asked for none.
    pub server_name: &'a str,
    /// What TLS tells of the client; `None` is plain text.
    pub tls: Option<Peer<'a>>,
}

/// A client behind TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// Whether it showed a certificate that was validated.
    pub is_validated: bool,
    /// URIs among the names of its certificate; none without one.
    pub uri_sans: &'a [String],
    /// DNS names among them.
    pub dns_sans: &'a [String],
    /// The certificate's subject, RFC 2253; empty without one.
    pub subject: &'a str,
}

/// The values of a header, one by one: calls what it is given for each line. Names are lower case; `:method`,
/// `:authority`, `:scheme` and `:path` are headers too.
pub type Headers<'a> = dyn Fn(&str, &mut dyn FnMut(&[u8])) + 'a;

/// What filters wrote: the name of a filter to an object.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// A request on a connection.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The client as `x-forwarded-for` tells it, else the connection's.
    pub remote: Option<IpAddr>,
    /// Its headers.
    pub headers: &'a Headers<'a>,
    /// What filters before this one wrote.
    pub metadata: &'a Metadata,
    /// What stands at the route; `None` where no route was found.
    pub route_metadata: Option<&'a Metadata>,
}
