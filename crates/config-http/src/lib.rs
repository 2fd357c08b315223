//! What decides about HTTP, as values: the connection manager, its routes and filters, access rules, tokens.
//!
//! Each file reads one Envoy message kind and gives a type that cannot be wrong, or an `Invalid` with the path of the
//! field at fault. Access rules of connections are read here too: they are the same rules. Nothing here opens a socket
//! or looks at a request.

// Fields that Envoy deprecates are still sent by older control planes: their fate is decided here too.
#![allow(deprecated)]

pub mod http;
pub mod jwt;
pub mod rbac;
#[cfg(test)]
#[path = "../../config-core/src/sample.rs"]
mod sample;

use redplane_config_core::{
    Cidr, Ignored, Invalid, access_log, config_source, data_source, extension, field, invalid, matcher,
    metadata, tls, token_bucket,
};
