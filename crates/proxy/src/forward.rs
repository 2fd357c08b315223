//! Where requests go: from a key to a route, a host and its connection, whose output gets the request's bytes.
//!
//! Mirrors get the same bytes, and answers that nobody waits for.

mod mirror;
mod reach;
pub(crate) mod rename;
mod straight;

use std::rc::Rc;

use redplane_command::{Command, Flags, RequestPolicy, Script};

use crate::blocking::Blocking;
use crate::dispatch::{Request, Served};
use crate::engine::Engine;
use crate::send::{Outgoing, Payload, Scripts, Sending};
use redplane_merge::Failure;
use redplane_redis_core::client::Slot;
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::Access;
use redplane_redis_core::scripts::parse_sha;

impl Engine {
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
}

/// Whom the read policy may choose from for a command.
#[inline]
pub(crate) fn access_of(command: &Command) -> Access {
    if command.may_use_replica() {
        Access::Read
    } else {
        Access::Primary
    }
}

/// The script that a request names by its SHA1.
#[inline]
pub(crate) fn scripts_in(served: Served, request: &Request<'_>) -> Scripts {
    match served {
        Served::Known(command) if command.request == RequestPolicy::Script(Script::Sha) => {
            parse_sha(request.arg(1)).map_or(Scripts::None, Scripts::One)
        }
        _ => Scripts::None,
    }
}

/// Whether a command changes something, so that a mirror of writes wants it.
#[inline]
pub(crate) fn is_mirrored_write(served: Served) -> bool {
    match served {
        Served::Known(command) => {
            command.is_write() || command.flags.contains(Flags::MAY_REPLICATE) && !command.is_read()
        }
        Served::Custom(_) => true,
    }
}
