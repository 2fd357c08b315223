//! The admin interface over real sockets: its pages, and the same pages of a real Envoy 1.40.

// Helpers of tests are tests: a failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]

#[path = "admin/config_dump.rs"]
mod config_dump;
#[path = "admin/envoy.rs"]
mod envoy;
#[path = "admin/fixture.rs"]
mod fixture;
#[path = "admin/pages.rs"]
mod pages;
#[path = "admin/wire.rs"]
mod wire;
