//! `/config_dump`: the accepted resources, lossless, in Envoy's sections.
//!
//! The sections are made in [`sections`], `resource`, `mask` and `name_regex` are applied in [`select`]. Messages become
//! JSON through [`Json`], which redacts secrets and passwords and never fails on a type it does not know.

mod layout;
mod sections;
mod select;

use std::sync::Arc;
use std::time::SystemTime;

use hyper::StatusCode;
use redplane_proto::{Any, Json};
use redplane_telemetry::Pattern;
use serde_json::{Map, Value};

use self::sections::Filter;
use self::select::Refusal;
use super::put;
use crate::Sources;
use crate::reply::Reply;
use crate::request::Request;

/// Everything that was accepted, and the last of what was refused.
#[derive(Clone, Debug, Default)]
pub struct DumpInput {
    /// `envoy.config.bootstrap.v3.Bootstrap`
    pub bootstrap: Option<ResourceVersion>,
    /// Clusters.
    pub clusters: Dumped,
    /// `ClusterLoadAssignment`s: of static and DNS clusters, and those that came over EDS.
    pub endpoints: Dumped,
    /// Listeners.
    pub listeners: Dumped,
    /// Scoped routes.
    pub scoped_routes: Dumped,
    /// Route configurations.
    pub routes: Dumped,
    /// Secrets.
    pub secrets: Dumped,
    /// `TypedExtensionConfig`s that came over ECDS.
    pub extensions: Dumped,
}

/// The resources of one kind.
#[derive(Clone, Debug, Default)]
pub struct Dumped {
    /// The version of the last accepted push.
    pub version_info: String,
    /// From the bootstrap.
    pub fixed: Vec<DynamicResource>,
    /// From the control plane.
    pub dynamic: Vec<DynamicResource>,
}

/// One resource by its name, in the states it has at this moment. A resource of the bootstrap is only active.
#[derive(Clone, Debug, Default)]
pub struct DynamicResource {
    /// Its name.
    pub name: String,
    /// In use.
    pub active: Option<ResourceVersion>,
    /// Waits for what it needs.
    pub warming: Option<ResourceVersion>,
    /// Replaced or removed, connections still live.
    pub draining: Option<ResourceVersion>,
    /// The last update was refused.
    pub error: Option<FailedUpdate>,
}

/// An accepted resource.
#[derive(Clone, Debug)]
pub struct ResourceVersion {
    /// The message as it came.
    pub resource: Arc<Any>,
    /// Its own version, empty when the control plane gives none.
    pub version_info: String,
    /// When it was accepted.
    pub last_updated: SystemTime,
}

/// A refused one.
#[derive(Clone, Debug)]
pub struct FailedUpdate {
    /// The message as it came.
    pub resource: Option<Arc<Any>>,
    /// The version of the push.
    pub version_info: String,
    /// When it came.
    pub last_update_attempt: SystemTime,
    /// Why it was refused, as the NACK said.
    pub details: String,
}

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
    let input = (sources.config)();
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
