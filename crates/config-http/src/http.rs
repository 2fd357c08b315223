//! HTTP: the connection manager, its routes and filters, and the HTTP side of clusters.
//!
//! Everything here is a value: nothing opens a socket or looks at a request. How routes are chosen from it is told by
//! the crate `http-route`, how requests travel by the crate `http`. Sources: Envoy's `http_connection_manager.v3`,
//! `config.route.v3` and `upstreams.http.v3`.

pub mod change;
pub mod client_cert;
pub mod filter;
pub mod hcm;
pub mod matcher;
pub mod options;
pub mod pattern;
pub mod route;
pub mod template;

#[cfg(test)]
mod tests;

pub use change::{AppendAction, HeaderAdd, HeaderChanges};
pub use client_cert::{ClientCertFields, ForwardClientCert};
pub use filter::{FilterOverride, HttpFilter, NamedFilter, Overrides};
pub use hcm::{HttpConnectionManager, RouteSource};
pub use matcher::{CookieMatcher, HeaderMatcher, HeaderTest, QueryMatcher, QueryTest};
pub use options::{Http1Options, Http2Options, HttpCluster, UpstreamProtocol};
pub use pattern::{Anchored, Rewrite};
pub use route::RouteConfiguration;
pub use template::Template;
