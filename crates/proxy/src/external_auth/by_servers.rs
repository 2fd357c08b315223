//! Logins that servers decide on, since neither the filter nor a cluster has a password (`redis_flow::client_logins`).
//!
//! The client's input rests until a server has answered. A refusal reaches it in the server's words, and it stays who it was,
//! as Redis leaves a connection as it is when AUTH fails.

use redplane_command::CommandId;
use redplane_merge::{Answer, Failure};
use redplane_redis_core::pending::Pending;
use redplane_redis_flow::client_logins::NotOffered;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::Request;

use super::{AfterLogin, LoginAttempt, Logins};

/// The answer where a worker's clients have brought too many different logins.
const TOO_MANY: &[u8] = b"-ERR too many different logins are in use\r\n";

impl Logins {
    /// Asks a server whether a client may log in.
    pub(crate) fn offer(
        &mut self,
        core: &mut Core,
        key: usize,
        (user, password): (&[u8], &[u8]),
        request: &Request<'_>,
        after: Option<AfterLogin>,
    ) {
        let command = redplane_command::lookup(request.arg(0)).map_or(CommandId(0), |command| command.id);
        let asked = &self.asked;
        let kept = |id| asked.values().any(|attempt| attempt.former == Some(id));
        let (waiter, former) = match core.offer_login(key, command, (user, password), kept) {
            Ok(offered) => offered,
            Err(NotOffered::TooMany) => return core.answer(key, TOO_MANY),
            Err(NotOffered::Unreachable(failure)) => return core.fail_now(key, command, failure),
        };
        self.tickets += 1;
        let attempt = LoginAttempt {
            waiter,
            command,
            since: core.now,
            user: user.to_vec(),
            after,
            expires: false,
            former: Some(former),
        };
        self.asked.insert(self.tickets, attempt);
    }

    /// What a server said of it; `None` when it said nothing.
    pub(crate) fn offered(&mut self, core: &mut Core, pending: &Pending, said: Option<&[u8]>) {
        let own = |(ticket, attempt): (&u64, &LoginAttempt)| {
            (attempt.waiter == pending.waiter && attempt.former.is_some()).then_some(*ticket)
        };
        let Some(attempt) = self
            .asked
            .iter()
            .find_map(own)
            .and_then(|ticket| self.asked.remove(&ticket))
        else {
            return;
        };
        if core.clients.of(attempt.waiter).is_none() {
            return;
        }
        let key = attempt.waiter.client as usize;
        let mut reply = Vec::new();
        let answer = match said {
            Some(raw) if !raw.starts_with(b"-") => {
                self.grant_login(core, key, &attempt, std::time::Duration::ZERO, &mut reply);
                Answer::Raw(&reply)
            }
            refused => {
                core.take_login_back(key, attempt.former.unwrap_or_default());
                refused.map_or(Answer::Failed(Failure::Upstream), Answer::Raw)
            }
        };
        core.settle(attempt.waiter, attempt.command, attempt.since, answer);
    }
}
