//! Services → listeners, clusters and endpoints, with the names and the shape that Istiod gives them.
//!
//! Left out on purpose, because nothing here needs them: metadata exchange and telemetry filters, mesh TLS
//! (`transport_socket_matches`), inbound clusters, the virtual listeners, HTTP listeners and routes.

pub(crate) mod cluster;
pub(crate) mod endpoint;
pub(crate) mod listener;

use std::collections::{BTreeMap, HashMap};

use redplane_proto::pb::envoy::config::core::v3::address::Address as Kind;
use redplane_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use redplane_proto::pb::envoy::config::core::v3::{Address, Metadata, Pipe, SocketAddress};
use redplane_proto::pb::google::protobuf::{Any, Duration, Struct, Value, value};

/// The outbound cluster of one service port: `outbound|<port>|<subset>|<host>`.
fn outbound(port: u16, host: &str) -> String {
    format!("outbound|{port}||{host}")
}

fn millis(millis: u32) -> Duration {
    Duration {
        seconds: i64::from(millis / 1000),
        nanos: (millis % 1000).cast_signed() * 1_000_000,
    }
}

fn address(host: &str, port: u16) -> Address {
    let kind = match host.strip_prefix("unix://") {
        Some(path) => Kind::Pipe(Pipe {
            path: path.to_owned(),
            mode: 0,
        }),
        None => Kind::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        }),
    };
    Address { address: Some(kind) }
}

fn typed<M: prost::Message + prost::Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

fn text(text: &str) -> Value {
    Value {
        kind: Some(value::Kind::StringValue(text.to_owned())),
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct {
        fields: fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

/// Metadata with only filter metadata in it.
fn metadata(filters: BTreeMap<&str, Struct>) -> Metadata {
    let filter_metadata: HashMap<_, _> = filters
        .into_iter()
        .map(|(name, s)| (name.to_owned(), s))
        .collect();
    Metadata {
        filter_metadata,
        typed_filter_metadata: HashMap::new(),
    }
}
