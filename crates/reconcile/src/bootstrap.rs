//! What the process starts with: the bootstrap, with the flags laid over it.
//!
//! `config` reads the file and validates what is served; here are the parts that belong to the process itself: log
//! format, stats and runtime layers.

mod stats_config;

use std::path::Path;

use redplane_admin::RuntimeView;
use redplane_config::bootstrap::Bootstrap as Config;
use redplane_proto::Json;
use redplane_proto::pb::envoy::config::bootstrap::v3 as proto;
use redplane_proto::pb::envoy::config::bootstrap::v3::bootstrap::application_log_config::log_format::LogFormat;
use redplane_proto::pb::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;
use redplane_proto::pb::google::protobuf::Struct;
use redplane_telemetry::StatsConfig;
use redplane_xds::node::wire_node;
use serde_json::Value;

/// Where the bootstrap is, and what the flags lay over it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// `--config-path`
    pub file: Option<&'a Path>,
    /// `--config-yaml`
    pub yaml: Option<&'a str>,
    /// `--allow-unknown-static-fields`
    pub allow_unknown: bool,
    /// `--service-node`
    pub service_node: Option<&'a str>,
    /// `--service-cluster`
    pub service_cluster: Option<&'a str>,
    /// `--service-zone`
    pub service_zone: Option<&'a str>,
}

/// A bootstrap that was accepted.
pub struct Bootstrap {
    /// The validated model.
    pub config: Config,
    /// The message, node completed, for `/config_dump` and the control plane.
    pub message: proto::Bootstrap,
    /// `node`, completed, as the admin pages show it.
    pub node: Value,
    /// `stats_config`
    pub stats: StatsConfig,
    /// `application_log_config`
    pub log: Option<String>,
    /// `layered_runtime`
    pub runtime: RuntimeView,
}

impl Bootstrap {
    /// Reads what is given.
    ///
    /// # Errors
    /// One line that names the source, the field and the reason.
    pub fn load(given: &Given<'_>) -> Result<Self, String> {
        // Whoever needs the descriptors on the way shares this one copy.
        let json = Json::load();
        let Given { file, yaml, .. } = *given;
        let (mut config, mut message) =
            Config::load(file, yaml, given.allow_unknown).map_err(|error| error.to_string())?;
        let source = file.map_or_else(|| "--config-yaml".to_owned(), |path| path.display().to_string());
        override_node(&mut config, &mut message, given);
        let stats = stats_config::read(message.stats_config.as_ref())
            .map_err(|error| format!("{source}: {error}"))?;
        Ok(Self {
            stats,
            node: json.message_value(&message.node.clone().unwrap_or_default()),
            log: log_pattern(&message),
            runtime: runtime(&message),
            config,
            message,
        })
    }
}

fn override_node(config: &mut Config, message: &mut proto::Bootstrap, given: &Given<'_>) {
    let mut node = wire_node(&message.node.clone().unwrap_or_default());
    if let Some(id) = given.service_node {
        id.clone_into(&mut config.node.id);
        id.clone_into(&mut node.id);
    }
    if let Some(cluster) = given.service_cluster {
        cluster.clone_into(&mut config.node.cluster);
        cluster.clone_into(&mut node.cluster);
    }
    if let Some(zone) = given.service_zone {
        zone.clone_into(&mut config.node.zone);
        zone.clone_into(&mut node.locality.get_or_insert_default().zone);
    }
    message.node = Some(node);
}

fn log_pattern(message: &proto::Bootstrap) -> Option<String> {
    let format = message.application_log_config.as_ref()?.log_format.as_ref()?;
    Some(match format.log_format.as_ref()? {
        LogFormat::TextFormat(text) => text.clone(),
        LogFormat::JsonFormat(shape) => Json::load().message_value(shape).to_string(),
    })
}

fn runtime(message: &proto::Bootstrap) -> RuntimeView {
    let layers = message
        .layered_runtime
        .as_ref()
        .map(|runtime| &runtime.layers[..]);
    let layers = layers.unwrap_or_default();
    let mut view = RuntimeView {
        layers: layers.iter().map(|layer| layer.name.clone()).collect(),
        ..RuntimeView::default()
    };
    for (at, layer) in layers.iter().enumerate() {
        match &layer.layer_specifier {
            Some(LayerSpecifier::StaticLayer(values)) => {
                for (key, value) in flatten(values) {
                    let row = view.entries.entry(key).or_default();
                    row.resize(layers.len(), String::new());
                    row[at] = value;
                }
            }
            Some(LayerSpecifier::AdminLayer(_)) => view.admin_layer = true,
            Some(LayerSpecifier::DiskLayer(_) | LayerSpecifier::RtdsLayer(_)) | None => {}
        }
    }
    view
}

/// Keys with dots for what is nested. Nothing is decided by runtime keys here; they are only shown.
fn flatten(values: &Struct) -> Vec<(String, String)> {
    fn walk(prefix: &str, value: &Value, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let key = if prefix.is_empty() {
                        key.clone()
                    } else {
                        format!("{prefix}.{key}")
                    };
                    walk(&key, value, found);
                }
            }
            Value::String(text) => found.push((prefix.to_owned(), text.clone())),
            other => found.push((prefix.to_owned(), other.to_string())),
        }
    }
    let mut found = Vec::new();
    walk("", &Json::load().message_value(values), &mut found);
    found
}
