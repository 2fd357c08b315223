//! Scalars and enums out of JSON values, by the proto3 JSON mapping and what Envoy's reader allows beyond it: numbers
//! and flags may be strings, whole floats are integers, names of enums are read in any case. A number is never a string
//! or a flag, and nothing is cut off.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind, MapKey, Value as Field};
use serde_json::Value;

use crate::legacy::HIDDEN;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Reads one scalar or enum; the error is the reason without a path.
pub(super) fn scalar(kind: &Kind, value: &Value) -> Result<Field, String> {
    let field = match kind {
        Kind::Bool => value.as_bool().or_else(|| flag(value.as_str()?)).map(Field::Bool),
        Kind::String => value.as_str().map(|text| Field::String(text.to_owned())),
        Kind::Bytes => return bytes(value).map(|bytes| Field::Bytes(bytes.into())),
        Kind::Enum(descriptor) => return enumeration(descriptor, value).map(Field::EnumNumber),
        Kind::Double => float(value).map(Field::F64),
        Kind::Float => float(value).and_then(narrow).map(Field::F32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(value).and_then(fit).map(Field::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(value).and_then(fit).map(Field::I64),
        Kind::Uint32 | Kind::Fixed32 => integer(value).and_then(fit).map(Field::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(value).and_then(fit).map(Field::U64),
        Kind::Message(_) => None,
    };
    field.ok_or_else(|| format!("{} is not a {}", show(value), kind_name(kind)))
}

/// Reads a key of a map: JSON has only strings there.
pub(super) fn map_key(kind: &Kind, key: &str) -> Result<MapKey, String> {
    let value = match (kind, key) {
        (Kind::Bool, "true") => Value::Bool(true),
        (Kind::Bool, "false") => Value::Bool(false),
        _ => Value::String(key.to_owned()),
    };
    scalar(kind, &value)?
        .into_map_key()
        .ok_or_else(|| format!("{key} cannot be a key"))
}

/// The words of Abseil's `SimpleAtob`.
fn flag(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match text {
        _ if is(&["true", "t", "yes", "y", "1"]) => Some(true),
        _ if is(&["false", "f", "no", "n", "0"]) => Some(false),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => {
            let decimal = text.parse().ok().or_else(|| text.parse().ok().and_then(whole));
            decimal.or_else(|| hexadecimal(text))
        }
        _ => None,
    }
}

fn hexadecimal(text: &str) -> Option<i128> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then_some(())?;
    i128::from_str_radix(digits, 16).ok()
}

fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 2e19).then_some(number as i128)
}

fn fit<T: TryFrom<i128>>(number: i128) -> Option<T> {
    T::try_from(number).ok()
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => text.parse().ok().filter(|number: &f64| number.is_finite()),
        },
        _ => None,
    }
}

fn narrow(number: f64) -> Option<f32> {
    let narrow = number as f32;
    (narrow.is_finite() || !number.is_finite()).then_some(narrow)
}

fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("{} is not base64 text", show(value)))?;
    GeneralPurpose::new(&STANDARD, LENIENT)
        .decode(text)
        .or_else(|_| GeneralPurpose::new(&URL_SAFE, LENIENT).decode(text))
        .map_err(|error| format!("is not base64: {error}"))
}

fn enumeration(descriptor: &EnumDescriptor, value: &Value) -> Result<i32, String> {
    let found = match value {
        Value::String(name) => {
            let in_any_case = || {
                descriptor
                    .values()
                    .find(|known| known.name().eq_ignore_ascii_case(name))
            };
            let named = descriptor
                .get_value_by_name(name)
                .or_else(|| descriptor.get_value_by_name(name.strip_prefix(HIDDEN)?))
                .or_else(in_any_case);
            // A word that is no name may be a number in quotes, as in Envoy.
            let number = || {
                name.parse()
                    .ok()
                    .filter(|number| descriptor.get_value(*number).is_some())
            };
            named.map(|value| value.number()).or_else(number)
        }
        // Numbers without a name are legal: the message keeps what a newer control plane said.
        _ => integer(value).and_then(fit),
    };
    found.ok_or_else(|| format!("{} is not a value of {}", show(value), descriptor.full_name()))
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Double | Kind::Float => "number",
        Kind::Uint32 | Kind::Fixed32 => "whole number from 0 to 4294967295",
        Kind::Uint64 | Kind::Fixed64 => "whole number from 0 to 18446744073709551615",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "32-bit whole number",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "64-bit whole number",
        Kind::Bytes | Kind::Enum(_) | Kind::Message(_) => "value of this field",
    }
}

/// A value as an error message quotes it: short, and only scalars are spelled out.
pub(super) fn show(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) if text.chars().count() > LONGEST => {
            format!("\"{}...\"", text.chars().take(LONGEST).collect::<String>())
        }
        _ => value.to_string(),
    }
}
