//! A Redis Cluster of real servers on the loopback, made by `redis-cli --cluster create`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use crate::client::Client;
use crate::reply::Reply;
use crate::wait::until;

use super::server::{Redis, RedisConfig, Role};

/// Every wait of a cluster: a failover takes two node timeouts and an election.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
    password: Option<String>,
}

impl Cluster {
    /// Starts `masters` masters with `replicas` replicas each and waits until every node agrees on every slot and
    /// every replica follows its master.
    ///
    /// # Panics
    /// When Redis is missing or the cluster does not form.
    #[must_use]
    pub fn start(masters: usize, replicas: usize, config: &RedisConfig) -> Self {
        let config = RedisConfig {
            cluster: true,
            ..config.clone()
        };
        let nodes: Vec<Redis> = (0..masters * (1 + replicas))
            .map(|_| Redis::start(config.clone()))
            .collect();
        let cluster = Self {
            nodes,
            password: config.password,
        };
        cluster.create(masters, replicas);
        cluster.wait_until_whole();
        cluster
    }

    /// A plain cluster of three masters with one replica each.
    #[must_use]
    pub fn three_and_three() -> Self {
        Self::start(3, 1, &RedisConfig::default())
    }

    /// All nodes in the order they were started.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The node with this plain port, to kill, restart or pause it.
    ///
    /// # Panics
    /// When there is none.
    pub fn node_mut(&mut self, port: u16) -> &mut Redis {
        let mut nodes = self.nodes.iter_mut();
        nodes.find(|n| n.port() == port).expect("the node is one of ours")
    }

    /// The port of a replica of the master on this port.
    ///
    /// # Panics
    /// When it is no master of slots or has no replica.
    #[must_use]
    pub fn replica_of(&self, master: u16) -> u16 {
        let slots = self.slots();
        let own = slots.iter().find(|(_, _, ports)| ports[0] == master);
        own.expect("it has slots").2[1]
    }

    /// The nodes that are masters now, in the order of their lowest slot.
    #[must_use]
    pub fn masters(&self) -> Vec<&Redis> {
        let ports: BTreeMap<i64, u16> = self
            .slots()
            .into_iter()
            .map(|(start, _, nodes)| (start, nodes[0]))
            .collect();
        let mut seen = BTreeSet::new();
        ports
            .values()
            .filter(|p| seen.insert(**p))
            .filter_map(|p| self.by_port(*p))
            .collect()
    }

    /// The nodes that are replicas now.
    #[must_use]
    pub fn replicas(&self) -> Vec<&Redis> {
        self.nodes.iter().filter(|n| n.role() == Role::Replica).collect()
    }

    /// The node with this plain port.
    #[must_use]
    pub fn by_port(&self, port: u16) -> Option<&Redis> {
        self.nodes.iter().find(|n| n.port() == port)
    }

    /// The slot ranges as a living node tells them: first slot, last slot, ports with the master first.
    ///
    /// # Panics
    /// When no node answers.
    #[must_use]
    pub fn slots(&self) -> Vec<(i64, i64, Vec<u16>)> {
        slots_of(&self.any().run("CLUSTER SLOTS"))
    }

    /// The master of a key's slot.
    ///
    /// # Panics
    /// When no node serves the slot.
    #[must_use]
    pub fn master_of(&self, key: &str) -> &Redis {
        let slot = self
            .any()
            .command(&["CLUSTER", "KEYSLOT", key])
            .integer()
            .expect("KEYSLOT answers a slot");
        let slots = self.slots();
        let range = slots
            .iter()
            .find(|(start, end, _)| (*start..=*end).contains(&slot));
        let port = range.map(|(_, _, nodes)| nodes[0]).expect("every slot is served");
        self.by_port(port).expect("the master is one of ours")
    }

    /// Runs a command on the node that serves it, following redirections.
    ///
    /// # Panics
    /// When the cluster does not settle on a node within five hops.
    pub fn command<A: AsRef<[u8]>>(&self, words: &[A]) -> Reply {
        let mut node = self.any();
        for _ in 0..5 {
            let reply = node.command(words);
            let text = reply.text().unwrap_or_default();
            match text.strip_prefix("MOVED ").filter(|_| reply.is_error()) {
                Some(target) => node = self.redirected(target),
                None => return reply,
            }
        }
        panic!("more than five redirections");
    }

    /// Runs one command given as a line without quotes, following redirections.
    pub fn run(&self, line: &str) -> Reply {
        self.command(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Empties all masters and forgets all scripts.
    pub fn flush(&self) {
        for node in self.nodes.iter().filter(|n| n.role() == Role::Master) {
            node.run("FLUSHALL");
            node.run("SCRIPT FLUSH");
        }
    }

    /// Sets the counters of every node to zero.
    pub fn reset_stats(&self) {
        self.nodes.iter().for_each(Redis::reset_stats);
    }

    /// Calls of one command on each node, by port and role.
    #[must_use]
    pub fn calls(&self, command: &str) -> Vec<(u16, Role, u64)> {
        self.nodes
            .iter()
            .map(|n| (n.port(), n.role(), n.calls(command)))
            .collect()
    }

    /// Makes the replica on this port the master of its shard, in agreement with the old one, and waits for it.
    ///
    /// # Panics
    /// When the node is no replica or is not promoted in time.
    pub fn failover(&self, port: u16) {
        let node = self.by_port(port).expect("the node is one of ours");
        let reply = node.run("CLUSTER FAILOVER");
        assert!(!reply.is_error(), "failover of {port}: {reply}");
        until("the replica to be promoted", PATIENCE, || {
            node.role() == Role::Master
        });
    }

    /// Waits until the replica on this port has been promoted by itself, as after its master's death.
    ///
    /// # Panics
    /// When it is not promoted in time.
    pub fn wait_until_promoted(&self, port: u16) {
        let node = self.by_port(port).expect("the node is one of ours");
        until("the replica to take over", PATIENCE, || {
            node.role() == Role::Master
        });
        // Word of it reaches the others a little later.
        until("all nodes to know of it", PATIENCE, || {
            let masters = |n: &Redis| -> BTreeSet<u16> {
                let ranges = slots_of(&n.run("CLUSTER SLOTS"));
                ranges
                    .iter()
                    .filter_map(|(_, _, ports)| ports.first().copied())
                    .collect()
            };
            let views: BTreeSet<_> = self.living().map(masters).collect();
            views.len() == 1 && views.iter().all(|view| view.contains(&port))
        });
    }

    /// Moves `count` slots from one master to another with `redis-cli --cluster reshard`; returns when done.
    ///
    /// # Panics
    /// When redis-cli fails.
    pub fn reshard(&self, from: u16, to: u16, count: usize) {
        // redis-cli refuses while word of the last change is still on its way.
        self.wait_until_whole();
        let (from, to) = (self.node_id(from), self.node_id(to));
        let count = count.to_string();
        let entry = format!("127.0.0.1:{}", self.any().port());
        self.redis_cli(&[
            "--cluster",
            "reshard",
            &entry,
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
            "--cluster-slots",
            &count,
            "--cluster-yes",
        ]);
    }

    /// The node's id, from `CLUSTER MYID`.
    ///
    /// # Panics
    /// When the node is not of this cluster or does not answer.
    #[must_use]
    pub fn node_id(&self, port: u16) -> String {
        let node = self.by_port(port).expect("the node is one of ours");
        node.run("CLUSTER MYID").text().expect("a node has an id")
    }

    /// Waits until all living nodes serve all slots in the same way and all replicas are in step.
    ///
    /// # Panics
    /// When they do not within thirty seconds.
    pub fn wait_until_whole(&self) {
        until("all nodes to agree on all slots", PATIENCE, || {
            let mut views: Vec<_> = self.living().map(|n| view(&n.run("CLUSTER SLOTS"))).collect();
            let living = views.len();
            views.dedup();
            let nodes: BTreeSet<u16> = views[0].iter().flat_map(|(_, _, ports)| ports.clone()).collect();
            let slots: i64 = views[0].iter().map(|(start, end, _)| end - start + 1).sum();
            views.len() == 1 && slots == 16384 && nodes.len() == living
        });
        until("the cluster state to be ok on all nodes", PATIENCE, || {
            self.living().all(|n| {
                n.run("CLUSTER INFO")
                    .text()
                    .unwrap_or_default()
                    .contains("cluster_state:ok")
            })
        });
        until("all replicas to be in step", PATIENCE, || {
            self.living()
                .filter(|n| n.role() == Role::Replica)
                .all(|n| n.info("master_link_status").as_deref() == Some("up"))
        });
    }

    /// Waits until every replica has received every write that its master has done.
    ///
    /// # Panics
    /// When they have not within thirty seconds.
    pub fn wait_until_replicated(&self) {
        for master in self.living().filter(|n| n.role() == Role::Master) {
            let replicas = master.info("connected_slaves").unwrap_or_default();
            let reply = master.command(&["WAIT", &replicas, "30000"]);
            assert_eq!(
                reply.integer().map(|n| n.to_string()),
                Some(replicas),
                "replicas lag behind"
            );
        }
    }

    fn create(&self, masters: usize, replicas: usize) {
        let addresses: Vec<String> = self
            .nodes
            .iter()
            .map(|n| format!("127.0.0.1:{}", n.port()))
            .collect();
        let replicas = replicas.to_string();
        let mut words = vec!["--cluster", "create"];
        words.extend(addresses.iter().map(String::as_str));
        words.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        assert!(
            masters >= 3,
            "redis-cli makes no cluster of fewer than three masters"
        );
        self.redis_cli(&words);
    }

    fn redis_cli(&self, words: &[&str]) {
        let mut command = Command::new("redis-cli");
        if let Some(password) = &self.password {
            command.args(["--no-auth-warning", "-a", password]);
        }
        let output = command.args(words).output().expect("redis-cli is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "redis-cli {words:?} failed:\n{text}");
    }

    fn redirected(&self, target: &str) -> &Redis {
        let port = target
            .rsplit(':')
            .next()
            .and_then(|p| p.parse().ok())
            .expect("MOVED names a port");
        self.by_port(port).expect("MOVED names one of our nodes")
    }

    fn living(&self) -> impl Iterator<Item = &Redis> {
        self.nodes.iter().filter(|n| Client::connect(n.addr()).is_ok())
    }

    fn any(&self) -> &Redis {
        self.living().next().expect("a node of the cluster lives")
    }
}

fn slots_of(reply: &Reply) -> Vec<(i64, i64, Vec<u16>)> {
    let range = |entry: &Reply| {
        let parts = entry.elements();
        let nodes = parts
            .get(2..)?
            .iter()
            .filter_map(|n| n.elements().get(1)?.integer());
        let ports = nodes.filter_map(|p| u16::try_from(p).ok()).collect();
        Some((parts[0].integer()?, parts[1].integer()?, ports))
    };
    let mut ranges: Vec<_> = reply.elements().iter().filter_map(range).collect();
    ranges.sort();
    ranges
}

/// The ranges in a form that two nodes tell alike: replicas stand in any order.
fn view(reply: &Reply) -> Vec<(i64, i64, Vec<u16>)> {
    let mut ranges = slots_of(reply);
    for (_, _, ports) in &mut ranges {
        if let Some(replicas) = ports.get_mut(1..) {
            replicas.sort_unstable();
        }
    }
    ranges
}
