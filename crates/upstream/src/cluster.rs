//! One live cluster: its configuration, its current topology, its discovery and its stats.
//!
//! Workers only read ([`topology`](Cluster::topology)) and [`signal`](Cluster::signal); neither blocks. Everything that
//! changes a topology goes through one lock on the control side, builds the next one from the current one and publishes
//! it whole. Background tasks hold the cluster weakly and end with it.

mod events;
mod limits;
mod login;
mod roster;
mod transports;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};
use redplane_config::cluster::{Cluster as Config, Discovery};
use redplane_config::endpoint::Assignment;
use redplane_config::{Invalid, endpoint::Health};
use redplane_telemetry::stats::{cluster as names, redis_cluster, redis_discovery, ssl, upstream_command};
use redplane_telemetry::{Block, Registry, Scope, Table};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::discovery;
use crate::dns::Dns;
use crate::host::{Draft, Host, HostAddress, Transport};
use crate::topology::{Layout, Topology};

pub use events::Signal;
pub(crate) use events::{Events, Moves, Tally};
pub use limits::Permit;
pub use login::Login;
use login::Tokens;
pub(crate) use roster::Roster;
use transports::Transports;

/// What every cluster shares.
#[derive(Clone)]
pub struct Context {
    /// Where stats are registered.
    pub registry: Registry,
    /// The resolver.
    pub dns: Dns,
    /// Availability zone of this process (`node.locality.zone`); empty if not known.
    pub zone: String,
    /// The runtime of the control thread, where discovery runs.
    pub runtime: Handle,
}

impl Context {
    /// A context whose discovery runs on the runtime of the caller; must be called from within one.
    pub fn new(registry: Registry, dns: Dns, zone: impl Into<String>) -> Self {
        Self {
            registry,
            dns,
            zone: zone.into(),
            runtime: Handle::current(),
        }
    }
}

/// Topologies that this process has published.
static PUBLISHED: AtomicU64 = AtomicU64::new(0);

/// How many topologies this process has published, of all clusters: when there are more, a worker looks whether its own
/// clusters have new ones, and at no other time.
#[inline]
pub fn published() -> u64 {
    PUBLISHED.load(Ordering::Acquire)
}

/// One live cluster.
pub struct Cluster {
    config: Arc<Config>,
    context: Context,
    topology: ArcSwap<Topology>,
    transports: Arc<Transports>,
    events: Arc<Events>,
    rebalancing: AtomicBool,
    /// Connections that have a [`Permit`].
    open: AtomicU64,
    warm: watch::Sender<bool>,
    scope: Arc<Scope>,
    redis: OnceLock<Arc<Scope>>,
    redis_commands: OnceLock<Arc<Table>>,
    /// There when hosts are spoken to by TLS.
    ssl: Option<Arc<Scope>>,
    /// A std mutex: held while a topology is built, on the control side only.
    control: Mutex<Control>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// There when IAM tokens take the place of passwords.
    tokens: OnceLock<Tokens>,
}

/// What only the control side touches.
pub(crate) struct Control {
    pub(crate) block: Block,
    pub(crate) roster: Roster,
}

impl Cluster {
    /// Builds TLS and stats, and starts discovery as tasks on the context's runtime.
    ///
    /// # Errors
    ///
    /// Certificates, names and addresses that cannot be used, with the path of the field.
    pub fn start(config: Arc<Config>, context: &Context) -> Result<Arc<Self>, Invalid> {
        Self::start_after(config, context, None)
    }

    /// As [`start`](Self::start), for a cluster that takes the place of another of the same name: it goes on with the
    /// hosts it has in common with that one, and where endpoints come from the same place also with its topology, so
    /// that nothing has to be found again before commands can be served.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); the previous cluster is untouched then.
    pub fn start_after(
        config: Arc<Config>,
        context: &Context,
        previous: Option<&Self>,
    ) -> Result<Arc<Self>, Invalid> {
        let transports = match previous.filter(|previous| Transports::same(&previous.config, &config)) {
            Some(previous) => previous.transports.clone(),
            None => Arc::new(Transports::new(&config)?),
        };
        discovery::check(&config)?;
        let scope = context
            .registry
            .scope(&format!("cluster.{}.", config.stat_name), &names::SCHEMA);
        let ssl = transports.any_tls().then(|| {
            let prefix = format!("cluster.{}.ssl.", config.stat_name);
            context.registry.scope(&prefix, &ssl::SCHEMA)
        });
        let control = Control {
            block: scope.block(),
            roster: Roster::default(),
        };
        let (events, moves) = Events::new();
        let cluster = Arc::new(Self {
            topology: ArcSwap::from_pointee(Topology::new(Vec::new(), discovery::layout(&config), 0)),
            config,
            context: context.clone(),
            transports,
            events: Arc::new(events),
            rebalancing: AtomicBool::new(false),
            open: AtomicU64::new(0),
            warm: watch::Sender::new(false),
            scope,
            redis: OnceLock::new(),
            redis_commands: OnceLock::new(),
            ssl,
            control: Mutex::new(control),
            tasks: Mutex::default(),
            tokens: OnceLock::new(),
        });
        if let Some(tokens) = Tokens::start(&cluster, previous)? {
            // Nothing else sets it.
            let _ = cluster.tokens.set(tokens);
        }
        cluster.count_members(&cluster.control(), &[], &[]);
        if let Some(previous) = previous {
            discovery::inherit(&cluster, previous);
        }
        discovery::start(&cluster, moves);
        Ok(cluster)
    }

    /// What was configured.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// This process's own zone, for read policies.
    pub fn zone(&self) -> &str {
        &self.context.zone
    }

    /// The current topology.
    pub fn topology(&self) -> Guard<Arc<Topology>> {
        self.topology.load()
    }

    /// Puts a topology in the place of the current one, for networks whose discovery is a model's.
    pub fn republish(&self, topology: Arc<Topology>) {
        self.topology.store(topology);
        PUBLISHED.fetch_add(1, Ordering::Release);
    }

    /// Takes an EDS assignment; other clusters ignore it.
    pub fn assign(&self, assignment: &Assignment) {
        if matches!(self.config.discovery, Discovery::Eds { .. }) {
            discovery::eds::assign(self, assignment);
        }
    }

    /// Nothing has to be waited for any more. A cluster whose endpoints do not come stays cold (EDS, DNS); a Redis
    /// cluster and one behind Sentinels are warm from the start.
    pub fn is_warm(&self) -> bool {
        *self.warm.borrow()
    }

    /// Waits until [`is_warm`](Self::is_warm).
    pub async fn warmed(&self) {
        // An error means that the sender is gone, which lives in `self`.
        let _ = self.warm.subscribe().wait_for(|warm| *warm).await;
    }

    /// Ends discovery. The last topology stays readable.
    pub fn stop(&self) {
        for task in self.tasks().drain(..) {
            task.abort();
        }
        // A successor counts under the same names.
        let gauges = [
            names::MEMBERSHIP_TOTAL,
            names::MEMBERSHIP_HEALTHY,
            names::MEMBERSHIP_DEGRADED,
            names::MAX_HOST_WEIGHT,
            names::UPSTREAM_CX_ACTIVE,
        ];
        self.count(|block| gauges.iter().for_each(|gauge| block.set(*gauge, 0)));
    }

    /// Tells the control side what a worker saw. Never blocks; a flood is put together.
    pub fn signal(self: &Arc<Self>, signal: Signal) {
        match (&self.config.discovery, signal) {
            (Discovery::Redis(_) | Discovery::Sentinel(_), signal) => self.events.tell(signal),
            (_, Signal::Degraded) if !self.rebalancing.swap(true, Relaxed) => {
                let cluster = Arc::clone(self);
                self.context.runtime.spawn(async move { cluster.rebalance() });
            }
            _ => {}
        }
    }

    /// `cluster.<name>.`: the stats every cluster has.
    pub fn stats(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// `cluster.<name>.redis_cluster.`: made when a redis_proxy first asks for it.
    pub fn redis_stats(&self) -> &Arc<Scope> {
        self.redis.get_or_init(|| {
            let prefix = format!("cluster.{}.redis_cluster.", self.config.stat_name);
            self.context.registry.scope(&prefix, &redis_cluster::SCHEMA)
        })
    }

    /// `cluster.<name>.redis_cluster.upstream_commands.`: a row for each command, added when it is first sent.
    pub fn redis_commands(&self) -> &Arc<Table> {
        self.redis_commands.get_or_init(|| {
            let prefix = format!(
                "cluster.{}.redis_cluster.upstream_commands.",
                self.config.stat_name
            );
            self.context
                .registry
                .table(&prefix, Arc::default(), &upstream_command::SCHEMA)
        })
    }

    /// `cluster.<name>.ssl.`: there when hosts are spoken to by TLS.
    pub fn ssl_stats(&self) -> Option<&Arc<Scope>> {
        self.ssl.as_ref()
    }

    /// `cluster.<name>.upstream_commands.`: discovery's own traffic.
    pub(crate) fn discovery_stats(&self) -> (Arc<Scope>, Arc<Table>) {
        let prefix = format!("cluster.{}.", self.config.stat_name);
        let table = format!("{prefix}upstream_commands.");
        let scope = self.context.registry.scope(&prefix, &redis_discovery::SCHEMA);
        (
            scope,
            self.context
                .registry
                .table(&table, Arc::default(), &upstream_command::SCHEMA),
        )
    }

    /// The resolver, for names that redirections tell.
    pub fn dns(&self) -> &Dns {
        &self.context.dns
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    pub(crate) fn set_warm(&self) {
        self.warm.send_if_modified(|warm| !std::mem::replace(warm, true));
    }

    /// Keeps a task's handle, to end it with the cluster.
    pub(crate) fn adopt(&self, task: AbortHandle) {
        self.tasks().push(task);
    }

    /// The transport of a host of this name and metadata.
    pub(crate) fn transport(
        &self,
        address: &HostAddress,
        hostname: &str,
        metadata: &[(String, String)],
    ) -> Transport {
        self.transports.of(address, hostname, metadata)
    }

    /// Counts on the control side.
    pub(crate) fn count(&self, count: impl FnOnce(&Block)) {
        count(&self.control().block);
    }

    /// Builds the next topology from the current one and publishes it; says whether there was a change to publish.
    pub(crate) fn publish(
        &self,
        build: impl FnOnce(&Topology, &mut Roster) -> Option<(Vec<Arc<Host>>, Layout)>,
    ) -> bool {
        let mut control = self.control();
        let current = self.topology.load_full();
        control.roster.know(&current.hosts);
        let next = build(&current, &mut control.roster);
        let changed = next.is_some();
        if let Some((hosts, layout)) = next {
            self.count_members(&control, &current.hosts, &hosts);
            control.roster.leave(&current.hosts, &hosts);
            self.republish(Arc::new(Topology::new(hosts, layout, current.version + 1)));
        } else {
            self.count_members(&control, &current.hosts, &current.hosts);
        }
        changed
    }

    /// A host that is known from a redirection only.
    pub(crate) fn remember(&self, draft: Draft) -> Arc<Host> {
        let mut control = self.control();
        let current = self.topology.load_full();
        control.roster.know(&current.hosts);
        control.roster.stranger(draft)
    }

    /// Takes the present health of hosts into the balance.
    fn rebalance(&self) {
        self.rebalancing.store(false, Relaxed);
        self.publish(|current, _| match &current.layout {
            Layout::Balanced(balancer) => Some((
                current.hosts.clone(),
                Layout::Balanced(balancer.again(&current.hosts)),
            )),
            Layout::Slots(_) | Layout::Replicated(_) | Layout::OriginalDst => None,
        });
    }

    fn count_members(&self, control: &Control, before: &[Arc<Host>], after: &[Arc<Host>]) {
        let of = |health: Health| after.iter().filter(|host| host.health() == health).count() as u64;
        let block = &control.block;
        block.set(names::MEMBERSHIP_TOTAL, after.len() as u64);
        block.set(names::MEMBERSHIP_HEALTHY, of(Health::Healthy));
        block.set(names::MEMBERSHIP_DEGRADED, of(Health::Degraded));
        block.set(names::MEMBERSHIP_EXCLUDED, 0);
        block.set(
            names::MAX_HOST_WEIGHT,
            u64::from(after.iter().map(|host| host.weight).max().unwrap_or(0)),
        );
        let ids = |hosts: &[Arc<Host>]| hosts.iter().map(|host| host.id).collect::<BTreeSet<u64>>();
        if ids(before) != ids(after) {
            block.inc(names::MEMBERSHIP_CHANGE);
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // A topology is published whole or not at all, so a panic elsewhere leaves nothing half done.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.config.name)
            .finish_non_exhaustive()
    }
}
