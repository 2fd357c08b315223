//! The pages, a module per group of endpoints. Each is a function from the sources and a request to a reply.

pub(crate) mod certs;
pub(crate) mod clusters;
pub(crate) mod config_dump;
pub(crate) mod listeners;
pub(crate) mod logging;
pub(crate) mod orders;
pub(crate) mod runtime;
pub(crate) mod server;
pub(crate) mod stats;
pub(crate) mod waiting;

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::Address;

/// An address as `envoy.config.core.v3.Address`.
fn address_json(address: &Address) -> Value {
    match address {
        Address::Socket(socket) => json!({"socket_address": socket_json(socket)}),
        Address::Pipe(path) => json!({"pipe": {"path": path}}),
    }
}

/// Zero values are left out, as everywhere in Envoy's JSON.
fn socket_json(socket: &SocketAddr) -> Value {
    let mut fields = Map::new();
    fields.insert("address".to_owned(), socket.ip().to_string().into());
    if socket.port() != 0 {
        fields.insert("port_value".to_owned(), socket.port().into());
    }
    Value::Object(fields)
}

/// An address in a line of text.
fn address_text(address: &Address) -> String {
    match address {
        Address::Socket(socket) => socket.to_string(),
        Address::Pipe(path) => path.clone(),
    }
}

/// Puts a member into an object unless it holds proto3's default.
fn put(object: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    let value = value.into();
    let default = match &value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(_) => false,
    };
    if !default {
        object.insert(name.to_owned(), value);
    }
}
