//! From what is configured to what lives: an update goes in, is validated, warms, is published as one snapshot, and what
//! left is drained.
//!
//! Owns everything that is configured, the sources that it comes from, and what the admin pages tell of it. Runs on the
//! control thread alone and never waits; never speaks a protocol and never serves a connection.

mod book;
pub mod bootstrap;
mod clusters;
mod dump;
mod endpoints;
mod events;
mod feeds;
mod incoming;
mod ledger;
mod listeners;
mod needs;
mod owner;
mod pages;
mod references;
mod routes;
mod secrets;
mod start_up;
mod state;
mod stats;
mod validate;
mod views;
mod waiting;
mod world;

pub use bootstrap::Bootstrap;
pub use feeds::Feeds;
pub use incoming::Incoming;
pub use owner::Reconcile;
pub use pages::sources;
pub use validate::validate;
pub use world::{Parts, World};
