//! Formats, filters and files of access logs.

use std::fs;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;
use crate::Registry;
use crate::stats::filesystem;

fn record() -> Record<'static> {
    Record {
        bytes_received: 27,
        bytes_sent: 5,
        downstream: Downstream {
            remote: Some("127.0.0.1:4000".parse().unwrap()),
            local: Some("[::1]:6379".parse().unwrap()),
            ..Downstream::default()
        },
        upstream: Upstream {
            host: Some("10.0.0.1:6379"),
            cluster: Some("outbound|6379||h"),
            ..Upstream::default()
        },
        ..Record::new(UNIX_EPOCH, Duration::from_millis(1500))
    }
}

fn render(format: &str, record: &Record<'_>) -> String {
    let mut line = String::new();
    Format::text(format).unwrap().render(record, &mut line);
    line
}

#[test]
fn istios_format_renders_a_connection() {
    let format = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
                  %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
                  \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
                  \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% \
                  %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";
    assert_eq!(
        render(format, &record()),
        "[1970-01-01T00:00:00.000Z] \"- - -\" 0 - - - \"-\" 27 5 1500 \"10.0.0.1:6379\" outbound|6379||h - \
         [::1]:6379 127.0.0.1:4000 - -\n"
    );
    assert!(!render("%START_TIME%", &record()).is_empty());
    let mut line = String::new();
    Format::default().render(&record(), &mut line);
    assert!(line.ends_with("\"10.0.0.1:6379\"\n"), "{line}");
}

#[test]
fn operators_take_arguments_and_lengths() {
    let flags = ResponseFlags::NO_ROUTE_FOUND.with(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
    let headers = [(":method", "GET"), (":path", "/a"), ("x-b", "öbc")];
    let http = Http {
        protocol: "HTTP/1.1",
        response_code: 204,
        response_code_details: None,
        request_headers: &headers,
        response_headers: &[],
    };
    let record = Record {
        response_flags: flags,
        http: Some(http),
        ..record()
    };
    assert_eq!(
        render("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", &record),
        "UF,NR UpstreamConnectionFailure,NoRouteFound"
    );
    assert_eq!(
        render(
            "%REQ(:METHOD)% %REQ(X-A?:PATH)% %REQ(X-B):2% %REQ(X-B):1%|",
            &record
        ),
        "GET /a ö |"
    );
    assert_eq!(
        render("%START_TIME(%Y/%m/%dT%H:%M:%S%z)%", &record),
        "1970/01/01T00:00:00+0000"
    );
    assert_eq!(
        render(
            "100%% %RESPONSE_CODE% %NEVER_HEARD_OF(x y)% %DYNAMIC_METADATA(a:b):9%",
            &record
        ),
        "100% 204 - -"
    );
    assert_eq!(
        render(
            "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%",
            &record
        ),
        "::1 4000"
    );
    assert_eq!(
        ResponseFlags::from_short("NR"),
        Some(ResponseFlags::NO_ROUTE_FOUND)
    );
}

#[test]
fn bad_formats_are_refused() {
    for bad in ["%", "a %b", "%REQ(x%", "% x%", "%REQ(a)b%"] {
        assert!(
            matches!(Format::text(bad), Err(BadFormat::NoOperator(_))),
            "{bad}"
        );
    }
    assert_eq!(
        Format::text("%REQ(a):x%").err(),
        Some(BadFormat::Length("REQ".to_owned()))
    );
    let mut deep = serde_json::json!("x");
    for _ in 0..100 {
        deep = serde_json::json!([deep]);
    }
    assert_eq!(Format::json(&deep).err(), Some(BadFormat::Depth));
}

#[test]
fn json_keeps_types() {
    let shape = serde_json::json!({
        "bytes": "%BYTES_SENT%", "host": "%UPSTREAM_HOST%", "sni": "%REQUESTED_SERVER_NAME%",
        "both": "%BYTES_SENT%/%REQUESTED_SERVER_NAME%", "list": ["%DURATION%", 1], "fixed": true,
    });
    let mut line = String::new();
    Format::json(&shape).unwrap().render(&record(), &mut line);
    assert_eq!(
        line,
        "{\"bytes\":5,\"host\":\"10.0.0.1:6379\",\"sni\":null,\"both\":\"5/-\",\"list\":[1500,1],\"fixed\":true}\n"
    );
    line.clear();
    Format::json(&shape)
        .unwrap()
        .omit_empty(true)
        .render(&record(), &mut line);
    assert!(
        !line.contains("sni") && line.contains("\"both\":\"5/\""),
        "{line}"
    );
}

#[test]
fn filters() {
    let none = record();
    let flagged = Record {
        response_flags: ResponseFlags::NO_ROUTE_FOUND,
        ..record()
    };
    let no_route = Filter::ResponseFlags(ResponseFlags::NO_ROUTE_FOUND);
    assert!(no_route.admits(&flagged) && !no_route.admits(&none));
    assert!(Filter::ResponseFlags(ResponseFlags::default()).admits(&flagged));
    let slow = Filter::AtLeast(Duration::from_secs(1));
    assert!(Filter::And(vec![slow.clone(), Filter::Always]).admits(&none));
    assert!(!Filter::Or(vec![no_route, Filter::AtMost(Duration::from_secs(1))]).admits(&none));
    assert!(!Filter::ResponseCode(200..=299).admits(&none));
}

fn files(queue: usize) -> (Registry, Files) {
    let registry = Registry::new();
    let options = Options {
        flush_interval: Duration::from_secs(3600),
        queue,
        ..Options::default()
    };
    (registry.clone(), Files::new(registry, options))
}

#[test]
fn lines_reach_the_file_whole_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (registry, files) = files(1 << 20);
    let sink = files.open(path.to_str().unwrap()).unwrap();
    assert!(Arc::ptr_eq(&sink, &files.open(path.to_str().unwrap()).unwrap()));
    let log = AccessLog {
        filter: Filter::Always,
        format: Arc::new(Format::text("%BYTES_SENT%\n").unwrap()),
        sink,
    };
    for sent in 0..20_000 {
        log.write(&Record {
            bytes_sent: sent,
            ..record()
        });
    }
    files.flush();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.lines()
            .map(|line| line.parse::<u64>().unwrap())
            .eq(0..20_000)
    );
    assert_eq!(registry.value("filesystem.write_buffered"), Some(20_000));
    assert_eq!(
        registry
            .scope("filesystem.", &filesystem::SCHEMA)
            .gauge(filesystem::WRITE_TOTAL_BUFFERED),
        0
    );
    assert!(registry.value("filesystem.write_completed") < Some(20));
}

#[test]
fn a_moved_file_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (_registry, files) = files(64);
    let sink = files.open(path.to_str().unwrap()).unwrap();
    sink.write("one\n".to_owned());
    files.flush();
    fs::rename(&path, folder.path().join("old")).unwrap();
    sink.write("two\n".to_owned());
    files.reopen();
    files.flush();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    assert_eq!(fs::read_to_string(folder.path().join("old")).unwrap(), "one\n");
}

/// A pipe without a reader behaves as a disk that hangs.
#[test]
fn a_hanging_file_never_blocks_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    // Opened for both, so that the sink's own open does not wait for a reader.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let (_registry, files) = files(8);
    let sink = files.open(path.to_str().unwrap()).unwrap();
    let line = format!("{}\n", "x".repeat(128 * 1024));
    for _ in 0..100 {
        sink.write(line.clone());
    }
    assert!(sink.dropped() > 50, "{} dropped", sink.dropped());
    drop(reader);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let (_registry, files) = files(8);
    assert!(files.open("/no/such/folder/log").is_err());
    assert!(files.open("/dev/stdout").is_ok());
}

proptest! {
    /// Formats come from a control plane: whatever the text, no panic, and what was accepted renders.
    #[test]
    fn any_text_is_a_format_or_refused(text in "(%[A-Z_]{0,12}[()%:]?|[a-z0-9%():?é ]){0,20}") {
        if let Ok(format) = Format::text(&text) {
            let mut line = String::new();
            format.render(&record(), &mut line);
        }
    }
}
