//! `redplane.clusters.sentinel`: a master with its replicas, watched over by the Redis Sentinels that are the cluster's
//! endpoints.
//!
//! The configuration is redplane's own message (`proto/redplane_sentinel.proto`). A control plane that does not link it,
//! as Istiod, sends it as a TypedStruct that names it or as a plain Struct. Nobody else reads these fields, so one that
//! is not known is a mistake and refused with its path.

use std::time::Duration;

use prost::Message;
use redplane_proto::pb::envoy::config::cluster::v3 as cluster;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::CustomClusterType;
use redplane_proto::pb::envoy::config::core::v3::DataSource;
use redplane_proto::pb::google::protobuf::Struct;
use redplane_proto::sentinel::SentinelClusterConfig;
use redplane_proto::{from_struct, sentinel, type_url};

use super::discovery::{DnsFamily, assignment};
use crate::data_source;
use crate::endpoint::{Assignment, Names};
use crate::extension::{Extension, type_name};
use crate::field::{non_empty, positive_or};
use crate::{Ignored, Invalid};

/// `SentinelClusterConfig` with the Sentinels.
#[derive(Clone, PartialEq, Eq)]
pub struct SentinelCluster {
    /// `load_assignment`: names or IP literals.
    pub sentinels: Assignment,
    /// Families for names, of the Sentinels and of what they tell.
    pub family: DnsFamily,
    /// The name under which the Sentinels monitor the master.
    pub master_name: String,
    /// Time from the end of one refresh to the next. Default 5 s.
    pub refresh_rate: Duration,
    /// How long one answer may take. Default 3 s.
    pub refresh_timeout: Duration,
    /// ACL user of the Sentinels; empty is the default user. Secret, as the password is: `Debug` prints neither.
    pub username: String,
    /// Password of the Sentinels; empty sends no AUTH.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for SentinelCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentinelCluster")
            .field("sentinels", &self.sentinels)
            .field("family", &self.family)
            .field("master_name", &self.master_name)
            .field("refresh_rate", &self.refresh_rate)
            .field("refresh_timeout", &self.refresh_timeout)
            .finish_non_exhaustive()
    }
}

impl SentinelCluster {
    /// Reads the `cluster_type` and the Sentinels.
    pub(super) fn from_proto(
        message: &cluster::Cluster,
        custom: &CustomClusterType,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let sentinels = assignment(message, Names::Resolved, ignored)?;
        if sentinels.endpoints().next().is_none() {
            let reason = "redplane.clusters.sentinel needs at least one Sentinel as endpoint";
            return Err(Invalid::new("load_assignment", reason));
        }
        let family = DnsFamily::from_proto(message)?;
        ignored.scope("cluster_type.typed_config", |ignored| {
            Self::of(&config(custom)?, sentinels, family, ignored)
        })
    }

    fn of(
        config: &SentinelClusterConfig,
        sentinels: Assignment,
        family: DnsFamily,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let username = match credential(config.auth_username.as_ref(), "auth_username", ignored)? {
            Some(bytes) => String::from_utf8(bytes)
                .map_err(|_| Invalid::new("auth_username", "value is not valid UTF-8"))?,
            None => String::new(),
        };
        let password =
            credential(config.auth_password.as_ref(), "auth_password", ignored)?.unwrap_or_default();
        if password.is_empty() && !username.is_empty() {
            return Err(Invalid::new(
                "auth_password",
                "value is required with auth_username",
            ));
        }
        Ok(Self {
            sentinels,
            family,
            master_name: master_name(&config.master_name)?,
            refresh_rate: positive_or(
                config.refresh_rate.as_ref(),
                "refresh_rate",
                Duration::from_secs(5),
            )?,
            refresh_timeout: positive_or(
                config.refresh_timeout.as_ref(),
                "refresh_timeout",
                Duration::from_secs(3),
            )?,
            username,
            password,
        })
    }
}

/// Redis: the names that `sentinel monitor` takes.
fn master_name(name: &str) -> Result<String, Invalid> {
    let name = non_empty(name, "master_name")?;
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    match name.chars().find(|letter| !fits(*letter)) {
        None => Ok(name),
        Some(letter) => {
            let reason =
                format!("{letter:?} cannot stand in the name of a master (letters, digits, '.', '-', '_')");
            Err(Invalid::new("master_name", reason))
        }
    }
}

fn credential(
    source: Option<&sentinel::DataSource>,
    path: &str,
    ignored: &mut Ignored,
) -> Result<Option<Vec<u8>>, Invalid> {
    let Some(source) = source else { return Ok(None) };
    // The same fields under the same numbers.
    let source = DataSource::decode(source.encode_to_vec().as_slice())
        .map_err(|error| Invalid::new(path, format!("malformed DataSource: {error}")))?;
    let data = ignored.scope(path, |ignored| data_source::read(&source, ignored))?;
    Ok(Some(data.bytes))
}

fn config(custom: &CustomClusterType) -> Result<SentinelClusterConfig, Invalid> {
    let Some(any) = custom.typed_config.as_ref() else {
        return Err(Invalid::new("", "value is required: it names the master"));
    };
    let extension = Extension::new(&custom.name, Some(any));
    match extension.type_url.as_str() {
        type_url::SENTINEL_CLUSTER_CONFIG => {
            let mut unknown = Ignored::default();
            let config = extension.decode(&mut unknown)?;
            match unknown.0.into_iter().next() {
                None => Ok(config),
                Some(path) => Err(Invalid::new(path, "no such field in SentinelClusterConfig")),
            }
        }
        type_url::STRUCT => {
            let object = Struct::decode(any.value.as_slice())
                .map_err(|error| Invalid::new("", format!("malformed google.protobuf.Struct: {error}")))?;
            from_struct(&object)
                .map_err(|error| Invalid::new(error.path(), error.reason().to_owned()).within("value"))
        }
        other => Err(Invalid::new(
            "",
            format!("expected SentinelClusterConfig, found {}", type_name(other)),
        )),
    }
}

#[cfg(test)]
mod tests;
