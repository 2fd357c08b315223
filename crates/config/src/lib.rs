//! Protobuf configuration turned into a validated model.
//!
//! This crate owns bootstrap, listeners, clusters and endpoints, and shows the whole model: what they share stands in
//! `config-core`, what decides about HTTP in `config-http`. Together they are the wall behind which no protobuf is
//! seen: each file reads one Envoy message kind and gives a type that cannot be wrong, or [`Invalid`] with the path of
//! the field at fault. They do no I/O of their own except reading the files that a `DataSource` names, and keep no state.
//!
//! What is not understood has one of three fates: refused with its path, carried inert (a listener or chain that
//! is not served), or ignored, counted and shown (see [`Ignored`]).

// Fields that Envoy deprecates are still sent by older control planes: their fate is decided here too.
#![allow(deprecated)]

pub mod bootstrap;
pub mod cluster;
pub mod endpoint;
pub mod listener;
pub mod redis_proxy;
#[cfg(test)]
#[path = "../../config-core/src/sample.rs"]
mod sample;
pub mod tcp_proxy;

pub use redplane_config_core::{
    Address, Cidr, Ignored, Invalid, access_log, address, config_source, invalid, matcher, tls, token_bucket,
};
pub use redplane_config_http::{http, jwt, rbac};

use redplane_config_core::{data_source, extension, field, metadata};
