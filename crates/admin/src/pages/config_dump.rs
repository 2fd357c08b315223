//! `/config_dump`: the accepted resources, lossless, in Envoy's sections.
//!
//! The sections are made in [`sections`], `resource`, `mask` and `name_regex` are applied in [`select`]. Messages become
//! JSON through [`Json`], which redacts secrets and passwords and never fails on a type it does not know.

mod layout;
mod sections;
mod select;

use hyper::StatusCode;
use redplane_proto::Json;
use redplane_telemetry::Pattern;
use serde_json::{Map, Value};

use self::sections::Filter;
use self::select::Refusal;
use super::put;
use crate::Sources;
use crate::reply::Reply;
use crate::request::Request;

/// The page.
pub(crate) fn page(sources: &Sources, request: &Request) -> Reply {
    let params = &request.params;
    let names = match params.filled("name_regex") {
        None => None,
        Some(regex) => match Pattern::whole(regex) {
            Ok(pattern) => Some(pattern),
            Err(bad) => return refuse(StatusCode::BAD_REQUEST, invalid_regex(regex, &bad.reason)),
        },
    };
    let json = Json::load();
    let filter = Filter {
        json: &json,
        names,
        endpoints: params.has("include_eds"),
    };
    let input = (sources.views.config)();
    let selected = match (params.filled("resource"), params.filled("mask")) {
        (None, None) => Ok(sections::all(&filter, &input)),
        (None, Some(mask)) => select::masked(&filter, &input, mask),
        (Some(resource), mask) => select::resource(&filter, &input, resource, mask),
    };
    match selected {
        Ok(configs) => {
            let mut page = Map::new();
            put(&mut page, "configs", configs);
            Reply::json(&Value::Object(page))
        }
        Err(Refusal { status, body }) => refuse(status, body),
    }
}

fn invalid_regex(regex: &str, reason: &str) -> String {
    format!("INVALID_ARGUMENT: Error while parsing name_regex from {regex}: {reason}")
}

fn refuse(status: StatusCode, body: String) -> Reply {
    Reply {
        content_type: "text/plain",
        ..Reply::error(status, body)
    }
}
