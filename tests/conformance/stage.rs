//! The servers on which scenes are played: a plain Redis and a Redis that is a whole cluster by itself as judges,
//! redplane before a real cluster and before one server as the judged.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use redplane_testkit::scene::Behind;
use redplane_testkit::{Client, Cluster, Proxy, ProxyKind, Redis, RedisConfig, Reply, free_port, until};

const BOOTSTRAP: &str = include_str!("scenes/bootstrap.yaml");

/// Longer than any scene lets a command wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Forgets data, scripts and functions.
const FLUSH: &[u8] =
    b"*1\r\n$8\r\nFLUSHALL\r\n*2\r\n$6\r\nSCRIPT\r\n$5\r\nFLUSH\r\n*2\r\n$8\r\nFUNCTION\r\n$5\r\nFLUSH\r\n";

/// Everything that runs while scenes are played.
pub(crate) struct Stage {
    plain: Redis,
    node: Redis,
    single: Redis,
    cluster: Cluster,
    proxy: Proxy,
    behind_cluster: u16,
    behind_single: u16,
    /// Connections by which data is removed between scenes.
    brooms: Vec<Client>,
}

/// One connection to each peer.
pub(crate) struct Cast {
    pub(crate) plain: Client,
    pub(crate) node: Client,
    pub(crate) cluster: Client,
    pub(crate) single: Client,
}

impl Stage {
    /// Starts everything.
    pub(crate) fn start(redplane: PathBuf) -> Self {
        let plain = Redis::plain();
        let single = Redis::plain();
        let node = lone_node();
        let cluster = Cluster::three_and_three();
        let [admin, behind_cluster, behind_single] = std::array::from_fn(|_| free_port());
        let ports = [
            ("ADMIN", admin),
            ("LISTEN_CLUSTER", behind_cluster),
            ("LISTEN_SINGLE", behind_single),
            ("REDIS_CLUSTER", cluster.nodes()[0].port()),
            ("REDIS_SINGLE", single.port()),
        ];
        let text = ports.iter().fold(BOOTSTRAP.to_owned(), |text, (name, port)| {
            text.replace(&format!("${{{name}}}"), &port.to_string())
        });
        let proxy = Proxy::start(&ProxyKind::Redplane(redplane), &text, admin);
        let mut stage = Self {
            plain,
            node,
            single,
            cluster,
            proxy,
            behind_cluster,
            behind_single,
            brooms: Vec::new(),
        };
        stage.brooms = stage.sweepers();
        stage
    }

    /// Removes all data and opens one connection to each peer, speaking this protocol.
    pub(crate) fn set(&mut self, protocol: u8) -> Result<Cast, String> {
        self.sweep()?;
        let open = |address: SocketAddr| connect(address, protocol).map_err(|e| format!("{address}: {e}"));
        Ok(Cast {
            plain: open(self.plain.addr())?,
            node: open(self.node.addr())?,
            cluster: open(self.address(Behind::Cluster))?,
            single: open(self.address(Behind::Single))?,
        })
    }

    /// Removes all data everywhere.
    pub(crate) fn sweep(&mut self) -> Result<(), String> {
        for broom in &mut self.brooms {
            broom.send(FLUSH).map_err(|e| format!("flushing: {e}"))?;
        }
        for broom in &mut self.brooms {
            let replies = broom.read_replies(3);
            if replies.len() != 3 || replies.iter().any(Reply::is_error) {
                let said: Vec<String> = replies.iter().map(ToString::to_string).collect();
                return Err(format!("flushing: {}", said.join(" | ")));
            }
        }
        Ok(())
    }

    /// The plain server, the proxy before the cluster, and the one before the single server.
    pub(crate) fn addresses(&self) -> [SocketAddr; 3] {
        [
            self.plain.addr(),
            self.address(Behind::Cluster),
            self.address(Behind::Single),
        ]
    }

    /// The end of the proxy's log, when it has died.
    pub(crate) fn obituary(&mut self) -> Option<String> {
        self.proxy.process_mut().ended()
    }

    fn address(&self, behind: Behind) -> SocketAddr {
        let port = match behind {
            Behind::Cluster => self.behind_cluster,
            Behind::Single => self.behind_single,
        };
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// Servers by themselves, and the proxy for what it remembers.
    fn sweepers(&self) -> Vec<Client> {
        let mut addresses: Vec<SocketAddr> = self.cluster.masters().iter().map(|node| node.addr()).collect();
        addresses.extend([self.plain.addr(), self.node.addr(), self.single.addr()]);
        addresses.extend([self.address(Behind::Cluster), self.address(Behind::Single)]);
        let open = |address| Client::connect(address).expect("a server that has just started listens");
        addresses.into_iter().map(open).collect()
    }
}

fn connect(address: SocketAddr, protocol: u8) -> std::io::Result<Client> {
    let mut client = Client::connect(address)?.patience(PATIENCE);
    if protocol == 3 {
        client.command(&["HELLO", "3"])?;
    }
    Ok(client)
}

/// A cluster node that serves every slot: it refuses what a cluster refuses, and never redirects.
fn lone_node() -> Redis {
    let node = Redis::start(RedisConfig {
        cluster: true,
        ..RedisConfig::default()
    });
    node.run("CLUSTER ADDSLOTSRANGE 0 16383");
    until("a node alone to be a cluster", Duration::from_secs(20), || {
        let info = node.run("CLUSTER INFO").text();
        info.is_some_and(|info| info.contains("cluster_state:ok"))
    });
    node
}
