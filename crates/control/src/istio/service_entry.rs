//! Istio's ServiceEntry: hosts, virtual IPs, ports and endpoints outside Kubernetes' own registry.
//!
//! <https://istio.io/latest/docs/reference/config/networking/service-entry/>. Endpoints selected by
//! `workloadSelector` are not looked up, and addresses given as CIDR ranges build no listener; both are noted.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Endpoint, Mesh, Port, Protocol, Resolution, Service, canonical_name, has_sidecar, note_unread, protocol,
};
use crate::documents::Document;
use crate::finding::Finding;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    ports: Vec<SpecPort>,
    #[serde(default)]
    location: Location,
    #[serde(default)]
    resolution: SpecResolution,
    #[serde(default)]
    endpoints: Vec<SpecEndpoint>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Location {
    #[default]
    MeshExternal,
    MeshInternal,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum SpecResolution {
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecPort {
    number: u16,
    name: String,
    #[serde(default)]
    protocol: String,
    target_port: Option<u16>,
}

#[derive(Deserialize)]
struct SpecEndpoint {
    #[serde(default)]
    address: String,
    #[serde(default)]
    ports: BTreeMap<String, u16>,
    #[serde(default)]
    labels: Map<String, Value>,
    #[serde(default)]
    locality: String,
    #[serde(default)]
    weight: u32,
    /// Read so that an empty one (as Istio writes it) is no remark.
    #[serde(default)]
    network: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

pub(super) fn read(document: &Document, mesh: &mut Mesh) -> Result<(), Finding> {
    let spec: Spec = document.member("spec")?;
    if spec.hosts.is_empty() {
        return Err(document.finding("spec.hosts: at least one host is needed"));
    }
    if spec.ports.is_empty() {
        return Err(document.finding("spec.ports: at least one port is needed"));
    }
    note_unread(document, "spec", &spec.rest, &mut mesh.notes);
    for (at, endpoint) in spec.endpoints.iter().enumerate() {
        note_unread(
            document,
            &format!("spec.endpoints[{at}]"),
            &endpoint.rest,
            &mut mesh.notes,
        );
        if !endpoint.network.is_empty() {
            mesh.notes
                .push(document.finding(format!("ignored: spec.endpoints[{at}].network")));
        }
    }
    let (addresses, ranges): (Vec<_>, Vec<_>) =
        spec.addresses.iter().cloned().partition(|a| !a.contains('/'));
    if !ranges.is_empty() {
        mesh.notes
            .push(document.finding(format!("ignored: spec.addresses: ranges {}", ranges.join(", "))));
    }
    for host in &spec.hosts {
        mesh.services.push(Service {
            host: host.clone(),
            name: host.clone(),
            namespace: document.namespace.clone(),
            external: spec.location == Location::MeshExternal,
            addresses: addresses.clone(),
            headless: false,
            ports: spec.ports.iter().map(port).collect(),
            endpoints: endpoints(document, &spec, host),
            resolution: match spec.resolution {
                SpecResolution::None => Resolution::Passthrough,
                SpecResolution::Static => Resolution::Static,
                SpecResolution::Dns => Resolution::Dns,
                SpecResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
            },
            declared: document.clone(),
        });
    }
    Ok(())
}

fn port(port: &SpecPort) -> Port {
    // An undeclared protocol is TCP here: only Kubernetes ports are sniffed.
    let protocol = if port.protocol.is_empty() {
        Protocol::Tcp
    } else {
        protocol(&port.protocol)
    };
    Port {
        number: port.number,
        name: port.name.clone(),
        protocol,
    }
}

fn endpoints(document: &Document, spec: &Spec, host: &str) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for port in &spec.ports {
        let fallback = port.target_port.unwrap_or(port.number);
        for (at, endpoint) in spec.endpoints.iter().enumerate() {
            let name = format!("{}-{at}", document.name);
            endpoints.push(Endpoint {
                address: endpoint.address.clone(),
                port: endpoint.ports.get(&port.name).copied().unwrap_or(fallback),
                port_name: port.name.clone(),
                weight: endpoint.weight.max(1),
                locality: endpoint.locality.clone(),
                mutual_tls: has_sidecar(&endpoint.labels),
                workload: Some(workload(document, &name, &endpoint.labels)),
            });
        }
        let by_name = matches!(
            spec.resolution,
            SpecResolution::Dns | SpecResolution::DnsRoundRobin
        );
        if spec.endpoints.is_empty() && by_name && !host.contains('*') {
            endpoints.push(Endpoint {
                address: host.to_owned(),
                port: fallback,
                port_name: port.name.clone(),
                weight: 1,
                locality: String::new(),
                mutual_tls: false,
                workload: Some(workload(document, &document.name, &document.labels)),
            });
        }
    }
    endpoints
}

fn workload(document: &Document, name: &str, labels: &Map<String, Value>) -> String {
    let canonical = canonical_name(labels).unwrap_or(name);
    format!("{name};{};{canonical};;Kubernetes", document.namespace)
}
