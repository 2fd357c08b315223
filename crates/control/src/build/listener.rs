//! One listener per virtual IP and TCP port, named `<VIP>_<port>`; in mode NONE one per port on 127.0.0.1.
//!
//! Istio's listeners do not bind: a redirecting iptables rule brings the traffic to `virtualOutbound`. Without
//! iptables they must bind themselves, which is what [`Options::bind`] does. Two services that want the same
//! address: the first keeps it, the second is noted.

use std::collections::BTreeMap;

use redplane_proto::pb::envoy::config::core::v3::TrafficDirection;
use redplane_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use redplane_proto::pb::envoy::config::listener::v3::listener_filter::ConfigType as ListenerFilterConfig;
use redplane_proto::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter,
};
use redplane_proto::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use redplane_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier,
};
use redplane_proto::pb::google::protobuf::{BoolValue, UInt32Value};

use super::{address, millis, outbound, typed};
use crate::finding::Finding;
use crate::istio::{Port, Protocol, Service};
use crate::options::{Mode, Options};

/// Envoy's and Istio's canonical name of the filter that every TCP listener ends with.
pub(crate) const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
const WILDCARD: &str = "0.0.0.0";
const LOOPBACK: &str = "127.0.0.1";

/// The listeners of every TCP port of every service.
pub(crate) fn all(services: &[Service], options: &Options, notes: &mut Vec<Finding>) -> Vec<Listener> {
    let mut listeners: BTreeMap<String, Listener> = BTreeMap::new();
    for service in services {
        for port in &service.ports {
            if port.protocol == Protocol::Http {
                let text = format!("port {}: no listener, HTTP is not served here", port.number);
                notes.push(service.declared.finding(text));
                continue;
            }
            for host in hosts(service, port, options) {
                let listener = of_port(service, port, &host, options);
                add(&mut listeners, listener, service, port, notes);
            }
        }
    }
    listeners.into_values().collect()
}

fn add(
    listeners: &mut BTreeMap<String, Listener>,
    listener: Listener,
    service: &Service,
    port: &Port,
    notes: &mut Vec<Finding>,
) {
    match listeners.get_mut(&listener.name) {
        None => {
            listeners.insert(listener.name.clone(), listener);
        }
        // Hosts of TLS ports share a listener, told apart by SNI.
        Some(shared) if port.protocol == Protocol::Tls && shared.default_filter_chain.is_some() => {
            shared.filter_chains.extend(listener.filter_chains);
        }
        Some(taken) => {
            let text = format!("port {}: {} is taken by another service", port.number, taken.name);
            notes.push(service.declared.finding(text));
        }
    }
}

/// The addresses on which a port is served.
fn hosts(service: &Service, port: &Port, options: &Options) -> Vec<String> {
    if options.mode == Mode::None {
        return vec![LOOPBACK.to_owned()];
    }
    if service.headless {
        let of_port = service
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.port_name == port.name);
        return of_port.map(|endpoint| endpoint.address.clone()).collect();
    }
    if service.addresses.is_empty() {
        return vec![WILDCARD.to_owned()];
    }
    service.addresses.clone()
}

fn of_port(service: &Service, port: &Port, host: &str, options: &Options) -> Listener {
    let by_sni = port.protocol == Protocol::Tls && options.mode != Mode::None;
    let mut chain = chain(&outbound(port.number, &service.host));
    if by_sni {
        let server_names = vec![service.host.clone()];
        chain.filter_chain_match = Some(FilterChainMatch {
            server_names,
            ..Default::default()
        });
    }
    let binds = options.binds();
    Listener {
        name: format!("{host}_{}", port.number),
        address: Some(address(host, port.number)),
        filter_chains: vec![chain],
        default_filter_chain: by_sni.then(passthrough_chain),
        listener_filters: if by_sni { vec![tls_inspector()] } else { Vec::new() },
        listener_filters_timeout: Some(millis(0)),
        continue_on_listener_filters_timeout: true,
        traffic_direction: TrafficDirection::Outbound as i32,
        bind_to_port: (!binds).then_some(BoolValue { value: false }),
        max_connections_to_accept_per_socket_event: binds.then_some(UInt32Value { value: 1 }),
        ..Default::default()
    }
}

fn chain(cluster: &str) -> FilterChain {
    FilterChain {
        filters: vec![tcp_proxy(cluster)],
        transport_socket_connect_timeout: Some(millis(15_000)),
        ..Default::default()
    }
}

/// Where a client goes whose server name no chain knows.
fn passthrough_chain() -> FilterChain {
    FilterChain {
        name: "PassthroughFilterChain".to_owned(),
        filter_chain_match: Some(FilterChainMatch::default()),
        filters: vec![tcp_proxy("PassthroughCluster")],
        ..Default::default()
    }
}

fn tcp_proxy(cluster: &str) -> Filter {
    let config = TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    Filter {
        name: TCP_PROXY.to_owned(),
        config_type: Some(ConfigType::TypedConfig(typed(&config))),
    }
}

fn tls_inspector() -> ListenerFilter {
    let initial_read_buffer_size = Some(UInt32Value { value: 512 });
    let config = TlsInspector {
        initial_read_buffer_size,
        ..Default::default()
    };
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(ListenerFilterConfig::TypedConfig(typed(&config))),
        ..Default::default()
    }
}
