//! Many servers' replies made into one: parts in, bytes out. Pure: no I/O, no clock, no state beside the parts.
//!
//! A newcomer reads `parts` (what was asked and what has come), then `policy` (how that becomes one reply, by the
//! command table's reply policy); `arrays`, `info` and `latency` merge the forms that need more than a fold.

mod arrays;
mod failure;
mod info;
mod latency;
mod parts;
mod policy;

pub use failure::Failure;
pub use info::Own;
pub use parts::{Answer, Part, Parts};
pub use policy::merge;
