//! Messages with a JSON form of their own: durations, timestamps, structs, wrappers.
//!
//! The proto3 JSON mapping defines them; `Any` is not here, as it needs the descriptors.

use std::collections::BTreeMap;

use prost_reflect::prost_types::Timestamp;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value as Field};
use serde_json::{Number, Value};

use super::scalar::{scalar, show};
use crate::pb::google::protobuf::value::Kind as Variant;
use crate::pb::google::protobuf::{ListValue, Struct, Value as ProtoValue};

/// Seconds that the JSON mapping allows in a duration: 10,000 years.
const LONGEST: i64 = 315_576_000_000;
/// A Struct nests no deeper than this, so that protobuf's limit of 100 messages always holds.
const DEEPEST: usize = 30;

/// True for the messages of this module.
pub(super) fn is_special(full_name: &str) -> bool {
    let Some(name) = full_name.strip_prefix("google.protobuf.") else {
        return false;
    };
    matches!(name, "Duration" | "Timestamp" | "Struct" | "Value" | "ListValue") || is_wrapper(full_name)
}

/// True for `google.protobuf.BoolValue` and the like.
pub(super) fn is_wrapper(full_name: &str) -> bool {
    let wrapped = full_name
        .strip_prefix("google.protobuf.")
        .and_then(|name| name.strip_suffix("Value"));
    wrapped.is_some_and(|name| {
        [
            "Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64",
        ]
        .contains(&name)
    })
}

/// Whether a duration, a timestamp or a wrapper is written as an object of its fields.
pub(super) fn is_spelled_out(full_name: &str, value: &Value) -> bool {
    let is_time = matches!(
        full_name,
        "google.protobuf.Duration" | "google.protobuf.Timestamp"
    );
    value.is_object() && (is_time || is_wrapper(full_name))
}

/// Reads one; the error is the reason without a path.
pub(super) fn read(descriptor: &MessageDescriptor, value: &Value) -> Result<DynamicMessage, String> {
    let mut message = DynamicMessage::new(descriptor.clone());
    match descriptor.full_name() {
        "google.protobuf.Duration" => {
            let (seconds, nanos) = duration(value)?;
            set_time(&mut message, seconds, nanos);
        }
        "google.protobuf.Timestamp" => {
            let (seconds, nanos) = timestamp(value)?;
            set_time(&mut message, seconds, nanos);
        }
        "google.protobuf.Struct" => transcode(&mut message, &structure(value)?)?,
        "google.protobuf.Value" => transcode(&mut message, &variant(value, 0)?)?,
        "google.protobuf.ListValue" => transcode(&mut message, &list(value, 0)?)?,
        _ => {
            let field = descriptor.get_field(1).ok_or("is not a wrapper")?;
            message.set_field(&field, scalar(&field.kind(), value)?);
        }
    }
    Ok(message)
}

fn transcode(message: &mut DynamicMessage, typed: &impl prost::Message) -> Result<(), String> {
    message.transcode_from(typed).map_err(|error| error.to_string())
}

fn set_time(message: &mut DynamicMessage, seconds: i64, nanos: i32) {
    message.set_field_by_name("seconds", Field::I64(seconds));
    message.set_field_by_name("nanos", Field::I32(nanos));
}

/// `"5s"`, `"0.25s"`, `"-1.5s"`.
fn duration(value: &Value) -> Result<(i64, i32), String> {
    let wrong = || format!("{} is not a duration such as \"5s\"", show(value));
    let text = value
        .as_str()
        .and_then(|text| text.strip_suffix('s'))
        .ok_or_else(wrong)?;
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 9 || !is_number(whole) || !is_number(fraction) {
        return Err(wrong());
    }
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    let nanos: i32 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    if seconds > LONGEST {
        return Err(wrong());
    }
    Ok((sign * seconds, sign as i32 * nanos))
}

fn timestamp(value: &Value) -> Result<(i64, i32), String> {
    let parsed = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let time = parsed.ok_or_else(|| format!("{} is not a time as in RFC 3339", show(value)))?;
    Ok((time.seconds, time.nanos))
}

/// A JSON object as a Struct.
pub(crate) fn structure(value: &Value) -> Result<Struct, String> {
    object(value, 0)
}

fn object(value: &Value, depth: usize) -> Result<Struct, String> {
    let object = value
        .as_object()
        .ok_or_else(|| format!("{} is not an object", show(value)))?;
    let mut fields = BTreeMap::new();
    for (key, value) in object {
        fields.insert(key.clone(), variant(value, depth)?);
    }
    Ok(Struct {
        fields: fields.into_iter().collect(),
    })
}

fn list(value: &Value, depth: usize) -> Result<ListValue, String> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("{} is not a list", show(value)))?;
    let values: Result<_, _> = list.iter().map(|value| variant(value, depth)).collect();
    Ok(ListValue { values: values? })
}

fn variant(value: &Value, depth: usize) -> Result<ProtoValue, String> {
    if depth == DEEPEST {
        return Err("is nested too deep".to_owned());
    }
    let kind = match value {
        Value::Null => Variant::NullValue(0),
        Value::Bool(bool) => Variant::BoolValue(*bool),
        Value::Number(number) => Variant::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Variant::StringValue(text.clone()),
        Value::Array(_) => Variant::ListValue(list(value, depth + 1)?),
        Value::Object(_) => Variant::StructValue(object(value, depth + 1)?),
    };
    Ok(ProtoValue { kind: Some(kind) })
}

/// A Struct as JSON; whole numbers become integers.
pub(crate) fn from_structure(value: &Struct) -> Value {
    let sorted: BTreeMap<_, _> = value.fields.iter().collect();
    Value::Object(
        sorted
            .into_iter()
            .map(|(key, value)| (key.clone(), from_variant(value)))
            .collect(),
    )
}

fn from_variant(value: &ProtoValue) -> Value {
    match &value.kind {
        None | Some(Variant::NullValue(_)) => Value::Null,
        Some(Variant::BoolValue(bool)) => Value::Bool(*bool),
        Some(Variant::NumberValue(double)) => number(*double),
        Some(Variant::StringValue(text)) => Value::String(text.clone()),
        Some(Variant::ListValue(list)) => Value::Array(list.values.iter().map(from_variant).collect()),
        Some(Variant::StructValue(inner)) => from_structure(inner),
    }
}

/// A double as JSON: an integer when it is whole, text when JSON has no number for it.
pub(super) fn number(double: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if double.fract() == 0.0 && double.abs() <= EXACT {
        return Value::Number((double as i64).into());
    }
    match Number::from_f64(double) {
        Some(number) => Value::Number(number),
        None if double.is_nan() => Value::String("NaN".to_owned()),
        None => Value::String(if double > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()),
    }
}

/// Prints a message of this module; none for one that is not.
pub(super) fn write(message: &DynamicMessage, full_name: &str) -> Option<Value> {
    match full_name {
        "google.protobuf.Duration" => Some(Value::String(print_duration(message))),
        "google.protobuf.Timestamp" => Some(Value::String(print_timestamp(message))),
        "google.protobuf.Struct" => message
            .transcode_to()
            .ok()
            .map(|typed: Struct| from_structure(&typed)),
        "google.protobuf.Value" => message
            .transcode_to()
            .ok()
            .map(|typed: ProtoValue| from_variant(&typed)),
        "google.protobuf.ListValue" => {
            let typed: ListValue = message.transcode_to().ok()?;
            Some(Value::Array(typed.values.iter().map(from_variant).collect()))
        }
        _ => None,
    }
}

fn time(message: &DynamicMessage) -> (i64, i32) {
    let seconds = message
        .get_field_by_name("seconds")
        .and_then(|value| value.as_i64())
        .unwrap_or_default();
    let nanos = message
        .get_field_by_name("nanos")
        .and_then(|value| value.as_i32())
        .unwrap_or_default();
    (seconds, nanos)
}

fn print_duration(message: &DynamicMessage) -> String {
    let (seconds, nanos) = time(message);
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    format!(
        "{sign}{}{}s",
        seconds.unsigned_abs(),
        fraction(nanos.unsigned_abs().min(999_999_999))
    )
}

/// Three, six or nine digits, as the JSON mapping asks.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        nanos if nanos.is_multiple_of(1_000_000) => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos.is_multiple_of(1_000) => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    }
}

fn print_timestamp(message: &DynamicMessage) -> String {
    let (seconds, nanos) = time(message);
    Timestamp {
        seconds,
        nanos: nanos.clamp(0, 999_999_999),
    }
    .to_string()
}
