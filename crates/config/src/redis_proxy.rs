//! The `redis_proxy` network filter: `envoy.extensions.filters.network.redis_proxy.v3.RedisProxy`.
//!
//! The filter is known by the type of its configuration, never by its name; version 2 of the type and a TypedStruct
//! around either mean the same.

mod auth;
mod external_auth;
mod fault;
mod key_formatter;
mod routes;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3 as proto;
use redplane_proto::pb::google::protobuf::Any;
use redplane_proto::type_url;

pub use auth::{DownstreamAuth, Passwords};
pub use external_auth::ExternalAuth;
pub use fault::{Fault, FaultKind};
pub use key_formatter::{KeyFormatter, KeyPiece};
pub use routes::{Mirror, Route, Routes};
pub use settings::{ReadPolicy, Settings};

use crate::extension::{Extension, type_name};
use crate::field::{enumeration, non_empty, required};
use crate::{Ignored, Invalid};

/// One validated filter. Immutable and shared; two pushes with equal content give equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisProxy {
    /// Stats go under `redis.<stat_prefix>.`; never empty.
    pub stat_prefix: String,
    /// `ConnPoolSettings`, shared by all routes.
    pub settings: Arc<Settings>,
    /// Where keys go; at least one route or a catch-all.
    pub routes: Routes,
    /// Histograms of `command.*.latency` in microseconds instead of milliseconds.
    pub latency_in_micros: bool,
    /// Who may log in; `None` where no password, user or provider is configured.
    pub auth: Option<DownstreamAuth>,
    /// Fault injection, in configuration order.
    pub faults: Vec<Fault>,
    /// Extra commands whose key is argument 1; matched against the lower-cased name, literally.
    pub custom_commands: Vec<String>,
    /// RESP3: clients have to say `HELLO 3` before anything else. RESP2: they may.
    pub protocol: Protocol,
}

/// `protocol_version` of the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, the default.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

impl RedisProxy {
    /// Reads the filter's `typed_config`, in any of its wrappings.
    pub fn from_any(any: &Any, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let extension = Extension::new("", Some(any));
        if extension.type_url != type_url::REDIS_PROXY {
            return Err(Invalid::new(
                "",
                format!("expected RedisProxy, found {}", type_name(&extension.type_url)),
            ));
        }
        Self::from_proto(&extension.decode(ignored)?, ignored)
    }

    /// Reads the message.
    pub fn from_proto(message: &proto::RedisProxy, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let settings = required(message.settings.as_ref(), "settings")?;
        let settings = ignored.scope("settings", |ignored| Settings::from_proto(settings, ignored))?;
        let routes = message.prefix_routes.as_ref();
        for (i, command) in message.custom_commands.iter().enumerate() {
            if command.to_lowercase() != *command {
                ignored.note(format!(
                    "custom_commands[{i}]: `{command}` is not in lower case and matches nothing"
                ));
            }
        }
        Ok(Self {
            stat_prefix: non_empty(&message.stat_prefix, "stat_prefix")?,
            settings: Arc::new(settings),
            routes: ignored.scope("prefix_routes", |ignored| Routes::from_proto(routes, ignored))?,
            latency_in_micros: message.latency_in_micros,
            auth: DownstreamAuth::from_proto(message, ignored)?,
            faults: ignored.each("faults", &message.faults, Fault::from_proto)?,
            custom_commands: message.custom_commands.clone(),
            protocol: protocol(message.protocol_version)?,
        })
    }
}

fn protocol(version: i32) -> Result<Protocol, Invalid> {
    match enumeration(version, "protocol_version")? {
        proto::redis_proxy::ProtocolVersion::Resp2 => Ok(Protocol::Resp2),
        proto::redis_proxy::ProtocolVersion::Resp3 => Ok(Protocol::Resp3),
    }
}
