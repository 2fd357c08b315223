//! redplane's own message: the configuration of `redplane.clusters.sentinel` (`proto/redplane_sentinel.proto`).
//!
//! No control plane links it. It travels as a TypedStruct that names it, or as a plain Struct.

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/redplane.clusters.sentinel.v3.rs"));
}

pub use generated::{DataSource, SentinelClusterConfig, data_source};
