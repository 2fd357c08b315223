//! `/listeners`: names and addresses, those that do not bind their port included.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{address_json, address_text, put};
use crate::reply::Reply;
use crate::request::Request;
use crate::{ListenerView, Sources};

/// The page.
pub(crate) fn page(sources: &Sources, request: &Request) -> Reply {
    let listeners = (sources.views.listeners)();
    if request.params.first("format") == Some("json") {
        let mut page = Map::new();
        put(
            &mut page,
            "listener_statuses",
            listeners.iter().map(status).collect::<Vec<_>>(),
        );
        return Reply::json(&Value::Object(page));
    }
    let mut page = String::new();
    for listener in &listeners {
        for address in &listener.addresses {
            // Writing into a String cannot fail.
            let _ = writeln!(page, "{}::{}", listener.name, address_text(address));
        }
    }
    Reply::text(page)
}

fn status(listener: &ListenerView) -> Value {
    let mut addresses = listener.addresses.iter().map(address_json);
    let mut status = Map::new();
    put(&mut status, "name", listener.name.as_str());
    put(
        &mut status,
        "local_address",
        addresses.next().unwrap_or(json!({})),
    );
    put(
        &mut status,
        "additional_local_addresses",
        addresses.collect::<Vec<_>>(),
    );
    Value::Object(status)
}
