//! Messages from YAML, for tests.

use prost::{Message, Name};
use redplane_proto::{Any, Json, yaml_value};

use crate::Invalid;

/// The message that the YAML describes.
pub(crate) fn message<M: Message + Name + Default>(yaml: &str) -> M {
    Json::load()
        .message(yaml_value(yaml).unwrap())
        .unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

/// A message packed.
pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// The text of a refusal.
pub(crate) fn refusal<T>(result: Result<T, Invalid>) -> String {
    match result {
        Ok(_) => panic!("was accepted"),
        Err(refusal) => refusal.to_string(),
    }
}
