//! `dynamic_resources`: the control plane and what comes from it.

use std::sync::Arc;

use redplane_proto::pb::envoy::config::bootstrap::v3 as proto;
use redplane_proto::pb::envoy::config::core::v3 as core;
use redplane_proto::pb::envoy::config::core::v3::api_config_source::ApiType;
use redplane_proto::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;

use crate::cluster::{Cluster, ConfigSource, Discovery};
use crate::field::{enumeration, non_empty};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// `ads_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ads {
    /// Delta (`DELTA_GRPC`) or state of the world (`GRPC`).
    pub delta: bool,
    /// The static cluster that leads to the control plane.
    pub cluster: String,
    /// `set_node_on_first_message_only`.
    pub node_on_first_message_only: bool,
    /// `initial_metadata` of the gRPC service.
    pub initial_metadata: Vec<(String, String)>,
}

/// `dynamic_resources`.
pub(super) struct Dynamic {
    pub(super) ads: Option<Ads>,
    pub(super) cds: Option<ConfigSource>,
    pub(super) lds: Option<ConfigSource>,
}

impl Dynamic {
    pub(super) fn from_proto(
        message: &proto::bootstrap::DynamicResources,
        clusters: &[Arc<Cluster>],
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        ignore_fields!(ignored, message, lds_resources_locator, cds_resources_locator);
        let ads = match message.ads_config.as_ref() {
            Some(ads) => {
                Some(ignored.scope("ads_config", |ignored| Ads::from_proto(ads, clusters, ignored))?)
            }
            None => None,
        };
        let mut source = |field: &str, source: Option<&core::ConfigSource>| {
            let source = source
                .map(ConfigSource::from_proto)
                .transpose()
                .map_err(|refusal| refusal.within(field))?;
            if source == Some(ConfigSource::Ads) && ads.is_none() {
                // Envoy starts like this as well, and never gets anything.
                ignored.note(format!("{field}.ads: ads_config is not set"));
                return Ok(None);
            }
            Ok(source)
        };
        let cds = source("cds_config", message.cds_config.as_ref())?;
        let lds = source("lds_config", message.lds_config.as_ref())?;
        Ok(Self { ads, cds, lds })
    }
}

impl Ads {
    fn from_proto(
        message: &core::ApiConfigSource,
        clusters: &[Arc<Cluster>],
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
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
        let usable = |found: &&Arc<Cluster>| {
            found.name == cluster && !matches!(found.discovery, Discovery::Eds { .. })
        };
        if clusters.iter().find(usable).is_none() {
            let reason =
                format!("'{cluster}' does not exist among the static clusters, or is an EDS cluster");
            return Err(Invalid::new("grpc_services[0].envoy_grpc.cluster_name", reason));
        }
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
