//! HTTP connections of a worker: served with hyper, routed, forwarded to the hosts of a cluster.
//!
//! An [`HttpService`](redplane_world::HttpService) is a connection manager made ready on the control thread; all workers share it. A [`Worker`] is what
//! the connections of one thread have in common: clusters and pools. [`serve`] takes a connection to its end. Nothing
//! here leaves its thread: no lock, no channel between threads, no atomic but the hosts' counters.
//!
//! Envoy: `source/common/http/conn_manager_impl.cc`, `source/common/router/router.cc`.

mod asked;
mod bucket;
mod check;
mod codes;
mod connection;
mod downstream;
mod exchange;
mod executor;
mod feed;
mod filters;
mod keys;
mod load;
mod pool;
mod progress;
mod reply;
mod response;
mod shared;
mod sniff;
mod stamp;
mod stream;
mod tail;
mod upgrade;
mod upstream;
mod worker;

pub use connection::serve;
pub use downstream::{Downstream, Tls};
pub use worker::Worker;
