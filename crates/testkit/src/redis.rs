//! Real Redis: a single server, a cluster of them, and a master with replicas behind Sentinels.
//!
//! Every server keeps its data in a temporary folder and ends with its value. The control connection of this crate
//! is always plain TCP; TLS, where asked for, is an additional port for the proxy under test, which is also how a
//! Redis Cluster with both ports announces itself: the TLS port to clients that came by TLS.

mod cluster;
mod sentinel;
mod server;

pub use cluster::Cluster;
pub use sentinel::{MASTER_NAME, Sentinel, SentinelConfig, Sentinels};
pub use server::{Redis, RedisConfig, Role};
