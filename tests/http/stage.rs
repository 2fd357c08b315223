//! One proxy with the bootstrap of the cases, its server, and its access log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use redplane_testkit::{Proxy, ProxyKind, free_port, http_get, repository_root};

use super::case::Case;
use super::{client, server};

/// A running proxy.
pub(crate) struct Stage {
    _proxy: Proxy,
    /// Ports by the names of listeners.
    ports: HashMap<String, u16>,
    admin: u16,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Starts a proxy in front of a server.
    pub(crate) fn start(kind: &ProxyKind) -> Self {
        let values = [
            ("{DEAD}", free_port().to_string()),
            ("{MIRROR}", server::start().port().to_string()),
            ("{SERVER}", server::start().port().to_string()),
        ];
        Self::of(kind, "bootstrap.yaml", &values)
    }

    /// Starts a proxy with a bootstrap of this folder, filled with values.
    pub(crate) fn of(kind: &ProxyKind, file: &str, values: &[(&str, String)]) -> Self {
        let admin = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("access.log");
        let text = std::fs::read_to_string(repository_root().join("tests/http").join(file));
        let text = text.expect("the bootstrap is there");
        let ports = ports(&text);
        let listeners = ports.iter().fold(text, |text, (name, port)| {
            text.replace(&format!("{{PORT:{name}}}"), &port.to_string())
        });
        let bootstrap = listeners
            .replace("{ADMIN}", &admin.to_string())
            .replace("{LOG}", &log.display().to_string());
        let bootstrap = values
            .iter()
            .fold(bootstrap, |text, (place, value)| text.replace(place, value));
        let flags = ["--concurrency", "1", "--file-flush-interval-msec", "10"];
        let proxy = Proxy::start_without_waiting(kind, &bootstrap, admin, &flags).wait_until_ready();
        Self {
            _proxy: proxy,
            ports,
            admin,
            log,
            _folder: folder,
        }
    }

    /// The answer to a case, with its line of the access log.
    pub(crate) fn play(&self, case: &Case) -> String {
        let before = self.lines();
        let answer = self.ask(&case.listener, &case.bytes());
        let end = Instant::now() + Duration::from_secs(2);
        let line = loop {
            let lines = self.lines();
            match lines.get(before.len()) {
                Some(line) => break line.clone(),
                None if Instant::now() > end => break "(no line)".to_owned(),
                None => std::thread::park_timeout(Duration::from_millis(2)),
            }
        };
        format!("{answer}\nlog: {line}")
    }

    /// Where a listener is.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[listener]).into()
    }

    /// The answer to a request.
    pub(crate) fn ask(&self, listener: &str, request: &[u8]) -> String {
        client::exchange(self.address(listener), request)
    }

    /// The counters and gauges whose names fit a pattern.
    pub(crate) fn stats(&self, pattern: &str) -> String {
        let path = format!("/stats?filter={pattern}");
        let answer = http_get(([127, 0, 0, 1], self.admin).into(), &path);
        answer.expect("the admin port answers").body
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |at| &text[..at]);
        whole.lines().map(str::to_owned).collect()
    }
}

/// A free port for each listener that the bootstrap names.
fn ports(text: &str) -> HashMap<String, u16> {
    let names = text
        .split("{PORT:")
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    names.map(|name| (name.to_owned(), free_port())).collect()
}
