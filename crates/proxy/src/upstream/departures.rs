//! Connections that go: drained, broken, refused or late. What waited on them fails, and their host is left alone for a
//! while.

use redplane_merge::{Answer, Failure};
use redplane_redis_core::client::inlet::Rest;
use redplane_redis_core::connection::{Carries, ConnId};
use redplane_redis_core::pending::{Pending, Purpose};
use redplane_redis_flow::action::Gone;
use redplane_redis_flow::core::Lost;

use crate::engine::Engine;

impl Engine {
    /// A connection is gone: its requests fail.
    pub fn upstream_gone(&mut self, id: ConnId, why: Gone) {
        self.core.lose(id, why);
        self.run_events();
    }

    /// Tells those whose it is what was lost.
    pub(crate) fn lost(&mut self, lost: Lost) {
        let Lost {
            id,
            mut connection,
            why,
        } = lost;
        let refusal = connection.life.refusal.take();
        for pending in std::mem::take(&mut connection.pending) {
            match &refusal {
                Some(words) => self.refuse_pending(&pending, words),
                None => self.fail_pending(&pending),
            }
        }
        if let Some((client, generation)) = connection.lease.holder {
            self.transactions.lease_lost(&self.core, id.0, client, generation);
            self.blocking.wait_lost(&mut self.core, id.0, &connection, why);
        }
        match connection.carries {
            Carries::Replies => {}
            Carries::Subscriptions(feed) => self.pubsub.feed_lost(&mut self.core, feed),
            Carries::Invalidations => self.tracking.tracking_lost(&mut self.core, id.0, &connection),
        }
        self.core.release_pools(&[connection.pool]);
    }

    /// A server refuses a login that was granted before, or never was: those that wait with it hear so. For those that have it
    /// already their connection is at an end, as it would be where the server closed it: they log in anew.
    #[cold]
    fn refuse_pending(&mut self, pending: &Pending, words: &[u8]) {
        if pending.purpose == Purpose::Login {
            return self.logins.offered(&mut self.core, pending, Some(words));
        }
        if !pending.purpose.row().fails {
            return self.fail_pending(pending);
        }
        self.core
            .settle(pending.waiter, pending.command, pending.since, Answer::Raw(words));
        if let Some(client) = self.core.clients.of_mut(pending.waiter) {
            client.inlet.rest(Rest::End);
        }
    }

    pub(crate) fn fail_pending(&mut self, pending: &Pending) {
        if pending.purpose == Purpose::Lesson {
            return self.lessons.lesson(&mut self.core, pending, None);
        }
        if pending.purpose == Purpose::Quiet {
            return self.quieted(pending);
        }
        if pending.purpose == Purpose::Login {
            return self.logins.offered(&mut self.core, pending, None);
        }
        if pending.purpose == Purpose::Select {
            self.core.unselect(pending);
        }
        if pending.purpose.row().fails {
            self.core.settle(
                pending.waiter,
                pending.command,
                pending.since,
                Answer::Failed(Failure::Upstream),
            );
        }
        if pending.purpose == Purpose::Acknowledged {
            self.blocking.acknowledged_lost(&mut self.core, pending.waiter);
        }
        if pending.purpose == Purpose::Track {
            self.tracking.step_joining(&mut self.core, pending, false);
        }
    }
}
