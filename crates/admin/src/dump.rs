//! What `/config_dump` shows, as the binary gives it.

use std::sync::Arc;
use std::time::SystemTime;

use redplane_proto::Any;

/// Everything that was accepted, and the last of what was refused.
#[derive(Clone, Debug, Default)]
pub struct DumpInput {
    /// `envoy.config.bootstrap.v3.Bootstrap`
    pub bootstrap: Option<ResourceVersion>,
    /// Clusters.
    pub clusters: Dumped,
    /// `ClusterLoadAssignment`s: of static and DNS clusters, and those that came over EDS.
    pub endpoints: Dumped,
    /// Listeners.
    pub listeners: Dumped,
    /// Scoped routes.
    pub scoped_routes: Dumped,
    /// Route configurations.
    pub routes: Dumped,
    /// Secrets.
    pub secrets: Dumped,
    /// `TypedExtensionConfig`s that came over ECDS.
    pub extensions: Dumped,
}

/// The resources of one kind.
#[derive(Clone, Debug, Default)]
pub struct Dumped {
    /// The version of the last accepted push.
    pub version_info: String,
    /// From the bootstrap.
    pub fixed: Vec<DynamicResource>,
    /// From the control plane.
    pub dynamic: Vec<DynamicResource>,
}

/// One resource by its name, in the states it has at this moment. A resource of the bootstrap is only active.
#[derive(Clone, Debug, Default)]
pub struct DynamicResource {
    /// Its name.
    pub name: String,
    /// In use.
    pub active: Option<ResourceVersion>,
    /// Waits for what it needs.
    pub warming: Option<ResourceVersion>,
    /// Replaced or removed, connections still live.
    pub draining: Option<ResourceVersion>,
    /// The last update was refused.
    pub error: Option<FailedUpdate>,
}

/// An accepted resource.
#[derive(Clone, Debug)]
pub struct ResourceVersion {
    /// The message as it came.
    pub resource: Arc<Any>,
    /// Its own version, empty when the control plane gives none.
    pub version_info: String,
    /// When it was accepted.
    pub last_updated: SystemTime,
}

/// A refused one.
#[derive(Clone, Debug)]
pub struct FailedUpdate {
    /// The message as it came.
    pub resource: Option<Arc<Any>>,
    /// The version of the push.
    pub version_info: String,
    /// When it came.
    pub last_update_attempt: SystemTime,
    /// Why it was refused, as the NACK said.
    pub details: String,
}
