//! Commands whose keys lie in several slots: one request per slot, all at once, put together at the end.
//!
//! Keys of one slot travel in one command; the commands for one node leave in one write. Not atomic, as it is nowhere
//! in a cluster; a command whose keys share a slot passes through whole and is.

use redplane_command::Command;
use redplane_merge::Own;
use redplane_redis_flow::answer::error_line;
use redplane_redis_flow::request::{Request, Served};

use crate::engine::Engine;

impl Engine {
    /// MGET, MSET, DEL, UNLINK, EXISTS, TOUCH.
    pub(crate) fn split(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        if let Some(at) = self.core.split_up(key, command, request) {
            self.forward_by_key(key, Served::Known(command), request, at);
        }
    }

    /// SORT: on a fleet the keys that patterns name are anywhere. Servers of a cluster refuse them themselves.
    pub(crate) fn sort(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let filter = &self.core.filters[self.core.clients[key].filter];
        let route = filter.route(request.arg(1));
        let live = route.and_then(|route| self.core.pools[route.pool_for(command.is_read())].live.as_ref());
        let spread = live
            .is_some_and(|live| !live.is_redis() && !live.is_replicated() && live.topology.hosts.len() > 1);
        if spread && let Some(option) = pattern_option(&request) {
            return self.core.answer_with(key, |out| {
                error_line(
                    out,
                    &format!("ERR {option} option of SORT denied in cluster mode."),
                );
            });
        }
        self.by_keys(key, command, request);
    }

    /// What INFO says to a client of the proxy itself.
    pub(crate) fn own_figures(&self, key: usize) -> Own {
        let peers = self.peer.peers();
        let local = self.core.clients[key].session.socket.local;
        Own {
            clients: peers.clients() as u64,
            blocked: peers.blocked() as u64,
            tracking: peers.tracking() as u64,
            max_clients: peers.max_clients(),
            port: local.map_or(0, |local| u64::from(local.port())),
            uptime: self.core.now / 1_000_000,
        }
    }
}

/// The first option of SORT that names keys by a pattern.
fn pattern_option(request: &Request<'_>) -> Option<&'static str> {
    let mut at = 2;
    while at + 1 < request.len() {
        let (word, value) = (request.arg(at), request.arg(at + 1));
        if word.eq_ignore_ascii_case(b"BY") && value.contains(&b'*') {
            return Some("BY");
        }
        if word.eq_ignore_ascii_case(b"GET") && value != b"#" {
            return Some("GET");
        }
        at += match word.to_ascii_uppercase().as_slice() {
            b"BY" | b"GET" | b"STORE" => 2,
            b"LIMIT" => 3,
            _ => 1,
        };
    }
    None
}
