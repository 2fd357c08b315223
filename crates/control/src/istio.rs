//! The objects that are read: what a mesh knows of a service, in whichever form it was declared.
//!
//! Kubernetes Services and Istio ServiceEntries end as the same [`Service`], as they do in Istiod; what becomes
//! of it on the wire is `build`'s concern. A field that changes traffic and is not read here is noted.

pub(crate) mod envoy_filter;
mod kubernetes;
mod service_entry;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::documents::Document;
use crate::finding::{Faults, Finding};
use crate::options::Options;
use envoy_filter::Patch;

/// How a cluster finds its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Endpoints are known: EDS.
    Static,
    /// Names are resolved by the proxy: STRICT_DNS.
    Dns,
    /// One name, one connection at a time: LOGICAL_DNS.
    DnsRoundRobin,
    /// The client's own destination: ORIGINAL_DST.
    Passthrough,
}

/// What a port speaks, as far as it decides the shape of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    /// Like TCP, but the cluster is MAGLEV: so does Istiod for ports that say Redis.
    Redis,
    /// Chosen by the name in the client's TLS hello.
    Tls,
    /// No listener is built.
    Http,
    /// Not declared: Istiod would look into the bytes; served as TCP.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    /// An IP, a DNS name, or `unix://` and a path.
    pub(crate) address: String,
    pub(crate) port: u16,
    /// The name of the service port that this endpoint serves.
    pub(crate) port_name: String,
    /// At least 1.
    pub(crate) weight: u32,
    /// `region/zone/sub_zone`, or empty.
    pub(crate) locality: String,
    /// Talks mTLS because it has a sidecar.
    pub(crate) mutual_tls: bool,
    /// `workload;namespace;canonical name;revision;cluster`, when the workload is known.
    pub(crate) workload: Option<String>,
}

/// One host name and everything behind it.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) host: String,
    /// The name in Istio's metadata: the short name of a Kubernetes Service, the host of a ServiceEntry.
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) external: bool,
    /// The virtual IPs. Without one a TCP port listens on the wildcard, or on each endpoint when headless.
    pub(crate) addresses: Vec<String>,
    pub(crate) headless: bool,
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) resolution: Resolution,
    /// Where it was declared, for notes.
    pub(crate) declared: Document,
}

/// Everything of a folder that says something about the proxy.
#[derive(Debug, Default)]
pub(crate) struct Mesh {
    pub(crate) services: Vec<Service>,
    /// In the order in which Istiod applies them.
    pub(crate) patches: Vec<Patch>,
    pub(crate) notes: Vec<Finding>,
}

/// Reads all documents; what cannot be read is a fault, what is not served is a note.
pub(crate) fn read(documents: &[Document], options: &Options) -> Result<Mesh, Faults> {
    let (mut mesh, mut faults, mut filters) = (Mesh::default(), Vec::new(), Vec::new());
    for document in documents {
        let read = match document.kind.as_str() {
            "Service" => kubernetes::read(document, documents, options, &mut mesh),
            "ServiceEntry" => service_entry::read(document, &mut mesh),
            "EnvoyFilter" => {
                envoy_filter::read(document, options, &mut mesh.notes).map(|f| filters.extend(f))
            }
            "Endpoints" | "EndpointSlice" => kubernetes::check_owner(document, documents, &mut mesh.notes),
            "Namespace" => Ok(()),
            kind => {
                mesh.notes
                    .push(document.finding(format!("ignored: {kind} is not read by this control plane")));
                Ok(())
            }
        };
        if let Err(fault) = read {
            faults.push(fault);
        }
    }
    filters.sort_by(|a, b| a.order.cmp(&b.order));
    mesh.patches = filters.into_iter().flat_map(|filter| filter.patches).collect();
    if faults.is_empty() {
        Ok(mesh)
    } else {
        Err(Faults(faults))
    }
}

/// The protocol from `appProtocol`, a ServiceEntry's `protocol`, or the prefix of a port name.
fn protocol(declared: &str) -> Protocol {
    match declared.to_ascii_lowercase().as_str() {
        "tcp" | "mongo" | "mysql" => Protocol::Tcp,
        "redis" => Protocol::Redis,
        "tls" | "https" => Protocol::Tls,
        "http" | "http2" | "grpc" | "grpc-web" | "kubernetes.io/h2c" => Protocol::Http,
        _ => Protocol::Unknown,
    }
}

/// Istio's label for the name of a workload across its revisions.
fn canonical_name(labels: &Map<String, Value>) -> Option<&str> {
    ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]
        .into_iter()
        .find_map(|label| labels.get(label)?.as_str())
}

fn has_sidecar(labels: &Map<String, Value>) -> bool {
    labels.get("security.istio.io/tlsMode").and_then(Value::as_str) == Some("istio")
}

/// Notes the fields of an object that were not read.
fn note_unread(document: &Document, path: &str, rest: &Map<String, Value>, notes: &mut Vec<Finding>) {
    for field in rest.keys() {
        notes.push(document.finding(format!("ignored: {path}.{field}")));
    }
}
