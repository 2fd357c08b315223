//! The protocol as scripts: each test states one rule, in both forms where both have it. See `play` for how to
//! read them.

mod answers;
mod interleave;
mod names;
mod play;
mod resources;
