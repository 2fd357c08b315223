//! Commands that any server will do for, and those that name a slot.

use redplane_command::Command;
use redplane_redis_core::pool::{Access, Target};
use redplane_redis_flow::request::{Request, access_of};
use redplane_redis_flow::send::Payload;

use crate::blocking::Blocking;
use crate::engine::Engine;

impl Engine {
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
}
