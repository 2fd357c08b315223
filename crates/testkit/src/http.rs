//! The smallest HTTP/1.1 client that admin pages need: one request, one connection, the whole body.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A reply of an admin page.
#[derive(Debug, Clone)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// The head: status line and headers.
    pub head: String,
    /// The body, with chunks put together.
    pub body: String,
}

/// Sends `GET path`.
///
/// # Errors
/// Whatever the socket says, or an answer that is not HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> std::io::Result<HttpReply> {
    exchange(address, "GET", path)
}

/// Sends `POST path` with an empty body, as Envoy's mutating pages ask for.
///
/// # Errors
/// Whatever the socket says, or an answer that is not HTTP.
pub fn http_post(address: SocketAddr, path: &str) -> std::io::Result<HttpReply> {
    exchange(address, "POST", path)
}

fn exchange(address: SocketAddr, method: &str, path: &str) -> std::io::Result<HttpReply> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
}

fn parse(bytes: &[u8]) -> Option<HttpReply> {
    let border = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..border]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let rest = &bytes[border + 4..];
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(rest)? } else { rest.to_vec() };
    Some(HttpReply {
        status,
        head,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let text = std::str::from_utf8(&rest[..line]).ok()?;
        let size = usize::from_str_radix(text.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(line + 2..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        let reply = parse(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        );
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, "abcde"));
    }

    #[test]
    fn a_plain_body_is_kept() {
        let reply = parse(b"HTTP/1.1 503 Service Unavailable\r\n\r\nPRE_INITIALIZING\n").unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (503, "PRE_INITIALIZING\n"));
    }
}
