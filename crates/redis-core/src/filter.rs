//! A redis_proxy filter as one worker runs it: its configuration with every name resolved to a place.
//!
//! Clients hold a filter's place, not its configuration: when a push changes it, their next command finds the new
//! one. Commands in flight were routed under the old one and finish so.

mod outcome;

use std::rc::Rc;
use std::sync::Arc;

use redplane_command::{Command, CommandId};
use redplane_config::redis_proxy::{KeyFormatter, ReadPolicy, RedisProxy, Route, Settings};
use redplane_telemetry::stats::redis_command;
use redplane_telemetry::{Block, Cells, Registry, TableBlock};
use redplane_world::Snapshot;
use rustc_hash::FxHashMap;

use crate::pool::Greeting;
use crate::statistics::{Statistics, is_counted};

pub use outcome::Outcome;

/// Where requests of one route go.
#[derive(Debug)]
pub struct RouteTo {
    /// The keys that it is for begin so; empty for the catch-all.
    pub prefix: Vec<u8>,
    /// Servers know keys without the prefix.
    pub remove_prefix: bool,
    /// How servers' names of keys are made.
    pub formatter: Option<KeyFormatter>,
    /// The pool of its cluster.
    pub pool: usize,
    /// The pool of the cluster that commands go to which only read.
    pub read_pool: Option<usize>,
    /// Where copies go.
    pub mirrors: Rc<[MirrorTo]>,
    /// The key is forwarded as it came, which lets requests pass through whole.
    pub keeps_key: bool,
    /// Requests go through whole, to one pool and nowhere else, and may take time.
    pub is_plain: bool,
    /// The read policy is MASTER.
    pub reads_primary: bool,
}

impl RouteTo {
    /// Where a command goes that only reads, or one that does not.
    #[inline]
    pub fn pool_for(&self, reads: bool) -> usize {
        match self.read_pool {
            Some(read_pool) if reads => read_pool,
            _ => self.pool,
        }
    }

    /// Every pool it refers to, once for each reference.
    pub fn pools(&self) -> impl Iterator<Item = usize> + '_ {
        let mirrors = self.mirrors.iter().map(|mirror| mirror.pool);
        [self.pool].into_iter().chain(self.read_pool).chain(mirrors)
    }
}

/// For whom a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Replies go to clients.
    ToClients,
    /// A mirror's.
    ToNobody,
}

/// One mirror of a route.
#[derive(Clone, Copy, Debug)]
pub struct MirrorTo {
    /// The pool of its cluster.
    pub pool: usize,
    /// How many of a million requests are copied.
    pub parts_per_million: u32,
    /// Commands that only read are not.
    pub writes_only: bool,
}

/// A redis_proxy filter with every name resolved.
pub struct Filter {
    /// The name of its listener.
    pub listener: Arc<str>,
    /// The name of its chain.
    pub chain: Arc<str>,
    /// Which life of its chain: what has become another chain under the same match is another filter.
    pub life: u64,
    /// Protocol and database of its clients: HELLO and SELECT move a client to the variant of the filter.
    pub greeting: Greeting,
    /// Clients that use it.
    pub users: usize,
    /// Its configuration.
    pub proxy: Arc<RedisProxy>,
    /// Routes by prefix, the longest first.
    pub prefixes: Vec<Rc<RouteTo>>,
    /// The route of all other keys.
    pub catch_all: Option<Rc<RouteTo>>,
    /// Its statistics.
    pub stats: Block,
    counted: Counted,
    /// Custom commands by name; their ids are valid for this filter alone.
    pub custom: FxHashMap<Vec<u8>, CommandId>,
}

/// Statistics by command.
struct Counted {
    block: TableBlock,
    /// Rows of the block by command, custom ones behind those of the table.
    rows: Vec<u32>,
    /// Latencies are in microseconds.
    micros: bool,
}

/// A filter chain by its names, for the filters of other workers. Clients of one chain see one Redis: what they ask about
/// each other stays among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainName {
    /// The listener.
    pub listener: Box<str>,
    /// The chain, by its id.
    pub chain: Box<str>,
}

/// A filter chain for as long as connections may go on under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLife {
    /// The name of its listener.
    pub listener: Arc<str>,
    /// Its name.
    pub chain: Arc<str>,
    /// The number of its life.
    pub life: u64,
}

/// A command's row that is not counted (PING and other commands that Envoy has no stats for).
const UNCOUNTED: u32 = u32::MAX;

impl Filter {
    /// Resolves a configuration; `pool` finds or makes the pool of a cluster.
    pub fn new(
        of: ChainLife,
        proxy: Arc<RedisProxy>,
        registry: &Registry,
        mut pool: impl FnMut(&str, Answered) -> usize,
    ) -> Self {
        let Statistics {
            scope,
            commands: table,
        } = Statistics::new(registry, &proxy);
        let row = |command: &Command| match is_counted(command) {
            true => table.row(command.container) as u32,
            false => UNCOUNTED,
        };
        let mut rows: Vec<u32> = redplane_command::all().iter().map(row).collect();
        let mut custom = FxHashMap::default();
        for name in &proxy.custom_commands {
            let Ok(id) = u16::try_from(rows.len()) else {
                break;
            };
            custom.insert(name.clone().into_bytes(), CommandId(id));
            rows.push(table.row(name) as u32);
        }
        let prefixes = proxy
            .routes
            .prefixes
            .iter()
            .map(|route| Rc::new(resolve(route, &proxy.settings, &mut pool)))
            .collect();
        let catch_all = proxy
            .routes
            .catch_all
            .as_ref()
            .map(|route| Rc::new(resolve(route, &proxy.settings, &mut pool)));
        Self {
            listener: of.listener,
            chain: of.chain,
            life: of.life,
            greeting: Greeting::default(),
            users: 0,
            counted: Counted {
                block: table.block(),
                rows,
                micros: proxy.latency_in_micros,
            },
            proxy,
            prefixes,
            catch_all,
            stats: scope.block(),
            custom,
        }
    }

    /// Its chain, in the life that it serves.
    pub fn chain_life(&self) -> ChainLife {
        ChainLife {
            listener: self.listener.clone(),
            chain: self.chain.clone(),
            life: self.life,
        }
    }

    /// Its chain.
    pub fn chain_name(&self) -> ChainName {
        ChainName {
            listener: (*self.listener).into(),
            chain: (*self.chain).into(),
        }
    }

    /// Whether that is its chain.
    pub fn is_of(&self, name: &ChainName) -> bool {
        *self.listener == *name.listener && *self.chain == *name.chain
    }

    /// Where a key goes: the longest prefix, else the catch-all.
    #[inline]
    pub fn route(&self, key: &[u8]) -> Option<&Rc<RouteTo>> {
        if self.prefixes.is_empty() {
            return self.catch_all.as_ref();
        }
        let fold = self.proxy.routes.case_insensitive;
        let matches = |route: &&Rc<RouteTo>| match key.get(..route.prefix.len()) {
            Some(start) if fold => start.eq_ignore_ascii_case(&route.prefix),
            Some(start) => start == route.prefix,
            None => false,
        };
        self.prefixes.iter().find(matches).or(self.catch_all.as_ref())
    }

    /// The counters of a command; `None` where Envoy has none.
    #[inline]
    pub fn cells(&self, command: CommandId) -> Option<&Cells> {
        match self.counted.rows.get(command.index()) {
            Some(&UNCOUNTED) | None => None,
            Some(&row) => Some(self.counted.block.row(row as usize)),
        }
    }

    /// Counts commands that ended alike.
    pub fn count(&self, outcome: Outcome, times: u64) {
        let Some(cells) = outcome.command.and_then(|command| self.cells(command)) else {
            return;
        };
        let result = if outcome.success {
            redis_command::SUCCESS
        } else {
            redis_command::ERROR
        };
        cells.add(result, times);
        let elapsed = if self.counted.micros {
            outcome.micros
        } else {
            outcome.micros / 1000
        };
        cells.record_many(redis_command::LATENCY, elapsed, times);
    }

    /// Its routes: prefixes, the longest first, and the catch-all.
    pub fn routes(&self) -> impl Iterator<Item = &Rc<RouteTo>> {
        self.prefixes.iter().chain(&self.catch_all)
    }

    /// For what any server may answer: the catch-all, else the first route.
    pub fn any_route(&self) -> Option<&Rc<RouteTo>> {
        self.catch_all.as_ref().or_else(|| self.prefixes.first())
    }

    /// Whether servers know all keys by the names that clients use.
    pub fn keeps_keys(&self) -> bool {
        self.routes().all(|route| route.keeps_key)
    }

    /// The pools of commands that only read, or of others: each once, the catch-all's first.
    pub fn pools_for(&self, reads: bool) -> Vec<usize> {
        let mut pools = Vec::new();
        for route in self.catch_all.iter().chain(&self.prefixes) {
            let pool = route.pool_for(reads);
            if !pools.contains(&pool) {
                pools.push(pool);
            }
        }
        pools
    }

    /// The pools whose replies its clients get.
    pub fn pools_read(&self) -> Vec<usize> {
        let pools = |route: &Rc<RouteTo>| [route.pool].into_iter().chain(route.read_pool);
        self.routes().flat_map(pools).collect()
    }

    /// Every pool it refers to, once for each reference.
    pub fn pools(&self) -> Vec<usize> {
        self.routes().flat_map(|route| route.pools()).collect()
    }
}

fn resolve(route: &Route, settings: &Settings, pool: &mut impl FnMut(&str, Answered) -> usize) -> RouteTo {
    let mirrors = route.mirrors.iter().map(|mirror| MirrorTo {
        pool: pool(&mirror.cluster, Answered::ToNobody),
        parts_per_million: mirror.parts_per_million,
        writes_only: mirror.exclude_read_commands,
    });
    let keeps_key = !route.remove_prefix && route.key_formatter.is_none();
    let one_pool = route.mirrors.is_empty() && route.read_cluster.is_none();
    RouteTo {
        mirrors: mirrors.collect(),
        prefix: route.prefix.clone(),
        remove_prefix: route.remove_prefix,
        formatter: route.key_formatter.clone(),
        pool: pool(&route.cluster, Answered::ToClients),
        read_pool: route
            .read_cluster
            .as_deref()
            .map(|cluster| pool(cluster, Answered::ToClients)),
        keeps_key,
        is_plain: keeps_key && one_pool && !settings.op_timeout.is_zero(),
        reads_primary: settings.read_policy == ReadPolicy::Master,
    }
}

/// The filter's configuration as the snapshot has it; `None` when this life of its chain is over.
pub fn find(snapshot: &Snapshot, listener: &str, chain: &str, life: u64) -> Option<Arc<RedisProxy>> {
    let chain = snapshot.listener(listener)?.chain(chain)?;
    chain.redis().filter(|_| chain.life.number == life).cloned()
}
