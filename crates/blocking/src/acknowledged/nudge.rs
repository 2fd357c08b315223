//! WAIT by the clock: replicas that are slow to say what they have are asked once more, and a wait whose time is over ends.

use redplane_redis_core::client::Waiter;
use redplane_redis_core::pending::Purpose;
use redplane_redis_flow::core::Core;
use redplane_redis_flow::send::{Payload, Sending};
use redplane_resp::encode;

use crate::Blocking;
use crate::acknowledged::primaries::host_place;
use crate::acknowledged::{Acknowledged, BEYOND};

/// Microseconds before replicas are asked for their offsets once more.
pub(crate) const NUDGE: u64 = 250_000;

impl Blocking {
    /// Has a primary ask its replicas for their offsets. Where that fails they come by themselves, only later.
    pub(crate) fn nudge(&self, core: &mut Core, key: usize, part: usize) {
        let Some(own) = self.acknowledged.get(&(key as u32)) else {
            return;
        };
        let (waiter, command) = (own.waiter, own.command.id);
        let Some(primary) = own.primaries.get(part) else {
            return;
        };
        let pool = primary.pool;
        let leased = host_place(core, primary).and_then(|at| core.lease_host(pool, at, key));
        if let Ok(leased) = leased {
            let sending = Sending {
                waiter,
                command,
                purpose: Purpose::Nudge,
            };
            let mut frame = core.buffers.take_empty();
            encode::request(&mut frame, &[b"WAIT", BEYOND, b"1"]);
            core.send(leased, sending, Payload::Copied(&frame));
            core.buffers.give(frame);
        }
    }

    /// The millisecond is over: by now replicas have said what they have.
    pub fn nudged(&mut self, core: &mut Core, connection: usize, waiter: Waiter) {
        core.return_lease(connection as u32);
        if self.acknowledged_of(waiter).is_some_and(|own| own.open == 0) {
            self.ask_primaries(core, waiter.client as usize);
        }
    }

    /// Rounds that are due by time, and waits whose time is over though a primary has not answered.
    pub fn tick_acknowledged(&mut self, core: &mut Core) {
        let now = core.now;
        let is_over = |own: &Acknowledged| own.open > 0 && own.until.is_some_and(|until| now >= until);
        let over = self.acknowledged.iter().filter(|(_, own)| is_over(own));
        for key in over.map(|(key, _)| *key as usize).collect::<Vec<usize>>() {
            self.answer_acknowledged(core, key);
        }
        let due = self
            .acknowledged
            .iter()
            .filter(|(_, own)| own.open == 0 && now >= own.next);
        for key in due.map(|(key, _)| *key as usize).collect::<Vec<usize>>() {
            self.ask_primaries(core, key);
        }
    }
}
