//! A master, its replicas, and the Redis Sentinels that watch over them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::server::{Redis, RedisConfig, Role};
use crate::client::Client;
use crate::ports::free_port;
use crate::process::Process;
use crate::reply::Reply;
use crate::tls::Identity;
use crate::wait::{until, until_some};

/// The name under which the master is monitored.
pub const MASTER_NAME: &str = "mymaster";

/// How long a failover may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How servers and Sentinels are to be started.
#[derive(Debug, Clone, Default)]
pub struct SentinelConfig {
    /// Asked for by the servers.
    pub password: Option<String>,
    /// Asked for by the Sentinels.
    pub sentinel_password: Option<String>,
    /// Servers and Sentinels open a TLS port beside the plain one, and speak TLS among each other.
    pub tls: Option<Identity>,
}

/// One Sentinel process.
#[derive(Debug)]
pub struct Sentinel {
    process: Process,
    /// Its configuration, which it rewrites.
    _folder: TempDir,
    port: u16,
    tls_port: Option<u16>,
    password: Option<String>,
}

/// Servers and Sentinels: the first server begins as the master.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Redis>,
    sentinels: Vec<Sentinel>,
    tls: bool,
}

impl Sentinels {
    /// One master, two replicas and three Sentinels of which two must agree, once all know each other.
    ///
    /// # Panics
    /// When one of them does not come up.
    #[must_use]
    pub fn three(config: &SentinelConfig) -> Self {
        let master = server(config, None);
        let leader = master.tls_port().unwrap_or_else(|| master.port());
        let replicas = [server(config, Some(leader)), server(config, Some(leader))];
        let sentinels = (0..3).map(|_| Sentinel::start(config, leader)).collect();
        let all = Self {
            servers: std::iter::once(master).chain(replicas).collect(),
            sentinels,
            tls: config.tls.is_some(),
        };
        all.wait_until_whole(2, 2);
        all
    }

    /// The servers, in the order they were started.
    #[must_use]
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// One of the servers.
    pub fn server_mut(&mut self, at: usize) -> &mut Redis {
        &mut self.servers[at]
    }

    /// The Sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Sentinel] {
        &self.sentinels
    }

    /// One of the Sentinels.
    pub fn sentinel_mut(&mut self, at: usize) -> &mut Sentinel {
        &mut self.sentinels[at]
    }

    /// The ports of the Sentinels that clients are meant to use: TLS where there is TLS.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let port = |sentinel: &Sentinel| sentinel.tls_port.unwrap_or(sentinel.port);
        self.sentinels.iter().map(port).collect()
    }

    /// Which server a Sentinel says is the master.
    #[must_use]
    pub fn master_by(&self, sentinel: usize) -> Option<usize> {
        let reply =
            self.sentinels[sentinel].run(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {MASTER_NAME}"))?;
        let port = reply.elements().get(1)?.text()?.parse().ok()?;
        self.servers
            .iter()
            .position(|server| self.client_port(server) == port)
    }

    /// The port at which a server is known: TLS where there is TLS.
    #[must_use]
    pub fn client_port(&self, server: &Redis) -> u16 {
        match self.tls {
            true => server.tls_port().unwrap_or_else(|| server.port()),
            false => server.port(),
        }
    }

    /// Has a Sentinel promote a replica, the master being well.
    ///
    /// # Panics
    /// When it does not do so within a minute.
    pub fn fail_over(&self, sentinel: usize) -> usize {
        let before = self.master_by(sentinel);
        // A Sentinel refuses while it has just seen another failover.
        until("a failover to begin", PATIENCE, || {
            let reply = self.sentinels[sentinel].run(&format!("SENTINEL FAILOVER {MASTER_NAME}"));
            reply.is_some_and(|reply| !reply.is_error())
        });
        self.wait_until_promoted(sentinel, before)
    }

    /// Waits until a Sentinel tells another master than `before`, and that one says so too. A Sentinel that the machine has
    /// stalled does nothing for half a minute (its TILT mode), and may have to begin anew.
    ///
    /// # Panics
    /// When there is none within three minutes.
    pub fn wait_until_promoted(&self, sentinel: usize, before: Option<usize>) -> usize {
        until_some("another master", PATIENCE * 3, || {
            let now = self.master_by(sentinel)?;
            (Some(now) != before && self.servers[now].role() == Role::Master).then_some(now)
        })
    }

    /// Waits until every Sentinel knows so many replicas that are up, and so many other Sentinels.
    ///
    /// # Panics
    /// When that does not come to be within a minute.
    pub fn wait_until_whole(&self, replicas: usize, others: usize) {
        for sentinel in &self.sentinels {
            until("the Sentinels to know everybody", PATIENCE, || {
                let listed = |what: &str| sentinel.run(&format!("SENTINEL {what} {MASTER_NAME}"));
                let up = |reply: Reply| reply.elements().iter().filter(|one| is_up(one)).count();
                listed("REPLICAS").map(up) == Some(replicas) && listed("SENTINELS").map(up) == Some(others)
            });
        }
    }
}

/// Whether a replica or a Sentinel is there; a replica must also follow its master.
fn is_up(instance: &Reply) -> bool {
    let words: Vec<String> = instance.elements().iter().filter_map(Reply::text).collect();
    let value = |name: &str| {
        words
            .chunks(2)
            .find(|pair| pair[0] == name)
            .map(|pair| pair[1].as_str())
    };
    let down = |flag: &str| matches!(flag, "s_down" | "o_down" | "disconnected");
    let flags = value("flags").unwrap_or("disconnected");
    !flags.split(',').any(down) && value("master-link-status").is_none_or(|status| status == "ok")
}

impl Sentinel {
    fn start(config: &SentinelConfig, master: u16) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (port, tls_port) = (free_port(), config.tls.as_ref().map(|_| free_port()));
        let mut text = format!(
            "port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {MASTER_NAME} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER_NAME} 1500\nsentinel failover-timeout {MASTER_NAME} 5000\n",
            folder = folder.path().display()
        );
        if let Some(password) = &config.password {
            text += &format!("sentinel auth-pass {MASTER_NAME} {password}\n");
        }
        if let Some(password) = &config.sentinel_password {
            text += &format!("requirepass {password}\nsentinel sentinel-pass {password}\n");
        }
        if let (Some(identity), Some(tls_port)) = (&config.tls, tls_port) {
            text += &format!("tls-port {tls_port}\n");
            for (name, value) in tls_directives(identity) {
                text += &format!("{name} {value}\n");
            }
        }
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, text).expect("the temporary folder can be written");
        let mut sentinel = Self {
            process: spawn(&file),
            port,
            tls_port,
            password: config.sentinel_password.clone(),
            _folder: folder,
        };
        until("a Sentinel to answer", Duration::from_secs(10), || {
            if let Some(end) = sentinel.process.ended() {
                panic!("{end}");
            }
            sentinel.run("PING").is_some()
        });
        sentinel
    }

    /// Runs one command given as a line without quotes; `None` when there is no answer.
    #[must_use]
    pub fn run(&self, line: &str) -> Option<Reply> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, self.port).into();
        let mut client = Client::connect(address).ok()?;
        if let Some(password) = &self.password {
            client.command(&["AUTH", password]).ok()?;
        }
        client.command(&line.split_whitespace().collect::<Vec<_>>()).ok()
    }

    /// How many clients are subscribed to its events, other Sentinels not counted.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        let list = self.run("CLIENT LIST").and_then(|reply| reply.text());
        let subscribed = |line: &&str| line.contains(" sub=") && !line.contains(" sub=0");
        list.unwrap_or_default().lines().filter(subscribed).count()
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

fn tls_directives(identity: &Identity) -> Vec<(String, String)> {
    let row = |name: &str, value: &Path| (name.to_owned(), value.display().to_string());
    vec![
        row("tls-cert-file", &identity.cert),
        row("tls-key-file", &identity.key),
        row("tls-ca-cert-file", &identity.ca),
        row("tls-auth-clients", Path::new("optional")),
        row("tls-replication", Path::new("yes")),
    ]
}

fn server(config: &SentinelConfig, master: Option<u16>) -> Redis {
    let mut directives: Vec<(String, String)> = Vec::new();
    if let Some(master) = master {
        directives.push(("replicaof".to_owned(), format!("127.0.0.1 {master}")));
    }
    if config.tls.is_some() {
        directives.push(("tls-replication".to_owned(), "yes".to_owned()));
    }
    Redis::start(RedisConfig {
        password: config.password.clone(),
        tls: config.tls.clone(),
        directives,
        ..RedisConfig::default()
    })
}

fn spawn(file: &Path) -> Process {
    let mut command = Command::new("redis-server");
    command.arg(file).arg("--sentinel");
    Process::start("redis-sentinel", &mut command, &file.with_extension("log"))
}
