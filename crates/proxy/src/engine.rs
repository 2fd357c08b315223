//! What an engine is made of: the core, and the state of each feature. What is done with them is said in the modules that
//! work on it, from `turn` down.

use std::sync::Arc;

use redplane_blocking::Blocking;
use redplane_pubsub::PubSub;
use redplane_redis_core::scripts::Scripts;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::redirect::names::Redirects;
use redplane_resp::request::Args;
use redplane_telemetry::Registry;
use redplane_tracking::TrackingState;
use redplane_transaction::Transactions;
use redplane_world::{Reader, Store};

use crate::external_auth::Logins;
use crate::lessons::Lessons;
use crate::pause::Pauses;
use crate::peers::{PeerHandle, Peers};
use crate::scan::Scans;

/// What an engine works with.
#[derive(Clone)]
pub struct Context {
    /// The published configuration.
    pub store: Arc<Store>,
    /// Where statistics are registered.
    pub registry: Registry,
    /// This proxy's own zone, for read policies; empty if not known.
    pub zone: Arc<str>,
    /// Seed of the worker's random numbers.
    pub seed: u64,
    /// The engines of all workers.
    pub peers: Arc<Peers>,
    /// This one's place among them.
    pub worker: usize,
    /// The scripts that clients loaded or ran, shared by all workers.
    pub scripts: Arc<Scripts>,
}

/// What a turn begins with, and what it reads requests with.
pub(crate) struct Turn {
    pub(crate) reader: Reader,
    /// Topologies that were published when those in use were taken over.
    pub(crate) published: u64,
    pub(crate) args: Args,
    /// Of the client that came last.
    pub(crate) generation: u32,
}

/// The redis_proxy of one worker: the core, and the features that it is lent to.
pub struct Engine {
    pub(crate) core: Core,
    pub(crate) turn: Turn,
    /// The other workers' engines, and what is asked of them.
    pub(crate) peer: PeerHandle,
    pub(crate) transactions: Transactions,
    /// Commands that go from shard to shard.
    pub(crate) scans: Scans,
    /// Requests that servers sent elsewhere, or asked for again.
    pub(crate) redirects: Redirects,
    pub(crate) logins: Logins,
    /// CLIENT PAUSE.
    pub(crate) pauses: Pauses,
    /// Clients that wait in blocking commands, or for replicas.
    pub(crate) blocking: Blocking,
    /// Questions about commands that are not answered yet.
    pub(crate) lessons: Lessons,
    pub(crate) pubsub: PubSub,
    /// What clients cache.
    pub(crate) tracking: TrackingState,
}
