//! What was accepted, refused and is waited for, kept for `/config_dump`, `/clusters` and `/init_dump`.
//!
//! Written by the control thread, read by admin pages: the maps are persistent, so that a page copies them in no time
//! and a push of one among thousands touches one entry.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use redplane_admin::{DumpInput, Dumped, DynamicResource, FailedUpdate, ResourceVersion};
use redplane_proto::Any;
use redplane_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};
use redplane_xds::{Rejected, Resource, Update};
use rpds::RedBlackTreeMapSync;

/// Where a resource came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The bootstrap.
    Static,
    /// The control plane or a file.
    Dynamic,
}

/// The book of the process.
#[derive(Default)]
pub(crate) struct Book(Mutex<Pages>);

/// Its content.
#[derive(Clone, Default)]
pub(crate) struct Pages {
    pub(crate) bootstrap: Option<ResourceVersion>,
    pub(crate) clusters: Section,
    pub(crate) endpoints: Section,
    pub(crate) listeners: Section,
    pub(crate) routes: Section,
    pub(crate) secrets: Section,
    /// Subscriptions that start-up still waits for.
    pub(crate) waiting: BTreeSet<&'static str>,
}

impl Pages {
    /// The section of a type.
    pub(crate) fn section(&mut self, type_url: &str) -> Option<&mut Section> {
        match type_url {
            CLUSTER => Some(&mut self.clusters),
            ENDPOINT => Some(&mut self.endpoints),
            LISTENER => Some(&mut self.listeners),
            ROUTE => Some(&mut self.routes),
            SECRET => Some(&mut self.secrets),
            _ => None,
        }
    }
}

/// The resources of one kind by name.
#[derive(Clone, Default)]
pub(crate) struct Section {
    pub(crate) version: String,
    fixed: RedBlackTreeMapSync<String, DynamicResource>,
    dynamic: RedBlackTreeMapSync<String, DynamicResource>,
    /// Names whose entry tells of a refusal.
    failed: Vec<String>,
}

impl Book {
    /// The pages, to be read or changed at once and without waiting for anything.
    pub(crate) fn pages(&self) -> MutexGuard<'_, Pages> {
        // Entries are whole or not there, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was refused for `/config_dump`.
    pub(crate) fn record_failures(&self, update: &Update, rejected: &[Rejected]) {
        let mut pages = self.pages();
        let Some(section) = pages.section(&update.type_url) else {
            return;
        };
        section.forget_failures();
        for refused in rejected
            .iter()
            .chain(&update.refused)
            .filter(|refused| !refused.name.is_empty())
        {
            let same = |resource: &&Resource| resource.name == refused.name;
            let failed = FailedUpdate {
                resource: update
                    .resources
                    .iter()
                    .find(same)
                    .map(|resource| Arc::new(resource.body.clone())),
                version_info: update.version.clone(),
                last_update_attempt: SystemTime::now(),
                details: refused.reason.clone(),
            };
            section.set_failed(&refused.name, failed);
        }
    }

    /// All of it, for `/config_dump`.
    pub(crate) fn dump(&self) -> DumpInput {
        let pages = self.pages().clone();
        DumpInput {
            bootstrap: pages.bootstrap,
            clusters: pages.clusters.dumped(),
            endpoints: pages.endpoints.dumped(),
            listeners: pages.listeners.dumped(),
            routes: pages.routes.dumped(),
            secrets: pages.secrets.dumped(),
            ..DumpInput::default()
        }
    }
}

/// A resource as it came, just now.
pub(crate) fn version(resource: Any, version_info: &str) -> ResourceVersion {
    ResourceVersion {
        resource: Arc::new(resource),
        version_info: version_info.to_owned(),
        last_updated: SystemTime::now(),
    }
}

impl Section {
    /// What is in use under a name.
    pub(crate) fn set_active(&mut self, origin: Origin, name: &str, resource: ResourceVersion) {
        self.change(origin, name, |entry| {
            entry.active = Some(resource);
            entry.warming = None;
            entry.error = None;
        });
    }

    /// What waits under a name.
    pub(crate) fn set_warming(&mut self, name: &str, resource: ResourceVersion) {
        self.change(Origin::Dynamic, name, |entry| {
            entry.warming = Some(resource);
            entry.error = None;
        });
    }

    /// What was refused under a name, and why.
    pub(crate) fn set_failed(&mut self, name: &str, failed: FailedUpdate) {
        self.change(Origin::Dynamic, name, |entry| entry.error = Some(failed));
        self.failed.push(name.to_owned());
    }

    /// A new update came: what the last one failed in is told no more. Envoy: `beginListenerUpdate`.
    pub(crate) fn forget_failures(&mut self) {
        for name in std::mem::take(&mut self.failed) {
            let Some(entry) = self.dynamic.get(&name) else {
                continue;
            };
            if entry.active.is_none() && entry.warming.is_none() {
                self.dynamic.remove_mut(&name);
            } else {
                self.change(Origin::Dynamic, &name, |entry| entry.error = None);
            }
        }
    }

    /// Forgets a name that the control plane no longer sends.
    pub(crate) fn remove(&mut self, origin: Origin, name: &str) {
        self.map(origin).remove_mut(name);
    }

    /// Whether a name came from the control plane.
    pub(crate) fn is_dynamic(&self, name: &str) -> bool {
        self.dynamic.contains_key(name)
    }

    /// Names that wait, with what they are.
    pub(crate) fn warming(&self) -> impl Iterator<Item = &String> {
        let entries = self.dynamic.iter();
        entries.filter_map(|(name, entry)| entry.warming.is_some().then_some(name))
    }

    fn map(&mut self, origin: Origin) -> &mut RedBlackTreeMapSync<String, DynamicResource> {
        match origin {
            Origin::Static => &mut self.fixed,
            Origin::Dynamic => &mut self.dynamic,
        }
    }

    fn change(&mut self, origin: Origin, name: &str, change: impl FnOnce(&mut DynamicResource)) {
        let map = self.map(origin);
        let mut entry = map.get(name).cloned().unwrap_or_else(|| DynamicResource {
            name: name.to_owned(),
            ..DynamicResource::default()
        });
        change(&mut entry);
        map.insert_mut(name.to_owned(), entry);
    }

    fn dumped(&self) -> Dumped {
        Dumped {
            version_info: self.version.clone(),
            fixed: self.fixed.values().cloned().collect(),
            dynamic: self.dynamic.values().cloned().collect(),
        }
    }
}
