//! The command operators of a format string: parsed to an enum once, then evaluated per line.
//!
//! An operator that is not known, or that this proxy can never fill, is [`Operator::Absent`] and prints `-`: Istio's
//! default format names several that only an HTTP filter chain fills. Envoy: access log command operators.

use std::net::SocketAddr;

use serde_json::Value;

use super::record::{Http, Peer, Record};
use super::time::TimeFormat;

/// What stands between two percent signs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operator {
    StartTime(TimeFormat),
    EndTime(TimeFormat),
    DurationMillis,
    BytesReceived,
    BytesSent,
    ConnectionId,
    DownstreamRemote(Part),
    DownstreamDirectRemote(Part),
    DownstreamLocal(Part),
    UpstreamHost,
    UpstreamLocal(Part),
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamTransportFailureReason,
    ResponseFlags,
    ResponseFlagsLong,
    ConnectionTerminationDetails,
    RequestedServerName,
    FilterChainName,
    RouteName,
    TlsVersion,
    TlsCipher,
    PeerSubject,
    PeerUriSan,
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    RequestHeader(String, Option<String>),
    ResponseHeader(String, Option<String>),
    Hostname(String),
    Absent,
}

/// Which part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Address,
    Port,
}

impl Operator {
    /// The operator of a name and what stands in its parentheses.
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Self {
        match name {
            "START_TIME" => Self::StartTime(TimeFormat::parse(argument)),
            "EMIT_TIME" => Self::EndTime(TimeFormat::parse(argument)),
            "DURATION" => Self::DurationMillis,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "CONNECTION_ID" => Self::ConnectionId,
            "CONNECTION_TERMINATION_DETAILS" => Self::ConnectionTerminationDetails,
            "REQUESTED_SERVER_NAME" => Self::RequestedServerName,
            "FILTER_CHAIN_NAME" => Self::FilterChainName,
            "ROUTE_NAME" => Self::RouteName,
            "RESPONSE_FLAGS" => Self::ResponseFlags,
            "RESPONSE_FLAGS_LONG" => Self::ResponseFlagsLong,
            "PROTOCOL" => Self::Protocol,
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_CODE_DETAILS" => Self::ResponseCodeDetails,
            "REQ" | "RESP" => Self::parse_header(name, argument),
            "HOSTNAME" => Self::Hostname(hostname()),
            _ => Self::parse_downstream(name)
                .or_else(|| Self::parse_upstream(name))
                .unwrap_or(Self::Absent),
        }
    }

    fn parse_downstream(name: &str) -> Option<Self> {
        Some(match name {
            "DOWNSTREAM_REMOTE_ADDRESS" => Self::DownstreamRemote(Part::Whole),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::DownstreamRemote(Part::Address),
            "DOWNSTREAM_REMOTE_PORT" => Self::DownstreamRemote(Part::Port),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Self::DownstreamDirectRemote(Part::Whole),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Self::DownstreamDirectRemote(Part::Address),
            "DOWNSTREAM_DIRECT_REMOTE_PORT" => Self::DownstreamDirectRemote(Part::Port),
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::DownstreamLocal(Part::Whole),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::DownstreamLocal(Part::Address),
            "DOWNSTREAM_LOCAL_PORT" => Self::DownstreamLocal(Part::Port),
            "DOWNSTREAM_TLS_VERSION" => Self::TlsVersion,
            "DOWNSTREAM_TLS_CIPHER" => Self::TlsCipher,
            "DOWNSTREAM_PEER_SUBJECT" => Self::PeerSubject,
            "DOWNSTREAM_PEER_URI_SAN" => Self::PeerUriSan,
            _ => return None,
        })
    }

    fn parse_upstream(name: &str) -> Option<Self> {
        Some(match name {
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Self::UpstreamHost,
            "UPSTREAM_LOCAL_ADDRESS" => Self::UpstreamLocal(Part::Whole),
            "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::UpstreamLocal(Part::Address),
            "UPSTREAM_LOCAL_PORT" => Self::UpstreamLocal(Part::Port),
            "UPSTREAM_CLUSTER" => Self::UpstreamCluster,
            "UPSTREAM_CLUSTER_RAW" => Self::UpstreamClusterRaw,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::UpstreamTransportFailureReason,
            _ => return None,
        })
    }

    /// `X?Y`: the second header counts when the first is missing.
    fn parse_header(name: &str, argument: Option<&str>) -> Self {
        let argument = argument.unwrap_or_default().to_ascii_lowercase();
        let (first, second) = match argument.split_once('?') {
            Some((first, second)) => (first.to_owned(), Some(second.to_owned())),
            None => (argument, None),
        };
        if name == "REQ" {
            Self::RequestHeader(first, second)
        } else {
            Self::ResponseHeader(first, second)
        }
    }

    /// The value for one record; `Null` when there is none.
    pub(super) fn value(&self, record: &Record<'_>) -> Value {
        match self {
            Self::StartTime(format) => Value::from(format.render(record.start)),
            Self::EndTime(format) => {
                Value::from(format.render(record.start.checked_add(record.duration).unwrap_or(record.start)))
            }
            Self::DurationMillis => {
                Value::from(u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX))
            }
            Self::BytesReceived => Value::from(record.bytes_received),
            Self::BytesSent => Value::from(record.bytes_sent),
            Self::ConnectionId => Value::from(record.downstream.connection_id),
            Self::DownstreamRemote(part) => address(record.downstream.remote, *part),
            Self::DownstreamDirectRemote(part) => address(record.downstream.direct_remote, *part),
            Self::DownstreamLocal(part) => address(record.downstream.local, *part),
            Self::UpstreamLocal(part) => address(record.upstream.local, *part),
            Self::ResponseCode => Value::from(record.http.map_or(0, |http| http.response_code)),
            Self::ResponseFlags if record.response_flags.is_empty() => Value::Null,
            Self::ResponseFlags => Value::from(record.response_flags.to_string()),
            Self::ResponseFlagsLong if record.response_flags.is_empty() => Value::Null,
            Self::ResponseFlagsLong => Value::from(record.response_flags.long()),
            Self::Hostname(name) if name.is_empty() => Value::Null,
            Self::Hostname(name) => Value::from(name.as_str()),
            _ => self
                .text(record)
                .filter(|text| !text.is_empty())
                .map_or(Value::Null, Value::from),
        }
    }

    /// The operators whose value is a text of the record.
    fn text<'a>(&self, record: &Record<'a>) -> Option<&'a str> {
        match self {
            Self::UpstreamHost => record.upstream.host,
            Self::UpstreamCluster => record.upstream.cluster,
            Self::UpstreamClusterRaw => record.upstream.cluster_raw.or(record.upstream.cluster),
            Self::UpstreamTransportFailureReason => record.upstream.transport_failure_reason,
            Self::ConnectionTerminationDetails => record.connection_termination_details,
            Self::RequestedServerName => record.downstream.requested_server_name,
            Self::FilterChainName => record.filter_chain_name,
            Self::RouteName => record.route_name,
            Self::Protocol => record.http.map(|http| http.protocol),
            Self::ResponseCodeDetails => record.http.and_then(|http| http.response_code_details),
            Self::RequestHeader(first, second) => {
                header(record.http, |http| http.request_headers, first, second)
            }
            Self::ResponseHeader(first, second) => {
                header(record.http, |http| http.response_headers, first, second)
            }
            _ => self.peer_text(record.downstream.peer?),
        }
    }

    fn peer_text<'a>(&self, peer: Peer<'a>) -> Option<&'a str> {
        match self {
            Self::TlsVersion => peer.tls_version,
            Self::TlsCipher => peer.tls_cipher,
            Self::PeerSubject => peer.subject,
            Self::PeerUriSan => peer.uri_san,
            _ => None,
        }
    }
}

fn header<'a>(
    http: Option<Http<'a>>,
    side: impl Fn(Http<'a>) -> &'a [(&'a str, &'a str)],
    first: &str,
    second: &Option<String>,
) -> Option<&'a str> {
    let headers = side(http?);
    let find = |name: &str| {
        headers
            .iter()
            .find(|(header, _)| *header == name)
            .map(|(_, value)| *value)
    };
    find(first).or_else(|| find(second.as_deref()?))
}

fn address(address: Option<SocketAddr>, part: Part) -> Value {
    match (address, part) {
        (None, _) => Value::Null,
        (Some(address), Part::Whole) => Value::from(address.to_string()),
        (Some(address), Part::Address) => Value::from(address.ip().to_string()),
        (Some(address), Part::Port) => Value::from(address.port()),
    }
}

/// The machine's name, once per configuration.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
