//! Logins that clients bring and servers decide on: which are in use, and the way of one to a server.
//!
//! Where neither the filter nor a cluster has a password, AUTH is passed on. What a user may do is a matter of the connection,
//! so each login has connections of its own, as each database has; they begin with it, and nothing else is written to them
//! before a server has granted it. Each client's AUTH is asked of a server, also where such connections are open already.
//! Mirrors are given no login: they were never meant to have it.

use redplane_command::CommandId;
use redplane_merge::Failure;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::{Access, Greeting, Live, LoginId, Target};
use redplane_resp::encode;
use zeroize::Zeroizing;

use crate::core::Core;
use crate::send::{Payload, Sending};

/// Why a login is not on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOffered {
    /// There are too many different ones.
    TooMany,
    /// No server can be asked.
    Unreachable(Failure),
}

impl Core {
    /// Whether servers decide on a client's login: its filter has no password, and nor has one of its clusters.
    pub fn passes_logins(&self, key: usize) -> bool {
        let filter = &self.filters[self.clients[key].filter];
        filter.proxy.auth.is_none() && filter.pools().into_iter().any(|pool| self.takes_logins(pool))
    }

    /// A cluster that is not there yet may.
    fn takes_logins(&self, pool: usize) -> bool {
        let live = self.pools[pool].live.as_ref();
        live.is_none_or(|live: &Live| live.cluster.takes_logins())
    }

    /// Moves a client to the connections of a login, and asks a server of it. `kept` says of logins that they must not be
    /// forgotten. Comes back with the place of the reply and the client's former login.
    pub fn offer_login(
        &mut self,
        key: usize,
        command: CommandId,
        login: (&[u8], &[u8]),
        kept: impl Fn(LoginId) -> bool,
    ) -> Result<(Waiter, LoginId), NotOffered> {
        let (pools, filters) = (&self.pools, &self.filters);
        let in_use = |id: LoginId| {
            kept(id)
                || pools.iter().any(|(_, pool)| pool.key.greeting.login == id)
                || filters.iter().any(|(_, filter)| filter.greeting.login == id)
        };
        let number = self.shared.logins.number(login, in_use);
        let id = number.ok_or(NotOffered::TooMany)?;
        let former = self.filters[self.clients[key].filter].greeting;
        self.greet_with(key, Greeting { login: id, ..former });
        match self.login_connection(key) {
            Ok(connection) => {
                let waiter = self.ask_login(connection, key, command, login);
                Ok((waiter, former.login))
            }
            Err(failure) => {
                self.greet_with(key, former);
                Err(NotOffered::Unreachable(failure))
            }
        }
    }

    /// A connection of the client's login to a server that decides on it.
    fn login_connection(&mut self, key: usize) -> Result<u32, Failure> {
        let filter = &self.filters[self.clients[key].filter];
        let first = filter.any_route().map(|route| route.pool);
        let mut pools = first.into_iter().chain(filter.pools());
        let pool = pools.find(|pool| self.takes_logins(*pool));
        self.connection_for(pool.ok_or(Failure::NoHost)?, Target::Any, Access::Primary)
    }

    fn ask_login(
        &mut self,
        connection: u32,
        key: usize,
        command: CommandId,
        (user, password): (&[u8], &[u8]),
    ) -> Waiter {
        let waiter = self.expect_reply(key, redplane_redis_core::client::Slot::Waiting);
        let mut frame = Zeroizing::new(Vec::new());
        match user.is_empty() {
            true => encode::request(&mut frame, &[b"AUTH", password]),
            false => encode::request(&mut frame, &[b"AUTH", user, password]),
        }
        let sending = Sending {
            waiter,
            command,
            purpose: Purpose::Login,
        };
        self.send(connection, sending, Payload::Copied(&frame));
        self.rest_behind(key);
        waiter
    }

    /// A client's login was refused, or could not be asked of a server: it is who it was.
    pub fn take_login_back(&mut self, key: usize, former: LoginId) {
        let greeting = self.filters[self.clients[key].filter].greeting;
        self.greet_with(
            key,
            Greeting {
                login: former,
                ..greeting
            },
        );
    }
}
