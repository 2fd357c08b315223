//! The xDS client: one ADS stream over delta or state-of-the-world, and file subscriptions.
//!
//! [`subscriptions`] decides what is asked, answered and handed on; it does no I/O and knows no clock.
//! [`wire`] gives its neutral requests the form of either protocol, `transport` carries them (the only file
//! that names tonic), [`client`] joins both in one task and [`mod@file`] feeds the same machine from a file.
//! Updates go out, a verdict comes back and becomes the ACK or NACK. This crate never looks inside a resource
//! beyond its name and never decides whether one is good.
//!
//! Follows the xDS protocol (<https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>) as Envoy
//! and Istiod speak it.

pub mod backoff;
pub mod client;
pub mod file;
pub mod node;
pub mod subscriptions;
mod transport;
pub mod type_url;
mod update;
pub mod wire;

pub use client::{Client, Config, Counters, Event, Handle, check};
pub use file::{FileConfig, FileSource};
pub use subscriptions::{Form, Names, NodePolicy, Subscriptions};
pub use transport::{Endpoint, Invalid, Keepalive, Service, TcpKeepalive, Tls};
pub use update::{Rejected, Resource, Update, Verdict};
