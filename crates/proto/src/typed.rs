//! The ways to name a message that are not its plain type URL: TypedStruct, Struct, and names from before v3.
//!
//! Istiod sends all of them (EnvoyFilter values are JSON to it). What comes out is always the v3 message. Fields that
//! the message does not have are ignored as in Envoy's dynamic configuration, but counted and named.

use prost::{Message, Name};
use prost_reflect::DynamicMessage;
use serde_json::Value;

use crate::descriptors::{Descriptors, Known, type_name, v3_name};
use crate::ignored::Ignored;
use crate::json::{Json, JsonError, Read, UnknownField, from_structure, read_dynamic};
use crate::pb::google::protobuf::{Any, Struct};
use crate::{legacy, type_url};

/// TypedStructs inside TypedStructs; one is what control planes send.
const DEEPEST: usize = 4;

/// A message that is not what its wrapping says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The bytes are no message of this type.
    #[error("{type_url}: {reason}")]
    Bytes {
        /// The type that was named.
        type_url: String,
        /// What the decoder said.
        reason: String,
    },
    /// The Struct does not describe a message of this type.
    #[error("{type_url}: {error}")]
    Value {
        /// The type that was named.
        type_url: String,
        /// Where and why.
        error: JsonError,
    },
}

/// A plain v3 `Any`, or one of an unknown type as it came.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The message.
    pub any: Any,
    /// What had to be left out to get there.
    pub ignored: Ignored,
}

/// Unwraps TypedStruct and turns v2 messages into v3; anything else comes back unchanged. Hold a [`Json`] while
/// resolving many, so that the descriptors are decoded once.
///
/// # Errors
/// When the message inside does not fit its type.
pub fn resolve(any: &Any) -> Result<Any, ResolveError> {
    resolve_lenient(any).map(|resolved| resolved.any)
}

/// As [`resolve`], with the fields that were ignored on the way.
///
/// # Errors
/// When the message inside does not fit its type.
pub fn resolve_lenient(any: &Any) -> Result<Resolved, ResolveError> {
    if is_plain(any) {
        return Ok(Resolved {
            any: any.clone(),
            ignored: Ignored::default(),
        });
    }
    resolve_with(&Descriptors::load(), any)
}

/// Reads a Struct as the message it describes (Envoy's opaque configuration). Unknown fields are refused.
///
/// # Errors
/// With the path of the value that does not fit.
pub fn from_struct<M: Message + Name + Default>(value: &Struct) -> Result<M, JsonError> {
    read_struct(value, UnknownField::Refuse).map(|read| read.message)
}

/// As [`from_struct`], but unknown fields are counted and named instead of refused.
///
/// # Errors
/// With the path of the value that does not fit.
pub fn from_struct_lenient<M: Message + Name + Default>(value: &Struct) -> Result<Read<M>, JsonError> {
    read_struct(value, UnknownField::Ignore)
}

impl Json {
    /// [`resolve`] with these descriptors, and with what was left out.
    ///
    /// # Errors
    /// When the message inside does not fit its type.
    pub fn resolve(&self, any: &Any) -> Result<Resolved, ResolveError> {
        resolve_with(&self.descriptors, any)
    }
}

fn read_struct<M: Message + Name + Default>(
    value: &Struct,
    unknown: UnknownField,
) -> Result<Read<M>, JsonError> {
    let json = Json::load();
    let value = from_structure(value);
    json.read(
        if json.has_field::<M>("value") {
            &value
        } else {
            unwrapped(&value)
        },
        unknown,
    )
}

/// Without the one level of `value` (beside at most `@type` and `type_url`) that people write too much.
fn unwrapped(value: &Value) -> &Value {
    let Value::Object(object) = value else {
        return value;
    };
    let others = object
        .keys()
        .filter(|key| !matches!(key.as_str(), "value" | "@type" | "type_url"))
        .count();
    match object.get("value") {
        Some(inner @ Value::Object(_)) if others == 0 => inner,
        _ => value,
    }
}

fn is_typed_struct(url: &str) -> bool {
    let name = type_name(url);
    name == type_name(type_url::TYPED_STRUCT_UDPA) || name == type_name(type_url::TYPED_STRUCT_XDS)
}

fn is_plain(any: &Any) -> bool {
    !is_typed_struct(&any.type_url) && v3_name(type_name(&any.type_url)).is_none()
}

fn resolve_with(descriptors: &Descriptors, any: &Any) -> Result<Resolved, ResolveError> {
    let mut resolved = Resolved {
        any: any.clone(),
        ignored: Ignored::default(),
    };
    for _ in 0..DEEPEST {
        let next = if is_typed_struct(&resolved.any.type_url) {
            unwrap(descriptors, &resolved.any)?
        } else {
            successor(descriptors, &resolved.any)?
        };
        let Some(next) = next else { break };
        resolved.any = next.any;
        resolved.ignored.append(next.ignored);
    }
    Ok(resolved)
}

/// The message inside a TypedStruct; none when its type is not known here.
fn unwrap(descriptors: &Descriptors, any: &Any) -> Result<Option<Resolved>, ResolveError> {
    // Both TypedStructs have the same fields.
    let typed =
        legacy::udpa::TypedStruct::decode(any.value.as_slice()).map_err(|error| ResolveError::Bytes {
            type_url: any.type_url.clone(),
            reason: error.to_string(),
        })?;
    let Some(known) = descriptors.by_url(&typed.type_url) else {
        return Ok(None);
    };
    let value = from_structure(&typed.value.unwrap_or_default());
    let has_value = known.message.get_field_by_name("value").is_some();
    let value = if has_value { &value } else { unwrapped(&value) };
    let (message, ignored) =
        read_dynamic(descriptors, &known.message, value, UnknownField::Ignore).map_err(|error| {
            ResolveError::Value {
                type_url: typed.type_url.clone(),
                error,
            }
        })?;
    Ok(Some(Resolved {
        any: pack(&known, &message),
        ignored,
    }))
}

/// The v3 form of a v2 message; none for all others.
fn successor(descriptors: &Descriptors, any: &Any) -> Result<Option<Resolved>, ResolveError> {
    let Some(known) = descriptors.by_url(&any.type_url).filter(|known| known.is_v2) else {
        return Ok(None);
    };
    let mut message =
        DynamicMessage::decode(known.message.clone(), any.value.as_slice()).map_err(|error| {
            ResolveError::Bytes {
                type_url: any.type_url.clone(),
                reason: error.to_string(),
            }
        })?;
    let mut ignored = Ignored::default();
    legacy::count_unknown(&message, &mut ignored);
    legacy::upgrade(&mut message, &mut ignored);
    Ok(Some(Resolved {
        any: pack(&known, &message),
        ignored,
    }))
}

fn pack(known: &Known, message: &DynamicMessage) -> Any {
    let type_url = format!("type.googleapis.com/{}", known.message.full_name());
    Any {
        type_url,
        value: message.encode_to_vec(),
    }
}
