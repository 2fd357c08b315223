//! What a connection manager does to paths and hosts before routes are looked at.

use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as proto;
use redplane_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    PathWithEscapedSlashesAction, StripPortMode,
};

use crate::Invalid;
use crate::field::enumeration;

/// Path settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathSettings {
    /// `normalize_path`: RFC 3986.
    pub normalize: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `%2F`, `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Left as they are.
    #[default]
    Keep,
    /// 400.
    Reject,
    /// 307 to the path without them.
    Redirect,
    /// Decoded.
    Unescape,
}

/// Host settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// Which port is cut off.
    pub strip_port: StripPort,
    /// `strip_trailing_host_dot`.
    pub strip_dot: bool,
}

/// Which port is cut off the Host header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripPort {
    /// None.
    #[default]
    Keep,
    /// That of the listener.
    Matching,
    /// Any.
    Any,
}

impl PathSettings {
    pub(super) fn from_proto(message: &proto::HttpConnectionManager) -> Result<Self, Invalid> {
        use PathWithEscapedSlashesAction as Action;
        let action = message.path_with_escaped_slashes_action;
        Ok(Self {
            normalize: message.normalize_path.is_some_and(|flag| flag.value),
            merge_slashes: message.merge_slashes,
            escaped_slashes: match enumeration(action, "path_with_escaped_slashes_action")? {
                Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::Keep,
                Action::RejectRequest => EscapedSlashes::Reject,
                Action::UnescapeAndRedirect => EscapedSlashes::Redirect,
                Action::UnescapeAndForward => EscapedSlashes::Unescape,
            },
        })
    }
}

impl HostSettings {
    pub(super) fn from_proto(message: &proto::HttpConnectionManager) -> Result<Self, Invalid> {
        let any = matches!(
            message.strip_port_mode,
            Some(StripPortMode::StripAnyHostPort(true))
        );
        let strip_port = match (any, message.strip_matching_host_port) {
            (true, true) => {
                let reason = "Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.";
                return Err(Invalid::new("strip_any_host_port", reason));
            }
            (true, false) => StripPort::Any,
            (false, true) => StripPort::Matching,
            (false, false) => StripPort::Keep,
        };
        Ok(Self {
            strip_port,
            strip_dot: message.strip_trailing_host_dot,
        })
    }
}
