//! Hosts by address, as Envoy keys them, so that the next topology goes on with the hosts of the current one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use crate::host::{Draft, Host, HostAddress};

/// Most hosts outside the topology that are remembered.
const STRANGERS: usize = 1024;

/// The hosts a cluster knows.
#[derive(Default)]
pub struct Roster {
    known: HashMap<HostAddress, Arc<Host>>,
    strangers: HashMap<HostAddress, Weak<Host>>,
}

impl Roster {
    /// Starts from the hosts of a topology.
    pub(crate) fn know(&mut self, hosts: &[Arc<Host>]) {
        self.known = hosts
            .iter()
            .map(|host| (host.address.clone(), Arc::clone(host)))
            .collect();
    }

    /// The host a draft describes: a known one, or one known from a redirection, or a new one.
    pub fn host(&mut self, draft: Draft) -> Arc<Host> {
        let known = self.known.get(&draft.address).cloned();
        let old = known.or_else(|| self.strangers.remove(&draft.address)?.upgrade());
        match old {
            Some(old) => draft.after(&old),
            None => draft.fresh(),
        }
    }

    /// A known host under another address (LOGICAL_DNS: the name is the identity, the address only where it is now).
    pub fn renamed(&self, draft: Draft, old: Option<&Arc<Host>>) -> Arc<Host> {
        match old {
            Some(old) => draft.after(old),
            None => draft.fresh(),
        }
    }

    /// Remembers hosts that leave a topology for as long as they are in use: a replica that is syncing is missing
    /// from the slot map for a moment.
    pub fn leave(&mut self, before: &[Arc<Host>], after: &[Arc<Host>]) {
        let stay: HashSet<u64> = after.iter().map(|host| host.id).collect();
        for host in before.iter().filter(|host| !stay.contains(&host.id)) {
            self.remember(host);
        }
    }

    /// The host of a redirection; it is remembered for as long as it is in use.
    pub(crate) fn stranger(&mut self, draft: Draft) -> Arc<Host> {
        if let Some(known) = self.known.get(&draft.address) {
            return Arc::clone(known);
        }
        let host = match self.strangers.get(&draft.address).and_then(Weak::upgrade) {
            // Nothing new is said about it.
            Some(old) if draft.hostname.is_empty() => return old,
            Some(old) => draft.after(&old),
            None => draft.fresh(),
        };
        self.remember(&host);
        host
    }

    fn remember(&mut self, host: &Arc<Host>) {
        if self.strangers.len() >= STRANGERS {
            self.strangers.retain(|_, host| host.strong_count() > 0);
        }
        if self.strangers.len() < STRANGERS {
            self.strangers.insert(host.address.clone(), Arc::downgrade(host));
        }
    }
}
