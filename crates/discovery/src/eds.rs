//! EDS: assignments come over xDS; the cluster is warm from the first one on, even an empty one.

use redplane_config::Address;
use redplane_config::endpoint::Assignment;
use redplane_telemetry::stats::cluster as names;
use redplane_upstream::cluster::Cluster;

use super::fixed::literal;
use super::place::place;

pub(crate) fn assign(cluster: &Cluster, assignment: &Assignment) {
    let endpoints = assignment
        .localities
        .iter()
        .flat_map(|locality| &locality.endpoints);
    for named in endpoints
        .clone()
        .filter(|endpoint| matches!(endpoint.address, Address::Name { .. }))
    {
        tracing::warn!(cluster = cluster.name(), endpoint = %named.address, "EDS endpoint is no IP address: left out");
    }
    let changed = place(cluster, assignment, false, |endpoint| {
        literal(endpoint).into_iter().collect()
    });
    cluster.count(|block| {
        block.inc(names::UPDATE_ATTEMPT);
        block.inc(names::UPDATE_SUCCESS);
        if !changed {
            block.inc(names::UPDATE_NO_REBUILD);
        }
        if endpoints.count() == 0 {
            block.inc(names::UPDATE_EMPTY);
        }
    });
    cluster.set_warm();
}
