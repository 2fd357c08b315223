//! What is known of each type of resource. Plain state: what happens to it is said in the module of the same name.

pub(crate) mod clusters;
pub(crate) mod endpoints;
pub(crate) mod listeners;
pub(crate) mod routes;
pub(crate) mod secrets;
pub(crate) mod start;
