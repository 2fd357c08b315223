//! Header values with operators: `%REQ(x-user)%`, `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`, and so on.
//!
//! Parsed once; what cannot be filled here is refused with its name, as an unknown operator is by Envoy. Envoy:
//! "Custom request/response headers", access log command operators.

use http::HeaderName;

/// A header value, ready to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// A part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Literal(String),
    /// Something that the request or the connection knows.
    Operator(Operator),
}

/// What is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `REQ(a?b):len`, `:method`, `:path`, `:authority` and `:scheme` among the names.
    Request(HeaderRef),
    /// `RESP(a?b):len`.
    Response(HeaderRef),
    /// A fact that has a name of its own.
    Fact(Fact),
}

/// The header that an operator names, the one that takes its place, and how much of the value counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRef {
    /// In lower case; may be a pseudo header.
    pub name: String,
    /// Used where the first is missing.
    pub other: Option<String>,
    /// Characters that are kept.
    pub limit: Option<usize>,
}

macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Facts by Envoy's names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fact {
            $($(#[$doc])* $name),*
        }

        const FACTS: &[(&str, Fact)] = &[$(($text, Fact::$name)),*];
    };
}

facts! {
    /// The client, with its port.
    DownstreamRemote = "DOWNSTREAM_REMOTE_ADDRESS";
    /// The client's address.
    DownstreamRemoteIp = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";
    /// The client's port.
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT";
    /// The client as the socket says.
    DownstreamDirectRemote = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS";
    /// The same without the port.
    DownstreamDirectRemoteIp = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT";
    /// Where the client connected to.
    DownstreamLocal = "DOWNSTREAM_LOCAL_ADDRESS";
    /// The same without the port.
    DownstreamLocalIp = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    /// Its port.
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT";
    /// URI SANs of the client.
    PeerUriSan = "DOWNSTREAM_PEER_URI_SAN";
    /// URI SANs of our own certificate.
    LocalUriSan = "DOWNSTREAM_LOCAL_URI_SAN";
    /// Subject of the client's certificate.
    PeerSubject = "DOWNSTREAM_PEER_SUBJECT";
    /// Downstream TLS version.
    TlsVersion = "DOWNSTREAM_TLS_VERSION";
    /// Downstream cipher.
    TlsCipher = "DOWNSTREAM_TLS_CIPHER";
    /// The host that was chosen.
    UpstreamHost = "UPSTREAM_HOST";
    /// The same.
    UpstreamRemote = "UPSTREAM_REMOTE_ADDRESS";
    /// The cluster.
    UpstreamCluster = "UPSTREAM_CLUSTER";
    /// The route's name.
    RouteName = "ROUTE_NAME";
    /// `HTTP/1.1`.
    Protocol = "PROTOCOL";
    /// SNI.
    ServerName = "REQUESTED_SERVER_NAME";
    /// When the request began.
    StartTime = "START_TIME";
    /// The response's code.
    ResponseCode = "RESPONSE_CODE";
    /// Why it was sent.
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS";
    /// What went wrong.
    ResponseFlags = "RESPONSE_FLAGS";
    /// The number of the downstream connection.
    ConnectionId = "CONNECTION_ID";
}

impl Template {
    /// Parses a value.
    ///
    /// # Errors
    ///
    /// An operator that is not known, or a `%` without its end.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let end = rest.find('%').ok_or_else(|| {
                format!("Invalid header configuration. Un-terminated variable expression '{rest}'")
            })?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Operator(operator(&rest[..end])?));
            rest = &rest[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }

    /// The parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether a header of the request is filled in.
    pub fn asks_for_request(&self) -> bool {
        let asks = |piece: &Piece| matches!(piece, Piece::Operator(Operator::Request(_)));
        self.0.iter().any(asks)
    }

    /// The whole value where nothing has to be filled in.
    pub fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

fn operator(text: &str) -> Result<Operator, String> {
    let unknown = || format!("Not supported field in StreamInfo: {text}");
    let (name, argument, limit) = match text.split_once('(') {
        None => (text, None, None),
        Some((name, rest)) => {
            let (argument, after) = rest.rsplit_once(')').ok_or_else(unknown)?;
            let limit = match after.strip_prefix(':') {
                Some(number) => Some(number.parse().map_err(|_| unknown())?),
                None if after.is_empty() => None,
                None => return Err(unknown()),
            };
            (name, Some(argument), limit)
        }
    };
    match (name, argument) {
        ("REQ", Some(argument)) => header(argument, limit).map(Operator::Request),
        ("RESP", Some(argument)) => header(argument, limit).map(Operator::Response),
        (name, argument) => {
            let found = FACTS.iter().find(|(known, _)| *known == name);
            match (found, argument) {
                (Some((_, Fact::StartTime)), None | Some("")) => Ok(Operator::Fact(Fact::StartTime)),
                (Some((_, fact)), None) if *fact != Fact::StartTime => Ok(Operator::Fact(*fact)),
                _ => Err(unknown()),
            }
        }
    }
}

fn header(argument: &str, limit: Option<usize>) -> Result<HeaderRef, String> {
    let lower = argument.to_ascii_lowercase();
    let (name, other) = match lower.split_once('?') {
        Some((name, other)) => (name.to_owned(), Some(other.to_owned())),
        None => (lower, None),
    };
    for name in std::iter::once(&name).chain(&other) {
        let plain = name.strip_prefix(':').unwrap_or(name);
        HeaderName::from_bytes(plain.as_bytes()).map_err(|_| format!("{name} is no header name"))?;
    }
    Ok(HeaderRef { name, other, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(Template::parse("100%%").unwrap().constant(), Some("100%"));
        assert_eq!(Template::parse("").unwrap().constant(), Some(""));
        let template = Template::parse("a%REQ(X-A?:path):3%b%PROTOCOL%").unwrap();
        let header = HeaderRef {
            name: "x-a".into(),
            other: Some(":path".into()),
            limit: Some(3),
        };
        assert_eq!(
            template.pieces(),
            [
                Piece::Literal("a".into()),
                Piece::Operator(Operator::Request(header)),
                Piece::Literal("b".into()),
                Piece::Operator(Operator::Fact(Fact::Protocol)),
            ]
        );
        for bad in ["%", "%REQ(a%", "%NOBODY%", "%REQ(a b)%", "%PROTOCOL(x)%"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
