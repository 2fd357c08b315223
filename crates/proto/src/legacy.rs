//! Names and fields from before Envoy's v3 API, and TypedStruct. Owns the conversion from v2 to v3.
//!
//! v2 and v3 messages share their field numbers, so a v2 message is read as its v3 successor; the names come from
//! `udpa.annotations.versioning` in Envoy's protos. Fields that v3 dropped sit in the descriptors as
//! `hidden_envoy_deprecated_*` (see `proto/v2_fields.txt`), and the table below says what they became.

mod changes;

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use crate::descriptors;
use crate::ignored::Ignored;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    pub mod udpa {
        include!(concat!(env!("OUT_DIR"), "/udpa.r#type.v1.rs"));
    }
    pub mod xds {
        include!(concat!(env!("OUT_DIR"), "/xds.r#type.v3.rs"));
    }
}

pub use generated::{udpa, xds};

/// What stands before the name of a field that v3 dropped.
pub(crate) const HIDDEN: &str = "hidden_envoy_deprecated_";

/// The v3 type URL for one from before v3: `…/envoy.api.v2.Cluster` gives `…/envoy.config.cluster.v3.Cluster`.
#[must_use]
pub fn v3_type_url(type_url: &str) -> Option<String> {
    descriptors::v3_name(descriptors::type_name(type_url)).map(|name| format!("type.googleapis.com/{name}"))
}

/// Turns the fields that v3 dropped into what took their place, in the message and all messages inside it; those
/// without a successor are counted.
pub(crate) fn upgrade(message: &mut DynamicMessage, ignored: &mut Ignored) {
    for (_, value) in message.fields_mut() {
        match value {
            Value::Message(inner) => upgrade(inner, ignored),
            Value::List(list) => list
                .iter_mut()
                .filter_map(Value::as_message_mut)
                .for_each(|m| upgrade(m, ignored)),
            Value::Map(map) => map
                .values_mut()
                .filter_map(Value::as_message_mut)
                .for_each(|m| upgrade(m, ignored)),
            _ => {}
        }
    }
    let name = message.descriptor().full_name().to_owned();
    changes::apply(&name, message);
    let is_left =
        |message: &DynamicMessage, hidden: &prost_reflect::FieldDescriptor| message.has_field(hidden);
    let hidden: Vec<_> = message
        .descriptor()
        .fields()
        .filter(|field| field.name().starts_with(HIDDEN))
        .collect();
    for field in hidden.iter().filter(|field| is_left(message, field)) {
        ignored.push(format!("{name}.{}", field.name()));
    }
    hidden.iter().for_each(|field| message.clear_field(field));
}

/// Counts the fields that neither v2 nor v3 has, in the message and all messages inside it.
pub(crate) fn count_unknown(message: &DynamicMessage, ignored: &mut Ignored) {
    for field in message.unknown_fields() {
        ignored.push(format!(
            "{}.#{}",
            message.descriptor().full_name(),
            field.number()
        ));
    }
    for (_, value) in message.fields() {
        match value {
            Value::Message(inner) => count_unknown(inner, ignored),
            Value::List(list) => list
                .iter()
                .filter_map(Value::as_message)
                .for_each(|m| count_unknown(m, ignored)),
            Value::Map(map) => map
                .values()
                .filter_map(Value::as_message)
                .for_each(|m| count_unknown(m, ignored)),
            _ => {}
        }
    }
}
