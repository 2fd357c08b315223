//! Merging two messages of one type, as Istiod merges a patch.
//!
//! Protobuf's own rule: messages merge, repeated fields append, scalars replace, and a member of a oneof takes
//! the place of another. On the wire that is one encoding behind the other, whatever the type, and nothing is lost
//! on the way. The one exception is Istiod's: a `Duration` is replaced as a whole, or `5s` and `0.5s` would make
//! `5.5s`. So between the two goes an encoding that sets the patch's durations to an explicit zero.

use prost::{Message, Name};
use redplane_proto::{Any, Json};
use serde_json::{Value, json};

/// A duration whose encoding shows both fields, and that encoding with both set to zero.
const PROBE: &str = "1.000000001s";
const PROBE_BYTES: [u8; 4] = [0x08, 1, 0x10, 1];
const ZERO_BYTES: [u8; 4] = [0x08, 0, 0x10, 0];

/// Merges `patch` over `base`; `written` is the proto-JSON that the patch was read from.
pub(super) fn message<M>(base: &M, patch: &M, written: &Value, json: &Json) -> Result<M, String>
where
    M: Message + Name + Default,
{
    let encode = |value: &Value| Some(json.message::<M>(value).ok()?.encode_to_vec());
    let joined = [
        base.encode_to_vec(),
        zero_durations(written, &encode),
        patch.encode_to_vec(),
    ]
    .concat();
    M::decode(joined.as_slice()).map_err(|error| error.to_string())
}

/// Merges what is inside two Anys; they must be of one type, and not a bag of JSON.
pub(super) fn any(base: &Any, patch: &Any, written: &Value, json: &Json) -> Result<Any, String> {
    if base.type_url != patch.type_url {
        return Err(format!("cannot merge {} into {}", patch.type_url, base.type_url));
    }
    if patch.type_url.ends_with("TypedStruct") {
        return Err(format!(
            "{} cannot be merged: write the typed message",
            patch.type_url
        ));
    }
    let encode = |value: &Value| {
        let mut value = value.clone();
        value
            .as_object_mut()?
            .insert("@type".to_owned(), Value::String(patch.type_url.clone()));
        Some(json.any(&value).ok()?.value)
    };
    let value = [
        base.value.as_slice(),
        &zero_durations(written, &encode),
        patch.value.as_slice(),
    ]
    .concat();
    Ok(Any {
        type_url: base.type_url.clone(),
        value,
    })
}

/// An encoding in which every duration of `written` is zero, and nothing else is said.
fn zero_durations(written: &Value, encode: &dyn Fn(&Value) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut paths = Vec::new();
    duration_paths(written, &mut Vec::new(), &mut paths);
    let mut bytes = Vec::new();
    for path in paths {
        let alone = path
            .iter()
            .rev()
            .fold(json!(PROBE), |inner, field| json!({ *field: inner }));
        // The only field of the message comes last on the wire. A string that merely looks like a duration ends
        // otherwise, and is replaced by the patch anyway.
        let Some(mut encoded) = encode(&alone).filter(|encoded| encoded.ends_with(&PROBE_BYTES)) else {
            continue;
        };
        encoded.truncate(encoded.len() - PROBE_BYTES.len());
        encoded.extend_from_slice(&ZERO_BYTES);
        bytes.extend(encoded);
    }
    bytes
}

/// Only objects are entered: what a list holds is appended, and a nested Any is replaced as a whole.
fn duration_paths<'a>(value: &'a Value, path: &mut Vec<&'a str>, paths: &mut Vec<Vec<&'a str>>) {
    let Value::Object(fields) = value else { return };
    for (field, value) in fields.iter().filter(|(field, _)| *field != "@type") {
        path.push(field);
        match value {
            Value::String(text) if is_duration(text) => paths.push(path.clone()),
            Value::Object(inner) if !inner.contains_key("@type") => duration_paths(value, path, paths),
            _ => {}
        }
        path.pop();
    }
}

fn is_duration(text: &str) -> bool {
    text.strip_suffix('s')
        .is_some_and(|number| number.parse::<f64>().is_ok())
}
