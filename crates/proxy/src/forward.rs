//! Where requests go: from a key to a route, a host and its connection, whose output gets the request's bytes.
//!
//! Mirrors get the same bytes, and answers that nobody waits for.

use std::rc::Rc;

use redplane_blocking::Blocking;
use redplane_command::{Command, Script as Argument};
use redplane_merge::Failure;
use redplane_redis_core::client::Slot;
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_core::scripts::parse_sha;
use redplane_redis_flow::rename;
use redplane_redis_flow::request::{Request, Served, access_of, is_mirrored_write};
use redplane_redis_flow::send::{Outgoing, Payload, Sending, scripts_in};

use crate::engine::Engine;

impl Engine {
    /// MOVE and SWAPDB: where there are several databases they are served, by the key or by every server.
    #[cold]
    pub(crate) fn between_databases(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let first = redplane_command::first_key(command, request.len(), |i| request.arg(i));
        match first {
            Some(at) if !self.core.is_cluster(key, request.arg(at)) => {
                self.forward_by_key(key, Served::Known(command), request, at);
            }
            None if !self.core.has_cluster(key) => self.core.fan_out(key, command, request),
            _ => self.core.refuse(key, command, &request),
        }
    }

    /// Forwards a request whose keys, if there are several, all go where argument `at` goes.
    #[inline]
    pub(crate) fn forward_by_key(&mut self, key: usize, served: Served, request: Request<'_>, at: usize) {
        let name = request.arg(at);
        let client = &self.core.clients[key];
        let Some(route) = self.core.filters[client.filter].route(name).cloned() else {
            return self.core.fail_now(key, served.id(), Failure::NoHost);
        };
        if route.keeps_key {
            return self.forward_on(key, served, &route, name, &request);
        }
        let Some(renamed) = self.core.renamed(key, served, &request, at) else {
            return self.core.answer(key, rename::TOO_LONG);
        };
        let request = renamed.request();
        self.forward_on(key, served, &route, request.arg(at), &request);
    }

    /// Forwards a request as it is.
    #[inline]
    fn forward_on(
        &mut self,
        key: usize,
        served: Served,
        route: &Rc<RouteTo>,
        name: &[u8],
        request: &Request<'_>,
    ) {
        let (reads, access) = match served {
            Served::Known(command) => (command.is_read(), access_of(command)),
            Served::Custom(_) => (false, Access::Primary),
        };
        let pool = route.pool_for(reads);
        if let Served::Known(command) = served
            && Blocking::might_block(command, request)
        {
            return self.blocking.block_at(
                &mut self.core,
                key,
                command,
                (route, pool),
                Some(name),
                request.frame,
            );
        }
        let connection = match self.core.connection_for_key(pool, name, access) {
            Ok(connection) => connection,
            Err(failure) => return self.core.fail_now(key, served.id(), failure),
        };
        let sending = Sending {
            waiter: self.core.expect_reply(key, Slot::Waiting),
            command: served.id(),
            purpose: Purpose::Reply,
        };
        let outgoing = Outgoing {
            sending,
            payload: Payload::of(request),
            route,
            name,
            changes: is_mirrored_write(served),
            queued: 0,
            scripts: scripts_in(served, request),
        };
        self.core.send_by_route(connection, &outgoing);
    }

    /// To one primary, any one.
    pub(crate) fn forward_any(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        if Blocking::might_block(command, &request) {
            return self
                .blocking
                .block_anywhere(&mut self.core, key, command, request.frame);
        }
        self.core
            .forward_target(key, command, Target::Any, Access::Primary, Payload::of(&request));
    }

    /// CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT. What is no slot, and what is no cluster, a server words.
    pub(crate) fn by_slot_argument(&mut self, key: usize, command: &'static Command, request: Request<'_>) {
        let slot = std::str::from_utf8(request.arg(2))
            .ok()
            .and_then(|text| text.parse::<u16>().ok());
        let slot = slot.filter(|slot| usize::from(*slot) < usize::from(redplane_command::SLOTS));
        match slot.filter(|_| self.core.is_cluster(key, b"")) {
            Some(slot) => {
                self.core.forward_target(
                    key,
                    command,
                    Target::Slot(slot),
                    access_of(command),
                    Payload::of(&request),
                );
            }
            None => self.forward_any(key, command, request),
        }
    }

    /// EVAL, EVALSHA, FCALL and their read-only forms.
    pub(crate) fn script(
        &mut self,
        key: usize,
        argument: Argument,
        command: &'static Command,
        request: Request<'_>,
    ) {
        let sha = match argument {
            Argument::Body => self
                .core
                .shared
                .known
                .remember(&self.core.shared.scripts, request.arg(1)),
            Argument::Sha => parse_sha(request.arg(1)),
            Argument::Function => None,
        };
        let first = redplane_command::first_key(command, request.len(), |i| request.arg(i));
        let loads = sha.filter(|_| argument == Argument::Sha);
        match first {
            Some(first) => {
                if let Some(sha) = loads {
                    self.core.load_before_key(key, command, &sha, request.arg(first));
                }
                self.by_keys(key, command, request);
            }
            None => self
                .core
                .keyless_script(key, command, request, sha, loads.is_some()),
        }
    }
}
