//! The tls_inspector listener filter: is it TLS, for which name, with which protocols on offer?
//!
//! Envoy: `TlsInspector::Filter`.

use redplane_config::listener::TlsInspector;
use redplane_telemetry::Block;
use redplane_telemetry::stats::tls_inspector as names;
use redplane_world::ConnectionFacts;
use rustls::server::{Acceptor, ClientHello};

use super::peek::{Lost, Peek};

/// What the first bytes tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// They begin a TLS handshake.
    is_tls: bool,
    /// Server name, lower case.
    server_name: Option<String>,
    /// Protocols on offer, in the client's order.
    application_protocols: Vec<Vec<u8>>,
}

/// Looks until it is clear what the client speaks.
pub(super) async fn look(
    peek: &mut Peek,
    config: &TlsInspector,
    stats: &Block,
    facts: &mut ConnectionFacts,
) -> Result<(), Lost> {
    let mut parser = Parser::default();
    loop {
        if let Some(seen) = parser.feed(peek.seen()) {
            count(stats, &seen, peek.seen().len());
            facts.is_tls = seen.is_tls;
            facts.server_name = seen.server_name;
            facts.application_protocols = seen.application_protocols;
            return Ok(());
        }
        if peek.seen().len() >= config.max_client_hello {
            stats.inc(names::CLIENT_HELLO_TOO_LARGE);
            return Err(Lost::Refused);
        }
        let more = peek.more(config.max_client_hello).await;
        more.inspect_err(|_| stats.inc(names::CONNECTION_CLOSED))?;
    }
}

fn count(stats: &Block, seen: &Seen, bytes: usize) {
    stats.record(names::BYTES_PROCESSED, bytes as u64);
    if !seen.is_tls {
        stats.inc(names::TLS_NOT_FOUND);
        return;
    }
    stats.inc(names::TLS_FOUND);
    let named = seen.server_name.is_some();
    stats.inc(if named {
        names::SNI_FOUND
    } else {
        names::SNI_NOT_FOUND
    });
    let offers = !seen.application_protocols.is_empty();
    stats.inc(if offers {
        names::ALPN_FOUND
    } else {
        names::ALPN_NOT_FOUND
    });
}

/// Reads a growing prefix of the stream.
#[derive(Default)]
struct Parser {
    acceptor: Acceptor,
    fed: usize,
}

impl Parser {
    /// Takes the prefix so far; `None` asks for more.
    fn feed(&mut self, prefix: &[u8]) -> Option<Seen> {
        if !may_be_handshake(prefix) {
            return Some(Seen::default());
        }
        let mut news = &prefix[self.fed..];
        while !news.is_empty() {
            match self.acceptor.read_tls(&mut news) {
                Ok(taken) if taken > 0 => {}
                _ => break,
            }
        }
        self.fed = prefix.len() - news.len();
        match self.acceptor.accept() {
            Ok(None) => None,
            Ok(Some(accepted)) => Some(seen(&accepted.client_hello())),
            // TLS that this library would not serve may still be passed through to somebody who does.
            Err(_) => Some(Seen {
                is_tls: prefix.get(5) == Some(&CLIENT_HELLO),
                ..Seen::default()
            }),
        }
    }
}

const CLIENT_HELLO: u8 = 1;

/// A handshake record of any version begins like this.
fn may_be_handshake(prefix: &[u8]) -> bool {
    prefix.first().is_none_or(|kind| *kind == 0x16) && prefix.get(1).is_none_or(|major| *major == 3)
}

fn seen(hello: &ClientHello<'_>) -> Seen {
    let protocols = hello.alpn().into_iter().flatten();
    Seen {
        is_tls: true,
        server_name: hello.server_name().map(str::to_ascii_lowercase),
        application_protocols: protocols.map(<[u8]>::to_vec).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"istio-peer-exchange".to_vec(), b"istio".to_vec()];
        let name = "Redis.Example.com".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_client_hello_is_read_however_it_is_cut() {
        let hello = hello();
        for step in [1, 7, hello.len()] {
            let mut parser = Parser::default();
            let ends = (0..hello.len()).step_by(step).skip(1);
            for end in ends {
                assert_eq!(parser.feed(&hello[..end]), None, "{end} of {}", hello.len());
            }
            let seen = parser.feed(&hello).unwrap();
            assert_eq!(seen.server_name.as_deref(), Some("redis.example.com"));
            assert_eq!(
                seen.application_protocols,
                [&b"istio-peer-exchange"[..], b"istio"]
            );
        }
    }

    #[test]
    fn other_bytes_are_no_tls() {
        for bytes in [&b"*1\r\n"[..], b"P", b"\x16\x02", b"\x17\x03\x01\0\x01a"] {
            assert_eq!(Parser::default().feed(bytes), Some(Seen::default()), "{bytes:?}");
        }
        assert_eq!(Parser::default().feed(b"\x16"), None);
    }

    #[test]
    fn a_hello_that_is_not_served_here_is_still_tls() {
        let mut old = b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x01".to_vec();
        old.extend([7; 32]);
        old.extend(b"\0\0\x04\0\x2f\0\x35\x01\0");
        let seen = Parser::default().feed(&old).unwrap();
        assert!(seen.is_tls && seen.server_name.is_none());
    }
}
