//! The endpoints of a service port, grouped by locality as Istiod groups them.

use std::collections::BTreeMap;

use redplane_proto::pb::envoy::config::core::v3::{Locality, Metadata};
use redplane_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use redplane_proto::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as PbEndpoint, LbEndpoint, LocalityLbEndpoints,
};
use redplane_proto::pb::google::protobuf::UInt32Value;

use super::{address, metadata, object, outbound, text};
use crate::istio::{Endpoint, Port, Resolution, Service};

/// One assignment for each EDS cluster, an empty one where nothing is behind it.
pub(crate) fn all(services: &[Service]) -> Vec<ClusterLoadAssignment> {
    let by_eds = services
        .iter()
        .filter(|service| service.resolution == Resolution::Static);
    by_eds
        .flat_map(|service| service.ports.iter().map(|port| assignment(service, port)))
        .collect()
}

pub(crate) fn assignment(service: &Service, port: &Port) -> ClusterLoadAssignment {
    let mut localities: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in service
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.port_name == port.name)
    {
        localities.entry(&endpoint.locality).or_default().push(endpoint);
    }
    let endpoints = localities
        .into_iter()
        .map(|(name, endpoints)| LocalityLbEndpoints {
            locality: Some(locality(name)),
            load_balancing_weight: Some(UInt32Value {
                value: total_weight(&endpoints),
            }),
            lb_endpoints: endpoints.into_iter().map(lb_endpoint).collect(),
            ..Default::default()
        });
    ClusterLoadAssignment {
        cluster_name: outbound(port.number, &service.host),
        endpoints: endpoints.collect(),
        ..Default::default()
    }
}

fn total_weight(endpoints: &[&Endpoint]) -> u32 {
    endpoints
        .iter()
        .fold(0, |sum: u32, endpoint| sum.saturating_add(endpoint.weight))
}

/// `region/zone/sub_zone`; what is missing stays empty.
fn locality(name: &str) -> Locality {
    let mut parts = name.splitn(3, '/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Locality {
        region: part(),
        zone: part(),
        sub_zone: part(),
    }
}

fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let host = PbEndpoint {
        address: Some(address(&endpoint.address, endpoint.port)),
        ..Default::default()
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(host)),
        load_balancing_weight: Some(UInt32Value {
            value: endpoint.weight,
        }),
        metadata: endpoint_metadata(endpoint),
        ..Default::default()
    }
}

fn endpoint_metadata(endpoint: &Endpoint) -> Option<Metadata> {
    let mut filters = BTreeMap::new();
    if endpoint.mutual_tls {
        filters.insert(
            "envoy.transport_socket_match",
            object([("tlsMode", text("istio"))]),
        );
    }
    if let Some(workload) = &endpoint.workload {
        filters.insert("istio", object([("workload", text(workload))]));
    }
    (!filters.is_empty()).then(|| metadata(filters))
}
