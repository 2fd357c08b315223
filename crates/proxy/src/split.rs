//! Commands whose keys lie in several slots: one request per slot, all at once, put together at the end.
//!
//! Keys of one slot travel in one command; the commands for one node leave in one write. Not atomic, as it is nowhere
//! in a cluster; a command whose keys share a slot passes through whole and is.

use redplane_command::Command;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::split::Split;
use redplane_redis_flow::answer::error_line;
use redplane_redis_flow::request::{Request, Served};

use crate::engine::Engine;

impl Engine {
    /// All servers that were asked have answered, and more is to be done than to join their replies.
    pub(crate) fn whole(&mut self, waiter: Waiter, split: Box<Split>) {
        let key = waiter.client as usize;
        let Some(client) = self.core.clients.of_mut(waiter) else {
            return;
        };
        let Some((offset, _)) = client.replies.slot(waiter.sequence) else {
            return;
        };
        if split.walks {
            return self.scans.walk_on(&mut self.core, key, offset, split);
        }
        let own = self.own_figures(key);
        self.core.join_parts(key, offset, &split, &own);
    }

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
