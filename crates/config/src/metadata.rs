//! Values of `google.protobuf.Struct` as text: metadata that is compared, JSON log formats.

use redplane_proto::pb::google::protobuf::value::Kind;
use redplane_proto::pb::google::protobuf::{Struct, Value};

/// The fields of a Struct with their values as text, sorted by name: a protobuf map has no order of its own.
pub(crate) fn pairs(message: &Struct) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = message
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    pairs.sort_unstable();
    pairs
}

/// A string as it is, all else in JSON's notation. The depth is bounded by the protobuf decoder.
pub(crate) fn text(value: &Value) -> String {
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
