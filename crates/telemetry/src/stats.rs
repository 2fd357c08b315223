//! The schemas of Envoy's scopes, letter for letter. Each module is named after its scope's prefix and holds the
//! handles (`cluster::UPSTREAM_CX_TOTAL`) and `SCHEMA`.
//!
//! All names that Envoy 1.40 prints for a scope are here, also those that redplane has no occasion to move: dashboards
//! and scripts expect them. The prefix, with its final dot, is chosen where the scope is made.

mod downstream;
mod http_connection_manager;
mod process;
mod redis;
mod upstream;

pub use downstream::*;
pub use http_connection_manager::*;
pub use process::*;
pub use redis::*;
pub use upstream::*;
