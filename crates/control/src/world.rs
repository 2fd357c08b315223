//! The world of one folder: the resources that its YAML asks for. Pure; reading the folder is the only I/O.

use std::path::Path;

use redplane_proto::Json;
use redplane_proto::pb::envoy::config::cluster::v3::Cluster;
use redplane_proto::pb::envoy::config::core::v3::address::Address;
use redplane_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use redplane_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use redplane_proto::pb::envoy::config::listener::v3::Listener;
use redplane_proto::pb::google::protobuf::Any;
use serde_json::{Value, json};

use crate::documents::{self, Document};
use crate::finding::{Faults, Finding, Location};
use crate::options::Options;
use crate::{build, istio, patch};

/// Everything that is served for one folder.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct World {
    clusters: Vec<Cluster>,
    endpoints: Vec<ClusterLoadAssignment>,
    listeners: Vec<Listener>,
    notes: Vec<Finding>,
}

impl World {
    /// Reads a folder with the default [`Options`].
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, Faults> {
        Self::with_options(dir, &Options::default())
    }

    /// Reads a folder. Every fault of every file is reported, not only the first.
    pub fn with_options(dir: impl AsRef<Path>, options: &Options) -> Result<Self, Faults> {
        Self::build(&documents::read_dir(dir.as_ref())?, options)
    }

    /// Reads one text as if it were the only file of a folder.
    pub fn from_text(text: &str, options: &Options) -> Result<Self, Faults> {
        Self::build(&documents::parse("text", text)?, options)
    }

    fn build(documents: &[Document], options: &Options) -> Result<Self, Faults> {
        let mesh = istio::read(documents, options)?;
        let mut notes = mesh.notes;
        let mut clusters = build::cluster::all(&mesh.services);
        let endpoints = build::endpoint::all(&mesh.services);
        let mut listeners = build::listener::all(&mesh.services, options, &mut notes);
        patch::apply(
            &mesh.patches,
            &mut clusters,
            &mut listeners,
            &Json::load(),
            &mut notes,
        )?;
        move_ports(&mut listeners, options.port_offset)?;
        Ok(Self {
            clusters,
            endpoints,
            listeners,
            notes,
        })
    }

    /// A world of resources that were made elsewhere, for tests and benchmarks.
    pub fn of(
        clusters: Vec<Cluster>,
        endpoints: Vec<ClusterLoadAssignment>,
        listeners: Vec<Listener>,
    ) -> Self {
        Self {
            clusters,
            endpoints,
            listeners,
            notes: Vec::new(),
        }
    }

    /// The clusters, those of services first.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// The endpoints of the EDS clusters.
    pub fn endpoints(&self) -> &[ClusterLoadAssignment] {
        &self.endpoints
    }

    /// The listeners, by name.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// What was read and left out, and why.
    pub fn notes(&self) -> &[Finding] {
        &self.notes
    }

    /// All resources as proto-JSON, for a person to read.
    pub fn to_json(&self) -> Value {
        let json = Json::load();
        json!({
            "clusters": printed(&json, &self.clusters),
            "endpoints": printed(&json, &self.endpoints),
            "listeners": printed(&json, &self.listeners),
        })
    }
}

fn printed<M: prost::Message + prost::Name>(json: &Json, resources: &[M]) -> Vec<Value> {
    let pack = |message: &M| Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    };
    resources
        .iter()
        .map(|message| json.value(&pack(message)))
        .collect()
}

/// Moves every listener's port, so that several quickstarts fit on one machine.
fn move_ports(listeners: &mut [Listener], offset: i32) -> Result<(), Faults> {
    for listener in listeners.iter_mut() {
        let Some(Address::SocketAddress(socket)) = listener.address.as_mut().and_then(|a| a.address.as_mut())
        else {
            continue;
        };
        if let Some(PortSpecifier::PortValue(port)) = &mut socket.port_specifier {
            let moved = port
                .checked_add_signed(offset)
                .filter(|port| (1..=65_535).contains(port));
            let text = || {
                format!(
                    "listener {}: port {port} and offset {offset} is no port",
                    listener.name
                )
            };
            *port = moved.ok_or_else(|| {
                Location {
                    file: "options".to_owned(),
                    line: 1,
                }
                .finding(text())
            })?;
        }
    }
    Ok(())
}
