//! Connections that go: drained, broken, refused or late. What waited on them fails, and their host is left alone for a
//! while.

use redplane_merge::{Answer, Failure};
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
        for pending in std::mem::take(&mut connection.pending) {
            self.fail_pending(&pending);
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

    pub(crate) fn fail_pending(&mut self, pending: &Pending) {
        if pending.purpose == Purpose::Lesson {
            return self.lessons.lesson(&mut self.core, pending, None);
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
