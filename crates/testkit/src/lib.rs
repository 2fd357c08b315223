//! Real and scripted peers for tests: Redis servers and clusters, Envoy, redplane, a RESP backend that follows a
//! script, a raw RESP client, and the reader of conformance cases.
//!
//! Only ever a dev-dependency. It shares no code with the house it judges: RESP is read here a second time, so a
//! mistake in one reading shows up against the other. Everything is blocking and small; a peer that cannot be had
//! ends the test with a panic that says what is missing. Whatever a value here started ends when it is dropped.

pub mod case;
mod client;
mod escape;
mod http;
mod ports;
mod process;
mod proxy;
pub mod redis;
mod reply;
pub mod scene;
mod script;
mod tls;
mod wait;

pub use client::{Client, command_bytes};
pub use http::{HttpReply, http_get, http_post};
pub use ports::{free_port, free_redis_port};
pub use process::Process;
pub use proxy::{Proxy, ProxyKind, envoy_path, repository_root};
pub use redis::{Cluster, Redis, RedisConfig, Role, SentinelConfig, Sentinels};
pub use reply::{Decoded, Reply, decode};
pub use script::{Act, Backend, Bound, Request};
pub use tls::{Authority, Identity};
pub use wait::{until, until_some};
