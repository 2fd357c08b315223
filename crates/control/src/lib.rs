//! A local control plane, for the quickstart and the tests. It is not Istiod and does not want to be.
//!
//! It reads a folder of Istio YAML (EnvoyFilter, Kubernetes Service with Endpoints or EndpointSlices, ServiceEntry),
//! builds the listeners, clusters and endpoints that Istiod would build for the TCP services in it, and serves them
//! over ADS, delta and state-of-the-world. A changed file is pushed; a broken one is reported and changes nothing.
//!
//! No certificates, no authorization, no HTTP routes, one configuration for every proxy that asks. It shares no
//! code with redplane's own ADS client: two independent readings of the protocol check each other.

mod build;
mod documents;
mod finding;
mod follow;
mod istio;
mod options;
mod patch;
mod serve;
mod watch;
mod world;

pub use finding::{Faults, Finding, Location};
pub use follow::follow;
pub use options::{Mode, Options};
pub use serve::{Address, Event, Events, Form, Server, type_url};
pub use watch::{Changes, watch};
pub use world::World;
