//! LDS: listeners come, change under open connections, and go.
//!
//! A listener is validated, its sockets are bound, then it is published with everything else of the push by one swap; only
//! then do workers accept for it. What cannot be bound refuses that listener alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redplane_config::listener::Listener as Config;
use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::{pack, unpack};
use redplane_proxy::Statistics;
use redplane_telemetry::stats::{listener_manager as names, server};
use redplane_telemetry::{Block, Registry};
use redplane_xds::{Rejected, Resource, Update};

use crate::book::{Origin, version};
use crate::owner::Reconcile;

/// What is known of listeners beside the snapshot.
pub(crate) struct Listeners {
    /// Those of the bootstrap, which LDS cannot change.
    fixed: HashSet<String>,
    /// Held so that a listener's statistics stand from its beginning to its end.
    statistics: HashMap<String, Vec<Statistics>>,
    pub(crate) stats: Block,
}

impl Listeners {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            fixed: HashSet::new(),
            statistics: HashMap::new(),
            stats: registry.scope("listener_manager.", &names::SCHEMA).block(),
        }
    }
}

impl Reconcile {
    pub(crate) fn add_static_listener(
        &mut self,
        config: &Arc<Config>,
        message: &proto::Listener,
    ) -> Result<(), String> {
        let refuse = |reason| format!("static_resources.listeners: '{}': {reason}", config.name);
        let staged = self.world.workers.stage(Arc::clone(config)).map_err(refuse)?;
        self.draft.put_listener(staged);
        self.publish();
        self.listeners.fixed.insert(config.name.clone());
        self.hold_statistics(config);
        let block = self.world.server.block();
        block.add(server::STATIC_UNKNOWN_FIELDS, config.ignored.0.len() as u64);
        let mut pages = self.world.book.pages();
        pages
            .listeners
            .set_active(Origin::Static, &config.name, version(pack(message), ""));
        Ok(())
    }

    pub(crate) fn apply_listeners(&mut self, update: &Update) -> Vec<Rejected> {
        // First, because a new listener may want the address of one that goes.
        for name in &update.removed {
            self.forget_postponed(name);
            self.remove_listener(name);
        }
        let mut rejected = Vec::new();
        let mut drafts = Vec::with_capacity(update.resources.len());
        for resource in &update.resources {
            self.forget_postponed(&resource.name);
            match self.draft_listener(resource) {
                Ok(draft) => drafts.extend(draft),
                Err(reason) => {
                    self.listeners.stats.inc(names::LISTENER_CREATE_FAILURE);
                    rejected.push(Rejected::new(&resource.name, reason));
                }
            }
        }
        for (config, resource) in drafts {
            if self.postpone(&config, resource) {
                continue;
            }
            if let Err(reason) = self.bind_listener(&config, resource) {
                rejected.push(Rejected::new(&resource.name, reason));
            }
        }
        self.take_over();
        self.ask_endpoints();
        self.publish();
        rejected
    }

    /// Validates a listener; `None` when nothing is to be done.
    fn draft_listener<'a>(
        &self,
        resource: &'a Resource,
    ) -> Result<Option<(Arc<Config>, &'a Resource)>, String> {
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
        let active = self.draft.listener(&config.name);
        if active.is_some_and(|active| active.config == config) {
            self.dump_listener(&config.name, resource);
            return Ok(None);
        }
        self.count_ignored(&config.name, &config.ignored);
        Ok(Some((config, resource)))
    }

    pub(crate) fn bind_listener(&mut self, config: &Arc<Config>, resource: &Resource) -> Result<(), String> {
        let staged = self.world.workers.stage(Arc::clone(config))?;
        self.draft.put_listener(staged);
        self.dump_listener(&config.name, resource);
        self.hold_statistics(config);
        Ok(())
    }

    fn hold_statistics(&mut self, config: &Config) {
        let statistics = Statistics::of_listener(&self.world.registry, config);
        self.listeners.statistics.insert(config.name.clone(), statistics);
    }

    fn dump_listener(&self, name: &str, resource: &Resource) {
        let resource_version = version(resource.body.clone(), &resource.version);
        let mut pages = self.world.book.pages();
        pages
            .listeners
            .set_active(Origin::Dynamic, name, resource_version);
    }

    /// The port is closed at once; connections have the drain time.
    fn remove_listener(&mut self, name: &str) {
        if self.listeners.fixed.contains(name) {
            return;
        }
        self.world.book.pages().listeners.remove(Origin::Dynamic, name);
        self.listeners.statistics.remove(name);
        if self.draft.remove_listener(name).is_some() {
            self.world.workers.remove(name, self.world.drain_time);
        }
    }
}
