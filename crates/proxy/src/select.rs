//! SELECT: a client's database, on upstreams that are no Redis Cluster.
//!
//! Connections are shared, so a database is a matter of the variant of the filter, as RESP3 is: its connections begin with
//! SELECT, and nothing else is written to them before that is granted. A connection that is refused its database is
//! closed: whatever it were sent would land in another one.
//!
//! The client's own SELECT goes through the variant as well, so that an index out of range gets the server's words. Its
//! input rests until all earlier replies have come, and again until this one has. In a transaction it stands in the block,
//! which ends with another one that leads the shared connection back; the client follows when EXEC is answered.

use redplane_command::Command;
use redplane_redis_flow::request::{Request, Served};

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
}
