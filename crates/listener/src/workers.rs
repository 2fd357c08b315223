//! The control side of the worker threads: listeners come, change, drain and go here.
//!
//! A listener goes live in three steps. [`Workers::stage`] makes it ready and binds its sockets on the caller's thread: a
//! conflict is an error of the call and leaves nothing half open. Then the caller publishes it, with everything else that
//! a push changes, by one swap. Then [`Workers::announce`] gives workers the sockets, and lets those connections end whose
//! chain is no longer there. Workers are never waited for, but at start and stop. Whoever calls must be one owner at a
//! time; the lock inside only lets the admin pages look meanwhile.
//!
//! Envoy: `ListenerManagerImpl`, `/drain_listeners`.

mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use redplane_config::Address;
use redplane_config::listener::Listener;
use redplane_telemetry::stats::listener_manager as names;
use redplane_world::{Listener as Prepared, Preparer};

use crate::bind::Bound;
use crate::context::Context;
use crate::draining::{Draining, locked};
use crate::thread::{self, Order};

use state::{Entry, State, Stopped, Thread};

/// One listener of `/listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundListener {
    /// Its name.
    pub name: String,
    /// Its addresses, the main one first, with the port that was really bound.
    pub addresses: Vec<Address>,
}

/// The worker threads. Dropping them is [`stop`](Self::stop).
pub struct Workers {
    /// A std mutex: held while a listener is bound or shown, on the control side only.
    state: Mutex<State>,
}

impl Workers {
    /// Starts the threads, named `wrk:worker_<n>`; at least one.
    ///
    /// # Errors
    ///
    /// A thread, its runtime or its Redis driver could not be made; those already started are ended again.
    pub fn start(count: usize, context: Context) -> io::Result<Self> {
        let stats = context
            .registry
            .scope("listener_manager.", &names::SCHEMA)
            .block();
        let mut state = State {
            threads: Vec::new(),
            listeners: BTreeMap::new(),
            taken: HashMap::new(),
            preparer: Preparer::new(
                context.registry.clone(),
                Arc::clone(&context.files),
                context.store.secrets().clone(),
                context.store.routes().clone(),
            ),
            staged: BTreeSet::new(),
            left: Vec::new(),
            stats: Arc::new(Mutex::new(stats)),
            stopped: Stopped::None,
        };
        for index in 0..count.max(1) {
            match start_thread(index, context.clone()) {
                Ok(thread) => state.threads.push(thread),
                Err(error) => {
                    state.stop();
                    return Err(error);
                }
            }
        }
        locked(&state.stats).set(names::WORKERS_STARTED, 1);
        Ok(Self {
            state: Mutex::new(state),
        })
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.lock().threads.len()
    }

    /// Makes a new listener ready, or another version of one it has: addresses that stay keep their sockets, and open
    /// connections live on. What it answers is to be published, then announced.
    ///
    /// # Errors
    ///
    /// Why it is refused (an address in use, a log file that cannot be opened); nothing has changed then.
    pub fn stage(&self, listener: Arc<Listener>) -> Result<Arc<Prepared>, String> {
        let mut state = self.lock();
        let known = state.listeners.contains_key(&listener.name);
        let result = state.stage(listener);
        state.count(|stats| match (&result, known) {
            (Err(_), _) => stats.inc(names::LISTENER_CREATE_FAILURE),
            (Ok(_), true) => stats.inc(names::LISTENER_MODIFIED),
            (Ok(_), false) => {
                stats.inc(names::LISTENER_ADDED);
                stats.inc(names::LISTENER_CREATE_SUCCESS);
                stats.inc(names::TOTAL_LISTENERS_ACTIVE);
            }
        });
        result
    }

    /// Looks whether [`stage`](Self::stage) would take a listener now, and changes nothing.
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage).
    pub fn check(&self, listener: &Arc<Listener>) -> Result<(), String> {
        let mut state = self.lock();
        let result = state.check(listener);
        if result.is_err() {
            state.count(|stats| stats.inc(names::LISTENER_CREATE_FAILURE));
        }
        result
    }

    /// What was staged is published: workers accept for it now. The connections of chains that are no longer there, or
    /// have become stricter, end between two commands, the last of them after `drain_time`.
    pub fn announce(&self, drain_time: Duration) {
        let mut state = self.lock();
        for name in std::mem::take(&mut state.staged) {
            if let Some(entry) = state.listeners.get(&name) {
                state.tell(|worker| Order::Accept {
                    name: name.clone(),
                    sockets: entry.bound.iter().map(|bound| bound.socket_of(worker)).collect(),
                });
            }
        }
        for life in std::mem::take(&mut state.left) {
            life.drain();
            state.tell(|_| Order::EndChain {
                life: Arc::clone(&life),
                grace: drain_time,
            });
        }
    }

    /// The TCP addresses of a listener as bound; none if it does not bind its port.
    pub fn addresses(&self, name: &str) -> Vec<SocketAddr> {
        let state = self.lock();
        let bound = state
            .listeners
            .get(name)
            .into_iter()
            .flat_map(|entry| &entry.bound);
        bound.filter_map(Bound::address).collect()
    }

    /// Takes a listener away. It stops listening at once; its connections end at the first quiet moment, all of them
    /// after `drain_time`. Unknown names are left alone.
    pub fn remove(&self, name: &str, drain_time: Duration) {
        let mut state = self.lock();
        let Some(entry) = state.listeners.remove(name) else {
            return;
        };
        entry.bound.iter().for_each(Bound::close);
        state.give_back(&entry.prepared.config);
        state.staged.remove(name);
        for life in entry.prepared.left_behind(None) {
            life.drain();
        }
        state.count(|stats| {
            stats.inc(names::LISTENER_REMOVED);
            stats.dec(names::TOTAL_LISTENERS_ACTIVE);
        });
        let token = Draining::new(&state.stats);
        state.tell(|_| Order::Remove {
            name: name.to_owned(),
            grace: drain_time,
            token: Arc::clone(&token),
        });
    }

    /// `/drain_listeners`. Without `graceful` the listeners stop listening at once and connections are left alone; with
    /// it connections are drained and listening stops after `drain_time`; with `skip_exit` connections are drained and
    /// listening never stops.
    pub fn drain(&self, inbound_only: bool, graceful: bool, skip_exit: bool, drain_time: Duration) {
        let mut state = self.lock();
        let scope = if inbound_only {
            Stopped::Inbound
        } else {
            Stopped::All
        };
        let covered = state
            .listeners
            .values()
            .filter(|entry| scope.covers(&entry.prepared.config));
        for entry in covered {
            let name = &entry.prepared.config.name;
            if graceful || skip_exit {
                state.tell(|_| Order::Drain { name: name.clone() });
            }
            match (skip_exit, graceful) {
                (true, _) => {}
                (false, true) => state.tell(|_| Order::StopListening {
                    name: name.clone(),
                    after: drain_time,
                }),
                (false, false) => entry.bound.iter().for_each(Bound::close),
            }
        }
        if !skip_exit && state.stopped != Stopped::All {
            state.stopped = scope;
        }
    }

    /// What `/listeners` shows, in the order of names; also listeners that do not bind their port.
    pub fn bound(&self) -> Vec<BoundListener> {
        self.lock().listeners.values().map(Entry::view).collect()
    }

    /// Ends all connections and threads, and waits for the threads.
    pub fn stop(&self) {
        self.lock().stop();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start_thread(index: usize, context: Context) -> io::Result<Thread> {
    let (orders, inbox) = tokio::sync::mpsc::unbounded_channel();
    let (ready, started) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("wrk:worker_{index}"))
        .spawn(move || thread::run(index, &context, inbox, &ready))?;
    match started.recv() {
        Ok(Ok(())) => Ok(Thread { orders, thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other(format!("worker {index} ended while it started"))),
    }
}
