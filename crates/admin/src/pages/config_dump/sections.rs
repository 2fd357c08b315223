//! The sections of a dump, in Envoy's order, as JSON of the `envoy.admin.v3` messages.
//!
//! A field that holds proto3's default is left out; a resource without own version has no `version_info`. istioctl
//! reads these shapes; its tests are why a section is there even when it is empty.

use redplane_proto::{Any, Json};
use redplane_telemetry::Pattern;
use redplane_telemetry::access_log::timestamp;
use serde_json::{Map, Value, json};

use super::layout::Section;
use crate::dump::{DumpInput, Dumped, DynamicResource, FailedUpdate, ResourceVersion};
use crate::pages::put;

/// What is asked for beside fields.
pub(super) struct Filter<'a> {
    pub(super) json: &'a Json,
    /// Only resources with such names.
    pub(super) names: Option<Pattern>,
    /// With endpoints.
    pub(super) endpoints: bool,
}

impl Section {
    fn dumped(self, input: &DumpInput) -> Option<&Dumped> {
        match self {
            Self::Bootstrap => None,
            Self::Clusters => Some(&input.clusters),
            Self::Endpoints => Some(&input.endpoints),
            Self::Listeners => Some(&input.listeners),
            Self::ScopedRoutes => Some(&input.scoped_routes),
            Self::Routes => Some(&input.routes),
            Self::Secrets => Some(&input.secrets),
            Self::Extensions => Some(&input.extensions),
        }
    }

    /// Whether it is part of a dump: endpoints must be asked for, extensions must exist.
    pub(super) fn shown(self, filter: &Filter<'_>, input: &DumpInput) -> bool {
        match self {
            Self::Endpoints => filter.endpoints,
            Self::Extensions => !input.extensions.dynamic.is_empty(),
            _ => true,
        }
    }

    /// The elements of one repeated field.
    pub(super) fn elements(
        self,
        field: &str,
        filter: &Filter<'_>,
        input: &DumpInput,
    ) -> Vec<Map<String, Value>> {
        let Some(dumped) = self.dumped(input) else {
            return Vec::new();
        };
        let fixed = field.starts_with("static_") || field.starts_with("inline_");
        let resources = if fixed { &dumped.fixed } else { &dumped.dynamic };
        let named = |resource: &&DynamicResource| {
            filter
                .names
                .as_ref()
                .is_none_or(|names| names.matches(&resource.name))
        };
        let printer = Printer {
            json: filter.json,
            field: self.resource_field(),
        };
        let elements = resources
            .iter()
            .filter(named)
            .filter_map(|resource| match (self, field) {
                (Self::Listeners, "dynamic_listeners") => Some(printer.dynamic_listener(resource)),
                (Self::Secrets, _) => printer
                    .state(resource, field)
                    .map(|element| with_name(resource, element)),
                (Self::ScopedRoutes, _) => printer
                    .state(resource, field)
                    .map(|element| with_name(resource, into_list(element, "scoped_route_configs"))),
                _ => printer.state(resource, field),
            });
        elements.collect()
    }

    /// The section with the wanted fields only.
    pub(super) fn print(
        self,
        filter: &Filter<'_>,
        input: &DumpInput,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Map<String, Value> {
        let mut section = typed(self.message());
        if self == Self::Bootstrap {
            print_bootstrap(&mut section, filter, input, wanted);
        }
        if let Some(dumped) = self.dumped(input)
            && wanted("version_info")
            && self.single_fields().contains(&"version_info")
        {
            put(&mut section, "version_info", dumped.version_info.as_str());
        }
        for repeated in self
            .repeated_fields()
            .iter()
            .filter(|repeated| wanted(repeated.name))
        {
            let elements = self
                .elements(repeated.name, filter, input)
                .into_iter()
                .map(Value::Object);
            put(&mut section, repeated.name, elements.collect::<Vec<_>>());
        }
        section
    }
}

fn print_bootstrap(
    section: &mut Map<String, Value>,
    filter: &Filter<'_>,
    input: &DumpInput,
    wanted: &dyn Fn(&str) -> bool,
) {
    let Some(bootstrap) = &input.bootstrap else { return };
    if wanted("bootstrap") {
        // A field of its own type, not an Any.
        let mut message = filter.json.value(&bootstrap.resource);
        if let Value::Object(fields) = &mut message {
            fields.shift_remove("@type");
        }
        section.insert("bootstrap".to_owned(), message);
    }
    if wanted("last_updated") {
        section.insert(
            "last_updated".to_owned(),
            timestamp(bootstrap.last_updated).into(),
        );
    }
}

/// All sections.
pub(super) fn all(filter: &Filter<'_>, input: &DumpInput) -> Vec<Value> {
    let shown = Section::ALL
        .into_iter()
        .filter(|section| section.shown(filter, input));
    shown
        .map(|section| Value::Object(section.print(filter, input, &|_| true)))
        .collect()
}

/// An object with the type URL of an admin message.
pub(super) fn typed(message: &str) -> Map<String, Value> {
    let url = format!("type.googleapis.com/envoy.admin.v3.{message}");
    Map::from_iter([("@type".to_owned(), Value::from(url))])
}

fn with_name(resource: &DynamicResource, element: Map<String, Value>) -> Map<String, Value> {
    let mut named = Map::from_iter([("name".to_owned(), Value::from(resource.name.as_str()))]);
    named.extend(element);
    named
}

fn into_list(mut element: Map<String, Value>, field: &str) -> Map<String, Value> {
    if let Some(value) = element.get_mut(field) {
        *value = json!([value.take()]);
    }
    element
}

/// Prints resources in their states.
struct Printer<'a> {
    json: &'a Json,
    /// The field for the resource.
    field: &'static str,
}

impl Printer<'_> {
    /// The element of a field that stands for one state; `None` when the resource is not in that state.
    fn state(&self, resource: &DynamicResource, field: &str) -> Option<Map<String, Value>> {
        let warming = field.contains("_warming_");
        let version = if warming {
            resource.warming.as_ref()
        } else {
            resource.active.as_ref()
        };
        // What was never accepted stands among the warming ones, or alone where there are none.
        let homeless = resource.active.is_none() && (resource.warming.is_none() || !warming);
        let never_accepted = homeless && (warming || !has_warming_field(field));
        let error = resource
            .error
            .as_ref()
            .filter(|_| version.is_some() || never_accepted);
        if version.is_none() && error.is_none() {
            return None;
        }
        let mut element = version.map(|version| self.version(version)).unwrap_or_default();
        if let Some(error) = error {
            element.insert("error_state".to_owned(), self.error(error));
        }
        Some(element)
    }

    fn dynamic_listener(&self, listener: &DynamicResource) -> Map<String, Value> {
        let mut element = Map::from_iter([("name".to_owned(), Value::from(listener.name.as_str()))]);
        let states = [
            ("active_state", &listener.active),
            ("warming_state", &listener.warming),
            ("draining_state", &listener.draining),
        ];
        for (state, version) in states {
            if let Some(version) = version {
                element.insert(state.to_owned(), Value::Object(self.version(version)));
            }
        }
        if let Some(error) = &listener.error {
            element.insert("error_state".to_owned(), self.error(error));
        }
        element
    }

    fn version(&self, version: &ResourceVersion) -> Map<String, Value> {
        let mut element = Map::new();
        put(&mut element, "version_info", version.version_info.as_str());
        element.insert(self.field.to_owned(), self.message(&version.resource));
        element.insert("last_updated".to_owned(), timestamp(version.last_updated).into());
        element
    }

    fn error(&self, error: &FailedUpdate) -> Value {
        let mut state = Map::new();
        if let Some(resource) = &error.resource {
            state.insert("failed_configuration".to_owned(), self.message(resource));
        }
        state.insert(
            "last_update_attempt".to_owned(),
            timestamp(error.last_update_attempt).into(),
        );
        put(&mut state, "details", error.details.as_str());
        put(&mut state, "version_info", error.version_info.as_str());
        Value::Object(state)
    }

    fn message(&self, any: &Any) -> Value {
        self.json.value(any)
    }
}

/// Clusters and secrets have a list of their own for what is warming.
fn has_warming_field(field: &str) -> bool {
    matches!(field, "dynamic_active_clusters" | "dynamic_active_secrets")
}
