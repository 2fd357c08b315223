//! The `redis_proxy` engine: bytes from clients in, routed bytes and ordered replies out.
//!
//! Sans-I/O: it knows no socket, no runtime and no clock. A driver hands it what it read and the time of the turn,
//! and writes what the engine has put into the connections' outputs. One engine serves one worker; nothing in it
//! is shared, locked or atomic but the configuration and the counters that the admin side reads.
//!
//! A newcomer reads `engine` (the turn), `core` (what all features work with), `dispatch` (what a request becomes),
//! `forward` (where it goes) and `settle` (how replies find back), in this order.

mod adopt;
mod auth;
mod blocking;
mod client_command;
mod dispatch;
mod engine;
mod external_auth;
mod fanout;
mod fault;
mod forward;
mod hold;
mod inquiry;
mod introspect;
mod lessons;
mod local;
mod pause;
mod peers;
mod pubsub;
mod scan;
mod scripts;
mod select;
mod settle;
mod split;
mod tracking;
mod transaction;
mod upstream;
mod waiting;

pub use engine::{Context, Engine};
pub use external_auth::Verdict;
pub use peers::Peers;
pub use redplane_redis_core::client::{ClientId, Opened};
pub use redplane_redis_core::connection::ConnId;
pub use redplane_redis_core::output::Output;
pub use redplane_redis_core::scripts::Scripts;
pub use redplane_redis_core::statistics::Statistics;
pub use redplane_redis_flow::action::Action;
pub use redplane_redis_flow::action::Gone;
pub use redplane_redis_flow::action::LoginQuestion;
pub use redplane_redis_flow::action::Traffic;
pub use waiting::{Oldest, Waiting, WaitingClient, WaitsAt};
