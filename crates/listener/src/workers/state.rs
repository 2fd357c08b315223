//! What the control side keeps: threads, listeners and their sockets.
//!
//! A version of a listener is taken whole or not at all: everything that can be refused is tried before the old version
//! is touched. What workers have to know of it waits until it is published.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use redplane_config::Address;
use redplane_config::listener::{Direction, Listener};
use redplane_telemetry::Block;
use redplane_telemetry::stats::listener_manager as names;
use redplane_world::{Life, Listener as Prepared, Preparer};
use tokio::sync::mpsc::UnboundedSender;

use super::BoundListener;
use crate::bind::Bound;
use crate::check::{duplicate, fixed_addresses};
use crate::draining::locked;
use crate::thread::Order;

/// Everything behind the lock of [`Workers`](super::Workers).
pub(super) struct State {
    pub(super) threads: Vec<Thread>,
    pub(super) listeners: BTreeMap<String, Entry>,
    /// Who has which address, so that thousands of listeners need not be searched for each new one.
    pub(super) taken: HashMap<Address, String>,
    pub(super) preparer: Preparer,
    /// Listeners whose sockets workers are told of when they are published.
    pub(super) staged: BTreeSet<String>,
    /// Chains that are gone when it is published.
    pub(super) left: Vec<Arc<Life>>,
    pub(super) stats: Arc<Mutex<Block>>,
    pub(super) stopped: Stopped,
}

/// A worker thread and the way to it.
pub(super) struct Thread {
    pub(super) orders: UnboundedSender<Order>,
    pub(super) thread: JoinHandle<()>,
}

/// A listener as it is served.
pub(super) struct Entry {
    pub(super) prepared: Arc<Prepared>,
    pub(super) bound: Vec<Bound>,
}

/// Which listeners `/drain_listeners` has stopped: they do not come back with a push.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    None,
    Inbound,
    All,
}

impl Stopped {
    pub(super) fn covers(self, listener: &Listener) -> bool {
        match self {
            Self::None => false,
            Self::Inbound => listener.direction == Direction::Inbound,
            Self::All => true,
        }
    }
}

impl State {
    /// Takes a version of a listener; the error is the reason of the refusal.
    pub(super) fn stage(&mut self, config: Arc<Listener>) -> Result<Arc<Prepared>, String> {
        let name = config.name.clone();
        self.refuse_duplicate(&config)?;
        for (chain, reason) in config.inert_chains() {
            tracing::warn!(
                listener = name,
                chain = &*chain.id,
                reason,
                "a filter chain is not served: its connections are refused"
            );
        }
        let serving = self.listeners.get(&name).map(|entry| &*entry.prepared);
        let prepared = Arc::new(self.preparer.prepare(Arc::clone(&config), serving)?);
        let mut old = self.listeners.remove(&name);
        let wanted = Wanted {
            config: &config,
            workers: self.threads.len(),
            stopped: self.stopped.covers(&config),
        };
        let bound = match wanted.rebind(old.as_mut()) {
            Ok(bound) => bound,
            Err(reason) => {
                self.listeners.extend(old.map(|old| (name, old)));
                return Err(reason);
            }
        };
        // Whatever the new version has not taken over.
        old.iter().flat_map(|old| &old.bound).for_each(Bound::close);
        if let Some(old) = &old {
            self.give_back(&old.prepared.config);
            self.left.extend(old.prepared.left_behind(Some(&prepared)));
        }
        for address in fixed_addresses(&config) {
            self.taken.insert(address.clone(), name.clone());
        }
        self.staged.insert(name.clone());
        let entry = Entry {
            prepared: Arc::clone(&prepared),
            bound,
        };
        self.listeners.insert(name, entry);
        Ok(prepared)
    }

    /// Whether a version of a listener would be taken now; the error is the reason of the refusal.
    pub(super) fn check(&mut self, config: &Arc<Listener>) -> Result<(), String> {
        self.refuse_duplicate(config)?;
        self.preparer.prepare(Arc::clone(config), None)?;
        let old = self.listeners.get(&config.name);
        let has = |address: &&Address| {
            old.is_some_and(|old| old.bound.iter().any(|bound| bound.configured == **address))
        };
        let wanted = config.addresses.iter().filter(|_| config.bind_to_port);
        let mut news = wanted.filter(|address| !has(address));
        news.try_for_each(|address| Bound::check(address, config, self.threads.len()))
    }

    /// The addresses of a listener that goes are free.
    pub(super) fn give_back(&mut self, config: &Listener) {
        for address in fixed_addresses(config) {
            self.taken.remove(address);
        }
    }

    /// With `SO_REUSEPORT` the kernel would let two listeners share an address.
    fn refuse_duplicate(&self, config: &Listener) -> Result<(), String> {
        let has_other = |address: &&Address| {
            let holder = self.taken.get(address);
            holder.is_some_and(|holder| *holder != config.name)
        };
        let shared = fixed_addresses(config).find(has_other);
        shared.map_or(Ok(()), |address| Err(duplicate(&config.name, address)))
    }

    /// Sends an order to every worker, made for its index.
    pub(super) fn tell(&self, order: impl Fn(usize) -> Order) {
        for (index, worker) in self.threads.iter().enumerate() {
            // A worker that is gone serves nothing; there is nobody else to tell.
            let _ = worker.orders.send(order(index));
        }
    }

    /// Counts below `listener_manager.`.
    pub(super) fn count(&self, count: impl FnOnce(&Block)) {
        count(&locked(&self.stats));
    }

    /// Ends all threads and waits for them.
    pub(super) fn stop(&mut self) {
        self.tell(|_| Order::Stop);
        self.listeners
            .values()
            .flat_map(|entry| &entry.bound)
            .for_each(Bound::close);
        for worker in self.threads.drain(..) {
            // A worker that panicked has ended as well.
            let _ = worker.thread.join();
        }
        locked(&self.stats).set(names::WORKERS_STARTED, 0);
    }
}

/// The sockets that a version of a listener is to have.
struct Wanted<'a> {
    config: &'a Listener,
    workers: usize,
    /// Nothing new is opened: `/drain_listeners` was there.
    stopped: bool,
}

impl Wanted<'_> {
    /// Takes the sockets of addresses that stay out of the old version and opens the others. When one cannot be opened
    /// the old version is as it was.
    fn rebind(&self, mut old: Option<&mut Entry>) -> Result<Vec<Bound>, String> {
        let config = self.config;
        let bound = old.as_deref().map_or(&[][..], |old| &old.bound[..]);
        if old
            .as_deref()
            .is_some_and(|old| old.prepared.config.reuse_port != config.reuse_port)
            && !bound.is_empty()
        {
            let name = &config.name;
            return Err(format!(
                "Listener {name}: reuse port cannot be changed during an update"
            ));
        }
        let has = |address: &&Address| bound.iter().any(|bound| bound.configured == **address);
        let addresses = || config.addresses.iter().filter(|_| config.bind_to_port);
        let news = addresses().filter(|address| !self.stopped && !has(address));
        let opened = news.map(|address| Bound::open(address, config, self.workers));
        let mut all: Vec<Bound> = opened.collect::<Result<_, _>>()?;
        for address in addresses() {
            let bound = old.as_deref_mut().map(|old| &mut old.bound);
            let kept = bound.and_then(|bound| {
                let at = bound.iter().position(|bound| bound.configured == *address)?;
                Some(bound.remove(at))
            });
            if let Some(kept) = kept.as_ref().filter(|_| !self.stopped) {
                // Only the backlog can differ; a socket that listens already keeps doing so.
                let _ = kept.listen(config);
            }
            all.extend(kept);
        }
        Ok(self.in_order(all))
    }

    fn in_order(&self, mut bound: Vec<Bound>) -> Vec<Bound> {
        let place = |bound: &Bound| {
            self.config
                .addresses
                .iter()
                .position(|address| *address == bound.configured)
        };
        bound.sort_by_key(place);
        bound
    }
}

impl Entry {
    /// As `/listeners` shows it.
    pub(super) fn view(&self) -> BoundListener {
        let actual = |configured: &Address| {
            let bound = self.bound.iter().find(|bound| bound.configured == *configured);
            bound.map_or(configured, |bound| &bound.actual).clone()
        };
        BoundListener {
            name: self.prepared.config.name.clone(),
            addresses: self.prepared.config.addresses.iter().map(actual).collect(),
        }
    }
}
