//! Who may log in on a `redis_proxy` filter: `downstream_auth_*` and `external_auth_provider`.

use std::sync::Arc;

use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::RedisProxy;

use super::external_auth::ExternalAuth;
use crate::data_source::{read, read_text};
use crate::invalid::ignore_fields;
use crate::{Ignored, Invalid};

/// Who decides about a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownstreamAuth {
    /// The filter, by what is configured.
    Passwords(Passwords),
    /// A service, which is asked at each AUTH. What is configured beside it counts for nothing, as in Envoy.
    External(Arc<ExternalAuth>),
}

/// Who may log in on this listener. Contents are secret: `Debug` prints none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Passwords {
    /// `downstream_auth_username`; `None` where none is configured (the user is then `default`).
    pub username: Option<String>,
    /// Accepted passwords, empty ones dropped. May be empty: then nobody can log in.
    pub passwords: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords([redacted])")
    }
}

impl DownstreamAuth {
    /// Whether somebody may log in by this name. A service is not asked: it may know anybody.
    pub fn may_know(&self, user: &[u8]) -> bool {
        match self {
            Self::Passwords(own) => own.username.as_ref().is_some_and(|name| name.as_bytes() == user),
            Self::External(_) => true,
        }
    }

    /// Reads the provider, or else user and passwords; `None` where nothing is configured.
    pub(crate) fn from_proto(message: &RedisProxy, ignored: &mut Ignored) -> Result<Option<Self>, Invalid> {
        if let Some(provider) = message.external_auth_provider.as_ref() {
            ignore_fields!(
                ignored,
                message,
                downstream_auth_username,
                downstream_auth_passwords,
                downstream_auth_password
            );
            let provider = ignored.scope("external_auth_provider", |ignored| {
                ExternalAuth::from_proto(provider, ignored)
            })?;
            return Ok(Some(Self::External(Arc::new(provider))));
        }
        Ok(Passwords::from_proto(message, ignored)?.map(Self::Passwords))
    }
}

impl Passwords {
    /// Reads user and passwords, the deprecated single password among them; `None` where neither is configured.
    fn from_proto(message: &RedisProxy, ignored: &mut Ignored) -> Result<Option<Self>, Invalid> {
        let username = match message.downstream_auth_username.as_ref() {
            Some(source) => {
                ignored.scope("downstream_auth_username", |ignored| read_text(source, ignored))?
            }
            None => String::new(),
        };
        let bytes = |source: &_, ignored: &mut Ignored| read(source, ignored).map(|data| data.bytes);
        let mut passwords = ignored.each(
            "downstream_auth_passwords",
            &message.downstream_auth_passwords,
            bytes,
        )?;
        if let Some(source) = message.downstream_auth_password.as_ref() {
            passwords.push(ignored.scope("downstream_auth_password", |ignored| bytes(source, ignored))?);
        }
        passwords.retain(|password| !password.is_empty());
        let username = (!username.is_empty()).then_some(username);
        Ok((username.is_some() || !passwords.is_empty()).then_some(Self { username, passwords }))
    }
}
