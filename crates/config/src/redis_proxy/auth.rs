//! Downstream credentials of the `redis_proxy` filter.

use redplane_proto::pb::envoy::extensions::filters::network::redis_proxy::v3::RedisProxy;

use crate::data_source::{read, read_text};
use crate::{Ignored, Invalid};

/// Who may log in on this listener. Contents are secret: `Debug` prints none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct DownstreamAuth {
    /// `downstream_auth_username`; `None` where none is configured (the user is then `default`).
    pub username: Option<String>,
    /// Accepted passwords, empty ones dropped. May be empty: then nobody can log in.
    pub passwords: Vec<Vec<u8>>,
}

impl std::fmt::Debug for DownstreamAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DownstreamAuth([redacted])")
    }
}

impl DownstreamAuth {
    /// Reads user and passwords, the deprecated single password among them; `None` where neither is configured.
    pub(crate) fn from_proto(message: &RedisProxy, ignored: &mut Ignored) -> Result<Option<Self>, Invalid> {
        if message.external_auth_provider.is_some() {
            return Err(Invalid::new(
                "external_auth_provider",
                "external authentication is not supported",
            ));
        }
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
