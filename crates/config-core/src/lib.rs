//! What the readers of every kind of configuration share: single fields, addresses, matchers, sources, TLS settings.
//!
//! Owns how a refusal and a note name their field ([`Invalid`], [`Ignored`]) and the messages that stand in many
//! others. It knows no listener, cluster or route, and does no I/O except reading the files that a `DataSource` names.

// Fields that Envoy deprecates are still sent by older control planes: their fate is decided here too.
#![allow(deprecated)]

pub mod access_log;
pub mod address;
mod cidr;
pub mod config_source;
pub mod data_source;
pub mod extension;
pub mod field;
pub mod invalid;
pub mod matcher;
pub mod metadata;
#[cfg(test)]
mod sample;
pub mod tls;
pub mod token_bucket;

pub use address::Address;
pub use cidr::Cidr;
pub use invalid::{Ignored, Invalid};
