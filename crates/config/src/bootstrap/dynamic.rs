//! `dynamic_resources`: the control plane and what comes from it.

use std::sync::Arc;

use redplane_proto::pb::envoy::config::bootstrap::v3 as proto;
use redplane_proto::pb::envoy::config::core::v3 as core;

use crate::cluster::{Cluster, Discovery};
use crate::config_source::{ConfigSource, GrpcSource, Source};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// `dynamic_resources`.
pub(super) struct Dynamic {
    pub(super) ads: Option<GrpcSource>,
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
            Some(ads) => Some(ignored.scope("ads_config", |ignored| self::ads(ads, clusters, ignored))?),
            None => None,
        };
        let mut source = |field: &str, source: Option<&core::ConfigSource>| {
            let Some(source) = source else { return Ok(None) };
            let source = ignored.scope(field, |ignored| ConfigSource::shared(source, ignored))?;
            if source.source == Source::Ads && ads.is_none() {
                // Envoy starts like this as well, and never gets anything.
                ignored.note(format!("{field}.ads: ads_config is not set"));
                return Ok(None);
            }
            Ok(Some(source))
        };
        let cds = source("cds_config", message.cds_config.as_ref())?;
        let lds = source("lds_config", message.lds_config.as_ref())?;
        Ok(Self { ads, cds, lds })
    }
}

/// `ads_config`: the cluster that it names must be there already.
fn ads(
    message: &core::ApiConfigSource,
    clusters: &[Arc<Cluster>],
    ignored: &mut Ignored,
) -> Result<GrpcSource, Invalid> {
    let ads = GrpcSource::from_proto(message, ignored)?;
    known(&ads, clusters)
        .map_err(|reason| Invalid::new("grpc_services[0].envoy_grpc.cluster_name", reason))?;
    Ok(ads)
}

/// Whether a stream can be opened from the start: Envoy takes only static clusters that need no stream themselves.
fn known(source: &GrpcSource, clusters: &[Arc<Cluster>]) -> Result<(), String> {
    let name = &source.cluster;
    let usable =
        |found: &&Arc<Cluster>| found.name == *name && !matches!(found.discovery, Discovery::Eds { .. });
    match clusters.iter().find(usable) {
        Some(_) => Ok(()),
        None => Err(format!(
            "'{name}' does not exist among the static clusters, or is an EDS cluster"
        )),
    }
}
