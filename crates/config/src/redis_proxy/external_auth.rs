//! `external_auth_provider` of the `redis_proxy` filter: the gRPC service that decides about logins.
//!
//! The service is `envoy.service.redis_auth.v3.RedisProxyExternalAuth`, reached through a cluster (`envoy_grpc`).

use std::time::Duration;

use redplane_proto::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use redplane_proto::pb::envoy::config::core::v3::{GrpcService, HeaderValue};
use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::RedisExternalAuthProvider;

use crate::field::{duration, non_empty, required};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// How long an answer may take where no time-out is configured. Envoy: the same.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(200);

/// `RedisExternalAuthProvider`.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAuth {
    /// The service's cluster; it need not exist, logins fail until it does.
    pub cluster: String,
    /// `:authority` of the calls; the cluster's name where none is configured.
    pub authority: String,
    /// How long an answer may take. Default 200 ms.
    pub timeout: Duration,
    /// Headers of the calls; values may be secret.
    pub metadata: Vec<(String, String)>,
    /// Logins end at the time that the service says (`enable_auth_expiration`).
    pub expires: bool,
}

impl std::fmt::Debug for ExternalAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalAuth")
            .field("cluster", &self.cluster)
            .field("timeout", &self.timeout)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl ExternalAuth {
    /// Reads the message. Envoy takes one without a service, and then fails every login.
    pub(super) fn from_proto(
        message: &RedisExternalAuthProvider,
        ignored: &mut Ignored,
    ) -> Result<Self, Invalid> {
        let service = required(message.grpc_service.as_ref(), "grpc_service")?;
        let mut auth = ignored.scope("grpc_service", |ignored| Self::reached_by(service, ignored))?;
        auth.expires = message.enable_auth_expiration;
        Ok(auth)
    }

    fn reached_by(service: &GrpcService, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(ignored, service, retry_policy);
        let grpc = match service.target_specifier.as_ref() {
            Some(TargetSpecifier::EnvoyGrpc(grpc)) => grpc,
            Some(TargetSpecifier::GoogleGrpc(_)) => {
                return Err(Invalid::new("google_grpc", "is not supported, use envoy_grpc"));
            }
            None => return Err(Invalid::new("target_specifier", "value is required")),
        };
        let timeout = match service.timeout.as_ref() {
            Some(timeout) => duration(timeout, "timeout")?,
            None => DEFAULT_TIMEOUT,
        };
        Ok(Self {
            timeout,
            metadata: ignored.each("initial_metadata", &service.initial_metadata, header)?,
            ..ignored.scope("envoy_grpc", |ignored| Self::through(grpc, ignored))?
        })
    }

    fn through(grpc: &EnvoyGrpc, ignored: &mut Ignored) -> Result<Self, Invalid> {
        ignore_fields!(
            ignored,
            grpc,
            retry_policy,
            max_receive_message_length,
            skip_envoy_headers
        );
        let cluster = non_empty(&grpc.cluster_name, "cluster_name")?;
        let authority = match grpc.authority.is_empty() {
            true => cluster.clone(),
            false => grpc.authority.clone(),
        };
        Ok(Self {
            cluster,
            authority,
            timeout: DEFAULT_TIMEOUT,
            metadata: Vec::new(),
            expires: false,
        })
    }
}

/// A header that HTTP/2 can carry as text. Binary ones and Envoy's substitutions have no use here.
fn header(header: &HeaderValue, _ignored: &mut Ignored) -> Result<(String, String), Invalid> {
    let key = non_empty(&header.key, "key")?.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+.^_`|~-".contains(&byte);
    if !key.bytes().all(is_token) || key.ends_with("-bin") {
        return Err(Invalid::new(
            "key",
            format!("`{key}` is not the name of a text header"),
        ));
    }
    let value = match header.raw_value.is_empty() {
        true => header.value.clone(),
        false => String::from_utf8(header.raw_value.clone())
            .map_err(|_| Invalid::new("raw_value", "value is not valid UTF-8"))?,
    };
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(Invalid::new(
            "value",
            "contains a character that no header may have",
        ));
    }
    Ok((key, value))
}
