//! Logging in: AUTH, and HELLO with its options. Checked against the filter's configuration, in Redis's words, or left
//! to a service or to servers (`external_auth`).

use redplane_command::{RequestPolicy, Transaction, error};
use redplane_config::redis_proxy::{DownstreamAuth, Passwords, Protocol};
use redplane_redis_flow::answer::error_line;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::request::{Request, Served};
use redplane_resp::number::integer;
use subtle::{Choice, ConstantTimeEq};

use crate::engine::Engine;
use crate::external_auth::{AfterLogin, external_auth};
use crate::session::{admit, hello_map, is_client_name, log_in, must_greet};

/// What a login attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    Granted,
    Denied,
    /// AUTH with a password alone, where none is configured.
    Pointless,
}

/// The arguments of HELLO.
#[derive(Default)]
struct Hello<'a> {
    protocol: Option<Protocol>,
    /// User and password.
    login: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn check_login(core: &Core, key: usize, user: Option<&[u8]>, password: &[u8]) -> Login {
    match (&core.filters[core.clients[key].filter].proxy.auth, user) {
        (Some(DownstreamAuth::Passwords(auth)), user) => grant(auth, user, password),
        // The service was not asked.
        (Some(DownstreamAuth::External(_)), _) => Login::Denied,
        (None, None) => Login::Pointless,
        // Redis's default user has no password here: any will do.
        (None, Some(b"default")) => Login::Granted,
        (None, Some(_)) => Login::Denied,
    }
}

/// Reads HELLO's arguments; `None` when it has said what is wrong with them.
fn hello_options<'a>(core: &mut Core, key: usize, request: &Request<'a>) -> Option<Hello<'a>> {
    let mut hello = Hello::default();
    let only_resp3 = core.filters[core.clients[key].filter].proxy.protocol == Protocol::Resp3;
    if request.len() > 1 {
        match integer(request.arg(1)) {
            Some(2) if !only_resp3 => hello.protocol = Some(Protocol::Resp2),
            Some(3) => hello.protocol = Some(Protocol::Resp3),
            Some(_) => {
                answer_noproto(core, key);
                return None;
            }
            None => {
                core.answer(key, error::BAD_PROTO);
                return None;
            }
        }
    }
    if hello.protocol.is_none() && must_greet(core, key) {
        answer_noproto(core, key);
        return None;
    }
    let mut at = 2;
    while at < request.len() {
        let option = request.arg(at);
        let left = request.len() - at - 1;
        if option.eq_ignore_ascii_case(b"AUTH") && left >= 2 {
            hello.login = Some((request.arg(at + 1), request.arg(at + 2)));
            at += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
            hello.name = Some(request.arg(at + 1));
            at += 2;
        } else {
            let option = String::from_utf8_lossy(option);
            let text = format!("ERR Syntax error in HELLO option '{option}'");
            core.answer_with(key, |out| error_line(out, &text));
            return None;
        }
    }
    Some(hello)
}

/// Logs in and takes the name; false when it has said why not.
fn greet(core: &mut Core, key: usize, login: Option<(&[u8], &[u8])>, name: Option<&[u8]>) -> bool {
    if let Some((user, password)) = login {
        if check_login(core, key, Some(user), password) != Login::Granted {
            core.answer(key, error::WRONGPASS);
            return false;
        }
        log_in(core, key, Some(user));
    }
    if !core.clients[key].session.logged_in {
        core.answer(key, error::NOAUTH_HELLO);
        return false;
    }
    if let Some(name) = name {
        if !is_client_name(name) {
            core.answer(key, error::BAD_CLIENT_NAME);
            return false;
        }
        core.clients[key].session.name = name.into();
    }
    true
}

fn answer_noproto(core: &mut Core, key: usize) {
    let client = &core.clients[key];
    let stats = &core.filters[client.filter].stats;
    stats.inc(redplane_telemetry::stats::redis_proxy::DOWNSTREAM_RQ_NOPROTO);
    core.answer(key, error::NOPROTO);
}

impl Engine {
    /// `AUTH password` and `AUTH user password`.
    pub(crate) fn auth(&mut self, key: usize, request: &Request<'_>) {
        let (user, password) = match request.len() {
            2 => (None, request.arg(1)),
            3 => (Some(request.arg(1)), request.arg(2)),
            _ => return self.core.answer(key, error::SYNTAX),
        };
        if let Some(provider) = external_auth(&self.core, key) {
            return self.logins.ask_for_login(
                &mut self.core,
                key,
                provider,
                (user.unwrap_or_default(), password),
                request,
                None,
            );
        }
        if self.core.passes_logins(key) {
            self.leave_watched(key);
            let login = (user.unwrap_or_default(), password);
            return self.logins.offer(&mut self.core, key, login, request, None);
        }
        match check_login(&self.core, key, user, password) {
            Login::Granted => {
                log_in(&mut self.core, key, Some(user.unwrap_or_default()));
                self.core.answer(key, b"+OK\r\n");
            }
            Login::Denied => self.core.answer(key, error::WRONGPASS),
            Login::Pointless => self.core.answer(key, error::AUTH_WITHOUT_PASSWORD),
        }
    }

    /// `HELLO [2|3] [AUTH user password] [SETNAME name]`. Options take effect only if all of them are valid.
    pub(crate) fn hello(&mut self, key: usize, request: &Request<'_>) {
        let Some(Hello {
            protocol,
            login,
            name,
        }) = hello_options(&mut self.core, key, request)
        else {
            return;
        };
        let provider = external_auth(&self.core, key);
        if let Some(login) = login
            && (provider.is_some() || self.core.passes_logins(key))
        {
            if name.is_some_and(|name| !is_client_name(name)) {
                return self.core.answer(key, error::BAD_CLIENT_NAME);
            }
            let name = name.map(<[u8]>::to_vec);
            let after = Some(AfterLogin { protocol, name });
            return match provider {
                Some(provider) => {
                    self.logins
                        .ask_for_login(&mut self.core, key, provider, login, request, after);
                }
                None => {
                    self.leave_watched(key);
                    self.logins.offer(&mut self.core, key, login, request, after);
                }
            };
        }
        if greet(&mut self.core, key, login, name) {
            if let Some(protocol) = protocol {
                self.core.speak(key, protocol);
                admit(&mut self.core, key);
            }
            let mut reply = Vec::new();
            hello_map(&self.core, key, &mut reply);
            self.core.answer(key, &reply);
        }
    }

    /// What a connection of the former login guards is guarded no more: EXEC must not run as the user of before.
    fn leave_watched(&mut self, key: usize) {
        let lease = self.transactions.of(key).and_then(|own| own.lease());
        if let Some(lease) = lease {
            let generation = self.core.clients[key].generation;
            self.transactions
                .lease_lost(&self.core, lease, key as u32, generation);
            self.core.end_lease(Some(lease));
        }
    }

    /// A command of a client that may not run any yet.
    #[cold]
    pub(crate) fn not_admitted(&mut self, key: usize, served: Option<Served>) {
        let executes = matches!(served, Some(Served::Known(command))
            if command.request == RequestPolicy::Transaction(Transaction::Exec));
        if must_greet(&self.core, key) {
            answer_noproto(&mut self.core, key);
        } else if executes {
            // The login has ended behind MULTI, or nobody has logged in: there is nothing that could be executed later.
            self.transactions
                .abort_transaction(&mut self.core, key, |out| out.extend_from_slice(error::NOAUTH));
        } else {
            self.core.answer(key, error::NOAUTH);
        }
    }
}

/// A password alone is the default user's, as in Redis. Envoy lets it in whoever the configured user is.
fn grant(auth: &Passwords, user: Option<&[u8]>, password: &[u8]) -> Login {
    let expected = auth.username.as_deref().unwrap_or("default").as_bytes();
    let user_fits = user.unwrap_or(b"default").ct_eq(expected);
    // Every password is compared, so that time tells nothing.
    let known = auth
        .passwords
        .iter()
        .fold(Choice::from(0), |known, one| known | one.ct_eq(password));
    match bool::from(user_fits & known) {
        true => Login::Granted,
        false => Login::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_log_in() {
        let auth = Passwords {
            username: None,
            passwords: vec![b"p1".to_vec(), b"p2".to_vec()],
        };
        let named = Passwords {
            username: Some("usr".into()),
            ..auth.clone()
        };
        let nobody = Passwords {
            username: Some("usr".into()),
            passwords: Vec::new(),
        };
        for (auth, user, password, expected) in [
            (&auth, None, "p2", Login::Granted),
            (&auth, None, "p", Login::Denied),
            (&auth, Some("default"), "p1", Login::Granted),
            (&auth, Some("usr"), "p1", Login::Denied),
            (&named, None, "p1", Login::Denied),
            (&named, Some("usr"), "p1", Login::Granted),
            (&named, Some("default"), "p1", Login::Denied),
            (&nobody, Some("usr"), "", Login::Denied),
        ] {
            assert_eq!(
                grant(auth, user.map(str::as_bytes), password.as_bytes()),
                expected,
                "{user:?} {password}"
            );
        }
    }
}
