//! Access rules (RBAC) turned into decisions: pure functions over the facts of a connection or a request.
//!
//! The rules are read by `config`. Here is what they mean: no I/O, no clock, no HTTP library. Where a fact cannot be had
//! the answer is neither yes nor no, and rules that depend on it keep clients out.
//!
//! Envoy: `source/extensions/filters/common/rbac`.

mod condition;
mod decision;
mod facts;
mod metadata;
#[cfg(test)]
mod tests;

pub use decision::{
    Decision, METADATA_HTTP, METADATA_NETWORK, Outcome, decide, details, http, network, shadow_metadata,
};
pub use facts::{Connection, Headers, Metadata, Peer, Request};
