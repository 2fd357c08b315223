//! The bootstrap: `envoy.config.bootstrap.v3.Bootstrap`, merged with `--config-yaml`.

mod dynamic;
mod load;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redplane_proto::pb::envoy::config::bootstrap::v3 as proto;
use redplane_proto::pb::envoy::config::bootstrap::v3::bootstrap::application_log_config::log_format;
use redplane_proto::pb::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;
use redplane_proto::pb::envoy::config::core::v3 as core;
use redplane_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type as SecretType;

pub use load::LoadError;
pub use stats::{Stats, StatsMatcher, StatsTag, TagValue};

use dynamic::Dynamic;

use crate::cluster::Cluster;
use crate::config_source::{ConfigSource, GrpcSource};
use crate::field::duration_or;
use crate::invalid::ignore_fields;
use crate::listener::{Listener, LogFormat};
use crate::matcher::StringMatcher;
use crate::metadata::pairs;
use crate::tls::NamedSecret;
use crate::{Address, Ignored, Invalid};

/// What the process starts with.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The node of this process.
    pub node: Node,
    /// `admin.address`; `None` serves no admin pages.
    pub admin: Option<Address>,
    /// `admin.allow_paths`: paths with their query that the admin pages answer; none allows all.
    pub admin_paths: Vec<StringMatcher>,
    /// `static_resources.listeners`.
    pub listeners: Vec<Arc<Listener>>,
    /// `static_resources.clusters`.
    pub clusters: Vec<Arc<Cluster>>,
    /// `static_resources.secrets`.
    pub secrets: Vec<NamedSecret>,
    /// `dynamic_resources.ads_config`.
    pub ads: Option<GrpcSource>,
    /// `dynamic_resources.cds_config`.
    pub cds: Option<ConfigSource>,
    /// `dynamic_resources.lds_config`.
    pub lds: Option<ConfigSource>,
    /// `stats_flush_interval`. Default 5 s.
    pub stats_flush_interval: Duration,
    /// `stats_config`.
    pub stats: Stats,
    /// `application_log_config.log_format`; `None` is Envoy's own.
    pub log_format: Option<LogFormat>,
    /// `layered_runtime.layers`, shown in `/runtime`: the name and the values of each. Nothing here reads them.
    pub runtime: Vec<(String, Vec<(String, String)>)>,
    /// Fields that their messages do not have, by path; only where such were allowed.
    pub unknown: Vec<String>,
    /// Accepted but without effect.
    pub ignored: Ignored,
}

/// The parts of `node` that redplane itself uses; the whole message goes to the control plane verbatim.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.locality.region`.
    pub region: String,
    /// `node.locality.zone`: this proxy's own zone, for read policies.
    pub zone: String,
    /// `node.locality.sub_zone`.
    pub sub_zone: String,
}

impl Bootstrap {
    /// Reads the message.
    pub fn from_proto(message: &proto::Bootstrap) -> Result<Self, Invalid> {
        let mut ignored = Ignored::default();
        note_ignored(message, &mut ignored);
        let resources = message.static_resources.clone().unwrap_or_default();
        let (secrets, clusters, listeners) = ignored.scope("static_resources", |ignored| {
            Ok((
                secrets(&resources, ignored)?,
                clusters(&resources, ignored)?,
                listeners(&resources, ignored)?,
            ))
        })?;
        let dynamic = message.dynamic_resources.clone().unwrap_or_default();
        let dynamic = ignored.scope("dynamic_resources", |ignored| {
            Dynamic::from_proto(&dynamic, &clusters, ignored)
        })?;
        Ok(Self {
            node: message.node.as_ref().map(Node::from_proto).unwrap_or_default(),
            admin: admin(message.admin.as_ref(), &mut ignored)?,
            admin_paths: admin_paths(message.admin.as_ref(), &mut ignored)?,
            listeners,
            clusters,
            secrets,
            ads: dynamic.ads,
            cds: dynamic.cds,
            lds: dynamic.lds,
            stats_flush_interval: stats_flush_interval(message)?,
            stats: Stats::from_proto(message.stats_config.as_ref(), &mut ignored)?,
            log_format: log_format(message),
            runtime: runtime(message, &mut ignored),
            unknown: Vec::new(),
            ignored,
        })
    }
}

fn note_ignored(message: &proto::Bootstrap, ignored: &mut Ignored) {
    ignore_fields!(
        ignored,
        message,
        node_context_params,
        cluster_manager,
        hds_config,
        flags_path,
        stats_sinks
    );
    ignore_fields!(
        ignored,
        message,
        deferred_stat_options,
        watchdog,
        watchdogs,
        tracing,
        overload_manager
    );
    ignore_fields!(
        ignored,
        message,
        enable_dispatcher_stats,
        header_prefix,
        stats_server_version_override
    );
    ignore_fields!(
        ignored,
        message,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config
    );
    ignore_fields!(
        ignored,
        message,
        bootstrap_extensions,
        fatal_actions,
        config_sources,
        default_config_source
    );
    ignore_fields!(
        ignored,
        message,
        default_socket_interface,
        inline_headers,
        perf_tracing_file_path
    );
    ignore_fields!(
        ignored,
        message,
        default_regex_engine,
        xds_delegate_extension,
        xds_config_tracker_extension
    );
    ignore_fields!(
        ignored,
        message,
        listener_manager,
        grpc_async_client_manager_config,
        memory_allocator_manager
    );
    ignore_fields!(
        ignored,
        message,
        enable_worker_cpu_affinity,
        stats_flush,
        stats_eviction
    );
    if !message.certificate_provider_instances.is_empty() {
        ignored.note("certificate_provider_instances");
    }
}

/// The format of the process's own log.
fn log_format(message: &proto::Bootstrap) -> Option<LogFormat> {
    let format = message.application_log_config.as_ref()?.log_format.as_ref()?;
    Some(match format.log_format.as_ref()? {
        log_format::LogFormat::TextFormat(text) => LogFormat::Text(text.clone()),
        log_format::LogFormat::JsonFormat(object) => LogFormat::Json(pairs(object)),
    })
}

fn runtime(message: &proto::Bootstrap, ignored: &mut Ignored) -> Vec<(String, Vec<(String, String)>)> {
    let layers = message.layered_runtime.iter().flat_map(|runtime| &runtime.layers);
    let read = |(i, layer): (usize, &proto::RuntimeLayer)| {
        let values = match layer.layer_specifier.as_ref() {
            Some(LayerSpecifier::StaticLayer(values)) => pairs(values),
            Some(LayerSpecifier::AdminLayer(_)) => Vec::new(),
            Some(LayerSpecifier::DiskLayer(_) | LayerSpecifier::RtdsLayer(_)) | None => {
                ignored.note(format!("layered_runtime.layers[{i}]"));
                Vec::new()
            }
        };
        (layer.name.clone(), values)
    };
    layers.enumerate().map(read).collect()
}

fn secrets(
    message: &proto::bootstrap::StaticResources,
    ignored: &mut Ignored,
) -> Result<Vec<NamedSecret>, Invalid> {
    let mut names = HashSet::new();
    let secrets = ignored.each("secrets", &message.secrets, |message, ignored| {
        if matches!(
            message.r#type,
            Some(SecretType::SessionTicketKeys(_) | SecretType::GenericSecret(_))
        ) {
            ignored.note("only certificates and validation contexts are asked for");
            return Ok(None);
        }
        let secret = NamedSecret::from_proto(message, ignored)?;
        if !names.insert((secret.name.clone(), secret.value.kind())) {
            return Err(Invalid::new(
                "name",
                format!("duplicate static secret '{}'", secret.name),
            ));
        }
        Ok(Some(secret))
    })?;
    Ok(secrets.into_iter().flatten().collect())
}

fn clusters(
    message: &proto::bootstrap::StaticResources,
    ignored: &mut Ignored,
) -> Result<Vec<Arc<Cluster>>, Invalid> {
    let mut names = HashSet::new();
    ignored.each("clusters", &message.clusters, |message, ignored| {
        let cluster = Cluster::from_proto(message)?;
        if !names.insert(cluster.name.clone()) {
            return Err(Invalid::new(
                "name",
                format!("cluster manager: duplicate cluster '{}'", cluster.name),
            ));
        }
        cluster.ignored.0.iter().for_each(|note| ignored.note(note));
        Ok(Arc::new(cluster))
    })
}

fn listeners(
    message: &proto::bootstrap::StaticResources,
    ignored: &mut Ignored,
) -> Result<Vec<Arc<Listener>>, Invalid> {
    let mut names = HashSet::new();
    ignored.each("listeners", &message.listeners, |message, ignored| {
        let listener = Listener::from_proto(message)?;
        if !names.insert(listener.name.clone()) {
            return Err(Invalid::new(
                "name",
                format!("duplicate listener '{}'", listener.name),
            ));
        }
        listener.ignored.0.iter().for_each(|note| ignored.note(note));
        Ok(Arc::new(listener))
    })
}

impl Node {
    fn from_proto(message: &core::Node) -> Self {
        let locality = message.locality.clone().unwrap_or_default();
        Self {
            id: message.id.clone(),
            cluster: message.cluster.clone(),
            region: locality.region,
            zone: locality.zone,
            sub_zone: locality.sub_zone,
        }
    }
}

fn admin(message: Option<&proto::Admin>, ignored: &mut Ignored) -> Result<Option<Address>, Invalid> {
    let Some(message) = message else { return Ok(None) };
    ignored.scope("admin", |ignored| {
        ignore_fields!(
            ignored,
            message,
            access_log,
            access_log_path,
            profile_path,
            socket_options
        );
        ignore_fields!(ignored, message, ignore_global_conn_limit);
        let Some(address) = message.address.as_ref() else {
            return Ok(None);
        };
        let address = ignored.scope("address", |ignored| {
            Address::from_proto(address, ignored)?
                .map(Address::literal)
                .transpose()
        })?;
        address
            .map(Some)
            .ok_or_else(|| Invalid::new("address", "cannot be bound"))
    })
}

fn admin_paths(message: Option<&proto::Admin>, ignored: &mut Ignored) -> Result<Vec<StringMatcher>, Invalid> {
    let paths = message.map_or(&[][..], |message| &message.allow_paths);
    ignored.each("admin.allow_paths", paths, |path, _| {
        StringMatcher::from_proto(path)
    })
}

fn stats_flush_interval(message: &proto::Bootstrap) -> Result<Duration, Invalid> {
    let path = "stats_flush_interval";
    let interval = duration_or(
        message.stats_flush_interval.as_ref(),
        path,
        Duration::from_secs(5),
    )?;
    if interval < Duration::from_millis(1) || interval >= Duration::from_secs(300) {
        return Err(Invalid::new(path, "value must be inside range [1ms, 300s)"));
    }
    Ok(interval)
}
