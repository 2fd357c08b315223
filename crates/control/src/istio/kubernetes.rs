//! Kubernetes Service, with the Endpoints or EndpointSlices that carry its addresses.
//!
//! A folder has no cluster behind it, so selectors select nothing: addresses come only from Endpoints or
//! EndpointSlice objects in the same folder (slices win, as in Istiod). Addresses that are not ready are left out.
//! The other fields of a Service concern kube-proxy or the selector's pods, not a sidecar, and are not read.

use serde::Deserialize;
use serde_json::Value;

use super::{Endpoint, Mesh, Port, Protocol, Resolution, Service, protocol};
use crate::documents::Document;
use crate::finding::Finding;
use crate::options::Options;

const SERVICE_OF_SLICE: &str = "kubernetes.io/service-name";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "clusterIP", default)]
    cluster_ip: String,
    #[serde(rename = "clusterIPs", default)]
    cluster_ips: Vec<String>,
    #[serde(default)]
    ports: Vec<SpecPort>,
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecPort {
    #[serde(default)]
    name: String,
    port: u16,
    #[serde(default)]
    protocol: String,
    app_protocol: Option<String>,
}

/// One subset of Endpoints.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subset {
    #[serde(default)]
    addresses: Vec<Address>,
    #[serde(default)]
    ports: Vec<EndpointPort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    ip: String,
    target_ref: Option<TargetRef>,
}

#[derive(Deserialize, Clone)]
struct TargetRef {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize, Clone)]
struct EndpointPort {
    #[serde(default)]
    name: Option<String>,
    port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
    zone: Option<String>,
    target_ref: Option<TargetRef>,
}

#[derive(Deserialize, Default)]
struct Conditions {
    ready: Option<bool>,
}

pub(super) fn read(
    document: &Document,
    documents: &[Document],
    options: &Options,
    mesh: &mut Mesh,
) -> Result<(), Finding> {
    let spec: Spec = document.member("spec")?;
    if spec.kind == "ExternalName" {
        mesh.notes.push(document.finding("ignored: type ExternalName"));
        return Ok(());
    }
    let headless = spec.cluster_ip == "None";
    let mut addresses = spec.cluster_ips;
    if addresses.is_empty() && !spec.cluster_ip.is_empty() {
        addresses.push(spec.cluster_ip);
    }
    addresses.retain(|address| address != "None");
    if addresses.is_empty() && !headless {
        let text = "spec.clusterIP: without an API server nobody assigns one; write an address, or None";
        return Err(document.finding(text));
    }
    let ports = ports(document, &spec.ports, &mut mesh.notes);
    mesh.services.push(Service {
        host: format!("{}.{}.svc.{}", document.name, document.namespace, options.domain),
        name: document.name.clone(),
        namespace: document.namespace.clone(),
        external: false,
        addresses,
        headless,
        ports,
        endpoints: endpoints(document, documents)?,
        resolution: if headless {
            Resolution::Passthrough
        } else {
            Resolution::Static
        },
        declared: document.clone(),
    });
    Ok(())
}

/// Endpoints that belong to no Service would vanish without a word.
pub(super) fn check_owner(
    document: &Document,
    documents: &[Document],
    notes: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let owner = owner(document);
    let owned = |d: &Document| d.kind == "Service" && d.namespace == document.namespace && d.name == owner;
    if !documents.iter().any(owned) {
        notes.push(document.finding(format!("ignored: no Service {}/{owner}", document.namespace)));
    }
    Ok(())
}

fn owner(document: &Document) -> &str {
    match document.kind.as_str() {
        "EndpointSlice" => document
            .labels
            .get(SERVICE_OF_SLICE)
            .and_then(Value::as_str)
            .unwrap_or_default(),
        _ => &document.name,
    }
}

fn ports(document: &Document, declared: &[SpecPort], notes: &mut Vec<Finding>) -> Vec<Port> {
    let mut ports = Vec::new();
    for port in declared {
        if !port.protocol.is_empty() && port.protocol != "TCP" {
            notes.push(document.finding(format!("ignored: port {} is {}", port.port, port.protocol)));
            continue;
        }
        let prefix = port.name.split('-').next().unwrap_or_default();
        let protocol = protocol(port.app_protocol.as_deref().unwrap_or(prefix));
        if protocol == Protocol::Unknown {
            let text = format!(
                "port {} declares no protocol: served as TCP, not sniffed",
                port.port
            );
            notes.push(document.finding(text));
        }
        ports.push(Port {
            number: port.port,
            name: port.name.clone(),
            protocol,
        });
    }
    ports
}

fn endpoints(service: &Document, documents: &[Document]) -> Result<Vec<Endpoint>, Finding> {
    let of_kind = |kind: &'static str| {
        documents
            .iter()
            .filter(move |d| d.kind == kind && d.namespace == service.namespace && owner(d) == service.name)
    };
    let mut endpoints = Vec::new();
    let reader = if of_kind("EndpointSlice").next().is_some() {
        "EndpointSlice"
    } else {
        "Endpoints"
    };
    for document in of_kind(reader) {
        let found = if reader == "Endpoints" {
            from_subsets(document)?
        } else {
            from_slice(document)?
        };
        for endpoint in found {
            let known = |e: &Endpoint| {
                (&e.address, e.port, &e.port_name) == (&endpoint.address, endpoint.port, &endpoint.port_name)
            };
            if !endpoints.iter().any(known) {
                endpoints.push(endpoint);
            }
        }
    }
    Ok(endpoints)
}

fn from_subsets(document: &Document) -> Result<Vec<Endpoint>, Finding> {
    let subsets = document
        .value
        .get("subsets")
        .cloned()
        .unwrap_or_else(|| Value::Array(Vec::new()));
    let subsets: Vec<Subset> =
        serde_json::from_value(subsets).map_err(|error| document.finding(format!("subsets: {error}")))?;
    let mut endpoints = Vec::new();
    for subset in &subsets {
        for port in &subset.ports {
            for address in &subset.addresses {
                let target = address.target_ref.as_ref();
                endpoints.push(endpoint(document, &address.ip, port, target, String::new()));
            }
        }
    }
    Ok(endpoints)
}

fn from_slice(document: &Document) -> Result<Vec<Endpoint>, Finding> {
    let none = || Value::Array(Vec::new());
    let list = |member: &str| document.value.get(member).cloned().unwrap_or_else(none);
    let ports: Vec<EndpointPort> =
        serde_json::from_value(list("ports")).map_err(|error| document.finding(format!("ports: {error}")))?;
    let slice: Vec<SliceEndpoint> = serde_json::from_value(list("endpoints"))
        .map_err(|error| document.finding(format!("endpoints: {error}")))?;
    let mut endpoints = Vec::new();
    for port in &ports {
        // No condition means ready: Kubernetes' own rule for slices.
        for ready in slice.iter().filter(|e| e.conditions.ready.unwrap_or(true)) {
            let locality = ready
                .zone
                .as_ref()
                .map_or_else(String::new, |zone| format!("/{zone}"));
            for address in &ready.addresses {
                endpoints.push(endpoint(
                    document,
                    address,
                    port,
                    ready.target_ref.as_ref(),
                    locality.clone(),
                ));
            }
        }
    }
    Ok(endpoints)
}

fn endpoint(
    document: &Document,
    address: &str,
    port: &EndpointPort,
    target: Option<&TargetRef>,
    locality: String,
) -> Endpoint {
    let named = |t: &TargetRef| format!("{0};{1};{0};;Kubernetes", t.name, document.namespace);
    Endpoint {
        address: address.to_owned(),
        port: port.port,
        port_name: port.name.clone().unwrap_or_default(),
        weight: 1,
        locality,
        mutual_tls: false,
        workload: target.filter(|t| !t.name.is_empty()).map(named),
    }
}
