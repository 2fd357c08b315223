//! Logging in: AUTH, and HELLO with its options. Checked against the filter's configuration, in Redis's words.

use redplane_command::error;
use redplane_config::redis_proxy::{DownstreamAuth, Protocol};

use crate::dispatch::{Request, error_line};
use crate::engine::Engine;
use crate::local::is_client_name;

/// What a login attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    Granted,
    Denied,
    /// AUTH with a password alone, where none is configured.
    Pointless,
}

impl Engine {
    /// `AUTH password` and `AUTH user password`.
    pub(crate) fn auth(&mut self, key: usize, request: &Request<'_>) {
        let login = match request.len() {
            2 => self.login(key, None, request.arg(1)),
            3 => self.login(key, Some(request.arg(1)), request.arg(2)),
            _ => return self.answer(key, error::SYNTAX),
        };
        match login {
            Login::Granted => {
                let user = if request.len() == 3 { request.arg(1) } else { b"" };
                self.logged_in(key, user);
                self.answer(key, b"+OK\r\n");
            }
            Login::Denied => self.answer(key, error::WRONGPASS),
            Login::Pointless => self.answer(key, error::AUTH_WITHOUT_PASSWORD),
        }
    }

    /// The client is `user` from now on; empty stands for the default user.
    fn logged_in(&mut self, key: usize, user: &[u8]) {
        let client = &mut self.clients[key];
        client.authenticated = true;
        client.session.user = if user == b"default" {
            Box::default()
        } else {
            user.into()
        };
    }

    fn login(&self, key: usize, user: Option<&[u8]>, password: &[u8]) -> Login {
        match (&self.filters[self.clients[key].filter].proxy.auth, user) {
            (Some(auth), user) => grant(auth, user, password),
            (None, None) => Login::Pointless,
            // Redis's default user has no password here: any will do.
            (None, Some(b"default")) => Login::Granted,
            (None, Some(_)) => Login::Denied,
        }
    }

    /// `HELLO [2|3] [AUTH user password] [SETNAME name]`. Options take effect only if all of them are valid.
    pub(crate) fn hello(&mut self, key: usize, request: &Request<'_>) {
        let mut protocol = None;
        if request.len() > 1 {
            match std::str::from_utf8(request.arg(1))
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
            {
                Some(2) => protocol = Some(Protocol::Resp2),
                Some(3) => protocol = Some(Protocol::Resp3),
                Some(_) => return self.answer_noproto(key),
                None => return self.answer(key, error::BAD_PROTO),
            }
        }
        let mut at = 2;
        let mut login = None;
        let mut name = None;
        while at < request.len() {
            let option = request.arg(at);
            let left = request.len() - at - 1;
            if option.eq_ignore_ascii_case(b"AUTH") && left >= 2 {
                login = Some((request.arg(at + 1), request.arg(at + 2)));
                at += 3;
            } else if option.eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
                name = Some(request.arg(at + 1));
                at += 2;
            } else {
                let text = format!(
                    "ERR Syntax error in HELLO option '{}'",
                    String::from_utf8_lossy(option)
                );
                return self.answer_with(key, |out| error_line(out, &text));
            }
        }
        if self.greet(key, login, name) {
            if let Some(protocol) = protocol {
                self.speak(key, protocol);
            }
            self.hello_reply(key);
        }
    }

    /// Logs in and takes the name; false when it has said why not.
    fn greet(&mut self, key: usize, login: Option<(&[u8], &[u8])>, name: Option<&[u8]>) -> bool {
        if let Some((user, password)) = login {
            if self.login(key, Some(user), password) != Login::Granted {
                self.answer(key, error::WRONGPASS);
                return false;
            }
            self.logged_in(key, user);
        }
        if !self.clients[key].authenticated {
            self.answer(key, error::NOAUTH_HELLO);
            return false;
        }
        if let Some(name) = name {
            if !is_client_name(name) {
                self.answer(key, error::BAD_CLIENT_NAME);
                return false;
            }
            self.clients[key].session.name = name.to_vec();
        }
        true
    }

    fn answer_noproto(&mut self, key: usize) {
        let client = &self.clients[key];
        let stats = &self.filters[client.filter].stats;
        stats.inc(redplane_telemetry::stats::redis_proxy::DOWNSTREAM_RQ_NOPROTO);
        self.answer(key, error::NOPROTO);
    }
}

/// A password alone is the default user's, as in Redis. Envoy lets it in whoever the configured user is.
fn grant(auth: &DownstreamAuth, user: Option<&[u8]>, password: &[u8]) -> Login {
    let expected = auth.username.as_deref().unwrap_or("default").as_bytes();
    let user_fits = same(user.unwrap_or(b"default"), expected);
    // Every password is compared, so that time tells nothing.
    let known = auth
        .passwords
        .iter()
        .fold(false, |known, one| known | same(one, password));
    if user_fits & known {
        Login::Granted
    } else {
        Login::Denied
    }
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_log_in() {
        let auth = DownstreamAuth {
            username: None,
            passwords: vec![b"p1".to_vec(), b"p2".to_vec()],
        };
        let named = DownstreamAuth {
            username: Some("usr".into()),
            ..auth.clone()
        };
        let nobody = DownstreamAuth {
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
