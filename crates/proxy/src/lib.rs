//! The `redis_proxy` engine: bytes from clients in, routed bytes and ordered replies out.
//!
//! Sans-I/O: it knows no socket, no runtime and no clock. A driver hands it what it read and the time of the turn,
//! and writes what the engine has put into the connections' outputs. One engine serves one worker; nothing in it
//! is shared, locked or atomic but the configuration and the counters that the admin side reads.
//!
//! A newcomer reads `turn` (what the driver calls), `dispatch` (what a request becomes), `forward` (where it goes) and
//! `upstream` (what servers answer), in this order. What all of them work with is `redplane_redis_flow::core`. `engine`
//! names the parts; of the features, publish and subscribe, tracking, blocking and transactions are crates of their own.

mod adopt;
mod auth;
mod client_command;
mod clients;
mod dispatch;
mod engine;
mod external_auth;
mod fault;
mod forward;
mod input;
mod inquiry;
mod introspect;
mod late;
mod lessons;
mod local;
mod order;
mod output;
mod pause;
mod peers;
mod question;
mod quiet;
mod scan;
mod selection;
mod session;
mod share;
mod split;
mod turn;
mod upstream;
mod waiting;

pub use engine::{Context, Engine};
pub use external_auth::Verdict;
pub use late::{Oldest, Waiting, WaitingClient, WaitsAt};
pub use peers::Peers;
pub use redplane_redis_core::client::{ClientId, Opened};
pub use redplane_redis_core::connection::ConnId;
pub use redplane_redis_core::output::Output;
pub use redplane_redis_core::scripts::Scripts;
pub use redplane_redis_core::statistics::Statistics;
pub use redplane_redis_flow::action::{Action, Gone, LoginQuestion, Traffic};
