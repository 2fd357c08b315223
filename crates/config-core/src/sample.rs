//! Messages from YAML, for tests.

use prost::{Message, Name};
use redplane_proto::{Json, yaml_value};

use crate::Invalid;

/// The message that the YAML describes.
pub(crate) fn message<M: Message + Name + Default>(yaml: &str) -> M {
    Json::load()
        .message(yaml_value(yaml).unwrap())
        .unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// The text of a refusal.
pub(crate) fn refusal<T>(result: Result<T, Invalid>) -> String {
    match result {
        Ok(_) => panic!("was accepted"),
        Err(refusal) => refusal.to_string(),
    }
}
