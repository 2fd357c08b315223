//! What an access log line can tell: the facts of a connection, and of the HTTP request on it if there was one.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// A connection or request that ended. Absent facts print `-`.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it began.
    pub start: SystemTime,
    /// How long it lasted.
    pub duration: Duration,
    /// Bytes from the client (a request's body, for HTTP).
    pub bytes_received: u64,
    /// Bytes to the client (a response's body, for HTTP).
    pub bytes_sent: u64,
    /// The client's side.
    pub downstream: Downstream<'a>,
    /// The server's side.
    pub upstream: Upstream<'a>,
    /// What went wrong.
    pub response_flags: ResponseFlags,
    /// Why the connection was closed by this side.
    pub connection_termination_details: Option<&'a str>,
    /// The filter chain's name.
    pub filter_chain_name: Option<&'a str>,
    /// The route's name.
    pub route_name: Option<&'a str>,
    /// The HTTP request.
    pub http: Option<Http<'a>>,
}

impl Record<'_> {
    /// A record with nothing but its times.
    pub fn new(start: SystemTime, duration: Duration) -> Self {
        Self {
            start,
            duration,
            bytes_received: 0,
            bytes_sent: 0,
            downstream: Downstream::default(),
            upstream: Upstream::default(),
            response_flags: ResponseFlags::default(),
            connection_termination_details: None,
            filter_chain_name: None,
            route_name: None,
            http: None,
        }
    }
}

/// Facts of the client's connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Downstream<'a> {
    /// A number that is unique to the connection.
    pub connection_id: u64,
    /// The client, after PROXY protocol or X-Forwarded-For.
    pub remote: Option<SocketAddr>,
    /// The client, as the socket says.
    pub direct_remote: Option<SocketAddr>,
    /// Where the client connected to (the original destination).
    pub local: Option<SocketAddr>,
    /// The SNI that the client sent.
    pub requested_server_name: Option<&'a str>,
    /// The client's certificate and the TLS session.
    pub peer: Option<Peer<'a>>,
}

/// Facts of the connection to a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upstream<'a> {
    /// The host, `ip:port` or a path.
    pub host: Option<&'a str>,
    /// Our side of the connection.
    pub local: Option<SocketAddr>,
    /// The cluster's observability name.
    pub cluster: Option<&'a str>,
    /// The cluster's name.
    pub cluster_raw: Option<&'a str>,
    /// Why the TLS handshake or the connect failed.
    pub transport_failure_reason: Option<&'a str>,
}

/// Facts of a downstream TLS session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// `TLSv1.3`.
    pub tls_version: Option<&'a str>,
    /// The cipher suite.
    pub tls_cipher: Option<&'a str>,
    /// The subject of the client's certificate.
    pub subject: Option<&'a str>,
    /// The URI SANs of the client's certificate, joined with commas.
    pub uri_san: Option<&'a str>,
}

/// Facts of an HTTP request.
#[derive(Clone, Copy, Debug)]
pub struct Http<'a> {
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    /// The response's status, 0 when there was none.
    pub response_code: u16,
    /// Envoy's words for what made the response (`via_upstream`).
    pub response_code_details: Option<&'a str>,
    /// Request headers in lower case, `:method`, `:path` and `:authority` among them.
    pub request_headers: &'a [(&'a str, &'a str)],
    /// Response headers in lower case.
    pub response_headers: &'a [(&'a str, &'a str)],
}

/// Envoy prints flags in the order in which they were set. Only one comes out of the usual order: retries were used up
/// before the last failure had its flag.
const RETRIES_FIRST: u32 = 1 << 31;

/// A set of Envoy's response flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(u32);

macro_rules! flags {
    ($( $bit:literal $name:ident $short:literal $long:literal, )*) => {
        impl ResponseFlags {
            $( #[doc = concat!("`", $short, "`, ", $long, ".")] pub const $name: Self = Self(1 << $bit); )*
        }

        /// Every flag with its short and long word, in Envoy's order.
        const FLAGS: &[(ResponseFlags, &str, &str)] = &[ $( (ResponseFlags::$name, $short, $long), )* ];
    };
}

flags! {
    0 FAILED_LOCAL_HEALTH_CHECK "LH" "FailedLocalHealthCheck",
    1 NO_HEALTHY_UPSTREAM "UH" "NoHealthyUpstream",
    2 UPSTREAM_REQUEST_TIMEOUT "UT" "UpstreamRequestTimeout",
    3 LOCAL_RESET "LR" "LocalReset",
    4 UPSTREAM_REMOTE_RESET "UR" "UpstreamRemoteReset",
    5 UPSTREAM_CONNECTION_FAILURE "UF" "UpstreamConnectionFailure",
    6 UPSTREAM_CONNECTION_TERMINATION "UC" "UpstreamConnectionTermination",
    7 UPSTREAM_OVERFLOW "UO" "UpstreamOverflow",
    8 NO_ROUTE_FOUND "NR" "NoRouteFound",
    9 DELAY_INJECTED "DI" "DelayInjected",
    10 FAULT_INJECTED "FI" "FaultInjected",
    11 RATE_LIMITED "RL" "RateLimited",
    12 UNAUTHORIZED_EXTERNAL_SERVICE "UAEX" "UnauthorizedExternalService",
    13 RATE_LIMIT_SERVICE_ERROR "RLSE" "RatelimitServiceError",
    14 DOWNSTREAM_CONNECTION_TERMINATION "DC" "DownstreamConnectionTermination",
    15 UPSTREAM_RETRY_LIMIT_EXCEEDED "URX" "UpstreamRetryLimitExceeded",
    16 STREAM_IDLE_TIMEOUT "SI" "StreamIdleTimeout",
    17 INVALID_ENVOY_REQUEST_HEADERS "IH" "InvalidEnvoyRequestHeaders",
    18 DOWNSTREAM_PROTOCOL_ERROR "DPE" "DownstreamProtocolError",
    19 UPSTREAM_MAX_STREAM_DURATION_REACHED "UMSDR" "UpstreamMaxStreamDurationReached",
    20 RESPONSE_FROM_CACHE_FILTER "RFCF" "ResponseFromCacheFilter",
    21 NO_FILTER_CONFIG_FOUND "NFCF" "NoFilterConfigFound",
    22 DURATION_TIMEOUT "DT" "DurationTimeout",
    23 UPSTREAM_PROTOCOL_ERROR "UPE" "UpstreamProtocolError",
    24 NO_CLUSTER_FOUND "NC" "NoClusterFound",
    25 OVERLOAD_MANAGER "OM" "OverloadManagerTerminated",
    26 DNS_RESOLUTION_FAILED "DF" "DnsResolutionFailed",
    27 DROP_OVERLOAD "DO" "DropOverLoad",
    28 DOWNSTREAM_REMOTE_RESET "DR" "DownstreamRemoteReset",
}

impl ResponseFlags {
    /// The flag with a short word (`NR`), as a `response_flag_filter` names it.
    pub fn from_short(short: &str) -> Option<Self> {
        FLAGS
            .iter()
            .find(|(_, word, _)| *word == short)
            .map(|(flag, ..)| *flag)
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let only_retries = other.0 == Self::UPSTREAM_RETRY_LIMIT_EXCEEDED.0;
        let first = if self.is_empty() && only_retries {
            RETRIES_FIRST
        } else {
            0
        };
        Self(self.0 | other.0 | first)
    }

    /// Whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one flag is in both sets.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The long words joined with commas.
    pub fn long(self) -> String {
        let set = FLAGS.iter().filter(|(flag, ..)| self.intersects(*flag));
        set.map(|(.., long)| *long).collect::<Vec<_>>().join(",")
    }
}

/// The short words joined with commas.
impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retries = Self::UPSTREAM_RETRY_LIMIT_EXCEEDED;
        let is_first = |flag: &Self| self.0 & RETRIES_FIRST != 0 && *flag == retries;
        let first = FLAGS.iter().filter(|(flag, ..)| is_first(flag));
        let others = FLAGS
            .iter()
            .filter(|(flag, ..)| self.intersects(*flag) && !is_first(flag));
        for (at, (_, short, _)) in first.chain(others).enumerate() {
            write!(f, "{}{short}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
