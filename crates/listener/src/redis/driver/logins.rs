//! Logins that a service decides on: questions go out on this worker's runtime, verdicts come back in the next turn.
//!
//! Tickets are the engine's; verdicts of a driver that went down do not reach the one that took its place.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use redplane_external_auth::{Answer, Service, left_until};
use redplane_proxy::{Question, Verdict};
use tokio::task::AbortHandle;

use super::{Inbox, take};

/// The questions of one driver.
pub(super) struct Logins {
    service: Rc<Service>,
    verdicts: Rc<RefCell<VecDeque<(u64, Verdict)>>>,
    asked: HashMap<u64, AbortHandle>,
    inbox: Rc<Inbox>,
}

impl Logins {
    pub(super) fn new(inbox: Rc<Inbox>) -> Self {
        Self {
            service: Rc::default(),
            verdicts: Rc::default(),
            asked: HashMap::new(),
            inbox,
        }
    }

    /// Asks; the verdict follows.
    pub(super) fn ask(&mut self, question: Question) {
        let (service, verdicts, inbox) = (
            Rc::clone(&self.service),
            Rc::clone(&self.verdicts),
            Rc::clone(&self.inbox),
        );
        let ticket = question.ticket;
        let task = tokio::task::spawn_local(async move {
            let Question {
                provider,
                cluster,
                user,
                password,
                ..
            } = question;
            let answer = service.ask(&provider, cluster, user, password).await;
            verdicts.borrow_mut().push_back((ticket, verdict(answer)));
            inbox.wake();
        });
        self.asked.insert(ticket, task.abort_handle());
    }

    /// Nobody waits for the answer any more: the call is given up.
    pub(super) fn forget(&mut self, ticket: u64) {
        if let Some(task) = self.asked.remove(&ticket) {
            task.abort();
        }
    }

    /// The next verdict that has come.
    pub(super) fn next(&mut self) -> Option<(u64, Verdict)> {
        let (ticket, verdict) = take(&self.verdicts)?;
        self.asked.remove(&ticket);
        Some((ticket, verdict))
    }
}

impl Drop for Logins {
    fn drop(&mut self) {
        self.asked.values().for_each(AbortHandle::abort);
    }
}

/// The wall clock's time becomes the time that is left: the engine knows no wall clock.
fn verdict(answer: Answer) -> Verdict {
    match answer {
        Answer::Granted { until } => Verdict::Granted {
            lasts: left_until(until),
        },
        Answer::Denied(message) => Verdict::Denied(message),
        Answer::Failed(reason) => Verdict::Failed(reason),
    }
}
