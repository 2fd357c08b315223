//! One cluster per service port, and the two fixed ones that Istiod always sends.

use redplane_proto::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy,
};
use redplane_proto::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use redplane_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use redplane_proto::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, ConfigSource, Metadata,
};
use redplane_proto::pb::envoy::r#type::v3::Percent;
use redplane_proto::pb::google::protobuf::{ListValue, Struct, UInt32Value, Value, value};

use super::{endpoint, metadata, millis, object, outbound, text};
use crate::istio::{Port, Protocol, Resolution, Service};

const CONNECT_TIMEOUT_MILLIS: u32 = 10_000;

/// The clusters of every service, in order, and then the fixed ones.
pub(crate) fn all(services: &[Service]) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    for service in services {
        clusters.extend(service.ports.iter().map(|port| of_port(service, port)));
    }
    clusters.push(black_hole());
    clusters.push(passthrough());
    clusters
}

#[expect(deprecated, reason = "Istiod writes the DNS settings into these fields")]
fn of_port(service: &Service, port: &Port) -> Cluster {
    let name = outbound(port.number, &service.host);
    let mut cluster = Cluster {
        metadata: Some(services_metadata(service)),
        common_lb_config: Some(panic_off()),
        circuit_breakers: Some(unlimited()),
        lb_policy: lb_policy(service, port) as i32,
        ..bare(&name, discovery(service.resolution))
    };
    match service.resolution {
        Resolution::Static => {
            cluster.eds_cluster_config = Some(EdsClusterConfig {
                eds_config: Some(ads()),
                service_name: name,
            });
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            cluster.load_assignment = Some(endpoint::assignment(service, port));
            cluster.dns_lookup_family = DnsLookupFamily::V4Only as i32;
            cluster.dns_refresh_rate = Some(millis(60_000));
            cluster.dns_jitter = Some(millis(100));
            cluster.respect_dns_ttl = true;
        }
        Resolution::Passthrough => {}
    }
    cluster
}

/// What every cluster of Istiod has.
fn bare(name: &str, kind: DiscoveryType) -> Cluster {
    Cluster {
        name: name.to_owned(),
        // The semicolon ends the name for Istio's tag extraction.
        alt_stat_name: format!("{name};"),
        connect_timeout: Some(millis(CONNECT_TIMEOUT_MILLIS)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind as i32)),
        ..Default::default()
    }
}

fn discovery(resolution: Resolution) -> DiscoveryType {
    match resolution {
        Resolution::Static => DiscoveryType::Eds,
        Resolution::Dns => DiscoveryType::StrictDns,
        Resolution::DnsRoundRobin => DiscoveryType::LogicalDns,
        Resolution::Passthrough => DiscoveryType::OriginalDst,
    }
}

fn lb_policy(service: &Service, port: &Port) -> LbPolicy {
    match (service.resolution, port.protocol) {
        (Resolution::Passthrough, _) => LbPolicy::ClusterProvided,
        (_, Protocol::Redis) => LbPolicy::Maglev,
        _ => LbPolicy::LeastRequest,
    }
}

fn black_hole() -> Cluster {
    bare("BlackHoleCluster", DiscoveryType::Static)
}

fn passthrough() -> Cluster {
    Cluster {
        lb_policy: LbPolicy::ClusterProvided as i32,
        circuit_breakers: Some(unlimited()),
        ..bare("PassthroughCluster", DiscoveryType::OriginalDst)
    }
}

/// EDS over the same stream. No fetch timeout: this server answers every subscription.
fn ads() -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: Some(millis(0)),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

fn panic_off() -> CommonLbConfig {
    CommonLbConfig {
        healthy_panic_threshold: Some(Percent { value: 0.0 }),
        ..Default::default()
    }
}

fn unlimited() -> CircuitBreakers {
    let most = Some(UInt32Value { value: u32::MAX });
    let thresholds = Thresholds {
        max_connections: most,
        max_pending_requests: most,
        max_requests: most,
        max_retries: most,
        ..Default::default()
    };
    CircuitBreakers {
        thresholds: vec![thresholds],
        ..Default::default()
    }
}

fn services_metadata(service: &Service) -> Metadata {
    let fields = object([
        ("host", text(&service.host)),
        ("name", text(&service.name)),
        ("namespace", text(&service.namespace)),
    ]);
    let entry = Value {
        kind: Some(value::Kind::StructValue(fields)),
    };
    let services = Value {
        kind: Some(value::Kind::ListValue(ListValue { values: vec![entry] })),
    };
    let mut istio: Struct = object([("services", services)]);
    if service.external {
        istio.fields.insert(
            "external".to_owned(),
            Value {
                kind: Some(value::Kind::BoolValue(true)),
            },
        );
    }
    metadata([("istio", istio)].into())
}
