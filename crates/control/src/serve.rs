//! The ADS server: one published world, any number of streams, an event for everything a proxy says.

mod address;
mod delta;
mod event;
mod published;
mod server;
mod sotw;
mod stream;

pub use address::Address;
pub use event::{Event, Events, Form};
pub use server::Server;

/// The type URLs that this server has resources for; any other type is answered empty.
pub mod type_url {
    /// CDS.
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// EDS.
    pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// LDS.
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

    /// In the order in which they are pushed: whatever names something comes after what it names.
    pub(crate) const ORDER: [&str; 3] = [CLUSTER, ENDPOINT, LISTENER];
}
