//! STATIC: the addresses as given.

use redplane_config::Address;
use redplane_config::endpoint::{Assignment, Endpoint};
use redplane_upstream::cluster::Cluster;
use redplane_upstream::host::HostAddress;

use super::place::place;

pub(super) fn start(cluster: &Cluster, assignment: &Assignment) {
    place(cluster, assignment, false, |endpoint| {
        literal(endpoint).into_iter().collect()
    });
    cluster.set_warm();
}

/// The address of an endpoint that needs no resolver.
pub(super) fn literal(endpoint: &Endpoint) -> Option<HostAddress> {
    match &endpoint.address {
        Address::Ip(address) => Some(HostAddress::Ip(*address)),
        Address::Pipe(path) => Some(HostAddress::Pipe(path.clone())),
        Address::Name { .. } => None,
    }
}
