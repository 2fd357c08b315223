//! Which route an HTTP request takes, and what is rewritten, added and retried: functions over values. Beside them the
//! watch over an HTTP/1 client's bytes.
//!
//! Nothing here does I/O, reads a clock or draws a number: time and chance come in as arguments. Follows Envoy's
//! `source/common/router` and `source/common/http/path_utility`; each rule was tried against Envoy 1.40.

pub mod grpc;
pub mod hash;
pub mod headers;
mod hosts;
mod matching;
pub mod path;
pub mod request;
pub mod retry;
pub mod rewrite;
pub mod table;
pub mod watch;

pub use request::Head;
pub use table::{Choice, RouteTable};
