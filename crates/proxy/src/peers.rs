//! Messages between the engines of a process: what one worker must ask or tell the others.
//!
//! Each engine has a mailbox. A turn looks at it with one relaxed load; the lock is taken only when there may be messages. A question
//! that an engine takes along to its end (a panic, a worker that stops) is answered on its way down, and one that is
//! written to a mailbox that nobody reads is answered at once, so that nobody waits for an engine that cannot answer. What is asked and answered
//! is the business of `inquiry`; no request of a client comes through here.

pub(crate) mod settling;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use redplane_pubsub::Subscriptions;
use redplane_redis_core::headcount::Headcount;
use redplane_redis_flow::notice::Notice;

use crate::late::Waiting;
use crate::question::{Finding, Inquiry, Question};
use crate::scan::Kept;
use settling::Settling;

/// All engines of a process, and what they number together.
#[derive(Debug)]
pub struct Peers {
    mailboxes: Box<[Mailbox]>,
    /// How many clients each of them has.
    heads: Box<[Arc<Headcount>]>,
    max_clients: u64,
    /// What they are subscribed to.
    pub(crate) subscriptions: Subscriptions,
    /// Where their clients' scans are.
    pub(crate) scans: Arc<Kept>,
    /// The highest client id that was given away.
    last_client: AtomicU64,
    /// The highest number of an inquiry; an engine that starts anew must not find its predecessor's answers.
    last_ticket: AtomicU64,
}

/// One engine's.
#[derive(Debug, Default)]
struct Mailbox {
    /// There may be messages.
    told: AtomicBool,
    /// A std mutex: held while a message is put in or all are taken out, and never in a turn without messages.
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// Somebody will read what is put in.
    taken: bool,
    messages: Vec<Message>,
    waker: Option<Waker>,
}

/// What one engine writes to another.
#[derive(Debug)]
pub(crate) enum Message {
    /// To be answered.
    Question(Question, ReturnAddress),
    /// The answer to one's own question.
    Answer(u64, Finding),
    /// What a client that tracks wants another one to be told.
    Forwarded(Forwarded),
    /// The client with this id redirects to one that is gone.
    Unheard(u64),
    /// Somebody wants to see what clients wait for.
    Look(Sender<Waiting>),
}

/// An invalidation for a client of another worker.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) to: u64,
    pub(crate) notice: Notice,
    /// The worker and the client that it comes from.
    pub(crate) from: (usize, u64),
}

/// Where an answer goes. Dropped without one, it says that there is none.
#[derive(Debug)]
pub(crate) struct ReturnAddress {
    peers: Arc<Peers>,
    worker: usize,
    ticket: u64,
    answered: bool,
}

impl ReturnAddress {
    pub(crate) fn answer(mut self, finding: Finding) {
        self.answered = true;
        self.peers
            .send(self.worker, Message::Answer(self.ticket, finding));
    }
}

impl Drop for ReturnAddress {
    fn drop(&mut self) {
        if !self.answered {
            self.peers
                .send(self.worker, Message::Answer(self.ticket, Finding::Nobody));
        }
    }
}

impl Peers {
    /// Mailboxes for so many workers, which serve so many clients together at the most.
    pub fn new(workers: usize, max_clients: u64) -> Arc<Self> {
        let mailboxes = std::iter::repeat_with(Mailbox::default);
        let heads = std::iter::repeat_with(Arc::default);
        Arc::new(Self {
            mailboxes: mailboxes.take(workers.max(1)).collect(),
            heads: heads.take(workers.max(1)).collect(),
            max_clients,
            subscriptions: Subscriptions::default(),
            scans: Arc::default(),
            last_client: AtomicU64::new(0),
            last_ticket: AtomicU64::new(0),
        })
    }

    /// What the clients of all workers wait for. Blocks until every worker that runs has looked, at most for `patience`:
    /// one that is busy for longer is missing. Not for a worker's own thread.
    pub fn waiting(&self, patience: Duration) -> Vec<Waiting> {
        let (answer, answers) = channel();
        for worker in 0..self.count() {
            self.send(worker, Message::Look(answer.clone()));
        }
        drop(answer);
        let end = Instant::now() + patience;
        let next = || {
            answers
                .recv_timeout(end.saturating_duration_since(Instant::now()))
                .ok()
        };
        std::iter::from_fn(next).collect()
    }

    /// More clients than this cannot come.
    pub(crate) fn max_clients(&self) -> u64 {
        self.max_clients
    }

    /// Clients of all engines.
    pub(crate) fn clients(&self) -> usize {
        self.heads.iter().map(|heads| heads.clients()).sum()
    }

    /// Clients of all engines that wait in a command.
    pub(crate) fn blocked(&self) -> usize {
        self.heads.iter().map(|heads| heads.blocked()).sum()
    }

    /// Clients of all engines that track.
    pub(crate) fn tracking(&self) -> usize {
        self.heads.iter().map(|heads| heads.tracking()).sum()
    }

    /// Workers, whether or not their engines run.
    pub fn count(&self) -> usize {
        self.mailboxes.len()
    }

    /// A message to nobody is dropped, which answers it; false then.
    fn send(&self, worker: usize, message: Message) -> bool {
        let Some(mailbox) = self.mailboxes.get(worker) else {
            return false;
        };
        let mut inside = mailbox.lock();
        if !inside.taken {
            // Its answer may have to go into this very mailbox.
            drop(inside);
            drop(message);
            return false;
        }
        inside.messages.push(message);
        let waker = (!mailbox.told.swap(true, Relaxed)).then(|| inside.waker.clone());
        drop(inside);
        if let Some(Some(waker)) = waker {
            waker.wake();
        }
        true
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        // What a panicking engine left is a list of messages, whole at any time.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An engine's place among its peers, for as long as it runs.
#[derive(Debug)]
pub(crate) struct PeerHandle {
    peers: Arc<Peers>,
    worker: usize,
    /// What was asked of the others and is not answered yet, by its ticket.
    pub(crate) inquiries: BTreeMap<u64, Inquiry>,
    /// Answers that wait for servers.
    pub(crate) settling: Settling,
}

impl PeerHandle {
    /// Takes a worker's place. What was written to its predecessor has been answered.
    pub(crate) fn take(peers: &Arc<Peers>, worker: usize) -> Self {
        let worker = worker % peers.mailboxes.len();
        let handle = Self {
            peers: Arc::clone(peers),
            worker,
            inquiries: BTreeMap::new(),
            settling: Settling::default(),
        };
        handle.mailbox().lock().taken = true;
        handle
    }

    /// All of them.
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    fn mailbox(&self) -> &Mailbox {
        &self.peers.mailboxes[self.worker]
    }

    /// What is to be woken when a message comes.
    pub(crate) fn wake_by(&self, waker: Waker) {
        let mut inside = self.mailbox().lock();
        inside.waker = Some(waker);
        // What came before could wake nobody.
        if let Some(waker) = inside.waker.as_ref().filter(|_| !inside.messages.is_empty()) {
            waker.wake_by_ref();
        }
    }

    /// Starts another turn that looks at the mailbox.
    pub(crate) fn remind(&self) {
        let mailbox = self.mailbox();
        mailbox.told.store(true, Relaxed);
        let waker = mailbox.lock().waker.clone();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Whether there are messages.
    #[inline]
    pub(crate) fn has_messages(&self) -> bool {
        self.mailbox().told.load(Relaxed)
    }

    /// All messages, in the order in which they came.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let mailbox = self.mailbox();
        let mut inside = mailbox.lock();
        mailbox.told.store(false, Relaxed);
        std::mem::take(&mut inside.messages)
    }

    /// Asks all others; says how many, and the number that their answers will carry.
    pub(crate) fn ask(&self, question: &Question) -> (usize, u64) {
        let ticket = self.peers.last_ticket.fetch_add(1, Relaxed) + 1;
        let others = (0..self.peers.count()).filter(|worker| *worker != self.worker);
        for worker in others.clone() {
            let address = ReturnAddress {
                peers: Arc::clone(&self.peers),
                worker: self.worker,
                ticket,
                answered: false,
            };
            self.peers
                .send(worker, Message::Question(question.clone(), address));
        }
        (others.count(), ticket)
    }

    /// Its number.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// Has another worker tell one of its clients something; false when there is no such worker.
    pub(crate) fn forward(&self, worker: usize, to: u64, notice: &Notice, from: (usize, u64)) -> bool {
        let notice = notice.clone();
        self.peers
            .send(worker, Message::Forwarded(Forwarded { to, notice, from }))
    }

    /// Tells another worker that its client redirects to one that is gone.
    pub(crate) fn return_unheard(&self, (worker, id): (usize, u64)) {
        self.peers.send(worker, Message::Unheard(id));
    }

    /// The id of the next client, higher than all before it in the whole process.
    pub(crate) fn next_client(&self) -> u64 {
        self.peers.last_client.fetch_add(1, Relaxed) + 1
    }

    /// Where the clients of this worker are counted.
    pub(crate) fn heads(&self) -> &Arc<Headcount> {
        &self.peers.heads[self.worker]
    }
}

impl Drop for PeerHandle {
    fn drop(&mut self) {
        self.heads().clear();
        let mut inside = self.mailbox().lock();
        (inside.taken, inside.waker) = (false, None);
        let messages = std::mem::take(&mut inside.messages);
        drop(inside);
        drop(messages);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn answers(handle: &PeerHandle) -> Vec<u64> {
        let messages = handle.messages().into_iter();
        messages
            .filter_map(|message| match message {
                Message::Answer(ticket, Finding::Nobody) => Some(ticket),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn nobody_waits_for_who_is_gone() {
        let peers = Peers::new(3, 1000);
        let asker = PeerHandle::take(&peers, 0);
        let (one, taken) = (PeerHandle::take(&peers, 1), PeerHandle::take(&peers, 2));
        let (others, ticket) = asker.ask(&Question::List(Arc::default()));
        assert_eq!((others, answers(&asker)), (2, vec![]));
        drop(one);
        assert_eq!(answers(&asker), [ticket], "unread messages are answered");
        let messages = taken.messages();
        drop(taken);
        assert_eq!(answers(&asker), Vec::<u64>::new(), "this one is being read");
        drop(messages);
        assert_eq!(answers(&asker), [ticket]);
        let (_, ticket) = asker.ask(&Question::List(Arc::default()));
        assert_eq!(answers(&asker), [ticket, ticket], "nobody is there to be asked");
    }

    #[test]
    fn a_message_wakes_once_until_it_is_read() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let peers = Peers::new(2, 1000);
        let (asker, asked) = (PeerHandle::take(&peers, 0), PeerHandle::take(&peers, 1));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let question = Question::List(Arc::default());
        asker.ask(&question);
        asked.wake_by(Arc::clone(&count).into());
        assert_eq!(count.0.swap(0, Relaxed), 1, "what came before");
        assert_eq!(asked.messages().len(), 1);
        asker.ask(&question);
        asker.ask(&question);
        assert_eq!(count.0.load(Relaxed), 1);
        assert!(asked.has_messages());
        assert_eq!(asked.messages().len(), 2);
        assert!(!asked.has_messages());
        asker.ask(&question);
        assert_eq!(count.0.load(Relaxed), 2);
    }

    #[test]
    fn ids_rise_over_all_workers_and_restarts() {
        let peers = Peers::new(2, 1000);
        let (one, two) = (PeerHandle::take(&peers, 0), PeerHandle::take(&peers, 1));
        assert_eq!(
            [one.next_client(), two.next_client(), one.next_client()],
            [1, 2, 3]
        );
        one.heads().client_came();
        two.heads().client_came();
        two.heads().client_came();
        assert_eq!(peers.clients(), 3);
        two.heads().client_went();
        drop(one);
        assert_eq!(peers.clients(), 1);
        assert_eq!(PeerHandle::take(&peers, 0).next_client(), 4);
    }
}
