//! A pause reaches the servers, so that keys do not expire in it: told as a pause of writes when all workers hold theirs and
//! everything they sent before is answered. Where another filter chain leads to the same clusters they are not told, since
//! its clients are not meant.

use redplane_command::Command;
use redplane_redis_core::client::Waiter;
use redplane_redis_core::filter::ChainName;
use redplane_redis_core::pending::Pending;

use crate::engine::Engine;
use crate::peers::settling::Asker;
use crate::question::{Finding, Question};

impl Engine {
    /// A server has answered the PING behind what was sent before a pause, or its connection is gone.
    #[cold]
    pub(crate) fn quieted(&mut self, pending: &Pending) {
        match self.peer.settling.settled(pending.waiter.sequence) {
            None => {}
            Some(Asker::Here(ticket)) => self.hear(ticket, Finding::Count(0)),
            Some(Asker::There(address)) => address.answer(Finding::Count(0)),
        }
    }

    /// All workers hold their clients, and nothing is on its way: the servers are told, if they may be.
    pub(crate) fn pause_servers(&mut self, asker: Waiter, command: &'static Command, question: &Question) {
        let key = asker.client as usize;
        let Question::Pause(chain, ..) = question else {
            return;
        };
        let left = self.pauses.left(&self.core, chain);
        if left > 0 && self.core.clients.of(asker).is_some() && self.core.has_clusters_alone(chain) {
            let left = left.to_string();
            let words: [&[u8]; 4] = [b"CLIENT", b"PAUSE", left.as_bytes(), b"WRITE"];
            self.core.tell_primaries(key, command, &words);
        }
    }

    /// The servers go on before the clients do.
    pub(crate) fn unpause_servers(&mut self, key: usize, command: &'static Command, chain: &ChainName) {
        if self.core.has_clusters_alone(chain) {
            self.core.tell_primaries(key, command, &[b"CLIENT", b"UNPAUSE"]);
        }
    }
}
