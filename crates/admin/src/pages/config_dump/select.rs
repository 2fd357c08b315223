//! `resource` and `mask`.
//!
//! A mask keeps a section only when every path in it is a field there, and a path may not go through a repeated field
//! (protobuf's rule for field masks). With `resource` the elements of one repeated field become the configs themselves,
//! and the mask applies to each.

use hyper::StatusCode;
use serde_json::{Map, Value};

use super::layout::{Repeated, Section};
use super::sections::{Filter, typed};
use crate::dump::DumpInput;

/// Why nothing is dumped.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

/// `?mask=`
pub(super) fn masked(filter: &Filter<'_>, input: &DumpInput, mask: &str) -> Result<Vec<Value>, Refusal> {
    let paths: Vec<&str> = mask.split(',').collect();
    let fitting = Section::ALL
        .into_iter()
        .filter(|section| paths.iter().all(|path| section_has(*section, path)));
    let printed = fitting
        .filter(|section| section.shown(filter, input))
        .map(|section| {
            let wanted = |field: &str| paths.iter().any(|path| first(path).0 == field);
            let fields = section.print(filter, input, &wanted);
            Value::Object(project(fields, &paths))
        });
    let printed: Vec<Value> = printed.collect();
    if printed.is_empty() {
        let body = format!("FieldMask {mask} could not be successfully applied to any configs.");
        return Err(Refusal {
            status: StatusCode::BAD_REQUEST,
            body,
        });
    }
    Ok(printed)
}

/// `?resource=`, with or without mask.
pub(super) fn resource(
    filter: &Filter<'_>,
    input: &DumpInput,
    resource: &str,
    mask: Option<&str>,
) -> Result<Vec<Value>, Refusal> {
    for section in Section::ALL
        .into_iter()
        .filter(|section| section.shown(filter, input))
    {
        if section.single_fields().contains(&resource) && section == Section::Bootstrap {
            let body =
                format!("{resource} is not a repeated field. Use ?mask={resource} to get only this field");
            return Err(Refusal {
                status: StatusCode::BAD_REQUEST,
                body,
            });
        }
        if let Some(repeated) = section
            .repeated_fields()
            .iter()
            .find(|field| field.name == resource)
        {
            return elements(section, repeated, filter, input, mask);
        }
    }
    let body = format!("{resource} not found in config dump");
    Err(Refusal {
        status: StatusCode::NOT_FOUND,
        body,
    })
}

fn elements(
    section: Section,
    repeated: &Repeated,
    filter: &Filter<'_>,
    input: &DumpInput,
    mask: Option<&str>,
) -> Result<Vec<Value>, Refusal> {
    let paths: Option<Vec<&str>> = mask.map(|mask| mask.split(',').collect());
    let unknown = paths
        .iter()
        .flatten()
        .find(|path| !section.element_has(repeated, first(path).0));
    if let (Some(_), Some(mask)) = (unknown, mask) {
        let body = format!("FieldMask {mask} could not be successfully used.");
        return Err(Refusal {
            status: StatusCode::BAD_REQUEST,
            body,
        });
    }
    let message = format!("{}.{}", section.message(), repeated.element);
    let elements = section
        .elements(repeated.name, filter, input)
        .into_iter()
        .map(|element| {
            let mut config = typed(&message);
            config.extend(element);
            Value::Object(match &paths {
                Some(paths) => project(config, paths),
                None => config,
            })
        });
    Ok(elements.collect())
}

fn section_has(section: Section, path: &str) -> bool {
    let (field, rest) = first(path);
    let repeated = section
        .repeated_fields()
        .iter()
        .any(|repeated| repeated.name == field);
    (repeated && rest.is_none()) || section.single_fields().contains(&field)
}

/// The first step of a path, and what is left of it.
fn first(path: &str) -> (&str, Option<&str>) {
    path.split_once('.')
        .map_or((path, None), |(field, rest)| (field, Some(rest)))
}

/// Keeps what the paths name, and `@type` on the way.
fn project(object: Map<String, Value>, paths: &[&str]) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in object {
        if name == "@type" {
            kept.insert(name, value);
            continue;
        }
        let below: Vec<Option<&str>> = paths
            .iter()
            .map(|path| first(path))
            .filter(|(field, _)| *field == name)
            .map(|(_, rest)| rest)
            .collect();
        if below.is_empty() {
            continue;
        }
        let narrowed: Option<Vec<&str>> = below.into_iter().collect();
        match (narrowed, value) {
            (Some(paths), Value::Object(fields)) => {
                kept.insert(name, Value::Object(project(fields, &paths)));
            }
            // A path that names the whole field, or goes further than the value does.
            (None, value) => {
                kept.insert(name, value);
            }
            (Some(_), _) => {}
        }
    }
    kept
}
