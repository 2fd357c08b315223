//! Logins that a service decides on (`external_auth_provider`): the question, its answer, and how long a login lasts.
//!
//! AUTH and HELLO AUTH become an [`Action::Authenticate`]; the driver asks and calls `Engine::authenticated`. Until
//! then the client's input rests, so that what stands behind AUTH runs as whom AUTH made it. A login with an end is
//! taken back when the end comes, at the start of a turn; a command that runs already goes on.
//!
//! Envoy: `source/extensions/filters/network/redis_proxy/proxy_filter.cc`, `onAuthenticateExternal`.

mod by_servers;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redplane_command::error;
use redplane_config::redis_proxy::{ExternalAuth, Protocol};
use redplane_merge::Answer;
use redplane_redis_core::client::{Slot, Waiter};
use redplane_redis_core::pool::LoginId;
use redplane_redis_flow::action::{Action, LoginQuestion};
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;
use redplane_resp::encode;

use crate::session::{admit, hello_map, log_in};

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
    /// Where a server decides: the login that the client had before.
    former: Option<LoginId>,
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

    /// Asks whether a client may log in. What it sends meanwhile rests.
    pub(crate) fn ask_for_login(
        &mut self,
        core: &mut Core,
        key: usize,
        provider: Arc<ExternalAuth>,
        (user, password): (&[u8], &[u8]),
        request: &Request<'_>,
        after: Option<AfterLogin>,
    ) {
        // Protobuf strings are UTF-8: what is not cannot be anybody's name or password there.
        let (Ok(user), Ok(password)) = (std::str::from_utf8(user), std::str::from_utf8(password)) else {
            log_in(core, key, None);
            return core.answer(key, error::WRONGPASS);
        };
        let command =
            redplane_command::lookup(request.arg(0)).map_or(redplane_command::CommandId(0), |c| c.id);
        let waiter = core.expect_reply(key, Slot::Waiting);
        self.tickets += 1;
        let ticket = self.tickets;
        let asked = LoginAttempt {
            waiter,
            command,
            since: core.now,
            user: user.as_bytes().to_vec(),
            after,
            expires: provider.expires,
            former: None,
        };
        self.asked.insert(ticket, asked);
        let cluster = core.shared.snapshot.clusters.get(&provider.cluster).cloned();
        core.rest_behind(key);
        core.out
            .actions
            .push(Action::Authenticate(Box::new(LoginQuestion {
                ticket,
                provider,
                cluster,
                user: user.to_owned(),
                password: password.to_owned(),
            })));
    }

    /// What the service said. A ticket that is not known any more, its client having gone, means nothing.
    pub(crate) fn authenticated(&mut self, core: &mut Core, ticket: u64, verdict: &Verdict) {
        let Some(asked) = self.asked.remove(&ticket) else {
            return;
        };
        let key = asked.waiter.client as usize;
        let known = core.clients.get(key).map(|client| client.generation);
        if known != Some(asked.waiter.generation) {
            return;
        }
        let mut reply = Vec::new();
        match verdict {
            Verdict::Granted { lasts } => self.grant_login(core, key, &asked, *lasts, &mut reply),
            Verdict::Denied(message) => {
                log_in(core, key, None);
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
        if self.any_over(core.now) {
            // It was for no time at all: what stands behind it is not to run any more.
            self.end_logins(core);
        }
        core.settle(asked.waiter, asked.command, asked.since, Answer::Raw(&reply));
    }

    fn grant_login(
        &mut self,
        core: &mut Core,
        key: usize,
        asked: &LoginAttempt,
        lasts: Duration,
        reply: &mut Vec<u8>,
    ) {
        let micros = u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX);
        let end = asked.expires.then(|| core.now.saturating_add(micros));
        self.last_until(key as u32, end);
        log_in(core, key, Some(&asked.user));
        let Some(after) = &asked.after else {
            return reply.extend_from_slice(b"+OK\r\n");
        };
        if let Some(name) = &after.name {
            core.clients[key].session.name = name.as_slice().into();
        }
        if let Some(protocol) = after.protocol {
            core.speak(key, protocol);
            admit(core, key);
        }
        hello_map(core, key, reply);
    }

    /// Logins whose end has come are taken back.
    #[cold]
    pub(crate) fn end_logins(&mut self, core: &mut Core) {
        while let Some(&(end, client)) = self.ends.first().filter(|(end, _)| *end <= core.now) {
            self.ends.remove(&(end, client));
            self.by_client.remove(&client);
            if core.clients.get_mut(client as usize).is_some() {
                log_in(core, client as usize, None);
            }
        }
    }

    /// A client is gone: nobody waits for its verdict any more.
    pub(crate) fn forget_login(&mut self, core: &mut Core, client: u32) {
        if !self.by_client.is_empty() {
            self.last_until(client, None);
        }
        if self.asked.is_empty() {
            return;
        }
        let own = |(ticket, asked): (&u64, &LoginAttempt)| (asked.waiter.client == client).then_some(*ticket);
        let tickets: Vec<u64> = self.asked.iter().filter_map(own).collect();
        for ticket in tickets {
            let attempt = self.asked.remove(&ticket);
            // A server's answer finds nobody, as any reply to a client that is gone.
            if attempt.is_some_and(|attempt| attempt.former.is_none()) {
                core.out.actions.push(Action::ForgetLogin(ticket));
            }
        }
    }
}

/// The service that decides about a client's login, if there is one.
pub(crate) fn external_auth(core: &Core, key: usize) -> Option<Arc<ExternalAuth>> {
    use redplane_config::redis_proxy::DownstreamAuth;
    match &core.filters[core.clients[key].filter].proxy.auth {
        Some(DownstreamAuth::External(provider)) => Some(Arc::clone(provider)),
        _ => None,
    }
}
