//! A real Redis Cluster of three primaries and three replicas on free ports, made by redis-cli and gone with its value.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::model::{ports, until};

/// What every node and every client is told.
#[derive(Default)]
pub(crate) struct Options {
    /// Lines of `redis.conf`.
    pub(crate) server: Vec<String>,
    /// Arguments of `redis-cli`.
    pub(crate) client: Vec<String>,
    /// Nodes speak TLS only, with `tls.crt`, `tls.key` and `ca.crt` of this folder.
    pub(crate) tls: Option<std::path::PathBuf>,
}

pub(crate) struct RealCluster {
    options: Options,
    nodes: Vec<(u16, Child)>,
    _folder: tempfile::TempDir,
}

impl RealCluster {
    pub(crate) async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = ports(6);
        let nodes = ports
            .iter()
            .map(|port| (*port, node(folder.path(), *port, &options)))
            .collect();
        let cluster = Self {
            options,
            nodes,
            _folder: folder,
        };
        for port in &ports {
            until("a node answers", || {
                cluster.cli(*port, &["PING"]).contains("PONG")
            })
            .await;
        }
        let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        let made = cluster.cli(ports[0], &create);
        assert!(made.contains("All 16384 slots covered"), "{made}");
        for port in &ports {
            let whole = || {
                let info = cluster.cli(*port, &["CLUSTER", "INFO"]);
                let slots = cluster.cli(*port, &["CLUSTER", "NODES"]);
                info.contains("cluster_state:ok") && slots.matches("slave ").count() == 3
            };
            until("every node knows the others", whole).await;
        }
        cluster
    }

    /// Runs redis-cli on a node.
    pub(crate) fn cli(&self, port: u16, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            .args(&self.options.client)
            .args(command)
            .stdin(Stdio::null())
            .output()
            .expect("redis-cli is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.nodes[node].0).into()
    }

    /// Kills a node at once.
    pub(crate) fn kill(&mut self, port: u16) {
        let (_, child) = self.nodes.iter_mut().find(|(other, _)| *other == port).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for RealCluster {
    fn drop(&mut self) {
        for (_, child) in &mut self.nodes {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn node(folder: &Path, port: u16, options: &Options) -> Child {
    let folder = folder.join(port.to_string());
    std::fs::create_dir(&folder).unwrap();
    let mut config = vec![
        "bind 127.0.0.1".to_owned(),
        "cluster-enabled yes".to_owned(),
        "cluster-node-timeout 1500".to_owned(),
        "save \"\"".to_owned(),
        "repl-diskless-sync-delay 0".to_owned(),
        format!("dir {}", folder.display()),
    ];
    match &options.tls {
        None => config.push(format!("port {port}")),
        Some(tls) => config.extend([
            "port 0".to_owned(),
            format!("tls-port {port}"),
            "tls-cluster yes".to_owned(),
            "tls-replication yes".to_owned(),
            format!("tls-cert-file {}", tls.join("tls.crt").display()),
            format!("tls-key-file {}", tls.join("tls.key").display()),
            format!("tls-ca-cert-file {}", tls.join("ca.crt").display()),
        ]),
    }
    config.extend(options.server.iter().cloned());
    let file = folder.join("redis.conf");
    std::fs::write(&file, config.join("\n")).unwrap();
    Command::new("redis-server")
        .arg(file)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}
