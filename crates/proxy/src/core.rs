//! What the engine stands on: clients and what they are owed, servers' connections and what waits on them, routes.
//!
//! Types that know no feature and no engine; each can be tested alone. Nothing here calls upwards, and nothing here names a
//! module outside (`tests/architecture.rs` looks).

pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod filter;
pub(crate) mod input;
pub(crate) mod leases;
pub(crate) mod lessons;
pub(crate) mod output;
pub(crate) mod pending;
pub(crate) mod places;
pub(crate) mod pool;
pub(crate) mod scripts;
pub(crate) mod split;
pub(crate) mod statistics;
pub(crate) mod tally;
