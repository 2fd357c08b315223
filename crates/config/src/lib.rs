//! Protobuf configuration turned into a validated model.
//!
//! This crate owns the wall behind which no protobuf is seen: each file reads one Envoy message kind and gives a
//! type that cannot be wrong, or [`Invalid`] with the path of the field at fault. It does no I/O of its own
//! except reading the files that a `DataSource` names, and it keeps no state.
//!
//! What is not understood has one of three fates: refused with its path, carried inert (a listener or chain that
//! is not served), or ignored, counted and shown (see [`Ignored`]).

// Fields that Envoy deprecates are still sent by older control planes: their fate is decided here too.
#![allow(deprecated)]

pub mod access_log;
pub mod address;
pub mod bootstrap;
mod cidr;
pub mod cluster;
pub mod config_source;
mod data_source;
pub mod endpoint;
mod extension;
mod field;
pub mod http;
pub mod invalid;
pub mod jwt;
pub mod listener;
pub mod matcher;
mod metadata;
pub mod rbac;
pub mod redis_proxy;
#[cfg(test)]
mod sample;
pub mod tcp_proxy;
pub mod tls;

pub use address::Address;
pub use cidr::Cidr;
pub use invalid::{Ignored, Invalid};
