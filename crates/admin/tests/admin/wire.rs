//! Raw bytes on the socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::fixture::{Admin, empty};

fn connect(admin: &Admin) -> TcpStream {
    let stream = TcpStream::connect(admin.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn exchange(admin: &Admin, bytes: &[u8]) -> String {
    let mut stream = connect(admin);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one reply off a connection that stays open.
fn reply(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).into_owned();
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8_lossy(&body)
}

#[test]
fn an_unencoded_regex_is_understood() {
    let admin = Admin::start(empty());
    let answer = exchange(
        &admin,
        b"GET /stats?usedonly&filter=^(server\\.state|listener_manager\\.workers_started)$ HTTP/1.1\r\n\
          host: 127.0.0.1:15000\r\nconnection: close\r\n\r\n",
    );
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("server.state: 0\n"),
        "{answer}"
    );
    for odd in [
        "^server\\.state\"*$",
        "^server[.]state{1}$",
        "^server.state `*$",
        "^server\\.(?<x>state)$",
    ] {
        let request =
            format!("GET /stats?usedonly&filter={odd} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = exchange(&admin, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{odd}: {answer}");
    }
    let answer = exchange(
        &admin,
        b"GET /stats?filter=\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn a_connection_serves_many_requests() {
    let admin = Admin::start(empty());
    let mut stream = connect(&admin);
    for _ in 0..3 {
        stream
            .write_all(b"POST /runtime_modify?^ HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nGET /^ xyz")
            .unwrap();
        assert!(reply(&mut stream).starts_with("HTTP/1.1 503"));
        stream
            .write_all(b"GET /stats?usedonly&filter=^server\\.state$ HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        assert!(reply(&mut stream).ends_with("server.state: 0\n"));
    }
    stream.write_all(b"HEAD /ready HTTP/1.1\r\nhost: x\r\n\r\nGET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("HTTP/1.1 200 OK").count(), 2);
    assert_eq!(rest.matches("LIVE\n").count(), 1, "{rest}");
    assert_eq!(admin.registry.value("http.admin.downstream_rq_total"), Some(8));
    assert_eq!(admin.registry.value("http.admin.downstream_rq_5xx"), Some(3));
    assert_eq!(
        admin.registry.value("listener.admin.downstream_cx_total"),
        Some(1)
    );
}

#[test]
fn a_form_is_read() {
    let runtime = redplane_admin::RuntimeView {
        admin_layer: true,
        ..Default::default()
    };
    let admin = Admin::start(crate::fixture::World { runtime, ..empty() });
    let answer = exchange(
        &admin,
        b"POST /runtime_modify HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
          content-type: application/x-www-form-urlencoded\r\ncontent-length: 5\r\n\r\nk=a%20",
    );
    assert!(answer.ends_with("OK\n"), "{answer}");
    let pair = ("k".to_owned(), "a%2".to_owned());
    let expected = redplane_admin::Action::ModifyRuntime(vec![pair]);
    assert_eq!(admin.world.lock().unwrap().actions, [expected]);
}

#[test]
fn rubbish_is_refused_and_the_server_lives() {
    let admin = Admin::start(empty());
    for rubbish in [
        &b"BLAH\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = connect(&admin);
        stream.write_all(rubbish).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset is an answer as well.
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(admin.get("/ready").body, "LIVE\n");
    assert_eq!(admin.get("/ready/").status, 404);
}
