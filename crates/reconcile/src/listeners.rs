//! LDS: listeners come, wait for what they need, change under open connections, and go.
//!
//! A listener opens, or takes the place of its predecessor, when it has its secrets and routes; for clusters that are on
//! their way it waits a moment, so that its first client does not meet an empty one. Then its sockets are bound, it is
//! published with everything else by one swap, and only then do workers accept for it. What cannot be bound refuses that
//! listener alone, at once, also when it has to wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use redplane_admin::{FailedUpdate, ResourceVersion};
use redplane_config::listener::Listener as Config;
use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::{pack, unpack};
use redplane_proxy::Statistics;
use redplane_telemetry::stats::{listener_manager as names, server};
use redplane_xds::{Rejected, Resource, Update};

use crate::book::{Origin, version};
use crate::needs::{HANDOVER, MOMENT, Need, Needs, Waiter};
use crate::owner::Reconcile;
use crate::references;
use crate::state::listeners::Waiting;
use crate::state::start::Phase;

pub(crate) use crate::references::clusters_of;

/// A version of a listener that was accepted.
struct Draft {
    config: Arc<Config>,
    origin: Origin,
    resource: ResourceVersion,
}

impl Reconcile {
    pub(crate) fn add_static_listener(
        &mut self,
        config: &Arc<Config>,
        message: &proto::Listener,
    ) -> Result<(), String> {
        let refuse = |reason| format!("static_resources.listeners: '{}': {reason}", config.name);
        self.listeners.fixed.insert(config.name.clone());
        let block = self.world.server.block();
        block.add(server::STATIC_UNKNOWN_FIELDS, config.ignored.0.len() as u64);
        drop(block);
        let draft = Draft {
            config: Arc::clone(config),
            origin: Origin::Static,
            resource: version(pack(message), ""),
        };
        let Some(draft) = self.wait_or_go(draft).map_err(refuse)? else {
            return Ok(());
        };
        self.go_live(draft).map_err(refuse)?;
        self.publish();
        Ok(())
    }

    pub(crate) fn apply_listeners(&mut self, update: &Update) -> Vec<Rejected> {
        // First, because a new listener may want the address of one that goes.
        for name in &update.removed {
            self.remove_listener(name);
        }
        let mut rejected = Vec::new();
        let mut drafts = Vec::with_capacity(update.resources.len());
        for resource in &update.resources {
            match self.draft_listener(resource) {
                Ok(draft) => drafts.extend(draft),
                Err(reason) => {
                    self.listeners.stats.inc(names::LISTENER_CREATE_FAILURE);
                    rejected.push(Rejected::new(&resource.name, reason));
                }
            }
        }
        for draft in drafts {
            let name = draft.config.name.clone();
            if let Err(reason) = self.go_live(draft) {
                rejected.push(Rejected::new(name, reason));
            }
        }
        self.gauge_waiting();
        rejected
    }

    /// Validates a listener; `None` when nothing is to be done now.
    fn draft_listener(&mut self, resource: &Resource) -> Result<Option<Draft>, String> {
        let message: proto::Listener = unpack(&resource.body)?;
        let config = Arc::new(Config::from_proto(&message).map_err(|invalid| invalid.to_string())?);
        if self.listeners.fixed.contains(&config.name) {
            // Envoy: a listener of the bootstrap is not replaced, and that is no error.
            let name = &config.name;
            tracing::warn!(
                name,
                "the bootstrap has a listener of this name; the one from LDS is left out"
            );
            return Ok(None);
        }
        let resource = version(resource.body.clone(), &resource.version);
        if let Some(waiting) = self.listeners.waiting.get_mut(&config.name)
            && waiting.config == config
        {
            waiting.resource = resource;
            return Ok(None);
        }
        let active = self.draft.listener(&config.name);
        if active.is_some_and(|active| active.config == config) {
            self.forget_waiting(&config.name);
            self.dump_listener(Origin::Dynamic, &config.name, resource);
            return Ok(None);
        }
        self.count_ignored(&config.name, &config.ignored);
        self.wait_or_go(Draft {
            config,
            origin: Origin::Dynamic,
            resource,
        })
    }

    /// Lets a listener wait for what it needs; answers it when it needs nothing.
    fn wait_or_go(&mut self, draft: Draft) -> Result<Option<Draft>, String> {
        let config = Arc::clone(&draft.config);
        let mut needs = self.join_secrets(&references::secrets_of_listener(&config))?;
        match self.join_routes(&config) {
            Ok(routes) => needs.extend(routes),
            Err(reason) => {
                self.leave_secrets(&references::secrets_of_listener(&config));
                return Err(reason);
            }
        }
        self.add_cluster_needs(&config, &mut needs);
        // What it waits for is held for it; the version that waited before is not needed any more.
        if needs.is_empty() {
            self.forget_waiting(&config.name);
            return Ok(Some(draft));
        }
        if let Err(reason) = self.world.workers.check(&config) {
            self.leave_needs(&config);
            return Err(reason);
        }
        self.forget_waiting(&config.name);
        if draft.origin == Origin::Dynamic {
            let mut pages = self.world.book.pages();
            pages.listeners.set_warming(&config.name, draft.resource.clone());
        }
        let waiter = Waiter::Listener(config.name.clone());
        let waiting = Waiting {
            wait: self.ledger.open(waiter, needs, Instant::now()),
            config: draft.config,
            origin: draft.origin,
            resource: draft.resource,
            first: self.start.phase != Phase::Live,
        };
        self.listeners.waiting.insert(config.name.clone(), waiting);
        Ok(None)
    }

    fn add_cluster_needs(&self, config: &Config, needs: &mut Needs) {
        let patience = match self.draft.listener(&config.name).is_some() {
            true => HANDOVER,
            false => MOMENT,
        };
        let awaited: HashSet<&str> = clusters_of(config).filter(|name| self.is_awaited(name)).collect();
        needs.extend(
            awaited
                .into_iter()
                .map(|name| (Need::Cluster(name.to_owned()), Some(patience))),
        );
    }

    /// A listener has what it needs, or has waited long enough.
    pub(crate) fn listener_is_ready(&mut self, name: &str) {
        let Some(waiting) = self.listeners.waiting.remove(name) else {
            return;
        };
        self.gauge_waiting();
        let Waiting {
            config,
            origin,
            resource,
            ..
        } = waiting;
        let failed = resource.clone();
        let draft = Draft {
            config,
            origin,
            resource,
        };
        if let Err(details) = self.go_live(draft) {
            tracing::warn!(name, details, "a listener that was accepted cannot live");
            if origin == Origin::Static {
                self.start.fault = Some(format!("static_resources.listeners: '{name}': {details}"));
            }
            let failed = FailedUpdate {
                resource: Some(failed.resource),
                version_info: failed.version_info,
                last_update_attempt: SystemTime::now(),
                details,
            };
            self.world.book.pages().listeners.set_failed(name, failed);
        }
    }

    /// Opens a listener, or lets a new version of it take over.
    fn go_live(&mut self, draft: Draft) -> Result<(), String> {
        let Draft {
            config,
            origin,
            resource,
        } = draft;
        let staged = match self.world.workers.stage(Arc::clone(&config)) {
            Ok(staged) => staged,
            Err(reason) => {
                self.leave_needs(&config);
                return Err(reason);
            }
        };
        let former = self.draft.listener(&config.name).cloned();
        self.draft.put_listener(staged);
        self.dump_listener(origin, &config.name, resource);
        let statistics = Statistics::of_listener(&self.world.registry, &config);
        self.listeners.statistics.insert(config.name.clone(), statistics);
        if let Some(former) = former {
            self.leave_needs(&former.config);
        }
        Ok(())
    }

    fn dump_listener(&self, origin: Origin, name: &str, resource: ResourceVersion) {
        let mut pages = self.world.book.pages();
        pages.listeners.set_active(origin, name, resource);
    }

    /// A newer version of a listener, or none, has come.
    fn forget_waiting(&mut self, name: &str) {
        if let Some(waiting) = self.listeners.waiting.remove(name) {
            self.ledger.close(waiting.wait);
            self.leave_needs(&waiting.config);
            self.gauge_waiting();
        }
    }

    /// Its secrets and routes are held for it no longer.
    fn leave_needs(&mut self, config: &Config) {
        self.leave_secrets(&references::secrets_of_listener(config));
        self.leave_routes(config);
    }

    /// The port is closed at once; connections have the drain time.
    fn remove_listener(&mut self, name: &str) {
        if self.listeners.fixed.contains(name) {
            return;
        }
        self.forget_waiting(name);
        self.world.book.pages().listeners.remove(Origin::Dynamic, name);
        self.listeners.statistics.remove(name);
        if let Some(listener) = self.draft.remove_listener(name) {
            self.world.workers.remove(name, self.world.drain_time);
            self.leave_needs(&listener.config);
        }
    }

    fn gauge_waiting(&self) {
        let waiting = self.listeners.waiting.len() as u64;
        self.listeners.stats.set(names::TOTAL_LISTENERS_WARMING, waiting);
    }
}
