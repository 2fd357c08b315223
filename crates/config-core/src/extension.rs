//! Typed extensions: an `Any`, whatever it is wrapped in.
//!
//! The type decides, never the name: EnvoyFilters name filters as they like. A TypedStruct counts as what is inside
//! and version 2 of a type as version 3. The configuration itself is only read when somebody asks for it: a push
//! holds thousands of extensions of which nothing but the type matters.

use prost::Message;
use redplane_proto::pb::google::protobuf::Any;
use redplane_proto::{legacy, type_url};

use crate::{Ignored, Invalid};

/// An extension whose type is known, if it has one.
pub struct Extension<'a> {
    /// The name it was given, may be empty.
    pub name: &'a str,
    /// The v3 type URL; empty where there is no configuration.
    pub type_url: String,
    any: Option<&'a Any>,
}

impl<'a> Extension<'a> {
    /// Finds the type.
    pub fn new(name: &'a str, any: Option<&'a Any>) -> Self {
        Self {
            name,
            type_url: any.map(found_type).unwrap_or_default(),
            any,
        }
    }

    /// What to call it in a note or a reason: the name, else the type.
    pub fn label(&self) -> &str {
        if self.name.is_empty() {
            type_name(&self.type_url)
        } else {
            self.name
        }
    }

    /// Reads the configuration; none is an empty message. Fields that the message does not have are noted.
    pub fn decode<M: Message + Default>(&self, ignored: &mut Ignored) -> Result<M, Invalid> {
        let Some(any) = self.any else {
            return Ok(M::default());
        };
        let resolved =
            redplane_proto::resolve_lenient(any).map_err(|error| Invalid::new("", error.to_string()))?;
        for path in resolved.ignored.paths {
            ignored.note(path);
        }
        M::decode(resolved.any.value.as_slice())
            .map_err(|error| Invalid::new("", format!("malformed {}: {error}", type_name(&self.type_url))))
    }
}

/// The message name in a type URL.
pub fn type_name(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

fn found_type(any: &Any) -> String {
    let name = type_name(&any.type_url);
    if name == type_name(type_url::TYPED_STRUCT_UDPA) || name == type_name(type_url::TYPED_STRUCT_XDS) {
        // Both TypedStructs have the same fields.
        let inner = legacy::udpa::TypedStruct::decode(any.value.as_slice()).unwrap_or_default();
        return v3(type_name(&inner.type_url));
    }
    v3(name)
}

fn v3(name: &str) -> String {
    legacy::v3_type_url(name).unwrap_or_else(|| format!("type.googleapis.com/{name}"))
}
