//! Clusters, their hosts, who serves what, and the connections to them.
//!
//! A [`Snapshot`] joins what a push configured with the live [`Cluster`]s; each cluster publishes its [`Topology`] on
//! its own, because endpoints and slots move far more often than configuration. Readers (workers) load both without a
//! lock and work on that one world; writing is the work of one control thread, where discovery runs.
//!
//! Deciding is kept apart from I/O: parsing answers, agreeing on a slot map, choosing a host and applying a redirection
//! are pure functions over values.

pub mod balancer;
pub mod cluster;
pub mod connect;
pub mod dns;
pub mod host;
pub mod redirect;
pub mod snapshot;
pub mod tls;
pub mod topology;

pub use cluster::{Cluster, Context, Login, Permit, Signal, published};
pub use connect::{ConnectingSocket, Stream, connect, connect_http2, connect_to, socket_for};
pub use dns::Dns;
pub use host::{Health, Host, HostAddress, HostStats, Role, Transport};
pub use snapshot::{Reader, Snapshot, Store};
pub use topology::{Layout, Pick, Shard, SlotMap, Topology, Want};
