//! `/runtime` and `/runtime_modify`.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::orders::carry_out;
use crate::reply::Reply;
use crate::request::Request;
use crate::{Action, Sources};

/// `/runtime`: each key with its value in every layer, the last one that is set wins.
pub(crate) fn page(sources: &Sources, _: &Request) -> Reply {
    let runtime = (sources.views.runtime)();
    let entries = runtime.entries.iter().map(|(key, values)| {
        let last = values.iter().rfind(|value| !value.is_empty());
        let entry = json!({"layer_values": values, "final_value": last.map_or("", String::as_str)});
        (key.clone(), entry)
    });
    let entries = Value::Object(entries.collect::<Map<_, _>>());
    Reply::json(&json!({"layers": runtime.layers, "entries": entries}))
}

/// `/runtime_modify`
pub(crate) fn modify(sources: &Sources, request: &Request) -> Reply {
    let pairs = [request.params.pairs(), request.form.pairs()].concat();
    if pairs.is_empty() {
        return Reply::bad_request(
            "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       or send the parameters as form \
             values\nuse an empty value to remove a previously added override",
        );
    }
    if !(sources.views.runtime)().admin_layer {
        return Reply::error(StatusCode::SERVICE_UNAVAILABLE, "No admin layer specified");
    }
    carry_out(sources, Action::ModifyRuntime(pairs))
}
