//! The I/O task of a worker, on its runtime, beside the driver's thread: it hands connections over, is told when they
//! are over, resolves names and asks the services that decide on logins. It never touches a socket that the driver owns.
//!
//! An answer bears the mark of the driver that asked: one for a driver that went down does not reach its successor.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use mio::{Poll, Waker};
use redplane_config::cluster::DnsFamily;
use redplane_external_auth::{Answer, Service, left_until};
use redplane_proxy::{Context, LoginQuestion, Verdict};
use redplane_upstream::Dns;
use slab::Slab;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, spawn_local};

use super::driver::{self, MESSAGES};
use super::inbox::{Inbox, Message};
use super::{Closed, Command, Handle, OnClose};

/// A question of a driver: which driver, and the engine's ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark {
    driver: u32,
    pub(super) ticket: u64,
}

/// What a driver wants done.
pub(super) enum Request {
    /// A connection, by its number, is over.
    Closed(usize, Closed),
    Resolve(Mark, String, DnsFamily),
    Ask(Mark, Box<LoginQuestion>),
    /// The answer is of no use any more.
    Forget(Mark),
    /// This driver went down.
    Down(u32),
}

/// Where a driver leaves its requests to the I/O task.
#[derive(Clone)]
pub(super) struct Outbox {
    requests: UnboundedSender<Request>,
    driver: u32,
}

impl Outbox {
    pub(super) fn send(&self, request: Request) {
        // There is no task any more when the worker ends.
        let _ = self.requests.send(request);
    }

    pub(super) fn mark(&self, ticket: u64) -> Mark {
        Mark {
            driver: self.driver,
            ticket,
        }
    }

    pub(super) fn is_own(&self, mark: Mark) -> bool {
        mark.driver == self.driver
    }

    /// For the driver that takes the place of this one.
    pub(super) fn successor(&self) -> Self {
        self.send(Request::Down(self.driver));
        Self {
            requests: self.requests.clone(),
            driver: self.driver.wrapping_add(1),
        }
    }
}

/// A connection that a driver has. Wherever it is dropped, also when a driver goes down with all its connections, the
/// I/O task is told that it is over.
pub(super) struct ConnectionHandle {
    number: usize,
    pub(super) closed: Closed,
    outbox: Outbox,
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        self.outbox.send(Request::Closed(self.number, self.closed));
    }
}

/// The connections that a driver has, by number, with what is to be done at their end.
#[derive(Default)]
struct Open(RefCell<Slab<OnClose>>);

impl Open {
    fn close(&self, number: usize, closed: Closed) {
        let on_close = self.0.borrow_mut().try_remove(number);
        if let Some(on_close) = on_close {
            on_close(closed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.0.borrow_mut());
        left.into_iter()
            .for_each(|(_, on_close)| on_close(Closed::default()));
    }
}

/// Starts the driver of this worker on a thread of its own, and the I/O task inside the current `LocalSet`. The driver
/// ends with the last of the handles.
///
/// # Errors
///
/// The poll instance or the thread could not be made.
pub fn start(context: Context, dns: Dns) -> io::Result<Handle> {
    let poll = Poll::new()?;
    let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), MESSAGES)?));
    let (requests, received) = unbounded_channel();
    let outbox = Outbox { requests, driver: 0 };
    let open = Rc::new(Open::default());
    let task = IoTask {
        open: Rc::clone(&open),
        inbox: Arc::clone(&inbox),
        dns,
        service: Rc::default(),
        asked: Rc::default(),
    };
    spawn_local(task.work(received));
    let (driver_inbox, driver_outbox) = (Arc::clone(&inbox), outbox.clone());
    let thread = std::thread::Builder::new()
        .name(format!("wrk:redis_{}", context.worker))
        .spawn(move || driver::run(&context, poll, &driver_inbox, &driver_outbox))?;
    let thread = DriverThread {
        inbox,
        outbox,
        thread: Some(thread),
    };
    Ok(Handle::new(move |command| thread.tell(command, &open)))
}

/// The thread of a driver; dropping this ends the driver.
struct DriverThread {
    inbox: Arc<Inbox>,
    outbox: Outbox,
    thread: Option<JoinHandle<()>>,
}

impl DriverThread {
    fn tell(&self, command: Command, open: &Open) {
        self.inbox.tell(match command {
            Command::Serve(accepted, on_close) => {
                let handle = ConnectionHandle {
                    number: open.0.borrow_mut().insert(on_close),
                    closed: Closed::default(),
                    outbox: self.outbox.clone(),
                };
                Message::Serve(accepted, handle)
            }
            Command::Drain { whose, grace } => Message::Drain { whose, grace },
        });
    }
}

impl Drop for DriverThread {
    fn drop(&mut self) {
        self.inbox.tell(Message::Stop);
        if let Some(thread) = self.thread.take() {
            // A driver's panic is dealt with inside its thread.
            let _ = thread.join();
        }
    }
}

struct IoTask {
    open: Rc<Open>,
    inbox: Arc<Inbox>,
    dns: Dns,
    service: Rc<Service>,
    asked: Rc<RefCell<HashMap<Mark, AbortHandle>>>,
}

impl IoTask {
    async fn work(self, mut received: UnboundedReceiver<Request>) {
        while let Some(request) = received.recv().await {
            match request {
                Request::Closed(number, closed) => self.open.close(number, closed),
                Request::Resolve(mark, name, family) => self.resolve(mark, name, family),
                Request::Ask(mark, question) => self.ask(mark, *question),
                Request::Forget(mark) => self.forget(|asked| *asked == mark),
                Request::Down(driver) => self.forget(|asked| asked.driver == driver),
            }
        }
    }

    fn resolve(&self, mark: Mark, name: String, family: DnsFamily) {
        let (inbox, dns) = (Arc::clone(&self.inbox), self.dns.clone());
        spawn_local(async move {
            let found = dns.resolve(&name, family).await.ok();
            let address = found.and_then(|found| found.addresses.first().copied());
            inbox.tell(Message::Resolved(mark, address));
        });
    }

    fn ask(&self, mark: Mark, question: LoginQuestion) {
        let (service, asked, inbox) = (
            Rc::clone(&self.service),
            Rc::clone(&self.asked),
            Arc::clone(&self.inbox),
        );
        let task = spawn_local(async move {
            let LoginQuestion {
                provider,
                cluster,
                user,
                password,
                ..
            } = question;
            let answer = service.ask(&provider, cluster, user, password).await;
            asked.borrow_mut().remove(&mark);
            inbox.tell(Message::Decided(mark, verdict(answer)));
        });
        self.asked.borrow_mut().insert(mark, task.abort_handle());
    }

    /// Gives up the calls of these marks.
    fn forget(&self, which: impl Fn(&Mark) -> bool) {
        self.asked.borrow_mut().retain(|mark, call| {
            let goes = which(mark);
            if goes {
                call.abort();
            }
            !goes
        });
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
