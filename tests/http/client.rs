//! A raw client: sends bytes, reads one answer, and says it in a form that can be compared.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Sends a request and gives the answer: status line, headers in order of their names, body, and whether the
/// connection was closed. Times, dates, numbers of requests and ports are masked.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout can be set");
    stream.write_all(request).expect("the request can be sent");
    let mut bytes = Vec::new();
    let is_head = request.starts_with(b"HEAD ");
    while !is_complete(&bytes, is_head) {
        let mut buffer = [0; 16384];
        match stream.read(&mut buffer) {
            Ok(0) => return shown(&bytes, true),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::ConnectionReset) => {
                return shown(&bytes, true);
            }
            Err(error) => return format!("{}\n(no more: {error})", shown(&bytes, false)),
        }
    }
    // A connection that is to be closed is closed at once.
    stream
        .set_read_timeout(Some(Duration::from_millis(60)))
        .expect("a timeout can be set");
    let closed = match stream.read(&mut [0; 1]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    shown(&bytes, closed)
}

fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&bytes[..at]).ok()?, &bytes[at + 4..]))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn is_complete(bytes: &[u8], is_head: bool) -> bool {
    let Some((head, body)) = split(bytes) else {
        return false;
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "100" {
        return is_complete(body, is_head);
    }
    if status == "101" {
        // What the server says after the change.
        return body.ends_with(b"hello");
    }
    if is_head || matches!(status, "204" | "304") {
        return true;
    }
    match (header(head, "content-length"), header(head, "transfer-encoding")) {
        (Some(length), _) => body.len() >= length.parse().unwrap_or(0),
        (None, Some(_)) => body.ends_with(b"0\r\n\r\n"),
        (None, None) => false,
    }
}

pub(crate) fn shown(bytes: &[u8], closed: bool) -> String {
    let parsed = split(bytes);
    let says_so = parsed.is_some_and(|(head, _)| header(head, "connection") == Some("close"));
    // Envoy waits a second before it closes, so that what it said last is read.
    let end = match (says_so, closed) {
        (true, _) => "(closing)",
        (false, true) => "(closed)",
        (false, false) => "(open)",
    };
    let Some((head, body)) = parsed else {
        let text = String::from_utf8_lossy(bytes);
        return format!(
            "{}{end}",
            if text.is_empty() {
                String::new()
            } else {
                format!("{text}\n")
            }
        );
    };
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.contains(" 100 ") {
        return format!("{status}\n{}", shown(body, closed));
    }
    let code = status.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let mut headers: Vec<String> = lines.map(masked).collect();
    headers.sort();
    let body = if header(head, "transfer-encoding").is_some() {
        dechunked(body)
    } else {
        body.to_vec()
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    let body = if body.is_empty() {
        body
    } else {
        format!("\n{}\n", body.trim_end())
    };
    format!("{code}\n{}\n{body}{end}", headers.join("\n"))
}

/// A header line in lower case, with what changes from run to run replaced.
pub(crate) fn masked(line: &str) -> String {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let (name, value) = (name.to_ascii_lowercase(), value.trim());
    let value = match name.as_str() {
        "date" => "DATE",
        "x-envoy-upstream-service-time" => "MS",
        "x-request-id" => "UUID",
        "content-length" if value.len() > 2 => "LENGTH",
        "set-cookie" if value.contains("Max-Age") => "COOKIE",
        _ => value,
    };
    format!("{name}: {value}")
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = body.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&body[..at])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size.filter(|size| *size > 0 && body.len() >= at + 2 + size) else {
            break;
        };
        out.extend_from_slice(&body[at + 2..at + 2 + size]);
        body = body.get(at + 4 + size..).unwrap_or_default();
    }
    out
}
