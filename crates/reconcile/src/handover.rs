//! From one cluster to the next without a gap: a push that moves a route and takes the old cluster away loses no command.
//!
//! Clusters come before listeners on the stream. So a changed listener takes over when the clusters it newly names are
//! warm, and a removed cluster serves on while a listener still names it: until the listeners of the same push are
//! here. Both end after [`PATIENCE`], because what was configured must come to pass. Envoy has the gap.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redplane_admin::FailedUpdate;
use redplane_config::listener::{Listener, Terminal};
use redplane_telemetry::stats::listener_manager as names;
use redplane_xds::Resource;

use crate::book::version;
use crate::incoming::Incoming;
use crate::owner::Reconcile;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// What waits for its counterpart.
#[derive(Default)]
pub(crate) struct Handover {
    /// Removed clusters that a listener still names, with the number of their wait.
    lingering: HashMap<String, u64>,
    /// Accepted listeners whose clusters are not warm yet.
    postponed: HashMap<String, Postponed>,
    waits: u64,
}

struct Postponed {
    config: Arc<Listener>,
    resource: Resource,
    wait: u64,
}

/// Every cluster that a listener sends something to.
fn named(listener: &Listener) -> impl Iterator<Item = &str> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    chains.flat_map(|chain| -> Vec<&str> {
        match &chain.terminal {
            Terminal::Redis(proxy) => {
                let routes = proxy.routes.prefixes.iter().chain(&proxy.routes.catch_all);
                let clusters = routes.flat_map(|route| {
                    let mirrors = route.mirrors.iter().map(|mirror| &mirror.cluster);
                    std::iter::once(&route.cluster)
                        .chain(&route.read_cluster)
                        .chain(mirrors)
                });
                clusters.map(String::as_str).collect()
            }
            Terminal::Tcp(proxy) => proxy
                .clusters
                .iter()
                .map(|weighted| weighted.cluster.as_str())
                .collect(),
            Terminal::Http(manager) => manager.clusters(),
            Terminal::Inert { .. } => Vec::new(),
        }
    })
}

impl Reconcile {
    /// Takes clusters away, those that a listener still names a little later.
    pub(crate) fn release_clusters(&mut self, removed: &[String]) {
        if removed.is_empty() {
            return;
        }
        let draft = self.draft.clone();
        let used: HashSet<&str> = draft
            .listeners()
            .flat_map(|listener| named(&listener.config))
            .collect();
        for name in removed {
            if used.contains(name.as_str()) && self.is_removable(name) {
                let wait = self.be_patient();
                self.handover.lingering.insert(name.clone(), wait);
            } else {
                self.remove_cluster(name);
            }
        }
    }

    /// A cluster is pushed again before it has gone.
    pub(crate) fn keep_cluster(&mut self, name: &str) {
        self.handover.lingering.remove(name);
    }

    /// Whether a changed listener has to wait; then it is kept until [`take_over`](Self::take_over).
    pub(crate) fn postpone(&mut self, config: &Arc<Listener>, resource: &Resource) -> bool {
        let Some(active) = self.draft.listener(&config.name) else {
            return false;
        };
        let active = &active.config;
        // A new listener, or one with another port, may be refused: that must be known at once.
        let same = |active: &Listener| {
            active.addresses == config.addresses && active.bind_to_port == config.bind_to_port
        };
        if Arc::ptr_eq(active, config) || !same(active) || !self.awaits(config) {
            return false;
        }
        let wait = self.be_patient();
        let warming = version(resource.body.clone(), &resource.version);
        self.world
            .book
            .pages()
            .listeners
            .set_warming(&config.name, warming);
        let postponed = Postponed {
            config: Arc::clone(config),
            resource: resource.clone(),
            wait,
        };
        self.handover.postponed.insert(config.name.clone(), postponed);
        self.gauge_postponed();
        true
    }

    /// A newer version of a listener, or none, has come.
    pub(crate) fn forget_postponed(&mut self, name: &str) {
        if self.handover.postponed.remove(name).is_some() {
            self.gauge_postponed();
        }
    }

    /// Lets listeners live whose clusters are warm now, and clusters go that nobody names any more.
    pub(crate) fn take_over(&mut self) {
        let ready = self
            .handover
            .postponed
            .iter()
            .filter(|(_, postponed)| !self.awaits(&postponed.config));
        let ready: Vec<String> = ready.map(|(name, _)| name.clone()).collect();
        ready.iter().for_each(|name| self.go_live(name));
        if self.handover.lingering.is_empty() {
            return;
        }
        let draft = self.draft.clone();
        let used: HashSet<&str> = draft
            .listeners()
            .flat_map(|listener| named(&listener.config))
            .collect();
        let lingering = self
            .handover
            .lingering
            .keys()
            .filter(|name| !used.contains(name.as_str()));
        let over: Vec<String> = lingering.cloned().collect();
        for name in over {
            self.handover.lingering.remove(&name);
            // The listeners that no longer name it must be out before it goes.
            self.publish();
            self.remove_cluster(&name);
        }
    }

    /// A wait has lasted long enough.
    pub(crate) fn out_of_patience(&mut self, wait: u64) {
        let postponed = self
            .handover
            .postponed
            .iter()
            .find(|(_, postponed)| postponed.wait == wait);
        if let Some(name) = postponed.map(|(name, _)| name.clone()) {
            self.go_live(&name);
        }
        let lingering = self.handover.lingering.iter().find(|(_, id)| **id == wait);
        if let Some(name) = lingering.map(|(name, _)| name.clone()) {
            self.handover.lingering.remove(&name);
            self.remove_cluster(&name);
        }
        self.take_over();
        self.ask_endpoints();
        self.publish();
    }

    fn go_live(&mut self, name: &str) {
        let Some(postponed) = self.handover.postponed.remove(name) else {
            return;
        };
        self.gauge_postponed();
        if let Err(details) = self.bind_listener(&postponed.config, &postponed.resource) {
            tracing::warn!(name, details, "a listener that was accepted cannot live");
            let failed = FailedUpdate {
                resource: Some(Arc::new(postponed.resource.body)),
                version_info: postponed.resource.version,
                last_update_attempt: std::time::SystemTime::now(),
                details,
            };
            self.world.book.pages().listeners.set_failed(name, failed);
        }
    }

    /// Whether a listener names a cluster that is on its way and has no predecessor.
    fn awaits(&self, config: &Listener) -> bool {
        named(config).any(|name| self.draft.cluster(name).is_none() && self.is_warming(name))
    }

    fn be_patient(&mut self) -> u64 {
        self.handover.waits += 1;
        let (wait, queue) = (self.handover.waits, self.feeds.queue().clone());
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            // Nobody left to tell is as good.
            let _ = queue.send(Incoming::OutOfPatience(wait)).await;
        });
        wait
    }

    fn gauge_postponed(&self) {
        let postponed = self.handover.postponed.len() as u64;
        self.listeners
            .stats
            .set(names::TOTAL_LISTENERS_WARMING, postponed);
    }
}
