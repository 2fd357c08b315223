//! A raw server that prints the request in its answer, and misbehaves where the path asks for it:
//! `/status/N`, `/close`, `/garbage`, `/sleep`, `/pause`, `/partial`, `/plain` (until close), `/chunked`, `/headers`,
//! `/fail/N/KEY` (503 for the first N requests with that key), `/upgrade`, `/jwks` (keys of tokens),
//! `/nth` (adds which request of its connection it is), `/copied/KEY` (remembers the request), `/seen/KEY` (tells what was remembered).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Keys that tokens of the issuer `far` are signed with.
const KEYS: &str = r#"{"keys": [{"kty": "oct", "alg": "HS256", "kid": "f", "k": "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA"}]}"#;

/// What a server remembers.
#[derive(Default)]
struct Memory {
    /// How often a key was asked for.
    counts: HashMap<String, usize>,
    /// Requests to `/copied/KEY`, as they are echoed.
    copies: HashMap<String, String>,
}

type Counts = Arc<Mutex<Memory>>;

/// Starts the server; it ends with the process.
pub(crate) fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let counts = Counts::default();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = Arc::clone(&counts);
            thread::spawn(move || serve(stream, &counts));
        }
    });
    address
}

fn serve(mut stream: TcpStream, counts: &Counts) {
    let mut bytes = Vec::new();
    let mut number = 0;
    while let Some((mut head, body)) = request(&mut stream, &mut bytes) {
        number += 1;
        if head.contains(" /nth ") {
            head.push_str(&format!("\r\nnumber-on-connection: {number}"));
        }
        if !answer(&mut stream, &head, &body, counts) {
            return;
        }
    }
}

/// One request: its head without the last line end, and its body.
fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let at = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        read(stream, bytes)?;
    };
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    bytes.drain(..at + 4);
    let lower = head.to_ascii_lowercase();
    if lower.contains("expect: 100-continue") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = Vec::new();
    if lower.contains("transfer-encoding: chunked") {
        while !bytes.ends_with(b"0\r\n\r\n") {
            read(stream, bytes)?;
        }
        body.append(bytes);
        body = dechunked(&body);
    } else if let Some(length) = length {
        while bytes.len() < length {
            read(stream, bytes)?;
        }
        body.extend(bytes.drain(..length));
    }
    Some((head, body))
}

fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16384];
    let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
    bytes.extend_from_slice(&buffer[..length]);
    Some(())
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = body.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&body[..at])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else {
            break;
        };
        out.extend_from_slice(&body[at + 2..at + 2 + size]);
        body = &body[at + 4 + size..];
    }
    out
}

/// Answers; false closes the connection.
fn answer(stream: &mut TcpStream, head: &str, body: &[u8], counts: &Counts) -> bool {
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let parts: Vec<&str> = path
        .split('?')
        .next()
        .unwrap_or_default()
        .split('/')
        .skip(1)
        .collect();
    let mut reply = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    match parts.as_slice() {
        ["close", ..] => false,
        ["garbage", ..] => {
            reply("this is no HTTP\r\n\r\n");
            false
        }
        ["partial", ..] => {
            reply("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
            false
        }
        ["plain", ..] => {
            reply("HTTP/1.1 200 OK\r\ncontent-type: text/x\r\n\r\nuntil the end");
            false
        }
        ["chunked", ..] => reply(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
        ),
        ["headers", ..] => reply(
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nserver: mine\r\nvia: 1.1 x\r\nkeep-alive: timeout=5\r\n\
             connection: keep-alive, x-listed\r\nx-listed: 1\r\nx-envoy-foo: 1\r\nx-remove: 1\r\ndate: never\r\n\r\n",
        ),
        ["sleep", ..] => {
            thread::sleep(Duration::from_millis(1500));
            echo(stream, 200, head, body)
        }
        ["pause"] => {
            thread::sleep(Duration::from_millis(400));
            echo(stream, 200, head, body)
        }
        ["status", code] => echo(stream, code.parse().unwrap_or(200), head, body),
        ["fail", count, key] => {
            let mut counts = counts.lock().expect("no thread panics");
            let seen = counts.counts.entry((*key).to_owned()).or_default();
            *seen += 1;
            let fails = *seen <= count.parse().unwrap_or(0);
            drop(counts);
            echo(stream, if fails { 503 } else { 200 }, head, body)
        }
        ["jwks"] => reply(&format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{KEYS}",
            KEYS.len()
        )),
        ["copied", key] => {
            let text = echoed(head, body);
            let mut counts = counts.lock().expect("no thread panics");
            counts.copies.insert((*key).to_owned(), text);
            drop(counts);
            echo(stream, 200, head, body)
        }
        ["seen", key] => {
            let copy = (0..100).find_map(|_| {
                let copy = counts.lock().expect("no thread panics").copies.get(*key).cloned();
                copy.or_else(|| {
                    thread::sleep(Duration::from_millis(5));
                    None
                })
            });
            let copy = copy.unwrap_or_else(|| "no copy came".to_owned());
            reply(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{copy}",
                copy.len()
            ))
        }
        ["grpc", status] => reply(&format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: {status}\r\ncontent-length: 0\r\n\r\n"
        )),
        ["upgrade", ..] => {
            reply(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello",
            );
            let mut bytes = [0; 5];
            let _ = stream.read_exact(&mut bytes);
            let _ = stream.write_all(&bytes);
            false
        }
        _ => echo(stream, 200, head, body),
    }
}

/// The request as text: its first line, its headers by name, its body.
fn echoed(head: &str, body: &[u8]) -> String {
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let counts = ["x-envoy-attempt-count: 2", "x-envoy-attempt-count: 3"];
    let is_retry = lines.clone().any(|line| counts.contains(&line));
    let is_copy = lines.clone().any(|line| line == "x-envoy-internal: true");
    let mut headers: Vec<String> = lines.map(|line| masked(line, is_retry, is_copy)).collect();
    headers.sort();
    format!(
        "{first}\n{}\n{}",
        headers.join("\n"),
        String::from_utf8_lossy(body)
    )
}

fn echo(stream: &mut TcpStream, status: u16, head: &str, body: &[u8]) -> bool {
    let text = echoed(head, body);
    let reply = format!(
        "HTTP/1.1 {status} X\r\nx-app: 1\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    let no_body = matches!(status, 204 | 304) || head.starts_with("HEAD ");
    let reply = match (no_body, reply.find("\r\n\r\n")) {
        (true, Some(at)) if status == 204 => reply[..at + 4].replace("content-length", "x-length"),
        (true, Some(at)) => reply[..at + 4].to_owned(),
        _ => reply,
    };
    stream.write_all(reply.as_bytes()).is_ok()
}

/// What differs from run to run has its name in place of its value. What is left of a time-out differs in a retry, which
/// may come within the first millisecond.
fn masked(line: &str, is_retry: bool, is_copy: bool) -> String {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let (name, value) = (name.to_ascii_lowercase(), value.trim());
    let is_uuid = value.len() == 36 && value.as_bytes()[14] == b'4' && value.matches('-').count() == 4;
    let is_left = name == "x-envoy-expected-rq-timeout-ms" && (is_retry || !value.ends_with("00"));
    let value = match (is_uuid, is_left) {
        (true, _) => "UUID",
        _ if name == "x-forwarded-for" && is_copy => "OWN",
        (_, true) => "LEFT",
        _ => value,
    };
    format!("{name}: {value}")
}
