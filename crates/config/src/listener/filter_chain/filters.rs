//! The filters of a chain, and what becomes of each kind.

use std::sync::Arc;

use redplane_proto::pb::envoy::config::core::v3::ExtensionConfigSource;
use redplane_proto::pb::envoy::config::listener::v3 as proto;
use redplane_proto::pb::envoy::config::listener::v3::filter::ConfigType;
use redplane_proto::type_url;

use super::Terminal;
use super::limits::{ConnectionLimit, ConnectionRate};
use crate::extension::{Extension, type_name};
use crate::field::non_empty;
use crate::http::HttpConnectionManager;
use crate::rbac::NetworkRbac;
use crate::redis_proxy::RedisProxy;
use crate::tcp_proxy::TcpProxy;
use crate::tls::Usable;
use crate::{Ignored, Invalid};

/// A filter in front of the terminal one. Those that keep clients out are enforced here, or make the chain inert.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFilter {
    /// `rbac`: who may come in.
    Rbac(Arc<NetworkRbac>),
    /// `connection_limit`: how many may be in at a time.
    Limit(Arc<ConnectionLimit>),
    /// `local_ratelimit`: how many may come in a time.
    Rate(Arc<ConnectionRate>),
    /// `sni_cluster`: the server name of the ClientHello is the cluster that tcp_proxy takes.
    SniCluster,
    /// Only watches (telemetry, metadata exchange) or is not known: it is noted and does nothing.
    WithoutEffect {
        /// Its name.
        name: String,
    },
}

impl NetworkFilter {
    /// Whether it keeps clients out.
    #[must_use]
    pub fn is_guard(&self) -> bool {
        match self {
            Self::Rbac(filter) => filter.decides(),
            Self::Limit(_) | Self::Rate(_) => true,
            Self::SniCluster | Self::WithoutEffect { .. } => false,
        }
    }
}

/// What a network filter is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Redis,
    Tcp,
    Http,
    /// Terminal in Envoy, not served here.
    OtherTerminal,
    /// Keeps clients out, by rules.
    Rbac,
    /// Lets in so many at a time.
    Limit,
    /// Lets in so many in a time.
    Rate,
    /// Keeps clients out, and is not enforced here.
    Guard,
    /// Chooses the cluster.
    SniCluster,
    /// Envoy or Istio have it, and it keeps nobody out: it watches.
    Other,
    /// Nobody has it.
    Unknown,
}

/// Network filters that Envoy 1.40 has beside those with a kind of their own, by their protobuf packages.
const WATCHING: &[&str] = &[
    "dynamic_modules",
    "ext_proc",
    "geoip",
    "golang",
    "kafka_broker",
    "kafka_mesh",
    "match_delegate",
    "mongo_proxy",
    "mysql_proxy",
    "postgres_proxy",
    "reverse_tunnel",
    "rocketmq_proxy",
    "set_filter_state",
    "sip_proxy",
    "sni_dynamic_forward_proxy",
    "wasm",
    "zookeeper_proxy",
];

/// What Istio pushes and plain Envoy lacks: types, and names where there is no type.
const OF_ISTIO: &[&str] = &[
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    "stats.PluginConfig",
    "forward_downstream_sni",
    "metadata_exchange",
    "tcp_cluster_rewrite",
];

impl Kind {
    fn of(type_url: &str, name: &str) -> Self {
        match type_url {
            type_url::REDIS_PROXY => Self::Redis,
            type_url::TCP_PROXY => Self::Tcp,
            type_url::NETWORK_RBAC => Self::Rbac,
            type_url::HCM => Self::Http,
            type_url::CONNECTION_LIMIT => Self::Limit,
            type_url::NETWORK_LOCAL_RATELIMIT => Self::Rate,
            // Without configuration the name is all there is.
            "" => Self::of_name(name),
            other => Self::of_other(type_name(other)),
        }
    }

    fn of_name(name: &str) -> Self {
        match name
            .trim_start_matches("envoy.")
            .trim_start_matches("filters.network.")
        {
            "redis_proxy" => Self::Redis,
            "tcp_proxy" => Self::Tcp,
            "rbac" => Self::Guard,
            "http_connection_manager" => Self::Http,
            name => Self::of_package(name),
        }
    }

    fn of_other(type_name: &str) -> Self {
        match type_name.strip_prefix("envoy.extensions.filters.network.") {
            Some(network) => Self::of_package(network.split('.').next().unwrap_or_default()),
            None => Self::of_package(type_name),
        }
    }

    /// By the last part of the filter's name in Envoy, which is also that of its protobuf package.
    fn of_package(name: &str) -> Self {
        match name {
            "direct_response" | "dubbo_proxy" | "echo" | "generic_proxy" | "thrift_proxy" => {
                Self::OtherTerminal
            }
            "connection_limit" | "ext_authz" | "local_ratelimit" | "ratelimit" => Self::Guard,
            "sni_cluster" => Self::SniCluster,
            name if name.starts_with("istio.") || name.starts_with("io.istio.") => Self::Other,
            name if WATCHING.contains(&name) || OF_ISTIO.contains(&name) => Self::Other,
            _ => Self::Unknown,
        }
    }

    /// Whether it keeps clients out, so that it must not be left out.
    fn is_guard(self) -> bool {
        match self {
            Self::Rbac | Self::Limit | Self::Rate | Self::Guard => true,
            Self::Redis | Self::Tcp | Self::Http | Self::OtherTerminal | Self::SniCluster => false,
            Self::Other | Self::Unknown => false,
        }
    }

    fn is_terminal(self) -> bool {
        matches!(self, Self::Redis | Self::Tcp | Self::Http | Self::OtherTerminal)
    }
}

/// Reads the filters: the last one serves, those before it come in order.
pub(super) fn read(
    messages: &[proto::Filter],
    ignored: &mut Ignored,
) -> Result<(Vec<NetworkFilter>, Terminal), Invalid> {
    let inert = |reason: String| Terminal::Inert { reason };
    let Some((last, before)) = messages.split_last() else {
        return Ok((Vec::new(), inert("the chain has no filters".to_owned())));
    };
    let read = ignored.each("filters", before, before_last)?;
    let terminal = ignored.scope(&format!("filters[{}]", before.len()), |ignored| {
        terminal(last, ignored)
    })?;
    let mut filters = Vec::with_capacity(read.len());
    for filter in read {
        match filter {
            Usable::Ready(filter) => filters.push(filter),
            Usable::Inert(reason) => return Ok((Vec::new(), inert(reason))),
        }
    }
    Ok((filters, terminal))
}

/// One that does not serve; inert is the reason why the chain must not be served because of it.
fn before_last(message: &proto::Filter, ignored: &mut Ignored) -> Result<Usable<NetworkFilter>, Invalid> {
    let name = non_empty(&message.name, "name")?;
    let any = match message.config_type.as_ref() {
        Some(ConfigType::ConfigDiscovery(discovery)) => return Ok(discovered(name, discovery, ignored)),
        Some(ConfigType::TypedConfig(any)) => Some(any),
        None => None,
    };
    let extension = Extension::new(&name, any);
    let kind = Kind::of(&extension.type_url, &name);
    if kind.is_terminal() {
        let reason =
            format!("terminal filter named {name} must be the last filter in a network filter chain");
        return Err(Invalid::new("", reason));
    }
    match kind {
        Kind::Unknown => Err(unknown(&extension)),
        Kind::Guard => Ok(Usable::Inert(not_enforced(&name))),
        Kind::Rbac => ignored.scope("typed_config", |ignored| {
            let rbac = NetworkRbac::from_proto(&extension.decode(ignored)?, ignored)?;
            Ok(Usable::Ready(NetworkFilter::Rbac(Arc::new(rbac))))
        }),
        Kind::Limit => ignored.scope("typed_config", |ignored| {
            let limit = ConnectionLimit::from_proto(&extension.decode(ignored)?, ignored)?;
            let filter = limit.map(|limit| NetworkFilter::Limit(Arc::new(limit)));
            Ok(Usable::Ready(filter.unwrap_or_else(|| off(&name, ignored))))
        }),
        Kind::Rate => ignored.scope("typed_config", |ignored| {
            let rate = ConnectionRate::from_proto(&extension.decode(ignored)?, ignored)?;
            let filter = rate.map(|rate| NetworkFilter::Rate(Arc::new(rate)));
            Ok(Usable::Ready(filter.unwrap_or_else(|| off(&name, ignored))))
        }),
        Kind::SniCluster => Ok(Usable::Ready(NetworkFilter::SniCluster)),
        _ => {
            ignored.note(format!("typed_config: {name} is left out"));
            Ok(Usable::Ready(NetworkFilter::WithoutEffect { name }))
        }
    }
}

/// A limit that its own configuration switches off.
fn off(name: &str, ignored: &mut Ignored) -> NetworkFilter {
    ignored.note("runtime_enabled: is false, nothing is limited");
    let name = name.to_owned();
    NetworkFilter::WithoutEffect { name }
}

/// One wrong letter must not be a chain that refuses everybody, and nobody is told.
fn unknown(extension: &Extension<'_>) -> Invalid {
    let (name, type_url) = (extension.name, &extension.type_url);
    Invalid::new(
        "",
        format!("Didn't find a registered implementation for '{name}' with type URL: '{type_url}'"),
    )
}

fn not_enforced(name: &str) -> String {
    format!("filter `{name}` is not enforced here, so that nobody is let in")
}

/// A filter whose configuration would come by ECDS.
fn discovered(
    name: String,
    discovery: &ExtensionConfigSource,
    ignored: &mut Ignored,
) -> Usable<NetworkFilter> {
    let guards = |url: &String| Kind::of(url, "").is_guard();
    if discovery.type_urls.iter().any(guards) {
        return Usable::Inert(not_enforced(&name));
    }
    ignored.note(format!("config_discovery: {name} is left out"));
    Usable::Ready(NetworkFilter::WithoutEffect { name })
}

fn terminal(message: &proto::Filter, ignored: &mut Ignored) -> Result<Terminal, Invalid> {
    let name = non_empty(&message.name, "name")?;
    let inert = |reason| Ok(Terminal::Inert { reason });
    let any = match message.config_type.as_ref() {
        Some(ConfigType::ConfigDiscovery(_)) => return inert(format!("filter `{name}` comes by ECDS")),
        Some(ConfigType::TypedConfig(any)) => Some(any),
        None => None,
    };
    let extension = Extension::new(&name, any);
    match Kind::of(&extension.type_url, &name) {
        Kind::Redis => ignored.scope("typed_config", |ignored| {
            RedisProxy::from_proto(&extension.decode(ignored)?, ignored)
                .map(Arc::new)
                .map(Terminal::Redis)
        }),
        Kind::Tcp => ignored.scope("typed_config", |ignored| tcp(&extension, ignored)),
        Kind::Http => ignored.scope("typed_config", |ignored| http(&extension, ignored)),
        Kind::Rbac | Kind::Limit | Kind::Rate | Kind::Guard | Kind::SniCluster => {
            let reason =
                format!("non-terminal filter named {name} is the last filter in a network filter chain");
            Err(Invalid::new("", reason))
        }
        Kind::Unknown => Err(unknown(&extension)),
        Kind::OtherTerminal | Kind::Other => inert(format!("filter `{name}` is not served")),
    }
}

fn http(extension: &Extension<'_>, ignored: &mut Ignored) -> Result<Terminal, Invalid> {
    let manager = HttpConnectionManager::from_proto(&extension.decode(ignored)?, ignored)?;
    Ok(match manager {
        Usable::Ready(manager) => Terminal::Http(Arc::new(manager)),
        Usable::Inert(reason) => Terminal::Inert {
            reason: format!("filter `{}`: {reason}", extension.label()),
        },
    })
}

/// A tcp_proxy that would tunnel (Istio's ambient mode) is inert: the listener beside it must live.
fn tcp(extension: &Extension<'_>, ignored: &mut Ignored) -> Result<Terminal, Invalid> {
    match TcpProxy::from_proto(&extension.decode(ignored)?, ignored) {
        Ok(proxy) => Ok(Terminal::Tcp(Arc::new(proxy))),
        Err(refusal) if refusal.path == "tunneling_config" => Ok(Terminal::Inert {
            reason: format!("filter `{}`: {}", extension.label(), refusal.reason),
        }),
        Err(refusal) => Err(refusal),
    }
}
