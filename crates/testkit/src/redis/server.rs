//! One `redis-server` process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;
use crate::ports::{CLUSTER_BUS_OFFSET, free_port, free_redis_port};
use crate::process::Process;
use crate::reply::Reply;
use crate::tls::Identity;
use crate::wait::until_some;

/// How a server is to be started. The default is a plain server without password or persistence.
#[derive(Debug, Clone, Default)]
pub struct RedisConfig {
    /// Asked for by `AUTH password`, also used between the nodes of a cluster.
    pub password: Option<String>,
    /// Lines of `user` directives: `usr on >secret ~* &* +@all`.
    pub users: Vec<String>,
    /// Opens a TLS port beside the plain one.
    pub tls: Option<Identity>,
    /// Refuses TLS clients without a certificate of the authority.
    pub tls_client_certificate: bool,
    /// Announced in `CLUSTER SLOTS` and in redirections instead of the address.
    pub announce_hostname: Option<String>,
    /// Whether this is a cluster node.
    pub cluster: bool,
    /// Any further directives: name and value.
    pub directives: Vec<(String, String)>,
}

/// What a server says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Master,
    /// Follows a master.
    Replica,
}

/// A running `redis-server`.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    folder: TempDir,
    config: RedisConfig,
    port: u16,
    tls_port: Option<u16>,
}

impl Redis {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When `redis-server` is missing, refuses its configuration or does not answer within ten seconds.
    #[must_use]
    pub fn start(config: RedisConfig) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = if config.cluster {
            free_redis_port()
        } else {
            free_port()
        };
        let tls_port = config.tls.as_ref().map(|_| free_port());
        let process = spawn(&config, &folder, port, tls_port);
        let mut server = Self {
            process,
            folder,
            config,
            port,
            tls_port,
        };
        server.wait_until_serving();
        server
    }

    /// A plain server with default settings.
    #[must_use]
    pub fn plain() -> Self {
        Self::start(RedisConfig::default())
    }

    /// The plain port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TLS port, when asked for.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.tls_port
    }

    /// The plain address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The process, for its CPU time and its signals.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The folder with the server's data and its log.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// A new connection, authenticated where the server has a password.
    ///
    /// # Panics
    /// When the server does not take the connection or the password.
    #[must_use]
    pub fn client(&self) -> Client {
        self.try_client()
            .unwrap_or_else(|e| panic!("redis on port {}: {e}", self.port))
    }

    /// Runs one command on a connection of its own.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn command<A: AsRef<[u8]>>(&self, words: &[A]) -> Reply {
        self.client()
            .command(words)
            .unwrap_or_else(|e| panic!("redis on port {}: {e}", self.port))
    }

    /// Runs one command given as a line without quotes.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn run(&self, line: &str) -> Reply {
        self.command(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// One field of `INFO`, such as `redis_version`.
    #[must_use]
    pub fn info(&self, field: &str) -> Option<String> {
        let text = self.run("INFO everything").text()?;
        let line = text.lines().find(|l| l.split(':').next() == Some(field))?;
        Some(line[field.len() + 1..].to_owned())
    }

    /// Calls by command since the last `CONFIG RESETSTAT`, names in lower case as `INFO commandstats` has them.
    #[must_use]
    pub fn commandstats(&self) -> BTreeMap<String, u64> {
        let text = self.run("INFO commandstats").text().unwrap_or_default();
        text.lines()
            .filter_map(|l| l.strip_prefix("cmdstat_"))
            .filter_map(commandstat)
            .collect()
    }

    /// Calls of one command since the last reset.
    #[must_use]
    pub fn calls(&self, command: &str) -> u64 {
        self.commandstats().get(command).copied().unwrap_or(0)
    }

    /// Sets all counters of `INFO commandstats` to zero.
    pub fn reset_stats(&self) {
        self.run("CONFIG RESETSTAT");
    }

    /// The server's own view of its role.
    ///
    /// # Panics
    /// When the server does not answer `ROLE`.
    #[must_use]
    pub fn role(&self) -> Role {
        match self
            .run("ROLE")
            .elements()
            .first()
            .and_then(Reply::text)
            .as_deref()
        {
            Some("master") => Role::Master,
            Some(_) => Role::Replica,
            None => panic!("redis on port {} does not tell its role", self.port),
        }
    }

    /// Stops the process where it stands (SIGSTOP): connections stay open, nothing answers.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Kills the process; its ports are refused from now on.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts a killed server again on the same ports with the same folder.
    ///
    /// # Panics
    /// As `start`.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.config, &self.folder, self.port, self.tls_port);
        self.wait_until_serving();
    }

    fn try_client(&self) -> std::io::Result<Client> {
        let mut client = Client::connect(self.addr())?;
        if let Some(password) = &self.config.password {
            let reply = client.command(&["AUTH", "default", password])?;
            if reply.is_error() {
                return Err(std::io::Error::other(reply.to_string()));
            }
        }
        Ok(client)
    }

    fn wait_until_serving(&mut self) {
        until_some("redis-server to answer", Duration::from_secs(10), || {
            if let Some(end) = self.process.ended() {
                panic!("{end}");
            }
            let reply = self.try_client().ok()?.command(&["PING"]).ok()?;
            let text = reply.text()?;
            (text == "PONG" || text.starts_with("NOAUTH") || text.starts_with("NOPERM")).then_some(())
        });
    }
}

fn commandstat(line: &str) -> Option<(String, u64)> {
    let (name, rest) = line.split_once(':')?;
    let calls = rest.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
    Some((name.to_owned(), calls))
}

fn spawn(config: &RedisConfig, folder: &TempDir, port: u16, tls_port: Option<u16>) -> Process {
    let mut text = String::new();
    for (name, value) in directives(config, port, tls_port) {
        text.push_str(&format!("{name} {value}\n"));
    }
    let file = folder.path().join("redis.conf");
    std::fs::write(&file, text).expect("the temporary folder can be written");
    let mut command = Command::new("redis-server");
    command.arg(&file).current_dir(folder.path());
    Process::start("redis-server", &mut command, &folder.path().join("redis.log"))
}

fn directives(config: &RedisConfig, port: u16, tls_port: Option<u16>) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| lines.push((name.to_owned(), value.to_owned()));
    put("port", &port.to_string());
    put("bind", "127.0.0.1");
    put("save", "\"\"");
    put("appendonly", "no");
    put("repl-diskless-sync-delay", "0");
    // A cluster tells of a replica only once it has an offset, which an idle master gives it with a ping.
    put("repl-ping-replica-period", "1");
    if let Some(password) = &config.password {
        put("requirepass", password);
        put("masterauth", password);
    }
    config.users.iter().for_each(|user| put("user", user));
    if let (Some(identity), Some(tls_port)) = (&config.tls, tls_port) {
        put("tls-port", &tls_port.to_string());
        put("tls-cert-file", &identity.cert.display().to_string());
        put("tls-key-file", &identity.key.display().to_string());
        put("tls-ca-cert-file", &identity.ca.display().to_string());
        put(
            "tls-auth-clients",
            if config.tls_client_certificate {
                "yes"
            } else {
                "optional"
            },
        );
    }
    if config.cluster {
        if config.tls.is_some() {
            // Only then do clients that came by TLS hear of TLS ports.
            put("tls-cluster", "yes");
            put("tls-replication", "yes");
        }
        put("cluster-port", &(port + CLUSTER_BUS_OFFSET).to_string());
        put("cluster-enabled", "yes");
        put("cluster-config-file", "nodes.conf");
        put("cluster-node-timeout", "2000");
        put("cluster-replica-validity-factor", "0");
        put("cluster-require-full-coverage", "no");
    }
    if let Some(name) = &config.announce_hostname {
        put("cluster-announce-hostname", name);
        put("cluster-preferred-endpoint-type", "hostname");
    }
    config
        .directives
        .iter()
        .for_each(|(name, value)| put(name, value));
    lines
}
