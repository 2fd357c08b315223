//! Redis in a cluster: `RedisClusterConfig` (discovery) and `RedisProtocolOptions` (upstream credentials).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use redplane_proto::pb::envoy::config::cluster::v3 as cluster;
use redplane_proto::pb::envoy::config::cluster::v3::cluster::CustomClusterType;
use redplane_proto::pb::envoy::config::core::v3::DataSource;
use redplane_proto::pb::envoy::extensions::clusters::redis::v3::RedisClusterConfig;
use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::{
    RedisProtocolOptions, redis_protocol_options,
};
use redplane_proto::pb::google::protobuf::Struct;
use redplane_proto::{from_struct_lenient, type_url};

use super::aws_iam::AwsIam;
use super::discovery::{DnsFamily, assignment};
use crate::data_source;
use crate::endpoint::{Assignment, Names};
use crate::extension::{Extension, type_name};
use crate::field::{duration_or, positive_or, required};
use crate::invalid::ignore_fields;
use crate::{Address, Ignored, Invalid};

/// `RedisClusterConfig` with its seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisCluster {
    /// `load_assignment`: names or IP literals.
    pub seeds: Assignment,
    /// Families for seeds and for host names in the slot map.
    pub family: DnsFamily,
    /// Time from the end of one refresh to the next. Default 5 s.
    pub refresh_rate: Duration,
    /// How long one answer may take. Default 3 s.
    pub refresh_timeout: Duration,
    /// Shortest time between refreshes that events ask for. Default 5 s.
    pub redirect_refresh_interval: Duration,
    /// Redirections that ask for a refresh. Default 5; 0 never.
    pub redirect_refresh_threshold: u32,
    /// Failed requests that ask for a refresh. 0 never.
    pub failure_refresh_threshold: u32,
    /// Hosts turning unhealthy that ask for a refresh. 0 never.
    pub host_degraded_refresh_threshold: u32,
    /// Ask each node for its availability zone.
    pub enable_zone_discovery: bool,
}

impl RedisCluster {
    /// Reads the `cluster_type` and the seeds. The configuration may be the message itself, a Struct, a TypedStruct
    /// naming either version, or absent: then all of it is at its defaults.
    pub(super) fn from_proto(
        message: &cluster::Cluster,
        custom: &CustomClusterType,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let seeds = assignment(message, Names::Resolved, ignored)?;
        let family = DnsFamily::from_proto(message)?;
        ignored.scope("cluster_type.typed_config", |ignored| {
            Self::of(&config(custom, ignored)?, seeds, family)
        })
    }

    fn of(config: &RedisClusterConfig, seeds: Assignment, family: DnsFamily) -> Result<Self, Invalid> {
        let interval = config.redirect_refresh_interval.as_ref();
        let threshold = config.redirect_refresh_threshold.as_ref();
        let seconds = Duration::from_secs;
        Ok(Self {
            seeds,
            family,
            refresh_rate: positive_or(
                config.cluster_refresh_rate.as_ref(),
                "cluster_refresh_rate",
                seconds(5),
            )?,
            refresh_timeout: positive_or(
                config.cluster_refresh_timeout.as_ref(),
                "cluster_refresh_timeout",
                seconds(3),
            )?,
            redirect_refresh_interval: duration_or(interval, "redirect_refresh_interval", seconds(5))?,
            redirect_refresh_threshold: threshold.map_or(5, |threshold| threshold.value),
            failure_refresh_threshold: config.failure_refresh_threshold,
            host_degraded_refresh_threshold: config.host_degraded_refresh_threshold,
            enable_zone_discovery: config.enable_zone_discovery.is_some_and(|enable| enable.value),
        })
    }
}

fn config(custom: &CustomClusterType, ignored: &mut Ignored) -> Result<RedisClusterConfig, Invalid> {
    let Some(any) = custom.typed_config.as_ref() else {
        return Ok(RedisClusterConfig::default());
    };
    let extension = Extension::new(&custom.name, Some(any));
    match extension.type_url.as_str() {
        type_url::REDIS_CLUSTER_CONFIG => extension.decode(ignored),
        type_url::STRUCT => {
            let object = Struct::decode(any.value.as_slice())
                .map_err(|error| Invalid::new("", format!("malformed google.protobuf.Struct: {error}")))?;
            let read = from_struct_lenient(&object)
                .map_err(|error| Invalid::new(error.path(), error.reason().to_owned()).within("value"))?;
            read.ignored
                .paths
                .into_iter()
                .for_each(|path| ignored.note(format!("value.{path}")));
            Ok(read.message)
        }
        other => Err(Invalid::new(
            "",
            format!("expected RedisClusterConfig, found {}", type_name(other)),
        )),
    }
}

/// `RedisProtocolOptions`. Contents are secret: `Debug` prints none of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisAuth {
    /// ACL user; empty is the default user.
    pub username: String,
    /// Password; empty sends no AUTH.
    pub password: Vec<u8>,
    /// Credentials of single hosts, first match wins: `ip:port`, user, password.
    pub hosts: Vec<(SocketAddr, String, Vec<u8>)>,
    /// Tokens in place of all passwords; the user is then never empty.
    pub aws_iam: Option<Arc<AwsIam>>,
}

impl std::fmt::Debug for RedisAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisAuth([redacted])")
    }
}

impl RedisAuth {
    /// Reads the message.
    pub(super) fn from_proto(message: &RedisProtocolOptions, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let (username, password) = pair(
            message.auth_username.as_ref(),
            message.auth_password.as_ref(),
            ignored,
        )?;
        let hosts = ignored.each("credentials", &message.credentials, credential)?;
        let Some(iam) = message.aws_iam.as_ref() else {
            return Ok(Self {
                username,
                password,
                hosts,
                aws_iam: None,
            });
        };
        let iam = ignored.scope("aws_iam", |ignored| AwsIam::from_proto(iam, ignored))?;
        ignore_fields!(ignored, message, auth_password, credentials);
        if username.is_empty() {
            return Err(Invalid::new(
                "auth_username",
                "aws_iam needs the name of its user",
            ));
        }
        Ok(Self {
            username,
            password: Vec::new(),
            hosts: Vec::new(),
            aws_iam: Some(Arc::new(iam)),
        })
    }
}

fn credential(
    message: &redis_protocol_options::Credential,
    ignored: &mut Ignored,
) -> Result<(SocketAddr, String, Vec<u8>), Invalid> {
    let address = required(message.address.as_ref(), "address")?;
    let address = ignored.scope("address", |ignored| Address::from_proto(address, ignored))?;
    let Some(Address::Ip(address)) = address else {
        return Err(Invalid::new("address", "must be an IP address with its port"));
    };
    let (username, password) = pair(
        message.auth_username.as_ref(),
        message.auth_password.as_ref(),
        ignored,
    )?;
    Ok((address, username, password))
}

fn pair(
    username: Option<&DataSource>,
    password: Option<&DataSource>,
    ignored: &mut Ignored,
) -> Result<(String, Vec<u8>), Invalid> {
    let username = match username {
        Some(source) => ignored.scope("auth_username", |ignored| data_source::read_text(source, ignored))?,
        None => String::new(),
    };
    let password = match password {
        Some(source) => {
            ignored
                .scope("auth_password", |ignored| data_source::read(source, ignored))?
                .bytes
        }
        None => Vec::new(),
    };
    Ok((username, password))
}
