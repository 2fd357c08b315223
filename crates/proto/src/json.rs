//! Messages as JSON: proto-JSON in, Envoy's `/config_dump` style out. Owns no configuration rules.
//!
//! Follows the proto3 JSON mapping with Envoy's choices (original field names, enum names). Reading names the path of
//! every error and of every unknown field; printing never fails and never shows a sensitive field.

mod path;
mod read;
mod redact;
mod scalar;
mod well_known;
mod write;

use std::borrow::Borrow;
use std::sync::Arc;

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;

pub use self::path::JsonError;
use self::path::Path;
use self::read::Reader;
pub(crate) use self::well_known::from_structure;
use self::write::Writer;
use crate::descriptors::Descriptors;
use crate::ignored::Ignored;
use crate::legacy;
use crate::pb::google::protobuf::Any;

/// The descriptors, held for as long as JSON is read or printed. Cheap to clone; drop it to free them.
#[derive(Clone, Debug)]
pub struct Json {
    pub(crate) descriptors: Arc<Descriptors>,
}

/// A message and what was left out of it.
#[derive(Clone, Debug)]
pub struct Read<M> {
    /// The message.
    pub message: M,
    /// The fields it does not have.
    pub ignored: Ignored,
}

/// What happens to a field that the message does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownField {
    Refuse,
    Ignore,
}

impl Json {
    /// The descriptors: shared with those that are held now, decoded otherwise.
    #[must_use]
    pub fn load() -> Self {
        Self {
            descriptors: Descriptors::load(),
        }
    }

    /// Reads a message. An unknown field is an error, as is everything else that the JSON mapping does not allow.
    ///
    /// # Errors
    /// With the path of the value that does not fit.
    pub fn message<M: Message + Name + Default>(&self, value: impl Borrow<Value>) -> Result<M, JsonError> {
        self.read(value.borrow(), UnknownField::Refuse)
            .map(|read| read.message)
    }

    /// As [`Self::message`], but unknown fields are counted and named instead of refused (Envoy's
    /// `--allow-unknown-static-fields`, and its default for dynamic resources).
    ///
    /// # Errors
    /// With the path of the value that does not fit.
    pub fn message_lenient<M: Message + Name + Default>(
        &self,
        value: impl Borrow<Value>,
    ) -> Result<Read<M>, JsonError> {
        self.read(value.borrow(), UnknownField::Ignore)
    }

    /// Reads an `Any`: an object whose `@type` says what the other fields are. A type that is not known becomes a
    /// TypedStruct, so that nothing is lost. Unknown fields are refused.
    ///
    /// # Errors
    /// With the path of the value that does not fit.
    pub fn any(&self, value: impl Borrow<Value>) -> Result<Any, JsonError> {
        self.message(value)
    }

    /// Prints an `Any` as Envoy's `/config_dump` does, whatever is inside. v2 resources print under their v3 URL, other
    /// v2 messages as TypedStruct, unknown types as their bytes in base64.
    #[must_use]
    pub fn value(&self, any: &Any) -> Value {
        Writer::new(&self.descriptors).any(&any.type_url, &any.value)
    }

    /// Prints a message in the same style, without `@type`.
    #[must_use]
    pub fn message_value<M: Message + Name>(&self, message: &M) -> Value {
        let bytes = message.encode_to_vec();
        let decoded = self.descriptors.by_name(&M::full_name());
        match decoded.map(|descriptor| DynamicMessage::decode(descriptor, bytes.as_slice())) {
            Some(Ok(dynamic)) => Writer::new(&self.descriptors).message(&dynamic),
            _ => Writer::new(&self.descriptors).any(&M::type_url(), &bytes),
        }
    }

    pub(crate) fn has_field<M: Name>(&self, field: &str) -> bool {
        let descriptor = self.descriptors.by_name(&M::full_name());
        descriptor.is_some_and(|descriptor| descriptor.get_field_by_name(field).is_some())
    }

    pub(crate) fn read<M: Message + Name + Default>(
        &self,
        value: &Value,
        unknown: UnknownField,
    ) -> Result<Read<M>, JsonError> {
        let name = M::full_name();
        let descriptor = self
            .descriptors
            .by_name(&name)
            .ok_or_else(|| JsonError::new(&Path::default(), format!("{name} has no JSON form here")))?;
        let (dynamic, ignored) = read_dynamic(&self.descriptors, &descriptor, value, unknown)?;
        let message = dynamic
            .transcode_to()
            .map_err(|error| JsonError::new(&Path::default(), format!("is not a {name}: {error}")))?;
        Ok(Read { message, ignored })
    }
}

/// Reads JSON as `descriptor` and brings old fields up to v3.
pub(crate) fn read_dynamic(
    descriptors: &Descriptors,
    descriptor: &MessageDescriptor,
    value: &Value,
    unknown: UnknownField,
) -> Result<(DynamicMessage, Ignored), JsonError> {
    let mut reader = Reader::new(descriptors, unknown);
    let mut dynamic = reader.message(descriptor, value)?;
    let mut ignored = reader.into_ignored();
    legacy::upgrade(&mut dynamic, &mut ignored);
    Ok((dynamic, ignored))
}
