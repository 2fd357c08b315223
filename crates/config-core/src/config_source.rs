//! `envoy.config.core.v3.ConfigSource`: where a resource comes from, and how long its first answer may take.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3 as core;
use redplane_proto::pb::envoy::config::core::v3::api_config_source::ApiType;
use redplane_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use redplane_proto::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;

use crate::field::{duration, enumeration, non_empty};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Envoy's `initial_fetch_timeout` where none is given.
const INITIAL_FETCH: Duration = Duration::from_secs(15);

/// Where a resource comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigSource {
    /// The place.
    pub source: Source,
    /// `initial_fetch_timeout`: how long the first answer is waited for. Default 15 s; `None` (0 in the message) is for
    /// ever.
    pub initial_fetch_timeout: Option<Duration>,
}

/// The place that a resource comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The ADS stream.
    Ads,
    /// A file, watched for replacement.
    Path(PathBuf),
    /// A gRPC stream of its own.
    Grpc(Arc<GrpcSource>),
}

/// `ApiConfigSource` over gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcSource {
    /// Delta (`DELTA_GRPC`) or state of the world (`GRPC`).
    pub delta: bool,
    /// The static cluster that leads to the server.
    pub cluster: String,
    /// `set_node_on_first_message_only`.
    pub node_on_first_message_only: bool,
    /// `initial_metadata` of the gRPC service.
    pub initial_metadata: Vec<(String, String)>,
}

impl ConfigSource {
    /// The ADS stream, with Envoy's time-out.
    pub fn ads() -> Self {
        Self::from(Source::Ads)
    }

    /// Reads the message.
    pub fn from_proto(message: &core::ConfigSource, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let timeout = message.initial_fetch_timeout.as_ref();
        let timeout = timeout
            .map(|timeout| duration(timeout, "initial_fetch_timeout"))
            .transpose()?;
        let timeout = timeout.unwrap_or(INITIAL_FETCH);
        Ok(Self {
            source: Source::from_proto(message, ignored)?,
            initial_fetch_timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
        })
    }

    /// Reads the message where a stream of its own is not to be had.
    pub fn shared(message: &core::ConfigSource, ignored: &mut Ignored) -> Result<Self, Invalid> {
        if let Some(ConfigSourceSpecifier::ApiConfigSource(_)) = message.config_source_specifier {
            return Err(Invalid::new(
                "api_config_source",
                "only ads and files are supported",
            ));
        }
        Self::from_proto(message, ignored)
    }
}

impl From<Source> for ConfigSource {
    fn from(source: Source) -> Self {
        Self {
            source,
            initial_fetch_timeout: Some(INITIAL_FETCH),
        }
    }
}

impl Source {
    fn from_proto(message: &core::ConfigSource, ignored: &mut Ignored) -> Result<Self, Invalid> {
        match message.config_source_specifier.as_ref() {
            None => Err(Invalid::new("config_source_specifier", "value is required")),
            Some(ConfigSourceSpecifier::Ads(_)) => Ok(Self::Ads),
            Some(ConfigSourceSpecifier::Path(path)) => Ok(Self::Path(non_empty(path, "path")?.into())),
            Some(ConfigSourceSpecifier::PathConfigSource(source)) => {
                ignored.scope("path_config_source", |ignored| {
                    ignore_fields!(ignored, source, watched_directory);
                    Ok(Self::Path(non_empty(&source.path, "path")?.into()))
                })
            }
            Some(ConfigSourceSpecifier::Self_(_)) => {
                Err(Invalid::new("self", "use ads, a file or api_config_source"))
            }
            Some(ConfigSourceSpecifier::ApiConfigSource(api)) => ignored
                .scope("api_config_source", |ignored| {
                    GrpcSource::from_proto(api, ignored)
                })
                .map(|grpc| Self::Grpc(Arc::new(grpc))),
        }
    }
}

impl GrpcSource {
    /// Reads the message.
    pub fn from_proto(message: &core::ApiConfigSource, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(
            ignored,
            message,
            cluster_names,
            refresh_delay,
            request_timeout,
            rate_limit_settings
        );
        ignore_fields!(ignored, message, config_validators);
        let delta = match enumeration(message.api_type, "api_type")? {
            ApiType::Grpc | ApiType::AggregatedGrpc => false,
            ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => true,
            ApiType::Rest | ApiType::DeprecatedAndUnavailableDoNotUse => {
                return Err(Invalid::new("api_type", "must be GRPC or DELTA_GRPC"));
            }
        };
        let [service, others @ ..] = message.grpc_services.as_slice() else {
            return Err(Invalid::new(
                "grpc_services",
                "value must contain at least 1 item(s)",
            ));
        };
        if !others.is_empty() {
            ignored.note("grpc_services: only the first one is used");
        }
        let (cluster, initial_metadata) =
            ignored.scope("grpc_services[0]", |ignored| grpc_service(service, ignored))?;
        Ok(Self {
            delta,
            cluster,
            node_on_first_message_only: message.set_node_on_first_message_only,
            initial_metadata,
        })
    }
}

type Service = (String, Vec<(String, String)>);

fn grpc_service(message: &core::GrpcService, ignored: &mut Ignored) -> Result<Service, Invalid> {
    ignore_fields!(ignored, message, timeout, retry_policy);
    let grpc = match message.target_specifier.as_ref() {
        Some(TargetSpecifier::EnvoyGrpc(grpc)) => grpc,
        Some(TargetSpecifier::GoogleGrpc(_)) => {
            return Err(Invalid::new("google_grpc", "is not supported, use envoy_grpc"));
        }
        None => return Err(Invalid::new("target_specifier", "value is required")),
    };
    ignored.scope("envoy_grpc", |ignored| {
        ignore_fields!(
            ignored,
            grpc,
            authority,
            retry_policy,
            max_receive_message_length,
            skip_envoy_headers
        );
        Ok(())
    })?;
    let metadata = ignored.each(
        "initial_metadata",
        &message.initial_metadata,
        |header, ignored| {
            ignore_fields!(ignored, header, raw_value);
            Ok((non_empty(&header.key, "key")?, header.value.clone()))
        },
    )?;
    Ok((
        non_empty(&grpc.cluster_name, "envoy_grpc.cluster_name")?,
        metadata,
    ))
}
