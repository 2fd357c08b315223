//! The messages redplane speaks, and their JSON. No behaviour beyond the rules of protobuf itself.
//!
//! Envoy's v3 messages come from envoy-types ([`pb`]); what that crate lacks is compiled from the root folder `proto/`
//! ([`legacy`], [`istio`], [`sentinel`]). [`Json`] turns messages into Envoy's `/config_dump` style and back; [`resolve`] and
//! [`from_struct`] unwrap the other ways in which a control plane may name a message (TypedStruct, Struct, v2).

mod descriptors;
mod ignored;
pub mod istio;
pub mod json;
pub mod legacy;
mod packed;
pub mod sentinel;
pub mod type_url;
mod typed;
mod yaml;

pub use envoy_types::pb;
pub use ignored::Ignored;
pub use json::{Json, JsonError, Read};
pub use packed::{pack, unpack};
pub use pb::google::protobuf::Any;
pub use typed::{ResolveError, Resolved, from_struct, from_struct_lenient, resolve, resolve_lenient};
pub use yaml::{YamlError, yaml_documents, yaml_value};
