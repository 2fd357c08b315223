//! Answers that wait until all that was sent to servers before is answered: a pause begins when it has.

use redplane_redis_core::filter::ChainName;
use redplane_redis_flow::core::Core;

use super::ReturnAddress;

/// What waits so on one worker.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    list: Vec<Unsettled>,
    tickets: u32,
}

/// An answer, and how many connections have still to say that nothing is on their way.
#[derive(Debug)]
struct Unsettled {
    ticket: u32,
    left: usize,
    asker: Asker,
}

/// Who wants to know when it has settled.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A client of this worker, by the number of its inquiry.
    Here(u64),
    /// Another worker.
    There(ReturnAddress),
}

impl Settling {
    /// Lets an asker wait until all that clients of a chain sent before is answered; gives it back when there is nothing.
    pub(crate) fn begin(&mut self, core: &mut Core, chain: &ChainName, asker: Asker) -> Option<Asker> {
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        let left = core.fence_chain(chain, ticket);
        if left == 0 {
            return Some(asker);
        }
        self.list.push(Unsettled { ticket, left, asker });
        None
    }

    /// One more connection has answered what was sent before, or is gone. The asker when that was the last one.
    pub(crate) fn settled(&mut self, ticket: u32) -> Option<Asker> {
        let at = self.list.iter().position(|own| own.ticket == ticket)?;
        let own = self.list.get_mut(at)?;
        own.left -= 1;
        (own.left == 0).then(|| self.list.swap_remove(at).asker)
    }
}
