//! The client against a scripted ADS server over real sockets, and file subscriptions against a real file
//! system.
//!
//! The server is made from envoy-types' stubs and shares no protocol code with the client.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic, in its own functions as well"
)]

mod backoff;
mod file;
mod large;
mod nack;
mod pushes;
mod receiver;
mod reconnect;
mod secrets;
mod server;
mod silence;
mod sockets;
mod tls;
