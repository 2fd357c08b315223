//! JSON to a message, by descriptors. Every error and every unknown field carries its path.
//!
//! Field names may be snake_case, camelCase or, unless unknown fields are refused, the names of v2 (which sit in the
//! descriptors under `hidden_envoy_deprecated_`). Follows the proto3 JSON mapping and the forms that Envoy's reader takes
//! beside it: one element in place of a list, lists inside lists, null for an empty message in a list or a map, and a
//! duration or a wrapper spelled out as an object. `Any` of an unknown type becomes a TypedStruct.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value as Field};
use serde_json::{Map, Value};

use super::path::{JsonError, Path};
use super::scalar::{map_key, scalar, show};
use super::{Ignored, UnknownField, well_known};
use crate::descriptors::Descriptors;
use crate::legacy::{self, HIDDEN};
use crate::type_url;

/// JSON nests no deeper than this; protobuf's own limit is 100 messages.
const DEEPEST: usize = 100;

pub(crate) struct Reader<'a> {
    descriptors: &'a Descriptors,
    unknown: UnknownField,
    path: Path,
    depth: usize,
    /// Inside a message whose type URL is of v2, and inside a configuration dump, the names of v2 are its own.
    in_v2: bool,
    ignored: Ignored,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(descriptors: &'a Descriptors, unknown: UnknownField) -> Self {
        Self {
            descriptors,
            unknown,
            path: Path::default(),
            depth: 0,
            in_v2: false,
            ignored: Ignored::default(),
        }
    }

    pub(crate) fn into_ignored(self) -> Ignored {
        self.ignored
    }

    pub(crate) fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        value: &Value,
    ) -> Result<DynamicMessage, JsonError> {
        if self.depth == DEEPEST {
            return Err(self.error("is nested too deep"));
        }
        self.depth += 1;
        let message = match descriptor.full_name() {
            "google.protobuf.Any" => self.any(descriptor, value),
            name if well_known::is_special(name) && !well_known::is_spelled_out(name, value) => {
                well_known::read(descriptor, value).map_err(|reason| self.error(reason))
            }
            _ => self
                .object(value)
                .and_then(|object| self.fields(descriptor, object)),
        };
        self.depth -= 1;
        message
    }

    fn error(&self, reason: impl Into<String>) -> JsonError {
        JsonError::new(&self.path, reason)
    }

    fn object<'v>(&self, value: &'v Value) -> Result<&'v Map<String, Value>, JsonError> {
        value
            .as_object()
            .ok_or_else(|| self.error(format!("{} is not an object", show(value))))
    }

    fn fields(
        &mut self,
        descriptor: &MessageDescriptor,
        object: &Map<String, Value>,
    ) -> Result<DynamicMessage, JsonError> {
        let mut message = DynamicMessage::new(descriptor.clone());
        for (key, value) in object {
            let before = self.path.field(key);
            match find(descriptor, key) {
                Some(field) if is_absent(&field, value) => {}
                Some(field) if self.is_dropped(&field) => {
                    return Err(self.error("was dropped with version 3 of Envoy's API"));
                }
                Some(field) => {
                    self.free(&message, &field)?;
                    let read = self.field(&field, value)?;
                    message
                        .try_set_field(&field, read)
                        .map_err(|error| self.error(error.to_string()))?;
                }
                None if key == "@type" => {}
                None => self.unknown(descriptor)?,
            }
            self.path.leave(before);
        }
        Ok(message)
    }

    /// Envoy has no field of v2 any more: what it would not load is not loaded here.
    fn is_dropped(&self, field: &FieldDescriptor) -> bool {
        self.unknown == UnknownField::Refuse && !self.in_v2 && field.name().starts_with(HIDDEN)
    }

    fn unknown(&mut self, descriptor: &MessageDescriptor) -> Result<(), JsonError> {
        if self.unknown == UnknownField::Refuse {
            return Err(self.error(format!("{} has no such field", descriptor.full_name())));
        }
        self.ignored.push(self.path.text().to_owned());
        Ok(())
    }

    /// One name per field, one member per oneof.
    fn free(&self, message: &DynamicMessage, field: &FieldDescriptor) -> Result<(), JsonError> {
        if message.has_field(field) {
            return Err(self.error("is given twice"));
        }
        let Some(oneof) = field.containing_oneof() else {
            return Ok(());
        };
        match oneof.fields().find(|other| message.has_field(other)) {
            Some(other) => Err(self.error(format!(
                "cannot stand beside {}: both are {}",
                other.name(),
                oneof.name()
            ))),
            None => Ok(()),
        }
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value) -> Result<Field, JsonError> {
        if field.is_map() {
            return self.map(field, value).map(Field::Map);
        }
        if field.is_list() {
            let mut read = Vec::new();
            match value {
                Value::Array(list) => self.list(&field.kind(), list, &mut read)?,
                one => read.push(self.single(&field.kind(), one)?),
            }
            return Ok(Field::List(read));
        }
        self.single(&field.kind(), value)
    }

    fn list(&mut self, kind: &Kind, list: &[Value], read: &mut Vec<Field>) -> Result<(), JsonError> {
        for (index, value) in list.iter().enumerate() {
            let before = self.path.index(index);
            match value {
                Value::Array(inner) if !holds_lists(kind) => self.list(kind, inner, read)?,
                one => read.push(self.single(kind, one)?),
            }
            self.path.leave(before);
        }
        Ok(())
    }

    fn map(
        &mut self,
        field: &FieldDescriptor,
        value: &Value,
    ) -> Result<HashMap<prost_reflect::MapKey, Field>, JsonError> {
        let Kind::Message(entry) = field.kind() else {
            return Err(self.error("is not a map"));
        };
        let (key_kind, value_kind) = (
            entry.map_entry_key_field().kind(),
            entry.map_entry_value_field().kind(),
        );
        let mut read = HashMap::new();
        for (key, value) in self.object(value)? {
            let before = self.path.field(key);
            let key = map_key(&key_kind, key).map_err(|reason| self.error(reason))?;
            read.insert(key, self.single(&value_kind, value)?);
            self.path.leave(before);
        }
        Ok(read)
    }

    fn single(&mut self, kind: &Kind, value: &Value) -> Result<Field, JsonError> {
        match kind {
            Kind::Message(descriptor) if value.is_null() && !holds_null(kind) => {
                Ok(Field::Message(DynamicMessage::new(descriptor.clone())))
            }
            Kind::Message(descriptor) => self.message(descriptor, value).map(Field::Message),
            _ => scalar(kind, value).map_err(|reason| self.error(reason)),
        }
    }

    fn any(&mut self, descriptor: &MessageDescriptor, value: &Value) -> Result<DynamicMessage, JsonError> {
        let object = self.object(value)?;
        let (url, bytes) = match object.get("@type").map(Value::as_str) {
            None if object.is_empty() => (String::new(), Vec::new()),
            Some(Some(url)) => self.packed(url, object)?,
            _ => return Err(self.error("has no @type")),
        };
        let mut any = DynamicMessage::new(descriptor.clone());
        any.set_field_by_name("type_url", Field::String(url));
        any.set_field_by_name("value", Field::Bytes(bytes.into()));
        Ok(any)
    }

    /// The bytes of an `Any`, and the URL under which they travel.
    fn packed(&mut self, url: &str, object: &Map<String, Value>) -> Result<(String, Vec<u8>), JsonError> {
        let Some(known) = self.descriptors.by_url(url) else {
            return self.opaque(url, object);
        };
        let name = known.message.full_name().to_owned();
        let mut message = if name == "google.protobuf.Any" || well_known::is_special(&name) {
            let before = self.path.field("value");
            let message = self.message(&known.message, object.get("value").unwrap_or(&Value::Null))?;
            self.path.leave(before);
            message
        } else {
            // A dump says what its proxy was configured with, which may be older than this one.
            let is_dump = known.message.full_name().starts_with("envoy.admin.");
            let outside = std::mem::replace(&mut self.in_v2, known.is_v2 || is_dump);
            let message = self.fields(&known.message, object)?;
            self.in_v2 = outside;
            message
        };
        if !known.is_v2 {
            legacy::upgrade(&mut message, &mut self.ignored);
        }
        Ok((url.to_owned(), message.encode_to_vec()))
    }

    /// A type that is not known here: its bytes when they were printed as such, a TypedStruct otherwise.
    fn opaque(&self, url: &str, object: &Map<String, Value>) -> Result<(String, Vec<u8>), JsonError> {
        if let (2, Some(Value::String(text))) = (object.len(), object.get("value"))
            && let Ok(bytes) = STANDARD.decode(text)
        {
            return Ok((url.to_owned(), bytes));
        }
        let rest = object.iter().filter(|(key, _)| *key != "@type");
        let fields = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
        let value = well_known::structure(&Value::Object(fields)).map_err(|reason| self.error(reason))?;
        let typed = legacy::udpa::TypedStruct {
            type_url: url.to_owned(),
            value: Some(value),
        };
        Ok((type_url::TYPED_STRUCT_UDPA.to_owned(), typed.encode_to_vec()))
    }
}

/// The field of that name: snake_case, camelCase, or a name of v2 with or without its prefix.
pub(super) fn find(descriptor: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    let by_name = |name: &str| {
        descriptor
            .get_field_by_name(name)
            .or_else(|| descriptor.get_field_by_json_name(name))
    };
    by_name(key)
        .or_else(|| by_name(&format!("{HIDDEN}{key}")))
        .or_else(|| by_name(key.strip_prefix(HIDDEN)?))
        .or_else(|| by_name(&camel_hidden(key)))
}

fn camel_hidden(key: &str) -> String {
    let mut letters = key.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("hiddenEnvoyDeprecated{first}{}", letters.as_str())
}

/// JSON's null leaves a field unset, except where null is a value.
fn is_absent(field: &FieldDescriptor, value: &Value) -> bool {
    value.is_null() && (field.is_list() || !holds_null(&field.kind()))
}

fn holds_null(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message) if message.full_name() == "google.protobuf.Value")
}

fn holds_lists(kind: &Kind) -> bool {
    let names = ["google.protobuf.Value", "google.protobuf.ListValue"];
    matches!(kind, Kind::Message(message) if names.contains(&message.full_name()))
}
