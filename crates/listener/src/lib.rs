//! Accepting, matching and serving downstream connections.
//!
//! [`Workers`] is the control side: it binds sockets, so that a conflict is refused before anything changes, and tells
//! the worker threads what to serve. A worker accepts, looks at the first bytes where a listener filter wants to,
//! chooses the filter chain, does the TLS handshake and hands the connection to its terminal filter: to the Redis
//! driver ([`redis`]), or to tcp_proxy.

mod accept;
mod access;
mod bind;
mod chain;
mod check;
mod connection;
mod context;
mod descriptor;
mod draining;
mod filters;
mod hops;
mod http;
mod limit_permit;
pub mod redis;
mod session;
mod stats;
mod stream;
mod tcp_proxy;
mod thread;
mod tls;
mod worker;
mod workers;

pub use chain::{Choice, choose};
pub use check::check;
pub use context::{Context, MakeDriver};
pub use workers::{BoundListener, Workers};
