//! One live cluster: its configuration, its current topology, its stats, and where discovery puts what it finds.
//!
//! Workers only read ([`topology`](Cluster::topology)) and [`signal`](Cluster::signal); neither blocks. Everything that
//! changes a topology goes through one lock on the control side, builds the next one from the current one and publishes
//! it whole. Background tasks hold the cluster weakly and end with it.

mod events;
mod limits;
mod login;
mod outlier;
mod readiness;
mod roster;
mod stats;
mod transports;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};
use redplane_config::cluster::{Cluster as Config, Discovery};
use redplane_config::{Invalid, endpoint::Health};
use redplane_telemetry::stats::cluster as names;
use redplane_telemetry::{Block, Registry};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::dns::Dns;
use crate::host::{Draft, Host, HostAddress, Transport};
use crate::tls::secrets::Secrets;
use crate::topology::{Layout, Topology};

pub use events::{Events, Moves, Signal, Tally};
use limits::Open;
pub use limits::{Permit, Resource};
pub use login::Login;
use login::Tokens;
pub use outlier::Outcome;
use readiness::Readiness;
pub use roster::Roster;
use stats::Stats;
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
    /// What comes by name.
    pub secrets: Secrets,
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
            secrets: Secrets::default(),
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
    balance: Balance,
    /// What has a [`Permit`].
    open: Open,
    readiness: Readiness,
    stats: Stats,
    /// A std mutex: held while a topology is built, on the control side only.
    control: Mutex<Control>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// There when IAM tokens take the place of passwords.
    tokens: OnceLock<Tokens>,
}

/// Whether hosts' health has to be taken into the balance again.
#[derive(Debug, Default)]
struct Balance {
    /// It will be.
    due: AtomicBool,
    /// How many hosts had come back, in this process, when this cluster looked last.
    returned: AtomicU64,
}

/// What only the control side touches.
pub(crate) struct Control {
    pub(crate) block: Block,
    /// Of outliers, where they are detected.
    pub(crate) outlier: Option<Block>,
    pub(crate) roster: Roster,
}

impl Cluster {
    /// A cluster without hosts, with its TLS and its stats, and the receiving end of the moves that workers tell it.
    /// Discovery finds its hosts: `redplane_discovery::start`. One that takes the place of `previous` goes on with the
    /// TLS contexts and tokens it has in common with that one.
    ///
    /// # Errors
    ///
    /// Certificates, names and addresses that cannot be used, with the path of the field.
    pub fn new(
        config: Arc<Config>,
        context: &Context,
        layout: Layout,
        previous: Option<&Self>,
    ) -> Result<(Arc<Self>, Moves), Invalid> {
        let transports = match previous.filter(|previous| Transports::same(&previous.config, &config)) {
            Some(previous) => previous.transports.clone(),
            None => Arc::new(Transports::new(&config, &context.secrets)?),
        };
        let stats = Stats::new(&config.stat_name, &context.registry, transports.any_tls());
        let control = Control {
            block: stats.scope.block(),
            outlier: stats.outlier(&config, &context.registry),
            roster: Roster::default(),
        };
        let (events, moves) = Events::new();
        let cluster = Arc::new(Self {
            topology: ArcSwap::from_pointee(Topology::new(Vec::new(), layout, 0)),
            config,
            context: context.clone(),
            transports,
            events: Arc::new(events),
            balance: Balance::default(),
            open: Open::default(),
            readiness: Readiness::new(),
            stats,
            control: Mutex::new(control),
            tasks: Mutex::default(),
            tokens: OnceLock::new(),
        });
        if let Some(tokens) = Tokens::start(&cluster, previous)? {
            // Nothing else sets it.
            let _ = cluster.tokens.set(tokens);
        }
        cluster.count_members(&cluster.control(), &[], &[]);
        Ok((cluster, moves))
    }

    /// Looks whether a cluster could be made, and makes nothing.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn check(config: &Config, secrets: &Secrets) -> Result<(), Invalid> {
        Transports::new(config, secrets)?;
        login::check(config)
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
        self.readiness.tell();
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
            (_, Signal::Degraded) if !self.balance.due.swap(true, Relaxed) => {
                let cluster = Arc::clone(self);
                self.context.runtime.spawn(async move { cluster.rebalance() });
            }
            _ => {}
        }
    }

    /// The resolver, for names that redirections tell.
    pub fn dns(&self) -> &Dns {
        &self.context.dns
    }

    /// What it shares with all other clusters.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Where workers' signals are collected.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Keeps a task's handle, to end it with the cluster.
    pub fn adopt(&self, task: AbortHandle) {
        self.tasks().push(task);
    }

    /// The transport of a host of this name and metadata.
    pub fn transport(
        &self,
        address: &HostAddress,
        hostname: &str,
        metadata: &[(String, String)],
    ) -> Transport {
        self.transports.of(address, hostname, metadata)
    }

    /// Counts on the control side.
    pub fn count(&self, count: impl FnOnce(&Block)) {
        count(&self.control().block);
    }

    /// Builds the next topology from the current one and publishes it; says whether there was a change to publish.
    pub fn publish(
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
        self.balance.due.store(false, Relaxed);
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
