//! RESP2 and RESP3 bytes to frames and back: decoding requests, finding the borders of replies, encoding.
//!
//! Bytes in, bytes out: nothing here does I/O, reads a clock or keeps a connection's life. Requests and replies
//! stay slices of the buffer they came in; payloads are copied only by [`value`], which is for control traffic.
//! Follows the Redis protocol specification and, for error texts, redis-server.

pub mod encode;
mod error;
mod inline;
pub mod number;
pub mod reply;
pub mod request;
pub mod value;

pub use error::ProtocolError;
