//! What a request costs in this crate: the search for its command, its keys and their slot.

fn main() {}
