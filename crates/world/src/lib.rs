//! What is configured and live, in one value that one swap publishes.
//!
//! A [`Snapshot`] holds listeners made ready for their connections and live clusters, and through those their
//! topologies. One owner builds the next one and publishes it; workers look everything up in the snapshot that is
//! current when a connection or a batch of requests comes, so nothing they do is half of one push and half of another.
//!
//! A connection belongs to the [`Chain`] that it was accepted under. Across updates a chain is the same one as long as
//! its match stays and its connections may go on; then they take up its new settings. Otherwise its [`Life`] tells its
//! connections to end.

mod access;
mod access_log;
mod bucket;
mod facts;
mod http;
mod life;
mod listener;
mod prepare;
mod routes;
mod snapshot;
pub mod tls;

pub use access::{Access, Limit, Permit, Rate, Rules};
pub use bucket::Bucket;
pub use facts::{ConnectionFacts, TlsFacts};
pub use http::{FilterStats, HttpService, Running};
pub use life::Life;
pub use listener::{Chain, Listener};
pub use prepare::Preparer;
pub use routes::{RouteSlot, Routes};
pub use snapshot::{Reader, Snapshot, Store};
