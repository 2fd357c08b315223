//! What the engine stands on: clients and what they are owed, servers' connections and what waits on them, routes.
//!
//! Types that know no feature and no engine; each can be tested alone. A newcomer reads `client` (the queue of owed replies,
//! the inlet, the session), `pool` and `connection` (servers and what waits on them), `filter` (routes).

pub mod backoff;
pub mod client;
pub mod connection;
pub mod filter;
pub mod headcount;
pub mod input;
pub mod leases;
pub mod lessons;
pub mod link;
pub mod output;
pub mod pending;
pub mod places;
pub mod pool;
pub mod scripts;
pub mod split;
pub mod statistics;
pub mod tally;
