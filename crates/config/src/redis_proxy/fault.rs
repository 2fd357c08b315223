//! `faults` of the `redis_proxy` filter.

use std::time::Duration;

use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::redis_proxy::{
    RedisFault, redis_fault,
};

use crate::field::{duration_or, enumeration, parts_per_million, required};
use crate::{Ignored, Invalid};

/// One `RedisFault`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// Parts of a million of the commands it hits.
    pub parts_per_million: u32,
    /// How long the reply is held; zero is not.
    pub delay: Duration,
    /// Lower-case names; empty means every command.
    pub commands: Vec<String>,
}

/// `RedisFault.RedisFaultType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The reply is held for the fault's delay.
    Delay,
    /// The reply is `-Fault Injected: Error`; nothing is sent upstream.
    Error,
}

impl Fault {
    pub(crate) fn from_proto(message: &RedisFault, ignored: &mut Ignored) -> Result<Self, Invalid> {
        let kind = match enumeration(message.fault_type, "fault_type")? {
            redis_fault::RedisFaultType::Delay => FaultKind::Delay,
            redis_fault::RedisFaultType::Error => FaultKind::Error,
        };
        let enabled = required(message.fault_enabled.as_ref(), "fault_enabled")?;
        Ok(Self {
            kind,
            parts_per_million: ignored
                .scope("fault_enabled", |ignored| parts_per_million(enabled, ignored))?,
            delay: duration_or(message.delay.as_ref(), "delay", Duration::ZERO)?,
            commands: message
                .commands
                .iter()
                .map(|command| command.to_lowercase())
                .collect(),
        })
    }
}
