//! A message as JSON in the style of Envoy's `/config_dump`: original field names, enum names, nothing that is unset.
//!
//! Never fails, as one strange resource must not cost an operator the whole dump. Never shows a sensitive field: it
//! prints `[redacted]` as Envoy does, inside `Any` and TypedStruct as well. URLs follow what istioctl can read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value as Field};
use serde_json::{Map, Value, json};

use super::{redact, well_known};
use crate::descriptors::{Descriptors, is_sensitive, type_name};
use crate::legacy::HIDDEN;
use crate::type_url;

/// How many messages may sit inside one another, `Any` counted in; an `Any` further down prints as bytes. The decoder
/// allows 100 within each `Any`, and the stack must hold the sum.
const DEEPEST: usize = 150;

/// Resources, which istioctl reads only under their v3 name.
const RESOURCES: &[&str] = &[
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.route.v3.ScopedRouteConfiguration",
    "envoy.config.route.v3.VirtualHost",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
];

/// Types of Istio that istioctl does not link: printed as TypedStruct, which it accepts.
const UNLINKED: &[&str] = &[
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    "io.istio.http.peer_metadata.Config",
];

#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    descriptors: &'a Descriptors,
    /// Inside a sensitive field.
    secret: bool,
    depth: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(descriptors: &'a Descriptors) -> Self {
        Self {
            descriptors,
            secret: false,
            depth: 0,
        }
    }

    pub(crate) fn message(self, message: &DynamicMessage) -> Value {
        let writer = Self {
            depth: self.depth + 1,
            ..self
        };
        writer.inner(message)
    }

    fn inner(self, message: &DynamicMessage) -> Value {
        let name = message.descriptor().full_name().to_owned();
        if name == "google.protobuf.Any" {
            return self.nested(message);
        }
        if let Some(mut value) = well_known::write(message, &name) {
            if self.secret {
                redact::everything(&mut value);
            }
            return value;
        }
        if well_known::is_wrapper(&name) {
            let field = message.descriptor().get_field(1);
            return field
                .and_then(|field| self.single(&message.get_field(&field), &field.kind()))
                .unwrap_or_default();
        }
        let mut object = self.fields(message);
        if type_name(type_url::TYPED_STRUCT_UDPA) == name || type_name(type_url::TYPED_STRUCT_XDS) == name {
            redact::typed_struct(self.descriptors, &mut object);
        }
        Value::Object(object)
    }

    fn fields(self, message: &DynamicMessage) -> Map<String, Value> {
        let mut object = Map::new();
        for (field, value) in message.fields().filter(|(field, _)| message.has_field(field)) {
            let writer = Self {
                secret: self.secret || is_sensitive(&field),
                ..self
            };
            if let Some(mut value) = writer.field(value, &field) {
                if field.name().starts_with(HIDDEN) {
                    // v2 had untyped configuration in several places.
                    redact::by_name(&mut value);
                }
                object.insert(field.name().to_owned(), value);
            }
        }
        object
    }

    /// None for what a secret does not even hint at: numbers, flags and enums.
    fn field(self, value: &Field, field: &FieldDescriptor) -> Option<Value> {
        match (value, field.kind()) {
            (Field::Map(map), Kind::Message(entry)) => {
                let kind = entry.map_entry_value_field().kind();
                let mut pairs: Vec<_> = map
                    .iter()
                    .filter_map(|(key, value)| Some((print_key(key), self.single(value, &kind)?)))
                    .collect();
                pairs.sort_by(|one, other| one.0.cmp(&other.0));
                Some(Value::Object(pairs.into_iter().collect()))
            }
            (Field::List(list), kind) => Some(Value::Array(
                list.iter()
                    .filter_map(|value| self.single(value, &kind))
                    .collect(),
            )),
            (value, kind) => self.single(value, &kind),
        }
    }

    fn single(self, value: &Field, kind: &Kind) -> Option<Value> {
        let printed = match value {
            Field::Message(message) => return Some(self.message(message)),
            Field::String(_) if self.secret => redact::TEXT.into(),
            Field::Bytes(_) if self.secret => redact::BYTES.into(),
            _ if self.secret => return None,
            Field::String(text) => Value::String(text.clone()),
            Field::Bytes(bytes) => Value::String(STANDARD.encode(bytes)),
            Field::Bool(bool) => Value::Bool(*bool),
            Field::I32(number) => (*number).into(),
            Field::U32(number) => (*number).into(),
            // The JSON mapping prints 64 bits as text, as many readers have only doubles.
            Field::I64(number) => number.to_string().into(),
            Field::U64(number) => number.to_string().into(),
            Field::F64(number) => well_known::number(*number),
            Field::F32(number) => single_precision(*number),
            Field::EnumNumber(number) => print_enum(kind, *number),
            Field::List(_) | Field::Map(_) => return None,
        };
        Some(printed)
    }

    fn nested(self, message: &DynamicMessage) -> Value {
        let url = message.get_field_by_name("type_url");
        let bytes = message.get_field_by_name("value");
        let url = url.as_ref().and_then(|url| url.as_str()).unwrap_or_default();
        self.any(
            url,
            bytes
                .as_ref()
                .and_then(|bytes| bytes.as_bytes())
                .map_or(&[], |bytes| bytes),
        )
    }

    pub(crate) fn any(self, url: &str, bytes: &[u8]) -> Value {
        if url.is_empty() && bytes.is_empty() {
            return Value::Object(Map::new());
        }
        let Some(known) = self.descriptors.by_url(url) else {
            let shown = if self.secret {
                redact::BYTES.to_owned()
            } else {
                STANDARD.encode(bytes)
            };
            return json!({"@type": url, "value": shown});
        };
        let decoded = DynamicMessage::decode(known.message.clone(), bytes);
        let (Ok(message), true) = (decoded, self.depth < DEEPEST) else {
            // Bytes of a known type may hide a secret anywhere.
            return json!({"@type": url, "value": redact::BYTES});
        };
        let name = known.message.full_name();
        let mut body = self.message(&message);
        if name == "google.protobuf.Struct" {
            redact::by_name(&mut body);
        }
        if known.is_v2 && RESOURCES.contains(&name) {
            return with_type(&format!("type.googleapis.com/{name}"), name, body);
        }
        if known.is_v2 || UNLINKED.contains(&name) {
            return json!({"@type": type_url::TYPED_STRUCT_UDPA, "type_url": url, "value": body});
        }
        with_type(url, name, body)
    }
}

/// `@type` first, then the fields, or `value` for messages whose JSON is not an object of fields.
fn with_type(url: &str, name: &str, body: Value) -> Value {
    let mut object = Map::new();
    object.insert("@type".to_owned(), url.into());
    match body {
        Value::Object(fields) if !well_known::is_special(name) && name != "google.protobuf.Any" => {
            object.extend(fields);
        }
        body => drop(object.insert("value".to_owned(), body)),
    }
    Value::Object(object)
}

fn print_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn print_enum(kind: &Kind, number: i32) -> Value {
    let name = match kind {
        Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => {
            return Value::Null;
        }
        Kind::Enum(descriptor) => descriptor.get_value(number).map(|value| value.name().to_owned()),
        _ => None,
    };
    name.map_or_else(|| number.into(), Value::String)
}

/// The shortest number that reads back as this float; widening it as it is would print digits it never had.
fn single_precision(number: f32) -> Value {
    well_known::number(number.to_string().parse().unwrap_or_else(|_| f64::from(number)))
}
