//! One cluster as one set of connection settings uses it: its topology, and a connection for each host.
//!
//! There is one connection per worker and host, opened at its first request; all clients of the worker share it.

mod greeting;

use std::net::SocketAddr;
use std::sync::Arc;

use redplane_command::CommandId;
use redplane_config::redis_proxy::{ReadPolicy, Settings};
use redplane_telemetry::{Block, TableBlock};
use redplane_upstream::{Cluster, Host, Layout, Pick, Topology, Want};
use rustc_hash::FxHashMap;

pub use greeting::{Greeting, LoginId, Tracking};

use crate::leases::Leases;
use crate::lessons::Lessons;
use crate::link::Link;
use redplane_merge::Failure;

/// A request's place among the hosts of a cluster.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// By slot on a cluster with slots.
    Slot(u16),
    /// By hash on any other.
    Hash(u64),
    /// A part of a fan-out: shard, or host where there are no shards.
    Shard(usize),
    /// This host of the topology.
    Host(usize),
    /// Any primary: by the random number.
    Any,
}

/// Whom a request may be answered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The primary only.
    Primary,
    /// Whom the read policy names.
    Read,
}

/// What makes two uses of a cluster share connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolKey {
    /// The cluster's name.
    pub cluster: String,
    /// The filter's settings.
    pub settings: Arc<Settings>,
    /// What its connections begin with.
    pub greeting: Greeting,
    /// What its connections carry.
    pub purpose: PoolUse,
}

/// What the connections of a pool carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolUse {
    /// Requests of filters.
    Requests,
    /// Subscriptions, which outlive the filters they began under.
    Subscriptions,
}

/// The connections of one cluster that are used alike.
pub struct Pool {
    /// What makes it differ from others.
    pub key: PoolKey,
    /// How many routes use it.
    pub users: usize,
    /// When the last one left, in microseconds of the turn's clock.
    pub idle_since: u64,
    /// There while the cluster is.
    pub live: Option<Live>,
}

impl Pool {
    /// Whether it is used, or kept for the next one that uses it.
    pub fn is_in_use(&self) -> bool {
        self.users > 0 || self.live.is_some()
    }

    /// Whether it is kept though nobody uses it.
    pub fn is_idle(&self) -> bool {
        self.users == 0 && self.live.is_some()
    }
}

/// The parts that exist only while the cluster does.
pub struct Live {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Its hosts and who serves what, as they were taken over last.
    pub topology: Arc<Topology>,
    /// Aligned with the hosts of the topology.
    pub links: Vec<Link>,
    /// Hosts known only through redirections.
    pub strangers: FxHashMap<SocketAddr, (Arc<Host>, Link)>,
    /// Connections for what must not wait behind others, by host: the connection and when it was opened.
    pub apart: FxHashMap<u64, (u32, u64)>,
    /// Connections of one client each.
    pub leases: Leases,
    /// Commands that the table lacks.
    pub lessons: Lessons,
    /// The cluster's statistics.
    pub stats: Block,
    /// Those that only clusters of Redis have.
    pub redis_stats: Block,
    /// Those by command.
    pub commands: Option<Commands>,
    is_redis: bool,
}

/// Statistics by upstream command; there only with `enable_command_stats`.
pub struct Commands {
    /// The table's cells.
    pub block: TableBlock,
    rows: Vec<u32>,
}

impl Commands {
    /// The row of a command, named at its first use.
    #[inline]
    pub fn row(&mut self, command: CommandId) -> &redplane_telemetry::Cells {
        let known = self.rows[command.index()];
        if known != u32::MAX {
            return self.block.row(known as usize);
        }
        let name = redplane_command::all()[command.index()].container;
        let row = self.block.table().row(name);
        self.rows[command.index()] = row as u32;
        self.block.row(row)
    }
}

impl Live {
    /// A cluster without connections.
    pub fn new(cluster: Arc<Cluster>, settings: &Settings) -> Self {
        let topology = Arc::clone(&cluster.topology());
        let commands = settings.enable_command_stats.then(|| Commands {
            block: cluster.redis_commands().block(),
            rows: vec![u32::MAX; redplane_command::all().len()],
        });
        Self {
            links: vec![Link::default(); topology.hosts.len()],
            strangers: FxHashMap::default(),
            apart: FxHashMap::default(),
            leases: Leases::default(),
            lessons: Lessons::default(),
            stats: cluster.stats().block(),
            redis_stats: cluster.redis_stats().block(),
            is_redis: topology.slots().is_some(),
            commands,
            cluster,
            topology,
        }
    }

    /// Takes over a new topology if there is one, and returns the connections to hosts that left. Links follow their
    /// hosts. `None` where nothing has changed.
    pub fn refresh(&mut self) -> Option<Vec<u32>> {
        let latest = Arc::clone(&self.cluster.topology());
        if Arc::ptr_eq(&latest, &self.topology) {
            return None;
        }
        let mut left: FxHashMap<u64, Link> = self
            .topology
            .hosts
            .iter()
            .zip(self.links.drain(..))
            .map(|(host, link)| (host.id, link))
            .collect();
        self.links = latest
            .hosts
            .iter()
            .map(|host| {
                let stranger = host
                    .address
                    .ip()
                    .and_then(|address| self.strangers.remove(&address));
                let known = left.remove(&host.id);
                let mut gone = stranger
                    .map(|(_, link)| link)
                    .filter(|link| link.connection.is_some());
                match known {
                    Some(link) => {
                        // The host was met through a redirection first: that connection is let go.
                        if let Some(gone) = gone.take() {
                            left.insert(u64::MAX - gone.connection.map_or(0, u64::from), gone);
                        }
                        link
                    }
                    None => gone.unwrap_or_default(),
                }
            })
            .collect();
        self.is_redis = latest.slots().is_some();
        self.topology = latest;
        let mut left: Vec<u32> = left.into_values().filter_map(|link| link.connection).collect();
        let mut leases = std::mem::take(&mut self.leases);
        left.append(&mut leases.take_strays(|id| self.knows(id)));
        self.leases = leases;
        Some(left)
    }

    /// Whether a host is one of the topology's.
    pub fn knows(&self, host: u64) -> bool {
        self.topology.hosts.iter().any(|known| known.id == host)
    }

    /// How a key finds its host here.
    #[inline]
    pub fn target(&self, key: &[u8], settings: &Settings) -> Target {
        if self.is_redis {
            return Target::Slot(redplane_command::slot(key));
        }
        if self.is_replicated() {
            return Target::Shard(0);
        }
        let key = if settings.enable_hashtagging {
            redplane_command::hash_tag(key)
        } else {
            key
        };
        Target::Hash(redplane_command::murmur2(key))
    }

    /// Whether keys are spread by slot.
    #[inline]
    pub fn is_redis(&self) -> bool {
        self.is_redis
    }

    /// Whether one primary has all keys.
    pub fn is_replicated(&self) -> bool {
        matches!(self.topology.layout, Layout::Replicated(_))
    }

    /// The connection to the primary that a key leads to, where keys are spread by slot and it is there.
    #[inline]
    pub fn primary_for(&self, key: &[u8]) -> Option<u32> {
        if !self.is_redis {
            return None;
        }
        let host = self.topology.primary_of(redplane_command::slot(key))?;
        self.links.get(host)?.connection
    }

    /// The connection to the primary of a slot, where there is one.
    #[inline]
    pub fn open_primary(&self, target: Target) -> Option<u32> {
        let Target::Slot(slot) = target else {
            return None;
        };
        match self.topology.by_slot(slot, Want::Primary) {
            Pick::Host(host) => self.links.get(host)?.connection,
            Pick::Unserved | Pick::NoHost => None,
        }
    }

    /// The host for a target, as an index into the topology.
    #[inline]
    pub fn pick(
        &self,
        target: Target,
        access: Access,
        policy: ReadPolicy,
        zone: &str,
        random: u64,
    ) -> Result<usize, Failure> {
        let want = match access {
            Access::Read if policy != ReadPolicy::Master => Want::Read(policy, zone, random),
            _ => Want::Primary,
        };
        let pick = match target {
            Target::Slot(slot) => self.topology.by_slot(slot, want),
            Target::Hash(hash) => return self.topology.by_hash(hash, random).ok_or(Failure::NoHost),
            Target::Shard(shard) => self.topology.by_shard(shard, want),
            Target::Host(host) => return Ok(host),
            Target::Any => {
                let shards = self.topology.shard_count();
                if shards == 0 {
                    return Err(Failure::NoHost);
                }
                self.topology.by_shard((random % shards as u64) as usize, want)
            }
        };
        match pick {
            Pick::Host(host) => Ok(host),
            Pick::Unserved => Err(Failure::SlotUnserved),
            Pick::NoHost => Err(Failure::NoHost),
        }
    }

    /// Every connection that is shared or waits for its next lease.
    pub fn connections(&self) -> impl Iterator<Item = u32> + '_ {
        let strangers = self.strangers.values().map(|(_, link)| link);
        self.links
            .iter()
            .chain(strangers)
            .filter_map(|link| link.connection)
            .chain(self.leases.idle())
    }

    /// The link that a connection belongs to, to a host of the topology or to a stranger.
    pub fn link_with(&mut self, connection: u32) -> Option<&mut Link> {
        let strangers = self.strangers.values_mut().map(|(_, link)| link);
        let mut links = self.links.iter_mut().chain(strangers);
        links.find(|link| link.connection == Some(connection))
    }
}
