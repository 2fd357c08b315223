//! What counts a connection under a limit of its chain.

use std::rc::Rc;

use redplane_telemetry::Block;
use redplane_telemetry::stats::connection_limit;
use redplane_world::Permit;

/// A connection within a limit: it counts until it is dropped.
pub(crate) struct LimitPermit {
    _permit: Permit,
    block: Rc<Block>,
}

impl LimitPermit {
    /// Of a connection that is counted in this block.
    pub(crate) fn new(permit: Permit, block: Rc<Block>) -> Self {
        Self {
            _permit: permit,
            block,
        }
    }
}

impl Drop for LimitPermit {
    fn drop(&mut self) {
        self.block.dec(connection_limit::ACTIVE_CONNECTIONS);
    }
}
