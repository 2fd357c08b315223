//! One discovery connection: AUTH first, then commands and their replies in order.
//!
//! Never sends READONLY or HELLO. The reply to AUTH is not waited for: a server that minds says so in every reply that
//! follows.

use std::io;
use std::time::Duration;

use redplane_resp::encode;
use redplane_resp::value::{Value, decode};
use redplane_upstream::cluster::{Cluster, Login};
use redplane_upstream::connect::{Stream, connect};
use redplane_upstream::host::Host;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

/// Largest reply that is read, in bytes: `CLUSTER NODES` of a thousand nodes has about 150,000.
const LARGEST_REPLY: usize = 64 << 20;

/// An open connection.
pub(crate) struct Session {
    stream: Stream,
    input: Vec<u8>,
    /// Replies to be dropped: to AUTH.
    skip: usize,
}

impl Session {
    pub(crate) async fn open(cluster: &Cluster, host: &Host) -> io::Result<Self> {
        cluster.login_ready().await;
        Self::open_as(cluster, host, auth(&cluster.login(&host.address))?).await
    }

    /// With an AUTH command of the caller's, or none.
    pub(crate) async fn open_as(cluster: &Cluster, host: &Host, login: Option<Vec<u8>>) -> io::Result<Self> {
        let stream = connect(cluster, host, cluster.config().connect_timeout, None).await?;
        let mut session = Self {
            stream,
            input: Vec::new(),
            skip: 0,
        };
        if let Some(login) = login {
            session.stream.write_all(&login).await?;
            session.skip = 1;
        }
        Ok(session)
    }

    /// Sends commands in one write.
    pub(crate) async fn send(&mut self, commands: &[&[&[u8]]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for command in commands {
            encode::request(&mut bytes, command);
        }
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    /// The next reply.
    pub(crate) async fn reply(&mut self, deadline: Instant) -> io::Result<Value> {
        loop {
            let reply = timeout_at(deadline, self.next())
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            if self.skip == 0 {
                return Ok(reply);
            }
            self.skip -= 1;
            if let Value::Error(text) = reply {
                tracing::debug!(reply = %String::from_utf8_lossy(&text), "AUTH was not accepted");
            }
        }
    }

    async fn next(&mut self) -> io::Result<Value> {
        loop {
            match decode(&self.input) {
                Ok(Some((value, used))) => {
                    self.input.drain(..used);
                    return Ok(value);
                }
                Ok(None) if self.input.len() > LARGEST_REPLY => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the reply is too large",
                    ));
                }
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            }
            self.input.reserve(16 << 10);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The AUTH command of a cluster's login; `None` where nothing is to be said.
fn auth(said: &Login<'_>) -> io::Result<Option<Vec<u8>>> {
    match said {
        Login::None => Ok(None),
        Login::Password(user, password) => Ok(login(user, password)),
        Login::Unavailable => {
            let reason = "there is no valid IAM token";
            Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
        }
    }
}

/// The AUTH command for a user, or for the default one; `None` without a password.
pub(crate) fn login(user: &str, password: &[u8]) -> Option<Vec<u8>> {
    if password.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    if user.is_empty() {
        encode::request(&mut bytes, &[b"AUTH", password]);
    } else {
        encode::request(&mut bytes, &[b"AUTH", user.as_bytes(), password]);
    }
    Some(bytes)
}

/// How long to wait for a whole exchange.
pub(crate) fn within(timeout: Duration) -> Instant {
    Instant::now() + timeout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_unless_it_is_the_default_one() {
        let sent = |login: &Login<'_>| auth(login).unwrap().unwrap();
        let password = || std::borrow::Cow::Borrowed(b"all".as_slice());
        assert_eq!(
            sent(&Login::Password("", password())),
            b"*2\r\n$4\r\nAUTH\r\n$3\r\nall\r\n"
        );
        assert_eq!(
            sent(&Login::Password("u", password())),
            b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\nall\r\n"
        );
        assert_eq!(auth(&Login::None).unwrap(), None);
        assert!(auth(&Login::Unavailable).is_err());
    }
}
