//! Credentials, and how they are read from the answers of metadata services.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::clock;

/// What requests are signed with. Secret: `Debug` prints none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `AKIA…` or `ASIA…`.
    pub access_key_id: String,
    /// What the signing key is made of.
    pub secret_access_key: String,
    /// Of temporary credentials.
    pub session_token: Option<String>,
    /// When they cease to be valid; `None` where the source does not say.
    pub expires: Option<SystemTime>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

impl Credentials {
    /// Lasting ones; `None` unless both parts are there.
    pub(crate) fn of(id: Option<String>, secret: Option<String>, session: Option<String>) -> Option<Self> {
        let present = |text: &String| !text.is_empty();
        Some(Self {
            access_key_id: id.filter(present)?,
            secret_access_key: secret.filter(present)?,
            session_token: session.filter(present),
            expires: None,
        })
    }

    /// Out of a JSON object: STS names the session token differently from ECS and EC2, and its time is a number.
    pub(crate) fn from_json(object: &Value) -> Option<Self> {
        let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
        let session = text("SessionToken").or_else(|| text("Token"));
        let expires = object.get("Expiration").and_then(|time| match time {
            Value::String(text) => clock::parse(text),
            number => UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(number.as_f64()?).ok()?),
        });
        Some(Self {
            expires,
            ..Self::of(text("AccessKeyId"), text("SecretAccessKey"), session)?
        })
    }
}
