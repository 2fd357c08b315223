//! The http_inspector listener filter: is it HTTP, and which version?
//!
//! RESP is told from HTTP by its first byte and never waited for. A word that may still become the first line of a
//! request is waited for, as in Envoy: an inline command without its line end looks like one.
//!
//! Envoy: `HttpInspector::Filter`.

use redplane_telemetry::Block;
use redplane_telemetry::stats::http_inspector as names;
use redplane_world::ConnectionFacts;

use super::peek::{Lost, Peek};

/// A first line may have so many bytes, as for Envoy.
const MOST: usize = 64 * 1024;

/// How an HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Looks until it is clear what the client speaks.
pub(super) async fn look(peek: &mut Peek, stats: &Block, facts: &mut ConnectionFacts) -> Result<(), Lost> {
    loop {
        match judge(peek.seen()) {
            Verdict::Unclear => {}
            Verdict::Other => {
                stats.inc(names::HTTP_NOT_FOUND);
                return Ok(());
            }
            Verdict::Http(protocol) => {
                stats.inc(match protocol {
                    "http/1.0" => names::HTTP10_FOUND,
                    "http/1.1" => names::HTTP11_FOUND,
                    _ => names::HTTP2_FOUND,
                });
                facts.application_protocols = vec![protocol.as_bytes().to_vec()];
                return Ok(());
            }
        }
        if peek.seen().len() >= MOST {
            stats.inc(names::HTTP_NOT_FOUND);
            return Ok(());
        }
        let more = peek.more(MOST).await;
        more.inspect_err(|lost| {
            if matches!(lost, Lost::Error) {
                stats.inc(names::READ_ERROR);
            }
        })?;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// More bytes may decide.
    Unclear,
    Other,
    Http(&'static str),
}

fn judge(seen: &[u8]) -> Verdict {
    if seen.len() >= PREFACE.len() && seen.starts_with(PREFACE) {
        return Verdict::Http("h2c");
    }
    if PREFACE.starts_with(seen) {
        return Verdict::Unclear;
    }
    // Methods begin with a letter; no message of RESP, and no TLS record, does.
    if !seen[0].is_ascii_alphabetic() {
        return Verdict::Other;
    }
    let end = seen.iter().position(|byte| *byte == b'\n');
    let line = &seen[..end.unwrap_or(seen.len())];
    let (text, cut) = match line.split_last() {
        Some((b'\r', text)) => (text, true),
        _ => (line, false),
    };
    if text.iter().any(|byte| byte.is_ascii_control()) {
        return Verdict::Other;
    }
    match end {
        Some(_) => whole(text),
        None if cut => match whole(text) {
            Verdict::Http(_) => Verdict::Unclear,
            other => other,
        },
        None => Verdict::Unclear,
    }
}

/// A first line without its end: method, target, version.
fn whole(line: &[u8]) -> Verdict {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next(), words.next());
    let (version, more) = (words.next(), words.next());
    let is_word = |word: Option<&[u8]>| word.is_some_and(|word| !word.is_empty());
    if !is_word(method) || !is_word(target) || more.is_some() {
        return Verdict::Other;
    }
    match version {
        Some(b"HTTP/1.0") => Verdict::Http("http/1.0"),
        Some(b"HTTP/1.1") => Verdict::Http("http/1.1"),
        _ => Verdict::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resp_is_known_by_its_first_byte() {
        for bytes in [
            &b"*"[..],
            b"*1\r\n",
            b"$",
            b"+",
            b"-",
            b":",
            b"\x16\x03",
            b"\0",
            b"\r",
        ] {
            assert_eq!(judge(bytes), Verdict::Other, "{bytes:?}");
        }
    }

    #[test]
    fn inline_commands_are_no_http_when_their_line_ends() {
        for bytes in [&b"PING\r\n"[..], b"GET k\r\n", b"GET a b\n", b"PING\r"] {
            assert_eq!(judge(bytes), Verdict::Other, "{bytes:?}");
        }
        for bytes in [
            &b""[..],
            b"P",
            b"PING",
            b"GET /ok",
            b"GET / HTTP/1.1\r",
            b"PRI * HTTP/2.0\r\n\r\nSM",
        ] {
            assert_eq!(judge(bytes), Verdict::Unclear, "{bytes:?}");
        }
    }

    #[test]
    fn versions() {
        for (bytes, version) in [
            (&b"GET / HTTP/1.1\r\nhost: a\r\n"[..], "http/1.1"),
            (b"BREW /pot HTTP/1.0\r\n", "http/1.0"),
            (b"GET / HTTP/1.1\n", "http/1.1"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", "h2c"),
        ] {
            assert_eq!(judge(bytes), Verdict::Http(version), "{bytes:?}");
        }
        for bytes in [
            &b"GET / HTTP/2.0\r\n"[..],
            b"GET /\r\n",
            b"GET  / HTTP/1.1\r\n",
            b"GET \x01",
        ] {
            assert_eq!(judge(bytes), Verdict::Other, "{bytes:?}");
        }
    }
}
