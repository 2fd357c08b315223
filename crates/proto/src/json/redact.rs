//! `[redacted]` for what must not leave the process, as in Envoy's dump.
//!
//! Typed messages are handled where they are printed; here are the untyped ones: a TypedStruct is redacted by the type
//! that it names, and where no type is known by the names that sensitive fields have.

use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::read::find;
use crate::descriptors::{Descriptors, is_sensitive, is_sensitive_name};

/// What a sensitive string prints as.
pub(super) const TEXT: &str = "[redacted]";
/// What sensitive bytes print as: the same in base64.
pub(super) const BYTES: &str = "W3JlZGFjdGVkXQ==";

/// Redacts the printed form of a TypedStruct.
pub(super) fn typed_struct(descriptors: &Descriptors, printed: &mut Map<String, Value>) {
    let known = printed
        .get("type_url")
        .and_then(Value::as_str)
        .and_then(|url| descriptors.by_url(url));
    let Some(value) = printed.get_mut("value") else {
        return;
    };
    match known {
        Some(known) if !is_untyped(known.message.full_name()) => by_type(descriptors, &known.message, value),
        _ => by_name(value),
    }
}

/// Redacts JSON of a type that is known.
pub(super) fn by_type(descriptors: &Descriptors, message: &MessageDescriptor, value: &mut Value) {
    if message.full_name() == "google.protobuf.Any" {
        return any(descriptors, value);
    }
    if is_untyped(message.full_name()) {
        return;
    }
    let Value::Object(object) = value else { return };
    for (key, value) in object {
        match find(message, key) {
            Some(field) if is_sensitive(&field) => match field.kind() {
                Kind::Bytes => *value = BYTES.into(),
                _ => everything(value),
            },
            Some(field) => {
                if let Kind::Message(inner) = field.kind() {
                    elements(descriptors, &inner, value);
                }
            }
            // People write one level of `value` too much; it is read, so it is redacted.
            None if key == "value" => by_type(descriptors, message, value),
            None => by_name(value),
        }
    }
}

fn elements(descriptors: &Descriptors, message: &MessageDescriptor, value: &mut Value) {
    match value {
        Value::Array(list) => list
            .iter_mut()
            .for_each(|value| by_type(descriptors, message, value)),
        Value::Object(map) if message.is_map_entry() => {
            let Kind::Message(inner) = message.map_entry_value_field().kind() else {
                return;
            };
            map.values_mut()
                .for_each(|value| by_type(descriptors, &inner, value));
        }
        _ => by_type(descriptors, message, value),
    }
}

fn any(descriptors: &Descriptors, value: &mut Value) {
    let known = value
        .get("@type")
        .and_then(Value::as_str)
        .and_then(|url| descriptors.by_url(url));
    match (known, value) {
        (Some(known), Value::Object(object)) if known.message.full_name().ends_with(".TypedStruct") => {
            typed_struct(descriptors, object);
        }
        (Some(known), value) if !is_untyped(known.message.full_name()) => {
            by_type(descriptors, &known.message, value);
        }
        (_, value) => by_name(value),
    }
}

/// Redacts values under names that sensitive fields have, where no type says more.
pub(super) fn by_name(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(by_name),
        Value::Object(object) => {
            for (key, value) in object {
                if is_sensitive_name(key) {
                    everything(value);
                } else {
                    by_name(value);
                }
            }
        }
        _ => {}
    }
}

/// Redacts all text, and clears what is not text.
pub(super) fn everything(value: &mut Value) {
    match value {
        Value::String(text) => TEXT.clone_into(text),
        Value::Array(list) => list.iter_mut().for_each(everything),
        Value::Object(object) => object.values_mut().for_each(everything),
        other => *other = Value::Null,
    }
}

fn is_untyped(full_name: &str) -> bool {
    matches!(
        full_name,
        "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue"
    )
}
