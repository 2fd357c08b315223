//! What a process gives its workers.

use std::io;
use std::sync::Arc;

use redplane_telemetry::Registry;
use redplane_telemetry::access_log::Files;
use redplane_world::Store;

use crate::redis;

/// Makes the Redis driver of a worker. Called once on each worker's thread, inside its runtime and `LocalSet`.
pub type MakeDriver = Arc<dyn Fn(usize) -> io::Result<redis::Handle> + Send + Sync>;

/// What workers share.
#[derive(Clone)]
pub struct Context {
    /// What is configured, looked up when a connection comes.
    pub store: Store,
    /// Where stats are registered.
    pub registry: Registry,
    /// The access log files of the process.
    pub files: Arc<Files>,
    /// The Redis driver; the argument is the worker's index.
    pub make_driver: MakeDriver,
}
