//! How a connection begins: its database, its tracking, and what servers say to the first words on it.

use redplane_command::CommandId;
use redplane_config::redis_proxy::Protocol;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::connection::{Carries, ConnId, State};
use redplane_redis_core::pending::{Pending, Purpose, Travel};
use redplane_redis_core::pool::{LoginId, Tracking};
use redplane_telemetry::stats::redis_cluster;

use crate::action::{Action, Gone};
use crate::core::{Core, Event};

impl Core {
    /// The database a client is in.
    pub fn database(&self, key: usize) -> u32 {
        self.filters[self.clients[key].filter].greeting.database
    }

    /// Puts SELECT and CLIENT TRACKING behind what a new connection begins with, and keeps all requests back until they
    /// are granted.
    pub(crate) fn begin_as_greeted(&mut self, id: u32) {
        let greeting = self.pools[self.connections[id as usize].pool].key.greeting;
        let own = &self.connections[id as usize].pending;
        let logs_in = own.iter().any(|pending| pending.purpose == Purpose::Greeting);
        if greeting.database == 0 && greeting.tracking == Tracking::Off && !logs_in {
            return;
        }
        if greeting.database != 0 {
            let database = greeting.database.to_string();
            self.setup(id, Purpose::Greeting, &[b"SELECT", database.as_bytes()]);
        }
        let relayed = greeting.tracking != Tracking::Off && greeting.protocol == Protocol::Resp2;
        match greeting.tracking {
            Tracking::Keys if !relayed => {
                self.setup(id, Purpose::Greeting, &[b"CLIENT", b"TRACKING", b"ON"]);
            }
            Tracking::Broadcast if !relayed => {
                self.setup(id, Purpose::Greeting, &[b"CLIENT", b"TRACKING", b"ON", b"BCAST"]);
            }
            _ => {}
        }
        let connection = &mut self.connections[id as usize];
        if greeting.tracking != Tracking::Off {
            connection.carries = Carries::Invalidations;
        }
        connection.flush.greeting = Some(Box::new(std::mem::take(&mut connection.out)));
        if relayed {
            // What its greeting ends with is known when its feed is.
            let unsaid = Pending {
                waiter: Waiter::NOBODY,
                since: self.now,
                at: 0,
                len: 0,
                command: CommandId(0),
                purpose: Purpose::Greeting,
                travel: Travel::default(),
            };
            self.note_sent(id, unsaid);
            self.out.events.push_back(Event::WantsFeed(id));
        }
    }

    /// A server has refused the login: counted and logged.
    pub fn login_refused(&self, key: usize, raw: &[u8]) {
        let connection = &self.connections[key];
        if let Some(live) = &self.pools[connection.pool].live {
            live.redis_stats.inc(redis_cluster::UPSTREAM_AUTH_FAILURE);
        }
        let text = String::from_utf8_lossy(raw);
        tracing::warn!(target: "redis", cluster = connection.server.cluster.name(), host = %connection.server.host.address, reply = text.trim_end(), "upstream refused AUTH");
    }

    /// A server's refusal of what a connection begins with, where that is a client's login: the connection goes, and those
    /// that wait on it hear the server's words. False where it has no such login.
    pub fn login_was_refused(&mut self, key: usize, raw: &[u8]) -> bool {
        let words = [&b"-WRONGPASS"[..], b"-NOAUTH", b"-ERR AUTH", b"-NOPERM"];
        let connection = &mut self.connections[key];
        let own = self.pools[connection.pool].key.greeting.login != LoginId::NONE;
        if !own || !words.iter().any(|word| raw.starts_with(word)) {
            return false;
        }
        connection.life.refusal = Some(raw.into());
        if let Some(live) = &self.pools[connection.pool].live {
            live.redis_stats.inc(redis_cluster::UPSTREAM_AUTH_FAILURE);
        }
        let id = ConnId(key as u32);
        // It says nothing about the host.
        self.out.actions.push(Action::CloseUpstream(id));
        self.lose(id, Gone::Local);
        true
    }

    /// A server that does not speak RESP3 cannot serve a client that does.
    pub fn hello_refused(&mut self, key: usize, raw: &[u8]) {
        self.login_refused(key, raw);
        if let Some(live) = &self.pools[self.connections[key].pool].live {
            live.redis_stats.inc(redis_cluster::UPSTREAM_RESP3_HELLO_FAILURE);
        }
        self.lose(ConnId(key as u32), Gone::Protocol);
    }

    /// The host that was dead answers: requests may go there again.
    pub fn probe_reply(&mut self, key: usize, raw: &[u8]) {
        let connection = &mut self.connections[key];
        // LOADING and MASTERDOWN are answers, and better ones than ours.
        tracing::debug!(target: "redis", host = %connection.server.host.address, reply = %String::from_utf8_lossy(raw).trim_end(), "host answers again");
        connection.life.state = State::Open;
        let live = self.pools[connection.pool].live.as_mut();
        if let Some(link) = live.and_then(|live| live.link_with(key as u32)) {
            link.recovered();
        }
    }
}
