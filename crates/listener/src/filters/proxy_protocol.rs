//! The proxy_protocol listener filter: the addresses that the proxy in front of us tells, in version 1 or 2 of HAProxy's
//! PROXY protocol. The header is taken out of the stream.
//!
//! HAProxy: `proxy-protocol.txt`. Envoy: `ProxyProtocol::Filter`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use redplane_config::listener::ProxyProtocol;
use redplane_telemetry::Block;
use redplane_telemetry::stats::{proxy_proto as names, proxy_proto_version as version_names};
use redplane_world::ConnectionFacts;

use super::peek::{Lost, Peek};
use crate::stream::canonical;

const V1: &[u8] = b"PROXY ";
/// A header of version 1 may have so many bytes, its line end among them.
const V1_MOST: usize = 107;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, the command, the family and the length of the rest.
const V2_HEAD: usize = 16;
/// The longest header: that of version 2 with a full length.
const MOST: usize = V2_HEAD + u16::MAX as usize;

/// Waits for the header and believes it.
pub(super) async fn look(
    peek: &mut Peek,
    config: &ProxyProtocol,
    (stats, versions): (&Block, &[Block; 2]),
    facts: &mut ConnectionFacts,
) -> Result<(), Lost> {
    let header = loop {
        match parse(peek.seen()) {
            Parsed::More => peek.more(MOST).await?,
            Parsed::Absent if config.optional => {
                stats.inc(names::NOT_FOUND_ALLOWED);
                return Ok(());
            }
            Parsed::Absent => {
                stats.inc(names::NOT_FOUND_DISALLOWED);
                return Err(Lost::Refused);
            }
            Parsed::Malformed(version) => {
                versions[version.index()].inc(version_names::ERROR);
                return Err(Lost::Refused);
            }
            Parsed::Header(header) => break header,
        }
    };
    let stats = &versions[header.version.index()];
    let refused = match header.version {
        Version::One => config.refuses_v1,
        Version::Two => config.refuses_v2,
    };
    if refused && !config.optional {
        stats.inc(version_names::DISALLOWED);
        return Err(Lost::Refused);
    }
    if refused {
        // As in Envoy: the header of a version that is not allowed belongs to the payload.
        stats.inc(version_names::DISALLOWED);
        return Ok(());
    }
    stats.inc(version_names::FOUND);
    peek.take(header.length)?;
    if let Some((source, destination)) = header.addresses {
        facts.source = Some(canonical(source));
        facts.restore(canonical(destination));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    fn index(self) -> usize {
        match self {
            Self::One => 0,
            Self::Two => 1,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    version: Version,
    length: usize,
    /// Client and destination; `None` keeps those of the socket (UNKNOWN, LOCAL, families without ports).
    addresses: Option<(SocketAddr, SocketAddr)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// More bytes may decide.
    More,
    Absent,
    Malformed(Version),
    Header(Header),
}

fn parse(seen: &[u8]) -> Parsed {
    if seen.starts_with(V1) {
        return parse_v1(seen);
    }
    if seen.starts_with(V2) {
        return parse_v2(seen);
    }
    if V1.starts_with(seen) || V2.starts_with(seen) {
        return Parsed::More;
    }
    Parsed::Absent
}

fn parse_v1(seen: &[u8]) -> Parsed {
    let head = &seen[..seen.len().min(V1_MOST)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return match head.len() < V1_MOST {
            true => Parsed::More,
            false => Parsed::Malformed(Version::One),
        };
    };
    let line = std::str::from_utf8(&head[V1.len()..end]).unwrap_or_default();
    let header = |addresses| {
        Parsed::Header(Header {
            version: Version::One,
            length: end + 2,
            addresses,
        })
    };
    if line.split(' ').next() == Some("UNKNOWN") {
        return header(None);
    }
    match addresses_v1(line) {
        Some(addresses) => header(Some(addresses)),
        None => Parsed::Malformed(Version::One),
    }
}

fn addresses_v1(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return None;
    };
    let at = |ip: &str, port: &str| {
        let ip: IpAddr = ip.parse().ok()?;
        let fits = matches!((family, ip), ("TCP4", IpAddr::V4(_)) | ("TCP6", IpAddr::V6(_)));
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        (fits && digits).then(|| Some(SocketAddr::new(ip, port.parse().ok()?)))?
    };
    Some((at(source, source_port)?, at(destination, destination_port)?))
}

fn parse_v2(seen: &[u8]) -> Parsed {
    let Some((head, body)) = seen.split_first_chunk::<V2_HEAD>() else {
        return Parsed::More;
    };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let (command, family) = (head[12], head[13]);
    if !matches!(command, 0x20 | 0x21) {
        return Parsed::Malformed(Version::Two);
    }
    let addresses = match (command, family) {
        (0x21, 0x11) if length < 12 => return Parsed::Malformed(Version::Two),
        (0x21, 0x21) if length < 36 => return Parsed::Malformed(Version::Two),
        _ if body.len() < length => return Parsed::More,
        (0x21, 0x11) => addresses_v2::<4>(body, |ip| Ipv4Addr::from(ip).into()),
        (0x21, 0x21) => addresses_v2::<16>(body, |ip| Ipv6Addr::from(ip).into()),
        _ => None,
    };
    Parsed::Header(Header {
        version: Version::Two,
        length: V2_HEAD + length,
        addresses,
    })
}

/// Two addresses of `N` bytes, then two ports.
fn addresses_v2<const N: usize>(
    body: &[u8],
    ip: impl Fn([u8; N]) -> IpAddr,
) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (ports, _) = rest.split_first_chunk::<4>()?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((
        SocketAddr::new(ip(*source), port(0)),
        SocketAddr::new(ip(*destination), port(2)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(parsed: &Parsed) -> Option<(String, String, usize)> {
        match parsed {
            Parsed::Header(header) => header
                .addresses
                .map(|(source, destination)| (source.to_string(), destination.to_string(), header.length)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn version_1_however_it_is_cut() {
        let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 5555 6379\r\nPING\r\n";
        for end in 0..header.len() - 6 {
            assert_eq!(parse(&header[..end]), Parsed::More, "{end}");
        }
        let told = told(&parse(header)).unwrap();
        assert_eq!(
            told,
            ("192.0.2.7:5555".into(), "10.0.0.1:6379".into(), header.len() - 6)
        );
        let unknown = parse(b"PROXY UNKNOWN ffff::1 x\r\n");
        assert!(
            matches!(
                unknown,
                Parsed::Header(Header {
                    addresses: None,
                    length: 25,
                    ..
                })
            ),
            "{unknown:?}"
        );
        for bad in [
            &b"PROXY TCP6 192.0.2.7 10.0.0.1 5555 6379\r\n"[..],
            b"PROXY TCP4 192.0.2.7 10.0.0.1 5555\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 6379\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 99999 6379\r\n",
            &[b"PROXY ".as_slice(), &[b'x'; 101]].concat(),
        ] {
            assert_eq!(parse(bad), Parsed::Malformed(Version::One), "{bad:?}");
        }
    }

    #[test]
    fn version_2_with_its_extensions() {
        let mut header = V2.to_vec();
        header.extend([
            0x21,
            0x11,
            0,
            12 + 3,
            192,
            0,
            2,
            7,
            10,
            0,
            0,
            1,
            0x15,
            0xb3,
            0x18,
            0xeb,
            4,
            0,
            0,
        ]);
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Parsed::More, "{end}");
        }
        let told = told(&parse(&header)).unwrap();
        assert_eq!(told, ("192.0.2.7:5555".into(), "10.0.0.1:6379".into(), 31));
        let local = [V2, &[0x20, 0, 0, 0]].concat();
        assert!(matches!(
            parse(&local),
            Parsed::Header(Header {
                addresses: None,
                length: 16,
                ..
            })
        ));
        for bad in [
            [0x31, 0x11, 0, 12],
            [0x22, 0x11, 0, 12],
            [0x21, 0x11, 0, 11],
            [0x21, 0x21, 0, 35],
        ] {
            let bad = [V2, &bad].concat();
            assert_eq!(parse(&bad), Parsed::Malformed(Version::Two), "{bad:?}");
        }
    }

    #[test]
    fn others_are_told_at_once() {
        for bytes in [&b"*1\r\n"[..], b"PING", b"PROXYx", b"\r\n\r\nx", b"\x16\x03"] {
            assert_eq!(parse(bytes), Parsed::Absent, "{bytes:?}");
        }
    }
}
