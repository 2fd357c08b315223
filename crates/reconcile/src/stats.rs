//! Stats of the process and of its subscriptions: `server.`, `cluster_manager.`, `*.cds.`, `*.lds.`, `control_plane.`.
//!
//! `server.state` is written first when everything is live: pilot-agent takes the line for readiness. Success is counted
//! for an accepted response even when it is empty, and never for a rejected one.

use std::hash::Hasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redplane_telemetry::stats::{cds, cluster, control_plane, server};
use redplane_telemetry::{Block, Registry};

/// `server.`, written by the control thread and brought up to date by admin pages.
pub(crate) struct Server(Mutex<Block>);

impl Server {
    pub(crate) fn new(registry: &Registry, workers: usize) -> Self {
        let block = registry.scope("server.", &server::SCHEMA).block();
        block.set(server::CONCURRENCY, workers as u64);
        block.set(server::HOT_RESTART_EPOCH, 0);
        block.set(server::VERSION, 0);
        block.set(server::LIVE, 1);
        Self(Mutex::new(block))
    }

    pub(crate) fn block(&self) -> MutexGuard<'_, Block> {
        // Cells are single words.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What nobody keeps: time, memory, and the connections of all listeners.
    pub(crate) fn refresh(&self, uptime: Duration, connections: u64) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or(0).saturating_mul(1024)
        };
        let block = self.block();
        block.set(server::UPTIME, uptime.as_secs());
        block.set(server::TOTAL_CONNECTIONS, connections);
        block.set(server::MEMORY_ALLOCATED, bytes("RssAnon:"));
        block.set(server::MEMORY_HEAP_SIZE, bytes("VmData:"));
        block.set(server::MEMORY_PHYSICAL_SIZE, bytes("VmRSS:"));
    }
}

/// `cluster_manager.cds.`, `listener_manager.lds.` or `sds.<name>.`
pub(crate) struct Subscription {
    prefix: String,
    registry: Registry,
    block: Block,
}

impl Subscription {
    pub(crate) fn new(registry: &Registry, prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            registry: registry.clone(),
            // All of them have the same stats.
            block: registry.scope(prefix, &cds::SCHEMA).block(),
        }
    }

    /// A request is on its way.
    pub(crate) fn asked(&self) {
        self.block.inc(cds::UPDATE_ATTEMPT);
    }

    /// No connection, or none any more.
    pub(crate) fn failed(&self) {
        self.block.inc(cds::UPDATE_FAILURE);
        self.asked();
    }

    /// Nothing came in the first time.
    pub(crate) fn timed_out(&self) {
        self.block.inc(cds::INIT_FETCH_TIMEOUT);
    }

    /// A response was refused, or a part of it.
    pub(crate) fn rejected(&self, took: Duration) {
        self.block.inc(cds::UPDATE_REJECTED);
        self.record(took);
    }

    /// A response was taken.
    pub(crate) fn accepted(&self, version: &str, changed: bool, took: Duration) {
        self.block.inc(cds::UPDATE_SUCCESS);
        if changed {
            self.block.inc(cds::CONFIG_RELOAD);
            self.block.set(cds::CONFIG_RELOAD_TIME_MS, now_ms());
        }
        self.block.set(cds::UPDATE_TIME, now_ms());
        self.block.set(cds::VERSION, hash(version));
        self.registry
            .text(&format!("{}version_text", self.prefix), version);
        self.record(took);
    }

    fn record(&self, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.block.record(cds::UPDATE_DURATION, took);
        self.asked();
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Envoy: `HashUtil::xxHash64` of the text. A gauge's cell keeps 62 bits.
fn hash(version: &str) -> u64 {
    if version.is_empty() {
        return 0;
    }
    let mut hasher = twox_hash::XxHash64::with_seed(0);
    hasher.write(version.as_bytes());
    hasher.finish() >> 2
}

/// Stats of the ADS stream.
pub(crate) struct ControlPlane {
    block: Block,
    /// `cluster.<ads>.`: the stream is a connection of its cluster as well.
    pub(crate) cluster: Option<Block>,
}

impl ControlPlane {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            block: registry.scope("control_plane.", &control_plane::SCHEMA).block(),
            cluster: None,
        }
    }

    pub(crate) fn connected(&self) {
        self.block.set(control_plane::CONNECTED_STATE, 1);
        if let Some(block) = &self.cluster {
            block.inc(cluster::UPSTREAM_CX_TOTAL);
            block.inc(cluster::UPSTREAM_RQ_TOTAL);
            block.set(cluster::UPSTREAM_CX_ACTIVE, 1);
            block.set(cluster::UPSTREAM_RQ_ACTIVE, 1);
        }
    }

    /// `established` is false where it never was connected.
    pub(crate) fn lost(&self, established: bool) {
        self.block.set(control_plane::CONNECTED_STATE, 0);
        if let Some(block) = &self.cluster {
            block.set(cluster::UPSTREAM_CX_ACTIVE, 0);
            block.set(cluster::UPSTREAM_RQ_ACTIVE, 0);
            if !established {
                block.inc(cluster::UPSTREAM_CX_CONNECT_FAIL);
            }
        }
    }
}
