//! Logins that a service decides on (`external_auth_provider`): the question, its answer, and how long a login lasts.
//!
//! AUTH and HELLO AUTH become an [`Action::Authenticate`]; the driver asks and calls [`Engine::authenticated`]. Until
//! then the client's input rests, so that what stands behind AUTH runs as whom AUTH made it. A login with an end is
//! taken back when the end comes, at the start of a turn; a command that runs already goes on.
//!
//! Envoy: `source/extensions/filters/network/redis_proxy/proxy_filter.cc`, `onAuthenticateExternal`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redplane_command::error;
use redplane_config::redis_proxy::{ExternalAuth, Protocol};
use redplane_resp::encode;
use redplane_upstream::Cluster;

use crate::dispatch::Request;
use crate::engine::{Action, Engine};
use redplane_merge::Answer;
use redplane_redis_core::client::{Slot, Waiter};

/// What the driver asks the service. `Debug` prints no user and no password.
pub struct LoginQuestion {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// The service.
    pub provider: Arc<ExternalAuth>,
    /// Its cluster; `None` while there is none.
    pub cluster: Option<Arc<Cluster>>,
    /// Empty where the client named none.
    pub user: String,
    /// What the client sent.
    pub password: String,
}

impl std::fmt::Debug for LoginQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginQuestion")
            .field("ticket", &self.ticket)
            .field("cluster", &self.provider.cluster)
            .finish_non_exhaustive()
    }
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client may log in. Where logins expire, for this long.
    Granted {
        /// From now on; zero is no time at all.
        lasts: Duration,
    },
    /// It may not; the text is for it and may be empty.
    Denied(String),
    /// The service could not be asked or could not decide.
    Failed(String),
}

/// What HELLO does once its login is granted.
#[derive(Debug)]
pub(crate) struct AfterLogin {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) name: Option<Vec<u8>>,
}

/// A question under way.
struct LoginAttempt {
    waiter: Waiter,
    command: redplane_command::CommandId,
    since: u64,
    user: Vec<u8>,
    /// `None` for AUTH.
    after: Option<AfterLogin>,
    expires: bool,
}

/// Questions under way, and logins that end.
#[derive(Default)]
pub(crate) struct Logins {
    asked: HashMap<u64, LoginAttempt>,
    tickets: u64,
    /// When logins end: time and client.
    ends: BTreeSet<(u64, u32)>,
    by_client: HashMap<u32, u64>,
}

impl Logins {
    /// Whether a login has ended by now.
    #[inline]
    pub(crate) fn any_over(&self, now: u64) -> bool {
        self.ends.first().is_some_and(|(end, _)| *end <= now)
    }

    fn last_until(&mut self, client: u32, end: Option<u64>) {
        if let Some(former) = self.by_client.remove(&client) {
            self.ends.remove(&(former, client));
        }
        if let Some(end) = end {
            self.by_client.insert(client, end);
            self.ends.insert((end, client));
        }
    }
}

impl Engine {
    /// The service that decides about a client's login, if there is one.
    pub(crate) fn external_auth(&self, key: usize) -> Option<Arc<ExternalAuth>> {
        use redplane_config::redis_proxy::DownstreamAuth;
        match &self.filters[self.clients[key].filter].proxy.auth {
            Some(DownstreamAuth::External(provider)) => Some(Arc::clone(provider)),
            _ => None,
        }
    }

    /// Asks whether a client may log in. What it sends meanwhile rests.
    pub(crate) fn ask_for_login(
        &mut self,
        key: usize,
        provider: Arc<ExternalAuth>,
        (user, password): (&[u8], &[u8]),
        request: &Request<'_>,
        after: Option<AfterLogin>,
    ) {
        // Protobuf strings are UTF-8: what is not cannot be anybody's name or password there.
        let (Ok(user), Ok(password)) = (std::str::from_utf8(user), std::str::from_utf8(password)) else {
            self.log_in(key, None);
            return self.answer(key, error::WRONGPASS);
        };
        let command =
            redplane_command::lookup(request.arg(0)).map_or(redplane_command::CommandId(0), |c| c.id);
        let waiter = self.expect_reply(key, Slot::Waiting);
        self.logins.tickets += 1;
        let ticket = self.logins.tickets;
        let asked = LoginAttempt {
            waiter,
            command,
            since: self.now,
            user: user.as_bytes().to_vec(),
            after,
            expires: provider.expires,
        };
        self.logins.asked.insert(ticket, asked);
        let cluster = self.snapshot.clusters.get(&provider.cluster).cloned();
        self.rest_behind(key);
        self.actions.push(Action::Authenticate(Box::new(LoginQuestion {
            ticket,
            provider,
            cluster,
            user: user.to_owned(),
            password: password.to_owned(),
        })));
    }

    /// What the service said. A ticket that is not known any more, its client having gone, means nothing.
    pub fn authenticated(&mut self, ticket: u64, verdict: &Verdict) {
        let Some(asked) = self.logins.asked.remove(&ticket) else {
            return;
        };
        let key = asked.waiter.client as usize;
        let known = self.clients.get(key).map(|client| client.generation);
        if known != Some(asked.waiter.generation) {
            return;
        }
        let mut reply = Vec::new();
        match verdict {
            Verdict::Granted { lasts } => self.grant_login(key, &asked, *lasts, &mut reply),
            Verdict::Denied(message) => {
                self.log_in(key, None);
                let (code, without) = match asked.after {
                    None => ("ERR", "unauthorized"),
                    Some(_) => ("WRONGPASS", "invalid username-password pair"),
                };
                let message = if message.is_empty() { without } else { message };
                encode::error(&mut reply, format!("{code} {message}").as_bytes());
            }
            Verdict::Failed(reason) => {
                tracing::error!(target: "redis", "Redis external authentication failed: {reason}");
                reply.extend_from_slice(b"-ERR external authentication failed\r\n");
            }
        }
        if self.logins.any_over(self.now) {
            // It was for no time at all: what stands behind it is not to run any more.
            self.end_logins();
        }
        self.settle(asked.waiter, asked.command, asked.since, Answer::Raw(&reply));
    }

    fn grant_login(&mut self, key: usize, asked: &LoginAttempt, lasts: Duration, reply: &mut Vec<u8>) {
        let micros = u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX);
        let end = asked.expires.then(|| self.now.saturating_add(micros));
        self.logins.last_until(key as u32, end);
        self.log_in(key, Some(&asked.user));
        let Some(after) = &asked.after else {
            return reply.extend_from_slice(b"+OK\r\n");
        };
        if let Some(name) = &after.name {
            self.clients[key].session.name = name.as_slice().into();
        }
        if let Some(protocol) = after.protocol {
            self.speak(key, protocol);
            self.admit(key);
        }
        self.hello_map(key, reply);
    }

    /// Logins whose end has come are taken back.
    #[cold]
    pub(crate) fn end_logins(&mut self) {
        while let Some(&(end, client)) = self.logins.ends.first().filter(|(end, _)| *end <= self.now) {
            self.logins.ends.remove(&(end, client));
            self.logins.by_client.remove(&client);
            if self.clients.get_mut(client as usize).is_some() {
                self.log_in(client as usize, None);
            }
        }
    }

    /// A client is gone: nobody waits for its verdict any more.
    pub(crate) fn forget_login(&mut self, client: u32) {
        if !self.logins.by_client.is_empty() {
            self.logins.last_until(client, None);
        }
        if self.logins.asked.is_empty() {
            return;
        }
        let own = |(ticket, asked): (&u64, &LoginAttempt)| (asked.waiter.client == client).then_some(*ticket);
        let tickets: Vec<u64> = self.logins.asked.iter().filter_map(own).collect();
        for ticket in tickets {
            self.logins.asked.remove(&ticket);
            self.actions.push(Action::ForgetLogin(ticket));
        }
    }
}
