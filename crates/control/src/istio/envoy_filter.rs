//! Istio's EnvoyFilter: what is patched, where, and in which order.
//!
//! <https://istio.io/latest/docs/reference/config/networking/envoy-filter/>. The order is Istiod's: filters of
//! the root namespace first, then by priority, then by name. Reading decides what a patch asks for; applying it
//! is `patch`'s concern. `applyTo`s and matches that are not served are noted by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::note_unread;
use crate::documents::Document;
use crate::finding::{Finding, Location};
use crate::options::Options;

/// The object's place among all others: root namespace first, priority, name, namespace.
type Order = (bool, i32, String, String);

pub(crate) struct EnvoyFilter {
    pub(super) order: Order,
    pub(super) patches: Vec<Patch>,
}

/// One entry of `configPatches` that applies to this proxy.
#[derive(Debug, Clone)]
pub(crate) struct Patch {
    pub(crate) location: Location,
    /// `EnvoyFilter namespace/name configPatches[n]`.
    pub(crate) title: String,
    pub(crate) target: Target,
    pub(crate) operation: Operation,
    /// Proto-JSON; null when none was given.
    pub(crate) value: Value,
}

/// What is patched, with its match.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Cluster(ClusterMatch),
    NetworkFilter(Box<ListenerMatch>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Operation {
    Merge,
    Add,
    Remove,
    InsertBefore,
    InsertAfter,
    InsertFirst,
    Replace,
}

/// Empty members match everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClusterMatch {
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) subset: String,
    #[serde(alias = "port_number")]
    pub(crate) port_number: u32,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Empty members match everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListenerMatch {
    pub(crate) name: String,
    #[serde(alias = "port_number")]
    pub(crate) port_number: u32,
    #[serde(alias = "filter_chain")]
    pub(crate) filter_chain: ChainMatch,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Empty members match everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ChainMatch {
    pub(crate) name: String,
    pub(crate) sni: String,
    #[serde(alias = "transport_protocol")]
    pub(crate) transport_protocol: String,
    #[serde(alias = "application_protocols")]
    pub(crate) application_protocols: String,
    #[serde(alias = "destination_port")]
    pub(crate) destination_port: u32,
    pub(crate) filter: FilterMatch,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FilterMatch {
    pub(crate) name: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(alias = "workload_selector")]
    workload_selector: Option<Selector>,
    #[serde(alias = "config_patches", default)]
    config_patches: Vec<Value>,
    #[serde(default)]
    priority: i32,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct Selector {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(alias = "apply_to")]
    apply_to: String,
    #[serde(rename = "match", default)]
    conditions: Conditions,
    #[serde(default)]
    patch: Option<Body>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default)]
struct Conditions {
    #[serde(default)]
    context: Context,
    listener: Option<ListenerMatch>,
    cluster: Option<ClusterMatch>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Context {
    #[default]
    Any,
    SidecarOutbound,
    SidecarInbound,
    Gateway,
    Waypoint,
}

#[derive(Deserialize)]
struct Body {
    operation: Operation,
    #[serde(default)]
    value: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

pub(super) fn read(
    document: &Document,
    options: &Options,
    notes: &mut Vec<Finding>,
) -> Result<Option<EnvoyFilter>, Finding> {
    let spec: Spec = document.member("spec")?;
    note_unread(document, "spec", &spec.rest, notes);
    if !selects(document, spec.workload_selector.as_ref(), options, notes) {
        return Ok(None);
    }
    let mut patches = Vec::new();
    for (at, entry) in spec.config_patches.iter().enumerate() {
        patches.extend(Draft::new(document, at).patch(entry, notes)?);
    }
    let elsewhere = document.namespace != options.root_namespace;
    let order = (
        elsewhere,
        spec.priority,
        document.name.clone(),
        document.namespace.clone(),
    );
    Ok(Some(EnvoyFilter { order, patches }))
}

/// Whether the object is for this proxy. What cannot be known about the proxy is taken as a yes, and noted.
fn selects(
    document: &Document,
    selector: Option<&Selector>,
    options: &Options,
    notes: &mut Vec<Finding>,
) -> bool {
    if document.namespace != options.root_namespace {
        match &options.namespace {
            Some(namespace) if *namespace == document.namespace => {}
            Some(namespace) => {
                notes.push(document.finding(format!("not applied: the proxy is in namespace {namespace}")));
                return false;
            }
            None => notes.push(document.finding("applied to every proxy: no proxy namespace was given")),
        }
    }
    let Some(selector) = selector.filter(|selector| !selector.labels.is_empty()) else {
        return true;
    };
    if options.labels.is_empty() {
        notes.push(document.finding("ignored: spec.workloadSelector: no proxy labels were given"));
        return true;
    }
    let selected = selector
        .labels
        .iter()
        .all(|(label, value)| options.labels.get(label) == Some(value));
    if !selected {
        notes.push(document.finding("not applied: spec.workloadSelector selects other proxies"));
    }
    selected
}

/// An entry of `configPatches` while it is read.
struct Draft {
    location: Location,
    title: String,
}

impl Draft {
    fn new(document: &Document, at: usize) -> Self {
        let location = document.line_of("applyTo:", at);
        Self {
            location,
            title: format!("{} configPatches[{at}]", document.title()),
        }
    }

    fn finding(&self, text: impl std::fmt::Display) -> Finding {
        self.location.finding(format!("{}: {text}", self.title))
    }

    fn patch(self, entry: &Value, notes: &mut Vec<Finding>) -> Result<Option<Patch>, Finding> {
        let entry: Entry = serde_json::from_value(entry.clone()).map_err(|error| self.finding(error))?;
        let Some(body) = entry.patch else {
            return Err(self.finding("patch: is missing"));
        };
        let conditions = entry.conditions;
        for (path, rest) in [
            ("", &entry.rest),
            ("match.", &conditions.rest),
            ("patch.", &body.rest),
        ] {
            notes.extend(
                rest.keys()
                    .map(|field| self.finding(format!("ignored: {path}{field}"))),
            );
        }
        if !matches!(conditions.context, Context::Any | Context::SidecarOutbound) {
            let text = format!("not applied: context {:?} is not served here", conditions.context);
            notes.push(self.finding(text));
            return Ok(None);
        }
        let target = match entry.apply_to.as_str() {
            "CLUSTER" => Target::Cluster(conditions.cluster.unwrap_or_default()),
            "NETWORK_FILTER" => Target::NetworkFilter(Box::new(conditions.listener.unwrap_or_default())),
            other => {
                notes.push(self.finding(format!("ignored: applyTo {other} is not served here")));
                return Ok(None);
            }
        };
        notes.extend(
            target
                .unread()
                .into_iter()
                .map(|path| self.finding(format!("ignored: match.{path}"))),
        );
        let value = body.value;
        Ok(Some(Patch {
            location: self.location,
            title: self.title,
            target,
            operation: body.operation,
            value,
        }))
    }
}

impl Target {
    /// The conditions that were written and are not looked at.
    fn unread(&self) -> Vec<String> {
        let under = |path: &str, rest: &Map<String, Value>| -> Vec<String> {
            rest.keys().map(|field| format!("{path}.{field}")).collect()
        };
        match self {
            Self::Cluster(cluster) => under("cluster", &cluster.rest),
            Self::NetworkFilter(listener) => {
                let chain = &listener.filter_chain;
                let mut unread = under("listener", &listener.rest);
                unread.extend(under("listener.filterChain", &chain.rest));
                unread.extend(under("listener.filterChain.filter", &chain.filter.rest));
                unread
            }
        }
    }
}

impl Patch {
    pub(crate) fn finding(&self, text: impl std::fmt::Display) -> Finding {
        self.location.finding(format!("{}: {text}", self.title))
    }
}
