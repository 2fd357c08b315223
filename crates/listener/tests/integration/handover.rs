//! What reaches the Redis driver, what does not, and what is logged of it.

use std::io::{Read, Write};
use std::time::Duration;

use redplane_listener::redis::Stream;

use super::world::{Told, World, client, listener, one_chain, redis, rest};

#[test]
fn a_plain_connection_is_handed_over_untouched() {
    let world = World::new(1);
    let at = world.listen(&one_chain("l", &redis(), ""));
    let mut client = client(at);
    client.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
    let given = world.given();
    let Stream::Tcp(mut stream) = given.stream else {
        panic!("TCP stays TCP")
    };
    assert!(stream.nodelay().unwrap() && given.tls.is_none());
    // It came non-blocking.
    let mut byte = [0; 14];
    redplane_testkit::until("the request is there", super::world::LIMIT, || {
        stream.peek(&mut byte).is_ok()
    });
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"*1\r\n$4\r\nPING\r\n");
    stream.write_all(b"+PONG\r\n").unwrap();
    drop(stream);
    assert_eq!(rest(&mut client), "+PONG\r\n");
    world.stat("listener.l.downstream_cx_total", 1);
    world.stat("listener.l.downstream_cx_active", 1);
}

#[test]
fn the_access_log_has_a_line_for_each_connection() {
    let world = World::new(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = format!(
        ", access_log: [{{name: file, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: '{}', log_format: \
         {{text_format_source: {{inline_string: \"%BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_FLAGS% %UPSTREAM_HOST% \
         %DOWNSTREAM_LOCAL_ADDRESS% %FILTER_CHAIN_NAME% %CONNECTION_TERMINATION_DETAILS%\\n\"}}}}}}}}]",
        path.display()
    );
    let at = world.listen(&one_chain("l", &redis(), &log));
    let _client = client(at);
    let _given = world.given();
    world.remove("l", Duration::ZERO);
    assert!(matches!(world.told(), Told::Drain(..)));
    // No chain for this port.
    let nobody = one_chain("n", &redis(), &log).replace(
        "{name: main,",
        "{name: main, filter_chain_match: {destination_port: 1},",
    );
    let other = world.listen(&nobody);
    assert_eq!(rest(&mut client(other)), "");
    world.stat("listener.n.no_filter_chain_match", 1);
    world.stat("listener.n.downstream_cx_total", 0);
    let lines = redplane_testkit::until_some("two lines", super::world::LIMIT, || {
        world.files.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        (lines.len() == 2).then_some(lines)
    });
    let refused = format!("0 0 NR - {other} - filter_chain_not_found");
    assert_eq!(lines, [refused, format!("27 5 - - {at} main -")]);

    let bad = one_chain(
        "b",
        &redis(),
        &log.replace(&path.display().to_string(), "/no/such/folder/log"),
    );
    let refusal = world.add(listener(&bad)).unwrap_err();
    assert!(
        refusal.starts_with("unable to open file '/no/such/folder/log'"),
        "{refusal}"
    );
}

#[test]
fn an_inert_chain_refuses() {
    let world = World::new(1);
    let at = world.listen(&one_chain(
        "l",
        "{name: istio.stats, typed_config: {'@type': type.googleapis.com/stats.PluginConfig}}",
        "",
    ));
    assert_eq!(rest(&mut client(at)), "");
    world.stat("listener.l.network_extension_config_missing", 1);
}

const INSPECTOR: &str = "listener_filters: [{name: envoy.filters.listener.tls_inspector, typed_config: {'@type': \
    type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]";

#[test]
fn silent_clients_wait_for_the_timeout() {
    let world = World::new(1);
    let timeout = |on: bool| {
        format!(", {INSPECTOR}, listener_filters_timeout: 0.1s, continue_on_listener_filters_timeout: {on}")
    };
    let at = world.listen(&one_chain("goes", &redis(), &timeout(true)));
    let mut silent = client(at);
    let Stream::Tcp(mut stream) = world.given().stream else {
        panic!("TCP stays TCP")
    };
    // A server that speaks first is heard.
    stream.write_all(b"hello").unwrap();
    assert_eq!(super::world::read(&mut silent, 5), "hello");
    world.stat("listener.goes.downstream_pre_cx_timeout", 1);
    world.stat("listener.goes.downstream_pre_cx_active", 0);

    let at = world.listen(&one_chain("ends", &redis(), &timeout(false)));
    assert_eq!(rest(&mut client(at)), "");
    world.stat("listener.ends.downstream_pre_cx_timeout", 1);
    world.stat("listener.ends.downstream_cx_total", 0);
}

#[test]
fn the_inspector_leaves_the_bytes_alone() {
    let world = World::new(1);
    let at = world.listen(&one_chain("l", &redis(), &format!(", {INSPECTOR}")));
    let mut plain = client(at);
    plain.write_all(b"PING\r\n").unwrap();
    let Stream::Tcp(mut stream) = world.given().stream else {
        panic!("TCP stays TCP")
    };
    assert_eq!(super::world::read(&mut stream, 6), "PING\r\n");
    world.stat("tls_inspector.tls_not_found", 1);
    // The beginning of a ClientHello, and then nothing more for ever.
    let mut cut = client(at);
    cut.write_all(b"\x16\x03\x01\x02\0\x01").unwrap();
    world.stat("listener.l.downstream_pre_cx_active", 1);
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    // What was only looked at is lost with the connection, which the client sees as a reset.
    assert!(matches!(cut.read(&mut [0; 1]), Ok(0) | Err(_)));
    world.stat("tls_inspector.connection_closed", 1);
    world.stat("listener.l.downstream_listener_filter_remote_close", 1);
    let mut long = client(at);
    let _ = long.write_all(&[b"\x16\x03\x01\x40\0\x01\0\x80\0".as_slice(), &[3; 17 * 1024]].concat());
    let _ = long.read(&mut [0; 1]);
    world.stat("listener.l.downstream_pre_cx_active", 0);
}

/// Istio switches the inspector off where a server may speak first.
#[test]
fn the_inspector_does_not_run_where_it_is_disabled() {
    let world = World::new(1);
    let port = redplane_testkit::free_port();
    let end = port + 1;
    let disabled = format!(", filter_disabled: {{destination_port_range: {{start: {port}, end: {end}}}}}}}]");
    let filters = INSPECTOR.replace("}}]", &format!("}}{disabled}"));
    let yaml = one_chain(
        "l",
        &redis(),
        &format!(", {filters}, listener_filters_timeout: 0s"),
    );
    let at = world.listen(&yaml.replace("port_value: 0", &format!("port_value: {port}")));
    let _silent = client(at);
    assert_eq!(world.given().listener, "l");
}
