//! gRPC over HTTP: which requests are, and what its statuses and timeouts mean.
//!
//! Envoy: `source/common/grpc/common.cc` and `status.cc`; gRPC over HTTP/2.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Whether the content type says gRPC: `application/grpc`, or that with `+` and a codec.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = value.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

/// The gRPC status that stands for an HTTP status in a local reply.
pub fn status_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The `grpc-status` of a message's headers or trailers.
pub fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What a message may not hold as it is, beside what is no ASCII.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// A message as `grpc-message` carries it: percent-encoded.
pub fn encode_message(text: &str) -> String {
    utf8_percent_encode(text, MESSAGE).to_string()
}

/// `grpc-timeout`: up to eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The text of a timeout, in milliseconds or, where that has more than eight digits, in a larger unit.
pub fn timeout_text(limit: Duration) -> String {
    let millis = limit.as_millis();
    if millis < 100_000_000 {
        format!("{millis}m")
    } else if millis < 100_000_000_000 {
        format!("{}S", millis / 1000)
    } else {
        format!("{}M", millis / 60_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn content_types() {
        for (text, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&with("content-type", text)), grpc, "{text}");
        }
    }

    #[test]
    fn timeouts() {
        for (text, expected) in [
            ("1S", Some(1000)),
            ("250m", Some(250)),
            ("2H", Some(7_200_000)),
            ("S", None),
            ("123456789m", None),
            ("5x", None),
        ] {
            let found = timeout(&with("grpc-timeout", text));
            assert_eq!(found, expected.map(Duration::from_millis), "{text}");
        }
        assert_eq!(timeout_text(Duration::from_secs(5)), "5000m");
        assert_eq!(timeout_text(Duration::from_secs(1_000_000)), "1000000S");
    }

    #[test]
    fn messages() {
        assert_eq!(encode_message("a b%\n\u{e9}"), "a b%25%0A%C3%A9");
    }
}
