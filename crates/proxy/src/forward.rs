//! Where requests go: from a key to a route, a host and its connection, whose output gets the request's bytes.
//!
//! Mirrors get the same bytes, and answers that nobody waits for.

use std::rc::Rc;

use redplane_merge::Failure;
use redplane_redis_core::client::Slot;
use redplane_redis_core::filter::RouteTo;
use redplane_redis_core::pending::Purpose;
use redplane_redis_core::pool::Access;
use redplane_redis_flow::rename;
use redplane_redis_flow::request::{Request, Served, access_of, is_mirrored_write};
use redplane_redis_flow::send::{Outgoing, Payload, Sending, scripts_in};

use crate::blocking::Blocking;
use crate::engine::Engine;

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
