//! EnvoyFilter patches, applied to what `build` made.
//!
//! A patch that meets nothing is noted: a name that is almost right is the usual mistake. A value that is not a
//! proto-JSON of the type it stands for is a fault of the folder, as Istiod's validation refuses such an object.

mod cluster;
mod merge;
mod network_filter;
#[cfg(test)]
mod tests;

use prost::{Message, Name};
use redplane_proto::Json;
use redplane_proto::pb::envoy::config::cluster::v3::Cluster;
use redplane_proto::pb::envoy::config::listener::v3::Listener;

use crate::finding::{Faults, Finding};
use crate::istio::envoy_filter::{Patch, Target};

/// Applies every patch in order. Faults are collected, notes are added to `notes`.
pub(crate) fn apply(
    patches: &[Patch],
    clusters: &mut Vec<Cluster>,
    listeners: &mut [Listener],
    json: &Json,
    notes: &mut Vec<Finding>,
) -> Result<(), Faults> {
    let mut faults = Vec::new();
    let inserted = cluster::apply(patches, clusters, json, notes, &mut faults);
    for patch in patches {
        if let Target::NetworkFilter(wanted) = &patch.target {
            match network_filter::apply(patch, wanted, listeners, json, notes) {
                Ok(0) => notes.push(patch.finding("met nothing: no filter of any listener matches")),
                Ok(_) => {}
                Err(fault) => faults.push(fault),
            }
        }
    }
    clusters.extend(inserted);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Faults(faults))
    }
}

/// Reads a patch's value. A field that the message does not have is dropped and noted, as Istiod drops it.
fn read<M: Message + Name + Default>(
    patch: &Patch,
    json: &Json,
    notes: &mut Vec<Finding>,
) -> Result<M, Finding> {
    let read = json
        .message_lenient::<M>(&patch.value)
        .map_err(|error| patch.finding(format!("patch.value: {error}")))?;
    notes.extend(
        read.ignored
            .paths
            .iter()
            .map(|path| patch.finding(format!("ignored: patch.value: {path}"))),
    );
    Ok(read.message)
}
