//! What every Redis command means, as a table: arity, where its keys are, whether it writes, where requests
//! go and how replies become one.
//!
//! The table is data (`redis-commands.json`, `envoy-commands.json`, `policies.json`), turned into statics by
//! the build script. The engine looks a command up once per request and then matches on its policies, never
//! on its name. Nothing here allocates on the request path, does I/O or can panic on what a client sends.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod error;
mod flags;
mod info;
mod key_spec;
mod keys;
mod learn;
mod murmur;
mod pack;
mod page;
mod patience;
mod policy;
mod slot;
mod table;

pub use flags::{Flags, Handling, KeyFlags};
pub use info::{Protocol, command_info};
pub use key_spec::{Begin, FastKeys, Find, KeySpec};
pub use keys::{Keys, SlotOf, first_key, keys, slots};
pub use learn::{DescribedBegin, DescribedKeys, Description, Learnt, learn};
pub use murmur::murmur2;
pub use page::compatibility_page;
pub use patience::{Patience, may_block, patience, timeout_at};
pub use policy::{
    Blocking, Class, Effect, Local, Pubsub, Refusal, ReplyPolicy, RequestPolicy, Script, Transaction,
};
pub use slot::{SLOTS, crc16, hash_tag, slot};
pub use table::{
    About, Command, CommandId, CommandKeys, NotFound, all, envoy_stat_name, find, lookup, lookup_sub,
};
