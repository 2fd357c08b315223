//! Requests that get no reply from a server, and the one RESP answer that each of these cases has.
//!
//! Errors that only a proxy can have read as Envoy's; where Redis has a wording for the case it is Redis's.

/// Why there is no reply from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No route, no such cluster, no host by policy, or the connection rate is used up.
    NoHost,
    /// Connecting failed, the connection broke, or the time was up.
    Upstream,
    /// No node serves the slot.
    SlotUnserved,
    /// Keys of one command in several slots.
    CrossSlot,
    /// The host has as many leased connections as its cluster's circuit breaker allows.
    TooManyLeases,
}

impl Failure {
    /// The error line, CR LF included.
    pub fn reply(self) -> &'static [u8] {
        match self {
            Self::NoHost => b"-no upstream host\r\n",
            Self::Upstream => b"-upstream failure\r\n",
            Self::SlotUnserved => redplane_command::error::CLUSTERDOWN_SLOT,
            Self::CrossSlot => redplane_command::error::CROSSSLOT,
            Self::TooManyLeases => b"-ERR max number of blocked clients reached\r\n",
        }
    }

    /// Whether the error is one that Envoy counts when it adds up the failed parts of a split command.
    pub fn is_proxys_own(self) -> bool {
        matches!(self, Self::NoHost | Self::Upstream)
    }
}
