//! What the control thread and the admin pages share: written by the one, looked at by the others.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redplane_admin::{RuntimeView, ServerState};
use redplane_listener::Workers;
use redplane_proto::pack;
use redplane_proxy::Peers;
use redplane_telemetry::Registry;
use redplane_telemetry::stats::server;
use redplane_upstream::tls::secrets::Secrets;
use redplane_world::Store;
use serde_json::Value;

use crate::book::{Book, version};
use crate::bootstrap::Bootstrap;
use crate::stats;

/// The process as others see it.
pub struct World {
    pub(crate) registry: Registry,
    pub(crate) store: Store,
    pub(crate) workers: Workers,
    pub(crate) peers: Arc<Peers>,
    pub(crate) book: Book,
    pub(crate) server: stats::Server,
    /// `--drain-time-s`
    pub(crate) drain_time: Duration,
    pub(crate) about: About,
    /// A std mutex: taken by `/runtime` and `/runtime_modify` only.
    pub(crate) runtime: Mutex<RuntimeView>,
    pub(crate) started: Instant,
    state: AtomicU8,
    failing: AtomicBool,
}

/// What `/server_info` tells of the process and never changes.
pub(crate) struct About {
    /// The flags.
    pub(crate) options: Value,
    /// The node.
    pub(crate) node: Value,
    /// The version of the program.
    pub(crate) version: String,
}

/// What a [`World`] is made of.
pub struct Parts {
    /// Where stats are registered.
    pub registry: Registry,
    /// Where snapshots are published.
    pub store: Store,
    /// The worker threads.
    pub workers: Workers,
    /// The engines of all workers.
    pub peers: Arc<Peers>,
    /// `--drain-time-s`
    pub drain_time: Duration,
    /// The flags, for `/server_info`.
    pub options: Value,
    /// The node, for `/server_info`.
    pub node: Value,
    /// The version of the program, for `/server_info`.
    pub version: String,
    /// `layered_runtime`
    pub runtime: RuntimeView,
    /// When the process began.
    pub started: Instant,
}

const STATES: [ServerState; 4] = [
    ServerState::Live,
    ServerState::Draining,
    ServerState::PreInitializing,
    ServerState::Initializing,
];

impl World {
    /// The world before anything is configured.
    pub fn new(parts: Parts) -> Self {
        Self {
            server: stats::Server::new(&parts.registry, parts.workers.count()),
            registry: parts.registry,
            store: parts.store,
            workers: parts.workers,
            peers: parts.peers,
            book: Book::default(),
            drain_time: parts.drain_time,
            about: About {
                options: parts.options,
                node: parts.node,
                version: parts.version,
            },
            runtime: Mutex::new(parts.runtime),
            started: parts.started,
            state: AtomicU8::new(2),
            failing: AtomicBool::new(false),
        }
    }

    /// The worker threads.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The secrets that workers and clusters share.
    pub fn secrets(&self) -> &Secrets {
        self.store.secrets()
    }

    /// `/drain_listeners`, in `--drain-time-s`.
    pub fn drain(&self, inbound_only: bool, graceful: bool, skip_exit: bool) {
        self.workers
            .drain(inbound_only, graceful, skip_exit, self.drain_time);
    }

    /// Keeps the bootstrap for `/config_dump`.
    pub fn show_bootstrap(&self, bootstrap: &Bootstrap) {
        self.book.pages().bootstrap = Some(version(pack(&bootstrap.message), ""));
    }

    /// Since the process began.
    pub(crate) fn uptime(&self) -> Duration {
        Instant::now().duration_since(self.started)
    }

    /// What `/ready` answers.
    pub(crate) fn state(&self) -> ServerState {
        if self.failing.load(Relaxed) {
            return ServerState::Draining;
        }
        STATES[usize::from(self.state.load(Relaxed)) % STATES.len()]
    }

    /// How far start-up is. `server.state` is written from the moment it is live, never before.
    pub(crate) fn set_state(&self, state: ServerState) {
        let at = STATES.iter().position(|known| *known == state).unwrap_or(0);
        self.state.store(u8::try_from(at).unwrap_or(0), Relaxed);
        self.show_state();
    }

    /// `/healthcheck/fail` and `/healthcheck/ok`.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Relaxed);
        self.server.block().set(server::LIVE, u64::from(!failing));
        self.show_state();
    }

    fn show_state(&self) {
        if self.state.load(Relaxed) == 0 {
            let draining = self.state() == ServerState::Draining;
            self.server.block().set(server::STATE, u64::from(draining));
        }
    }

    /// `/runtime_modify`: keys of the admin layer; an empty value takes a key away.
    pub fn modify_runtime(&self, pairs: Vec<(String, String)>) {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = runtime.layers.len();
        let Some(admin) = layers.checked_sub(1).filter(|_| runtime.admin_layer) else {
            return;
        };
        for (key, value) in pairs {
            let row = runtime.entries.entry(key.clone()).or_default();
            row.resize(layers, String::new());
            row[admin] = value;
            if row.iter().all(String::is_empty) {
                runtime.entries.remove(&key);
            }
        }
    }
}
