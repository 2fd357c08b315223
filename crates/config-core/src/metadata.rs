//! Values of `google.protobuf.Struct`: as text, where metadata is compared and for JSON log formats, and as JSON, where
//! rules look into them.

use redplane_proto::pb::envoy::config::core::v3::Metadata;
use redplane_proto::pb::google::protobuf::value::Kind;
use redplane_proto::pb::google::protobuf::{Struct, Value};

/// The fields of a Struct with their values as text, sorted by name: a protobuf map has no order of its own.
pub fn pairs(message: &Struct) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = message
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    pairs.sort_unstable();
    pairs
}

/// A string as it is, all else in JSON's notation. The depth is bounded by the protobuf decoder.
pub fn text(value: &Value) -> String {
    match value.kind.as_ref() {
        None | Some(Kind::NullValue(_)) => "null".to_owned(),
        Some(Kind::NumberValue(number)) => number.to_string(),
        Some(Kind::BoolValue(flag)) => flag.to_string(),
        Some(Kind::StringValue(string)) => string.clone(),
        Some(Kind::ListValue(list)) => {
            format!("[{}]", list.values.iter().map(text).collect::<Vec<_>>().join(","))
        }
        Some(Kind::StructValue(object)) => {
            let fields: Vec<_> = pairs(object)
                .iter()
                .map(|(name, value)| format!("{name}:{value}"))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
    }
}

/// `filter_metadata` as JSON: the name of a filter to an object. `None` where there is nothing in it.
pub fn objects(message: &Metadata) -> Option<serde_json::Map<String, serde_json::Value>> {
    let objects: serde_json::Map<_, _> = message
        .filter_metadata
        .iter()
        .map(|(name, fields)| (name.clone(), object(fields)))
        .collect();
    (!objects.is_empty()).then_some(objects)
}

fn object(message: &Struct) -> serde_json::Value {
    let fields = message.fields.iter();
    fields.map(|(name, value)| (name.clone(), json(value))).collect()
}

/// The depth is bounded by the protobuf decoder.
fn json(value: &Value) -> serde_json::Value {
    match value.kind.as_ref() {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::BoolValue(flag)) => (*flag).into(),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        Some(Kind::StructValue(fields)) => object(fields),
    }
}
