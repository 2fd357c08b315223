//! Clusters, their hosts, which of them serves what, and the connections to them.
//!
//! Each live [`Cluster`] publishes its [`Topology`] on its own, because endpoints and slots move far more often than
//! configuration. Readers (workers) load it without a lock; writing is the work of one control thread, where discovery
//! runs.
//!
//! Deciding is kept apart from I/O: parsing answers, agreeing on a slot map, choosing a host and applying a redirection
//! are pure functions over values.

pub mod balancer;
pub mod cluster;
pub mod connect;
pub mod dns;
pub mod host;
mod outlier;
pub mod redirect;
pub mod tls;
pub mod topology;

pub use cluster::{Cluster, Context, Login, Outcome, Permit, Resource, Signal, published};
pub use connect::{
    ConnectingSocket, Stream, complete, connect, connect_http2, connect_offering, not_ready, socket_for,
    socket_to, transport_to,
};
pub use dns::Dns;
pub use host::{Health, Host, HostAddress, HostStats, Role, Transport};
pub use topology::{Layout, Pick, Shard, SlotMap, Topology, Want};
