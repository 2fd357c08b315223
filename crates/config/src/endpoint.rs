//! Endpoints of a cluster: `envoy.config.endpoint.v3.ClusterLoadAssignment`.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use redplane_proto::pb::envoy::config::core::v3::{HealthStatus, Metadata};
use redplane_proto::pb::envoy::config::endpoint::v3 as proto;
use redplane_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;

use crate::field::{enumeration, non_empty, required};
use crate::invalid::ignore_fields;
use crate::metadata::{pairs, text};
use crate::{Address, Ignored, Invalid};

/// One validated assignment, from EDS or from a cluster's `load_assignment`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The EDS service name, or the cluster's name.
    pub cluster: String,
    /// Localities in configuration order.
    pub localities: Vec<Locality>,
    /// `overprovisioning_factor` in percent. Default 140.
    pub overprovisioning_factor: u32,
}

/// `LocalityLbEndpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// Region of its hosts; empty if not known.
    pub region: String,
    /// Zone of its hosts; empty if not known.
    pub zone: String,
    /// Sub-zone of its hosts; empty if not known.
    pub sub_zone: String,
    /// Weight among localities of a priority; used only with locality weighted balancing. 0 gets no traffic then.
    pub weight: u32,
    /// 0 is the highest.
    pub priority: u32,
    /// Hosts, duplicates by address removed.
    pub endpoints: Vec<Endpoint>,
}

/// `LbEndpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it can be reached.
    pub address: Address,
    /// `hostname`; empty if not given.
    pub hostname: String,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// `health_status`.
    pub health: Health,
    /// `metadata.filter_metadata["envoy.transport_socket_match"]` as pairs, for `transport_socket_matches`.
    pub socket_match: Vec<(String, String)>,
    /// `metadata.filter_metadata["istio"]["workload"]`, if present.
    pub workload: Option<String>,
}

/// `HealthStatus` as told by the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Serves (UNKNOWN counts as healthy).
    #[default]
    Healthy,
    /// Serves when no healthy host is left.
    Degraded,
    /// Serves nothing (UNHEALTHY and TIMEOUT).
    Unhealthy,
    /// Serves what it has, gets nothing new.
    Draining,
}

/// Whether addresses may be names that the cluster resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Resolved,
    Refused,
}

impl Assignment {
    /// Reads an EDS resource: addresses are IP literals or pipes.
    pub fn from_proto(
        message: &proto::ClusterLoadAssignment,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        Self::read(message, Names::Refused, ignored)
    }

    /// Reads an assignment; of endpoints with the same address the first counts.
    pub(crate) fn read(
        message: &proto::ClusterLoadAssignment,
        names: Names,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let cluster = non_empty(&message.cluster_name, "cluster_name")?;
        if !message.named_endpoints.is_empty() {
            ignored.note("named_endpoints");
        }
        let mut seen = HashSet::new();
        let localities = ignored.each("endpoints", &message.endpoints, |locality, ignored| {
            Locality::from_proto(locality, names, &mut seen, ignored)
        })?;
        refuse_heavy_priorities(&localities)?;
        Ok(Self {
            cluster,
            localities,
            overprovisioning_factor: overprovisioning_factor(message, ignored)?,
        })
    }

    /// Every endpoint of every locality.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.localities.iter().flat_map(|locality| &locality.endpoints)
    }
}

fn overprovisioning_factor(
    message: &proto::ClusterLoadAssignment,
    ignored: &mut Ignored,
) -> Result<u32, Invalid> {
    let Some(policy) = message.policy.as_ref() else {
        return Ok(140);
    };
    ignored.scope("policy", |ignored| {
        ignore_fields!(
            ignored,
            policy,
            drop_overloads,
            endpoint_stale_after,
            weighted_priority_health
        );
        match policy.overprovisioning_factor.as_ref().map(|factor| factor.value) {
            None => Ok(140),
            Some(0) => Err(Invalid::new(
                "overprovisioning_factor",
                "value must be greater than 0",
            )),
            Some(factor) => Ok(factor),
        }
    })
}

/// Envoy: weights of one priority are added up in 32 bits.
fn refuse_heavy_priorities(localities: &[Locality]) -> Result<(), Invalid> {
    let mut sums = std::collections::HashMap::new();
    for (i, locality) in localities.iter().enumerate() {
        let sum: &mut u64 = sums.entry(locality.priority).or_default();
        *sum += u64::from(locality.weight);
        if *sum > u64::from(u32::MAX) {
            let reason = "The sum of weights of all localities at the same priority exceeds 4294967295";
            return Err(Invalid::new(
                format!("endpoints[{i}].load_balancing_weight"),
                reason,
            ));
        }
    }
    Ok(())
}

impl Locality {
    fn from_proto(
        message: &proto::LocalityLbEndpoints,
        names: Names,
        seen: &mut HashSet<Address>,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, proximity, lb_config);
        if message.priority > 128 {
            return Err(Invalid::new(
                "priority",
                "value must be less than or equal to 128",
            ));
        }
        let endpoints = ignored.each("lb_endpoints", &message.lb_endpoints, |endpoint, ignored| {
            let endpoint = Endpoint::from_proto(endpoint, names, ignored)?;
            Ok(endpoint.filter(|endpoint| seen.insert(endpoint.address.clone())))
        })?;
        let locality = message.locality.clone().unwrap_or_default();
        Ok(Self {
            region: locality.region,
            zone: locality.zone,
            sub_zone: locality.sub_zone,
            weight: weight(message.load_balancing_weight.map(|weight| weight.value))?.unwrap_or(0),
            priority: message.priority,
            endpoints: endpoints.into_iter().flatten().collect(),
        })
    }
}

fn weight(value: Option<u32>) -> Result<Option<u32>, Invalid> {
    if value == Some(0) {
        return Err(Invalid::new(
            "load_balancing_weight",
            "value must be greater than or equal to 1",
        ));
    }
    Ok(value)
}

impl Endpoint {
    /// `None` where the endpoint lies behind something that is not served (ambient's internal addresses).
    fn from_proto(
        message: &proto::LbEndpoint,
        names: Names,
        ignored: &mut Ignored,
    ) -> Result<Option<Self>, Invalid> {
        let endpoint = match message.host_identifier.as_ref() {
            Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
            Some(HostIdentifier::EndpointName(name)) => {
                ignored.note(format!("endpoint_name: {name}"));
                return Ok(None);
            }
            None => return Err(Invalid::new("host_identifier", "value is required")),
        };
        let Some(address) = ignored.scope("endpoint", |ignored| address(endpoint, names, ignored))? else {
            return Ok(None);
        };
        let filters = message.metadata.as_ref();
        let socket_match =
            filters.and_then(|metadata| metadata.filter_metadata.get("envoy.transport_socket_match"));
        Ok(Some(Self {
            address,
            hostname: endpoint.hostname.clone(),
            weight: weight(message.load_balancing_weight.map(|weight| weight.value))?.unwrap_or(1),
            health: health(message.health_status)?,
            socket_match: socket_match.map(pairs).unwrap_or_default(),
            workload: filters.and_then(workload),
        }))
    }
}

fn address(
    endpoint: &proto::Endpoint,
    names: Names,
    ignored: &mut Ignored,
) -> Result<Option<Address>, Invalid> {
    ignore_fields!(ignored, endpoint, additional_addresses);
    let message = required(endpoint.address.as_ref(), "address")?;
    let address = ignored.scope("address", |ignored| {
        Ok(match (Address::from_proto(message, ignored)?, names) {
            (Some(address), Names::Refused) => Some(address.literal()?),
            (address, _) => address,
        })
    })?;
    if address.is_none() {
        ignored.note("address.envoy_internal_address");
    }
    Ok(address)
}

fn workload(metadata: &Metadata) -> Option<String> {
    metadata
        .filter_metadata
        .get("istio")?
        .fields
        .get("workload")
        .map(text)
}

fn health(status: i32) -> Result<Health, Invalid> {
    Ok(match enumeration(status, "health_status")? {
        HealthStatus::Unknown | HealthStatus::Healthy => Health::Healthy,
        HealthStatus::Degraded => Health::Degraded,
        HealthStatus::Unhealthy | HealthStatus::Timeout => Health::Unhealthy,
        HealthStatus::Draining => Health::Draining,
    })
}
