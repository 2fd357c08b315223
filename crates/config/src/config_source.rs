//! `envoy.config.core.v3.ConfigSource`: where a resource comes from.

use redplane_proto::pb::envoy::config::core::v3 as core;
use redplane_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;

use crate::Invalid;
use crate::field::non_empty;

/// Where a resource comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// The ADS stream.
    Ads,
    /// A file, watched for replacement.
    Path(std::path::PathBuf),
}

impl ConfigSource {
    /// Reads the message: the ADS stream, or a file.
    pub fn from_proto(message: &core::ConfigSource) -> Result<Self, Invalid> {
        match message.config_source_specifier.as_ref() {
            None => Err(Invalid::new("config_source_specifier", "value is required")),
            Some(ConfigSourceSpecifier::Ads(_)) => Ok(Self::Ads),
            Some(ConfigSourceSpecifier::Path(path)) => Ok(Self::Path(non_empty(path, "path")?.into())),
            Some(ConfigSourceSpecifier::PathConfigSource(source)) => Ok(Self::Path(
                non_empty(&source.path, "path_config_source.path")?.into(),
            )),
            Some(ConfigSourceSpecifier::Self_(_)) => {
                Err(Invalid::new("self", "only ads and files are supported"))
            }
            Some(ConfigSourceSpecifier::ApiConfigSource(_)) => Err(Invalid::new(
                "api_config_source",
                "only ads and files are supported",
            )),
        }
    }
}
